"""All kinds of memory for weights."""

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

MEMORIES: dict[str, WeightMemory] = {one.name: one for one in (LogicRom(), BlockRom(), SpramWeights(), LutRamWeights())}
"""By name; of equally good ones the planner takes the first."""

Stored = tuple[int, list[int]]
"""Bits of a word, and the words of a memory."""


def memory_of(layer: Dense, name: str, *, preloaded: bool = False) -> WeightMemory:
    """The kind of memory called ``name``. Raises FewbitError on an unknown one; with ``preloaded``, also on one that is
    empty at the start."""
    known = sorted(one.name for one in MEMORIES.values() if one.preloaded or not preloaded)
    if name not in known:
        *others, last = (f'"{one}"' for one in known)
        raise FewbitError(f"layer {layer.name!r}: weights lie in {', '.join(others)} or {last}, not {name!r}")
    return MEMORIES[name]


def fill_member(layer: Dense, name: str, stored: Callable[[], Stored]) -> dict[str, Member]:
    """The port through which weights in the memory called ``name`` are filled in; none where they are there from the
    start.

    Raises FewbitError if what is ``stored`` does not fit such a memory.
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
    """A read port of what ``unit`` stores, in the memory that it says: the submodule ``weights`` of ``m``."""
    bits, words = unit.stored()
    kind = MEMORIES[unit.memory]
    m.submodules.weights = memory = kind.component(bits, words, target)
    if not kind.preloaded:
        wiring.connect(m, wiring.flipped(unit.fill), memory.fill)
    return memory.read_port()
