"""Builds a network layer by layer from what a source graph does to one tensor, exactly.

Between two quantizers a tensor is an integer tensor and an exact curve from those integers to the reals of
the graph; a quantizer turns the curve into integer thresholds. Knows nothing of files.

Here are the steps that every element takes alone, and how a network begins and ends; products are in
:mod:`fewbit.importers.lowering.products`, pooling is in :mod:`fewbit.importers.lowering.pools`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from fewbit.exact import (
    Curve,
    Gain,
    Reals,
    check_thresholds,
    comparable_scores,
    exact,
    fold_thresholds,
)
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import (
    Affine,
    ArgMax,
    Flatten,
    InputQuantizer,
    Layer,
    Network,
    TensorType,
    Threshold,
)
from fewbit.importers.onnx_constants import broadcasts
from fewbit.importers.onnx_graph import Array, Refusal
from fewbit.importers.qonnx.float_steps import FloatChain, Floats, input_thresholds, level_table, table_thresholds
from fewbit.importers.qonnx.quantizer import Quantizer

AnyLayer = TypeVar("AnyLayer", bound=Layer)

_TABLE = 1 << 24
"""Values times channels up to which the float32 steps after an integer input are executed for each."""
_MOST_CHANNELS = 1 << 18
_LADDER = 1 << 12
"""Levels that a Relu or Clip on its own may have."""


@dataclass(frozen=True)
class Tensor:
    """The activations between two nodes.

    Attributes
    ----------
    shape : tuple of int
        As the graph has it, with the batch axis.
    frame : tuple of int
        As the layers so far have it.
    dtype : DType or None
        Kind of the integers; None while they are a float32 input.
    low, high : int arrays (1,) or (channels,)
        Reachable integers. Channels are the first axis of ``frame``.
    curve : Curve
        From the integers to the reals of the graph.
    chain : FloatChain or None
        The same in float32, up to the first quantizer or product.
    quantized : bool
        Whether the integers are few-bit levels, not sums.
    integral : bool
        Whether the graph's element type is an integer one.
    index : bool
        Whether this is the arg-max.
    """

    shape: tuple[int, ...]
    frame: tuple[int, ...]
    dtype: DType | None
    low: Ints
    high: Ints
    curve: Curve
    chain: FloatChain | None
    quantized: bool = True
    integral: bool = False
    index: bool = False

    @property
    def reach(self) -> tuple[Reals, Reals]:
        """Lowest and highest reals of the graph, (1,) or (channels,) each, for the reachable integers."""
        channels = range(max(self.curve.channels, self.low.size))
        ends = [
            sorted(self.curve.value(channel, int(np.resize(x, len(channels))[channel])) for x in (self.low, self.high))
            for channel in channels
        ]
        return exact([low for low, _ in ends]), exact([high for _, high in ends])


class Builder:
    """The layers so far. Each method takes a tensor and gives the next one, adding the layers that takes."""

    def __init__(self, source: Tensor) -> None:
        self.layers: list[Layer] = []
        self.input_quantizer: InputQuantizer | None = None
        self.input = TensorType(source.dtype or DType("uint", 1), source.frame)

    def network(self, name: str, tensor: Tensor) -> Network:
        """The network that ends in ``tensor``."""
        scale, bias = exact([1]), exact([0])
        if tensor.dtype is None:
            raise Refusal("the output is not quantized anywhere: there is nothing to compute")
        if not tensor.index:
            tensor = self.affine_levels(tensor, "the output")
            gains = gains_of(tensor)
            scale, bias = (_over_frame(values, tensor.frame) for values in (gains.gain, gains.shift))
        try:
            reals = [np.array([float(value) for value in values]) for values in (scale, bias)]
        except OverflowError:
            raise Refusal("the scale of the output is beyond float64") from None
        return Network(
            name=name,
            input=self.input,
            layers=tuple(self.layers),
            input_quantizer=self.input_quantizer,
            output_scale=reals[0],
            output_bias=reals[1],
            output_shape=None if tensor.shape[1:] == tensor.frame else tensor.shape[1:],
        )

    def flat(self, tensor: Tensor) -> Tensor:
        """``tensor`` with one axis a frame, by a Flatten layer if it had more."""
        if len(tensor.frame) == 1:
            return tensor
        if tensor.dtype is not None:
            self.add(Flatten)
        size = math.prod(tensor.frame)
        if max(tensor.curve.channels, tensor.low.size, tensor.chain.channels if tensor.chain else 1) > 1:
            _check_channels(size)
        times = size // tensor.frame[0] if tensor.frame else 1
        low, high = (np.repeat(ends, times) if ends.size > 1 else ends for ends in (tensor.low, tensor.high))
        chain = tensor.chain and tensor.chain.spread(times)
        return replace(tensor, frame=(size,), low=low, high=high, curve=tensor.curve.spread(times), chain=chain)

    def vectors(self, tensor: Tensor, *constants: Array) -> tuple[Tensor, list[Floats]]:
        """``constants`` as (1,) or (channels,), and ``tensor``, flattened if they differ along other axes."""
        spread = []
        for constant in constants:
            if constant.dtype != np.float32:
                raise Refusal(f"a constant is {constant.dtype}, not float32")
            if not np.isfinite(constant).all():
                raise Refusal("a constant is not a finite number")
            if constant.size == 1 and constant.ndim <= len(tensor.shape):
                spread.append(constant.reshape(1))
                continue
            if not broadcasts(constant, tensor.shape):
                raise Refusal(f"a constant of shape {constant.shape} does not fit activations of shape {tensor.shape}")
            spread.append(np.broadcast_to(constant, tensor.shape))
        wide = [values.reshape(tensor.frame) for values in spread if values.size > 1]
        for values in wide:
            _check_channels(values.shape[0])
        if any((values != values[(slice(None), *[slice(1)] * (values.ndim - 1))]).any() for values in wide):
            _check_channels(math.prod(tensor.frame))
            tensor = self.flat(tensor)
        return tensor, [
            values if values.size == 1 else one_if_alike(values.reshape(tensor.frame[0], -1)[:, 0]) for values in spread
        ]

    def map(self, tensor: Tensor) -> Tensor:
        """``tensor`` with a frame of (channels, height, width), as the graph has it."""
        if len(tensor.shape) != 4:
            raise Refusal(f"takes maps of shape (1, channels, height, width), not {tensor.shape}")
        frame = tensor.shape[1:]
        if tensor.frame == frame:
            return tensor
        by_element = all(isinstance(layer, Threshold) and layer.channels == 1 for layer in self.layers)
        channels = max(tensor.curve.channels, tensor.low.size, tensor.chain.channels if tensor.chain else 1)
        if not by_element or channels > 1:
            raise Refusal(f"takes maps, but its activations lie in a frame of shape {tensor.frame} already")
        self.input = TensorType(self.input.dtype, frame)
        return replace(tensor, frame=frame)

    def affine(self, tensor: Tensor, gain: Reals | None, shift: Reals | None, step: str, *constants: Floats) -> Tensor:
        """``gain * tensor + shift``, which ``step`` is in float32."""
        curve = tensor.curve.scaled(exact([1]) if gain is None else gain, exact([0]) if shift is None else shift)
        return replace(tensor, curve=curve, chain=tensor.chain and tensor.chain.then(step, *constants))

    def quantize(self, tensor: Tensor, quantizer: Quantizer) -> Tensor:
        """The levels of ``quantizer``, by a Threshold layer, or by the input quantizer."""
        tensor = self.affine(tensor, 1 / exact(quantizer.scale), exact(quantizer.zero), "div", quantizer.scale)
        chain = tensor.chain and tensor.chain.then("add", quantizer.zero)
        dtype, base = quantizer.dtype, quantizer.base
        if tensor.dtype is None:
            if chain is None or chain.channels > 1 or len(quantizer.boundaries) > 1:
                raise Refusal("the float input is scaled or quantized a channel each: make it one scale, or say input=")
            found = input_thresholds(chain, quantizer.level, quantizer.count)
            if found is None:
                raise Refusal("its level is the same for every input")
            thresholds, direction, lowest = found
            self.input_quantizer = InputQuantizer(
                thresholds=thresholds, sign=direction, base=base + dtype.step * lowest
            )
            self.input = TensorType(dtype, self.input.shape)
        else:
            self.add(Threshold, **self._thresholds(tensor, quantizer, chain), dtype=dtype, base=base)
        return replace(
            tensor,
            dtype=dtype,
            low=np.array([dtype.min]),
            high=np.array([dtype.max]),
            curve=Curve().scaled(quantizer.out_scale, quantizer.out_shift),
            chain=None,
            quantized=True,
        )

    @staticmethod
    def _thresholds(tensor: Tensor, quantizer: Quantizer, chain: FloatChain | None) -> dict[str, Ints]:
        """Integer thresholds: those of the float32 steps where they follow an integer input, else exact."""
        assert tensor.dtype is not None
        if chain is not None:
            channels = max(chain.channels, len(quantizer.boundaries))
            check_thresholds(channels, quantizer.count)
            if (tensor.dtype.max - tensor.dtype.min + 1) * channels <= _TABLE:
                values = np.arange(tensor.dtype.min, tensor.dtype.max + 1, tensor.dtype.step)
                found = table_thresholds(level_table(chain, quantizer.level, values), values, quantizer.count)
                if found is None:
                    raise Refusal("neither rises nor falls with its input")
                return {"thresholds": found[0], "sign": found[1]}
        thresholds, signs = fold_thresholds(tensor.curve, quantizer.boundaries, tensor.low, tensor.high)
        return {"thresholds": thresholds, "sign": signs}

    def affine_levels(self, tensor: Tensor, what: str, zero: bool = False) -> Tensor:
        """``tensor`` without a pending Relu or Clip and, with ``zero``, with the integer 0 for the real 0.

        Few-bit levels that are not so become others by a Threshold layer.
        """
        gains = tensor.curve.gains
        if gains is None:
            return self.levels(tensor, what, f"{what} is a Relu or Clip that no quantizer follows", zero)
        if zero and any(gains.shift):
            return self.levels(tensor, what, f"{what} has an offset, beside which 0, its padding, is no level", zero)
        return tensor

    def levels(self, tensor: Tensor, what: str, reason: str, zero: bool = False) -> Tensor:
        """Few-bit levels as others, a whole number of steps above an offset, by a Threshold layer.

        The offset is 0 where it can be, and must be with ``zero``. Refuses what it cannot do, for ``reason``.
        """
        assert tensor.dtype is not None
        values = range(tensor.dtype.min, tensor.dtype.max + 1, tensor.dtype.step)
        if not tensor.quantized or len(values) > _LADDER or tensor.curve.channels > 1:
            raise Refusal(reason)
        reals = [tensor.curve.value(0, x) for x in values]
        ladder = sorted(set(reals))
        if len(ladder) == 1:
            raise Refusal(f"{what} is the same for every input")
        unit = _common_unit(ladder if zero else [value - ladder[0] for value in ladder[1:]])
        start = ladder[0] / unit
        if zero and abs(start) >= _LADDER:
            raise Refusal(reason)
        count = int((ladder[-1] - ladder[0]) / unit)
        base = int(start) if start.denominator == 1 and abs(start) < _LADDER else 0
        if count >= _LADDER:
            raise Refusal(f"{what} is a Relu or Clip that cuts between two levels")
        dtype = DType("uint", (base + count).bit_length()) if base >= 0 else DType.holding(base, base + count)
        table = np.array([[int((value - ladder[0]) / unit)] for value in reals])
        found = table_thresholds(table, np.array(values), count)
        assert found is not None
        self.add(Threshold, thresholds=found[0], sign=found[1], dtype=dtype, base=base)
        curve = Curve().scaled(exact([1]) * unit, exact([1]) * (ladder[0] - base * unit))
        return replace(
            tensor,
            dtype=dtype,
            low=np.array([dtype.min]),
            high=np.array([dtype.max]),
            curve=curve,
            chain=None,
        )

    def arg_max(self, tensor: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
        """Index of the largest real along ``axis``."""
        if not -len(tensor.shape) <= axis < len(tensor.shape):
            raise Refusal(f"has no axis {axis} in shape {tensor.shape}")
        if axis % len(tensor.shape) == 0 or tensor.shape[axis] != int(np.prod(tensor.shape)):
            raise Refusal(f"must run over all the scores of a frame, not over axis {axis} of shape {tensor.shape}")
        if tensor.dtype is None:
            raise Refusal("its input is not quantized")
        tensor = self.affine_levels(self.flat(tensor), "its input")
        gains = gains_of(tensor)
        gain, shift = (np.resize(values, tensor.frame[0]) for values in (gains.gain, gains.shift))
        if any(value != gain[0] for value in gain) or any(value != shift[0] for value in shift) or gain[0] <= 0:
            low, high = (np.resize(ends, tensor.frame[0]) for ends in (tensor.low, tensor.high))
            scale, bias = comparable_scores(gain, shift, low, high)
            self.add(Affine, scale=scale, bias=bias)
        self.add(ArgMax)
        return replace(tensor, shape=shape, frame=(), index=True)

    def add(self, kind: type[AnyLayer], **fields: Any) -> AnyLayer:
        """A layer behind those so far, under the next name of its kind."""
        index = sum(isinstance(layer, kind) for layer in self.layers)
        layer = kind(name=f"{kind.kind}_{index}", **fields)
        self.layers.append(layer)
        return layer


def _check_channels(count: int) -> None:
    """Raises Refusal on more elements with a scale, shift or range of their own than are kept as exact numbers."""
    if count > _MOST_CHANNELS:
        raise Refusal(f"has {count:,} elements that differ in scale or range, {_MOST_CHANNELS:,} are the most")


def one_if_alike(values: Floats) -> Floats:
    return values[:1] if (values == values[0]).all() else values


def gains_of(tensor: Tensor) -> Gain:
    gains = tensor.curve.gains
    assert gains is not None
    return gains


def _common_unit(values: list[Fraction]) -> Fraction:
    """The greatest rational of which each of ``values`` is a multiple."""
    denominator = int(np.lcm.reduce(np.array([value.denominator for value in values], object)))
    return Fraction(int(np.gcd.reduce(np.array([int(v * denominator) for v in values], object))), denominator)


def _over_frame(values: Reals, frame: tuple[int, ...]) -> Reals:
    """One value for all, or one for each element of a frame."""
    if all(value == values[0] for value in values):
        return values[:1]
    return np.repeat(values, int(np.prod(frame[1:], dtype=int)))
