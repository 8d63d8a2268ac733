# amaranth: UnusedElaboratable=no
"""Multiplication by scales in canonic signed digits, of which a run-time quality says how many count: of the sum of a
vector of weights, or of the activations."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code
from fewbit.golden.digits import quality_bits, word_bits
from fewbit.golden.dtype import DType, Ints, signed_bits
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import Target
from fewbit.hw.lanes.base import Lanes, saturated
from fewbit.hw.lanes.choose import lane_kind
from fewbit.hw.lanes.csd import digit_words
from fewbit.hw.multiply.dsp import digit_multiplier
from fewbit.hw.streams import number


class ScaledLanes(Lanes):
    """``o = scale * sum_i w_i * x_i``: the lanes of a vector of weights, followed by a CSD multiplier.

    With ``two`` scales, positive and negative weights have a scale each: ``o = scale_0 * sum_{w_i > 0} w_i * x_i +
    scale_1 * sum_{w_i < 0} w_i * x_i``, with a set of lanes and a multiplier for each. In a word of ``w`` the digits of
    a scale are above the weights of its set.

    **Latency**: ``stages + 2`` cycles: one register in front of the multiplier and one behind it. Cost: the lanes and a
    CSD multiplier; with ``two`` scales, twice that and an adder.

    Parameters
    ----------
    scale : DType
        Kind of the scales.
    two : bool
        Whether negative weights have a scale of their own.
    dsp : bool
        Whether synthesis may put the products into the device's DSP blocks.
    """

    def __init__(
        self,
        simd: int,
        activation: DType,
        code: Code,
        stages: int,
        *,
        scale: DType,
        two: bool = False,
        target: Target = "generic",
        dsp: bool = False,
    ) -> None:
        if two and not code.contains(np.array([0])):
            raise FewbitError(f"a second scale for negative weights needs a weight code with a 0, not {code}")
        self.scale, self.target = scale, target
        kind = lane_kind(activation, code, target, dsp=dsp)
        self.inner = [kind(simd, activation, code, stages) for _ in range(1 + two)]
        inner = self.inner[0]
        limit = simd * int(np.abs(code.levels).max()) * max(-activation.min, activation.max)
        if inner.quality_bits:  # the leading digit alone can weigh up to twice the number
            limit = 2 * limit
        self.sum = DType.holding(-limit, limit)
        self.multipliers = [
            digit_multiplier(self.sum.bits, scale.bits, registered=True, target=target, dsp=dsp) for _ in self.inner
        ]
        super().__init__(
            simd,
            activation,
            code,
            stages,
            signed(self.sum.bits + scale.bits + two),
            w_bits=len(self.inner) * (inner.w_bits + word_bits(scale.bits)),
            quality=max(quality_bits(scale.bits), inner.quality_bits),
        )
        self.latency = stages + 2

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        """The value of ``w`` for each row of weights with the scale or the two scales of the row.

        # (rows, simd), (rows, sets) -> rows integers
        """
        assert scales is not None
        parts = [weights] if len(self.inner) == 1 else [np.maximum(weights, 0), np.minimum(weights, 0)]
        weight_bits, scale_bits = self.inner[0].w_bits, word_bits(self.scale.bits)
        rows = [0] * len(weights)
        for place, (lanes, part) in enumerate(zip(self.inner, parts)):
            digits = digit_words(scales[:, place : place + 1], self.scale.bits)
            for row, (word, digit) in enumerate(zip(lanes.words(part), digits)):
                rows[row] |= (word | digit << weight_bits) << place * (weight_bits + scale_bits)
        return rows

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weight_bits, scale_bits = self.inner[0].w_bits, word_bits(self.scale.bits)
        products: list[Value] = []
        for place, (lanes, multiplier) in enumerate(zip(self.inner, self.multipliers)):
            m.submodules[f"lanes_{place}"] = lanes
            m.submodules[f"multiplier_{place}"] = multiplier
            word = self.w.word_select(place, weight_bits + scale_bits)
            digits: Value = word[weight_bits:]
            for stage in range(self.stages):
                held = Signal(scale_bits, name=f"digits_{place}_{stage}", reset_less=True)
                with m.If(self.en):
                    m.d.sync += held.eq(digits)
                digits = held
            m.d.comb += [
                lanes.x.eq(self.x),
                lanes.w.eq(word[:weight_bits]),
                lanes.en.eq(self.en),
                multiplier.a.eq(lanes.o * lanes.step + lanes.offset),
                multiplier.digits.eq(digits),
                multiplier.en.eq(self.en),
                multiplier.quality.eq(saturated(self.quality, len(multiplier.quality))),
            ]
            if lanes.quality_bits:
                m.d.comb += lanes.quality.eq(saturated(self.quality, len(lanes.quality)))
            products.append(multiplier.product)
        with m.If(self.en):
            m.d.sync += self.o.eq(sum(products[1:], products[0]))
        return m


class ScaleFront(wiring.Component):
    """``o[i] = scale[i] * x[i]``: a CSD multiplier for every activation, in front of the lanes of all outputs.

    **Latency**: 2 cycles with ``en`` high. Cost: a CSD multiplier an activation.

    Parameters
    ----------
    simd : int
    activation, scale : DType
    dsp : bool
        Whether synthesis may put the products into the device's DSP blocks.

    Attributes
    ----------
    kind : DType
        Kind of the scaled activations.

    Members
    -------
    x : In(simd * activation.bits)
    w : In(simd * word_bits(scale.bits))
        The digit words of the scales, the first in the lowest bits.
    en : In(1)
    quality : In(quality_bits(scale.bits))
    o : Out(simd * kind.bits)
    """

    latency = 2

    def __init__(
        self, simd: int, activation: DType, scale: DType, target: Target = "generic", *, dsp: bool = False
    ) -> None:
        self.simd, self.activation, self.scale = simd, activation, scale
        width = signed_bits(activation)
        self.kind = DType("int", width + scale.bits)
        self.multipliers = [
            digit_multiplier(width, scale.bits, registered=True, target=target, dsp=dsp) for _ in range(simd)
        ]
        super().__init__(
            {
                "x": In(simd * activation.bits),
                "w": In(simd * word_bits(scale.bits)),
                "en": In(1),
                "quality": In(quality_bits(scale.bits)),
                "o": Out(simd * self.kind.bits),
            }
        )

    def words(self, scales: Ints) -> list[int]:
        """The value of ``w`` for each row of scales.  # (rows, simd) -> rows integers"""
        return digit_words(scales, self.scale.bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for lane, multiplier in enumerate(self.multipliers):
            m.submodules[f"multiplier_{lane}"] = multiplier
            word = self.x.word_select(lane, self.activation.bits)
            m.d.comb += [
                multiplier.a.eq(number(word.as_signed() if self.activation.signed else word, self.activation)),
                multiplier.digits.eq(self.w.word_select(lane, word_bits(self.scale.bits))),
                multiplier.en.eq(self.en),
                multiplier.quality.eq(self.quality),
            ]
            with m.If(self.en):
                m.d.sync += self.o.word_select(lane, self.kind.bits).eq(multiplier.product)
        return m
