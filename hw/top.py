"""Top level of a design: the connected components of a folded network, with one input and one output stream."""

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
    """A complete network.

    The input of a frame is ``input.size / input_lanes`` beats, with its elements in the order of
    :func:`fewbit.hw.streams.to_stream`: maps row by row with channels last, everything else in C order. The output is
    one score a beat, together with the index of the largest score so far. **Latency** and **throughput** are those of
    the schedule (:func:`fewbit.hw.chain.timing`). The data does not depend on the pattern of valid and ready on either
    side. A reset in the middle of a frame discards it.

    Parameters
    ----------
    network : Network
    folding : Folding
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        Primitives that the datapaths are built from. Any simulator can read the generic form; the others are for
        synthesis.

    Members
    -------
    i : In(stream of input_lanes elements)
    o : Out(stream of score, index, last)
    quality : In
        How many signed digits of each scale and ``csd`` weight are used; by default all. Absent if the network has no
        such digits. It applies to every frame in the pipeline, so change it only between frames.
    load : In(stream.Signature(16))
        Loads ``image`` into the memories that are empty at the start; always ready. Use it only while no frame is
        processed. Absent if all memories are preloaded.
    loaded : Out(1)
        Whether these memories are loaded; until then scores are wrong. Absent if all memories are preloaded.

    Attributes
    ----------
    image : list of int
        Contents of the memories that ``load`` fills, in words of 16 bits, layer by layer.
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
            for input_stream, (place, output) in zip(part.inputs, part.sources):
                source = wiring.flipped(self.i) if place == SOURCE else self.parts[place].outputs[output]
                wiring.connect(m, source, input_stream)
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
