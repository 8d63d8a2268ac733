"""All kinds of weight memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.memory.fill import fill_signature, lanes_of
from fewbit.hw.memory.kind import WeightMemory
from fewbit.hw.memory.lut_ram import LutRamWeights
from fewbit.hw.memory.rom import BlockRom, LogicRom
from fewbit.hw.memory.spram import SpramWeights

MEMORIES: dict[str, WeightMemory] = {
    kind.name: kind for kind in (LogicRom(), BlockRom(), SpramWeights(), LutRamWeights())
}
"""By name. The planner prefers earlier ones among equally good ones."""

Stored = tuple[int, list[int]]
"""Bits of a word, and the words of a memory."""


def memory_of(layer: Dense, name: str, *, preloaded: bool = False) -> WeightMemory:
    """The kind of memory called ``name``, for the weights of ``layer``.

    Raises FewbitError if it is unknown or, with ``preloaded``, if it is loaded only after configuration.
    """
    known = sorted(kind.name for kind in MEMORIES.values() if kind.preloaded or not preloaded)
    if name not in known:
        *others, last = (f'"{kind}"' for kind in known)
        raise FewbitError(
            f"layer {layer.name!r}: the memory for weights must be {', '.join(others)} or {last}, not {name!r}"
        )
    return MEMORIES[name]


def fill_member(layer: Dense, name: str, stored: Callable[[], Stored]) -> dict[str, Member]:
    """The ``fill`` port of a unit with its weights in the memory called ``name``; empty if that is preloaded.

    Raises FewbitError if the memory cannot hold what is ``stored``.
    """
    memory = memory_of(layer, name)
    if memory.preloaded:
        return {}
    bits, words = stored()
    try:
        memory.check(bits, len(words))
    except FewbitError as error:
        raise FewbitError(f"layer {layer.name!r}: {error}") from None
    return {"fill": In(fill_signature(lanes_of(bits)))}


def place(m: Module, unit: Any, target: str) -> Any:
    """Adds the weight memory of ``unit`` to ``m`` as submodule ``weights``, connects its ``fill`` port, and returns a
    read port."""
    bits, words = unit.stored()
    kind = MEMORIES[unit.memory]
    m.submodules.weights = memory = kind.component(bits, words, target)
    if not kind.preloaded:
        wiring.connect(m, wiring.flipped(unit.fill), memory.fill)
    return memory.read_port()
