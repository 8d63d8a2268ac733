# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit: PE outputs from SIMD inputs a cycle, with one word of the weight memory a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.lanes.base import Lanes, saturated
from fewbit.hw.lanes.scaled import ScaledLanes, ScaleFront
from fewbit.hw.matvec.base import FoldedMatVec, fold_words, start_values
from fewbit.hw.memory.kinds import place


class MatVec(FoldedMatVec):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer.

    The lanes sum what is cheapest to sum, such as bits that agree, or terms that are inverted rather than negated. What
    these sums lack is known at generation time: ``y[o] = step * sum[o] + bias[o]``. If ``exact``, the unit outputs
    ``y``; else the thresholds behind it include step and bias.

    A buffer holds the vector of a frame. For each group of PE outputs the unit reads all words of the vector, SIMD
    inputs a cycle, and outputs the PE sums as one beat.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD)`` cycles, if the input is fast
    enough. **Latency**: ``latency`` cycles from reading the last word of a group to its beat; the first word is read
    ``buffer.latency`` cycles after the vector is complete. A beat that waits for ``o.ready`` stalls the unit. Cost: PE
    times SIMD lanes and PE accumulators, what the lanes share, the buffer, and ``outputs * inputs * code.bits`` bits of
    weights; ``exact`` adds one cell for each bit of the PE accumulators, and a bias for each output.

    Parameters
    ----------
    layer : Dense
    activation : DType
        Kind of the inputs.
    pe : int
        Outputs that are processed at a time; divides ``layer.outputs``.
    simd : int
        Inputs that are processed at a time; divides ``layer.fan_in``.
    memory : ``"block"``, ``"logic"`` or ``"spram"``
        Memory for the weights.
    buffer : ``"block"``, ``"distributed"`` or ``"ring"``
        Style of the :class:`fewbit.hw.memory.vector_buffer.VectorBuffer`.
    stages : int
        Pipeline stages in the sum of a group of lanes, at least 1.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        Whether lanes and accumulators are plain RTL, or the cells of a family.
    exact : bool
        Whether ``o`` carries ``y``; else it carries ``sum``.
    groups : int
        Vectors of a frame, each for its own share of the outputs.
    dsp : bool
        Whether synthesis may put multiplications, by plain integers, ``csd`` weights or scales, into DSP blocks.

    Attributes
    ----------
    step : int
    bias : int64 array (outputs,)
        ``y[o] = step * sum[o] + bias[o]``.
    sum : DType
        Kind of what ``o`` carries.

    Members
    -------
    i : In(stream of SIMD lanes)
    o : Out(stream of PE sums)
    quality : In
        How many signed digits count in every product with a scale or a ``csd`` weight; absent if there are none. It
        acts on
        everything in the pipeline at once, so it is to be changed between frames.
    fill : In(fill_signature())
        Loads SPRAM with the words that :meth:`stored` returns, while there is no vector; absent for other memories.

    Raises
    ------
    FewbitError
        If PE or SIMD do not divide the layer or its vectors of scales, a memory is unknown, or no lanes serve the code.
    """

    scaling: ScaleFront | None = None

    def _taken(self) -> DType:
        return self.activation

    def _datapath(self, taken: DType) -> tuple[Any, list[Lanes]]:
        layer, target = self.layer, self.target
        kind, vector = layer.scale_kind, layer.vector
        if kind is None:
            return self._plain_lanes(taken)
        side, extent, together = ("PE", layer.outputs, self.pe) if layer.across else ("SIMD", layer.fan_in, self.simd)
        if vector < extent and vector % together:
            raise FewbitError(f"layer {layer.name!r}: {side} must divide the vectors of {vector}, not {together}")
        if not layer.across:
            two = layer.negative_scales is not None
            options: dict[str, Any] = {"scale": kind, "two": two, "target": target, "dsp": self.dsp}
            return None, [ScaledLanes(self.simd, taken, layer.code, self.stages, **options) for _ in range(self.pe)]
        if layer.negative_scales is not None or layer.code.digit_width is not None:
            raise FewbitError(
                f"layer {layer.name!r}: scales across outputs exclude a second scale and {layer.code} weights"
            )
        self.scaling = ScaleFront(self.simd, taken, kind, target, dsp=self.dsp)
        return self._plain_lanes(self.scaling.kind)

    def _memory_words(self) -> list[int]:
        layer = self.layer
        if layer.scales is None:
            return super()._memory_words()
        if not layer.across:
            both = [layer.scales, *([] if layer.negative_scales is None else [layer.negative_scales])]
            vectors = np.arange(0, layer.fan_in, self.simd) // layer.vector
            scales = np.stack([scale_set[:, vectors] for scale_set in both], 2)
            return fold_words(layer, self.lanes[0], self.pe, self.words, scales)
        weights = super()._memory_words()
        assert self.scaling is not None
        blocks = np.arange(0, layer.outputs, self.pe) // layer.vector
        rows = layer.scales[blocks].reshape(self.folds * self.words, self.simd)
        above = self.pe * self.lanes[0].w_bits
        return [word | scale << above for word, scale in zip(weights, self.scaling.words(rows))]

    def _memory_bits(self) -> int:
        bits = super()._memory_bits()
        return bits + len(self.scaling.w) if self.scaling is not None else bits

    def _left_out(self) -> tuple[int, Ints]:
        lanes = self.lanes[0]
        return lanes.step, self._corrections() + self.words * lanes.offset

    @property
    def latency(self) -> int:
        return 1 + self._scaled_latency + self.lanes[0].latency + 1

    @property
    def _scaled_latency(self) -> int:
        return self.scaling.latency if self.scaling is not None else 0

    def elaborate(self, platform: object) -> Module:
        # `issue` reads one word of the vector and of the weights; `first` and `last` follow it through the pipeline to
        # the accumulators. All stages advance together, unless a finished beat waits for its receiver.
        m = Module()
        read = place(m, self, self.target)

        advance, issue = Signal(), Signal()
        word = Signal(range(self.words))
        address, last_word = self._walk(m, issue)
        x = self._inputs(m, advance, issue, last_word)
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), read.addr.eq(address), read.en.eq(issue)]
        with m.If(issue):
            m.d.sync += word.eq(word + 1)
            with m.If(word == self.words - 1):
                m.d.sync += word.eq(0)

        valid, first, last = issue, word == 0, word == self.words - 1
        for stage in range(1 + self._scaled_latency + self.lanes[0].latency):
            travelling = Signal(3, name=f"travelling_{stage}")
            with m.If(advance):
                m.d.sync += travelling.eq(Cat(valid, first, last))
            valid, first, last = travelling[0], travelling[1], travelling[2]

        words: Value = read.data
        if self.scaling is not None:
            m.submodules.scaling = scaling = self.scaling
            above = self.pe * self.lanes[0].w_bits
            m.d.comb += [scaling.x.eq(x), scaling.w.eq(read.data[above:]), scaling.en.eq(advance)]
            m.d.comb += scaling.quality.eq(saturated(self.quality, len(scaling.quality)))
            x = scaling.o
            words = read.data[:above]
            for stage in range(scaling.latency):
                held = Signal(above, name=f"words_{stage}", reset_less=True)
                with m.If(advance):
                    m.d.sync += held.eq(words)
                words = held
        if self.front is not None:
            m.submodules.front = front = self.front
            m.d.comb += front.x.eq(x)
            x = front.o
        done = advance & valid & last
        starts = start_values(m, self.bias, self.step, self.pe, done) if self.exact else None
        for index in range(self.pe):
            lanes = self._feed(m, index, self._operands(m, x, index), words, advance)
            self._accumulate(m, index, lanes.o, first, advance & valid, starts)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(valid & last)
        return m

    def _inputs(self, m: Module, advance: Value, issue: Signal, last_word: Value) -> Value:
        """Sets ``issue``, which is high when a word of inputs is read. Returns the word, a cycle later."""
        m.submodules.buffer = buffer = self.buffer
        wiring.connect(m, wiring.flipped(self.i), buffer.i)
        m.d.comb += [issue.eq(advance & buffer.available), buffer.next.eq(issue), buffer.last.eq(last_word)]
        return buffer.word

    def _operands(self, m: Module, x: Value, index: int) -> Value:
        """The part of a word of inputs that is for output ``index`` of a group."""
        return x
