"""The whole design: the chain of a plan's components behind one input and one output stream."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.network import Network
from fewbit.hw.chain import SOURCE, chain
from fewbit.hw.fold import Folding
from fewbit.hw.lanes.base import saturated
from fewbit.hw.layers.argmax import score_stream
from fewbit.hw.layers.conv import ConvUnit
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.memory.fill import LANE_BITS, connect_fill, image, lanes_of
from fewbit.hw.memory.loader import Loader
from fewbit.hw.streams import lane_stream, shape_of


class Top(wiring.Component):
    """A network as hardware.

    A frame comes in as ``input.size / input_lanes`` beats, its elements in the order of
    :func:`fewbit.hw.streams.to_stream`: maps row by row, channels last, all else in C order. Its scores go out a beat
    each, with the arg-max so far beside them. **Latency** and **throughput** are the plan's; any pattern of valid and
    ready on either side gives the same data, and a reset in mid-frame forgets that frame.

    Parameters
    ----------
    network : Network
    folding : Folding
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        What the datapaths are made of. Any simulator reads the generic form; the others are for synthesis.

    Members
    -------
    i : In(stream of input_lanes elements)
    o : Out(stream of score, index, last)
    quality : In
        Signed digits that count in every product with a scale or a ``csd`` weight; absent where the network has none.
        It holds for all frames under way, so it is changed between frames; left open, all count.
    load : In(stream.Signature(16))
        Fills the memories that are empty at the start with ``image``, while no frame is under way; always ready.
    loaded : Out(1)
        They are full. Until then frames give wrong scores. Both are absent where all memories are full from the start.

    Attributes
    ----------
    image : list of int
        What ``load`` takes: 16 bits at a time, layer by layer.
    """

    def __init__(self, network: Network, folding: Folding, target: str = "generic") -> None:
        self.network, self.folding, self.target = network, folding, target
        self.parts = chain(network, folding, target)
        bits = network.digits.bit_length()
        dial = {"quality": In(bits, init=(1 << bits) - 1)} if network.digits else {}
        units: list[Any] = [part.unit for part in self.parts]
        self.filled = [unit for unit in units if "fill" in unit.signature.members]
        if self.filled:
            dial |= {"load": In(stream.Signature(LANE_BITS)), "loaded": Out(1)}
        streams = {
            "i": In(lane_stream(shape_of(network.input.dtype), folding.input_lanes)),
            "o": Out(score_stream(shape_of(network.scores.dtype), network.scores.size)),
        }
        super().__init__(streams | dial)

    @cached_property
    def image(self) -> list[int]:
        stored = [unit.stored() for unit in self.filled]
        return [part for bits, words in stored for part in image(words, bits)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for part in self.parts:
            unit: Any = part.unit
            m.submodules[part.name] = unit
            for taken, (place, output) in zip(part.inputs, part.sources):
                given = wiring.flipped(self.i) if place == SOURCE else self.parts[place].outputs[output]
                wiring.connect(m, given, taken)
            if isinstance(unit, (FoldedMatVec, ConvUnit)) and "quality" in unit.signature.members:
                m.d.comb += unit.quality.eq(saturated(self.quality, len(unit.quality)))
        wiring.connect(m, self.parts[-1].outputs[0], wiring.flipped(self.o))
        if self.filled:
            stored = [unit.stored() for unit in self.filled]
            m.submodules.loader = loader = Loader([(lanes_of(bits), len(words)) for bits, words in stored])
            wiring.connect(m, wiring.flipped(self.load), loader.i)
            m.d.comb += self.loaded.eq(loader.loaded)
            for fill, unit in zip(loader.fill, self.filled):
                connect_fill(m, fill, unit.fill)
        return m
