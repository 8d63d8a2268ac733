"""How a memory that is empty after configuration is loaded: 16 bits at a time, word by word, lowest bits first."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

LANE_BITS = 16
"""Bits that one write stores: a lane of a word."""

DEPTH, LANES = 16_384, 4
"""Default size of a fill port: words of a memory, and lanes of a word."""


def lanes_of(bits: int) -> int:
    """Number of lanes in a word of ``bits`` bits."""
    return -(-bits // LANE_BITS)


def fill_signature(lanes: int = LANES) -> wiring.Signature:
    """A write port of 16 bits: while ``enable`` is high, ``data`` goes to lane ``lane`` of the word at ``address``."""
    return wiring.Signature(
        {
            "enable": Out(1),
            "lane": Out(range(max(LANES, lanes))),
            "address": Out(range(DEPTH)),
            "data": Out(LANE_BITS),
        }
    )


def connect_fill(m: Module, source: wiring.PureInterface, sink: wiring.PureInterface) -> None:
    """Connects the write port ``source`` to ``sink``, which may have fewer lanes."""
    if source.signature == sink.signature.flip():
        wiring.connect(m, source, sink)
        return
    for name in source.signature.members:
        m.d.comb += getattr(sink, name).eq(getattr(source, name))


def image(words: Sequence[int], bits: int) -> list[int]:
    """The data that loads a memory with ``words``, in order: word by word, lowest 16 bits first.

    >>> [hex(data) for data in image([0x12345, 0xABCDE], 20)]
    ['0x2345', '0x1', '0xbcde', '0xa']
    """
    mask = (1 << LANE_BITS) - 1
    return [word >> lane * LANE_BITS & mask for word in words for lane in range(lanes_of(bits))]
