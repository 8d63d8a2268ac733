"""How memories that are empty at the start are filled: 16 bits at a time, word by word, the lowest bits first."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

LANE_BITS = 16
"""Bits that are written at a time."""

DEPTH, LANES = 16_384, 4
"""Words of a memory, and lanes of a word, for which a port is made unless more are asked for."""


def lanes_of(bits: int) -> int:
    """Lanes of words of ``bits`` bits."""
    return -(-bits // LANE_BITS)


def fill_signature(lanes: int = LANES) -> wiring.Signature:
    """A write of 16 bits: lane ``lane`` of the word at ``address``, while ``enable``."""
    return wiring.Signature(
        {
            "enable": Out(1),
            "lane": Out(range(max(LANES, lanes))),
            "address": Out(range(DEPTH)),
            "data": Out(LANE_BITS),
        }
    )


def connect_fill(m: Module, source: wiring.PureInterface, sink: wiring.PureInterface) -> None:
    """``source`` writes into ``sink``, which may have fewer lanes."""
    if source.signature == sink.signature.flip():
        wiring.connect(m, source, sink)
        return
    for name in source.signature.members:
        m.d.comb += getattr(sink, name).eq(getattr(source, name))


def image(words: Sequence[int], bits: int) -> list[int]:
    """What a memory of ``words`` is filled with, in order: word by word, the lowest 16 bits first.

    >>> [hex(one) for one in image([0x12345, 0xABCDE], 20)]
    ['0x2345', '0x1', '0xbcde', '0xa']
    """
    mask = (1 << LANE_BITS) - 1
    return [word >> lane * LANE_BITS & mask for word in words for lane in range(lanes_of(bits))]
