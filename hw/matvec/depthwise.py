# amaranth: UnusedElaboratable=no
"""The matrix-vector unit of depthwise convolutions: each output has a channel of its own, so no input is used twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import Module, Signal, Value

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.lanes.base import Lanes
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.steps import Cycles, Pipeline, Step, in_order, lower


class DepthwiseMatVec(MatVec):
    """``y[o] = sum_i w[o, i] * x[i, o]``: the kernel of a depthwise convolution at one position of the map.

    The channels come in blocks of PE. For each block, a beat has one element of each of the PE channels, for one
    position of the kernel, and goes directly to the PE lanes, which multiply and accumulate it: there is no buffer. In
    a :class:`fewbit.hw.matvec.parallel.MatVec` only one output at a time could use an input.

    **Throughput**: a beat a cycle, so all channels in ``cycles_per_frame = (outputs / PE) * inputs`` cycles.
    **Latency**: ``latency`` cycles from the last beat of a block to its sums. A beat that waits for ``o.ready`` stalls
    the unit. Cost: PE lanes of a SIMD of 1, PE accumulators, and the weights.

    Parameters
    ----------
    layer : Dense
        A row of weights for each channel.
    activation : DType
    pe : int
        Channels that are processed at a time; divides ``layer.outputs``.
    memory, stages, target, exact, dsp
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Members
    -------
    i : In(stream of PE lanes)
    o : Out(stream of PE sums)
    quality, fill : In
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Raises
    ------
    FewbitError
        If PE does not divide the channels, the memory is unknown, no lanes serve the code, or the layer has scales.
    """

    def __init__(self, layer: Dense, activation: DType, *, pe: int, **parameters: Any) -> None:
        blocks = layer.outputs // pe if pe > 0 else 1
        super().__init__(layer, activation, **{**parameters, "pe": pe, "simd": 1, "groups": max(1, blocks)})

    @property
    def lanes_in(self) -> int:
        return self.pe

    def _vector_buffer(self, style: str) -> None:
        return None

    def _datapath(self, taken: DType) -> tuple[Any, list[Lanes]]:
        if self.layer.scales is not None:
            raise FewbitError(f"layer {self.layer.name!r}: a depthwise unit takes no scales")
        _, lanes = self._plain_lanes(taken)
        return None, lanes

    def timing(self) -> list[Step]:
        return [DepthwiseStep(depth=self.latency, words=self.words)]

    def _inputs(self, m: Module, advance: Value, issue: Signal, last_word: Value) -> Value:
        payload = Value.cast(self.i.payload)
        word = Signal(len(payload), reset_less=True)
        m.d.comb += [issue.eq(advance & self.i.valid), self.i.ready.eq(advance)]
        with m.If(issue):
            m.d.sync += word.eq(payload)
        return word

    def _operands(self, m: Module, x: Value, index: int) -> Value:
        element = x.word_select(index, self.activation.bits)
        front: Any = self.lanes[index].front
        if front is None:
            return element
        m.submodules[f"front_{index}"] = front
        m.d.comb += front.x.eq(element)
        return front.o


@dataclass
class DepthwiseStep(Pipeline):
    """Timing of a :class:`DepthwiseMatVec`: an output beat for every ``words`` input beats."""

    words: int = field(kw_only=True)
    _free: int = field(default=0, init=False)
    _arrived: int = field(default=0, init=False)

    def accept(self, offered: int) -> int:
        taken = self._moving(max(offered, self._free))
        self._free = taken + 1
        self._arrived += 1
        if self._arrived == self.words:
            self._arrived = 0
            self._emit(taken)
        return taken

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        lower(taken[self.words - 1 :: self.words], given - self.depth)
        in_order(taken)
        self._tighten_given(given, taken[self.words - 1 :: self.words], np.full(len(given), self.words))
