"""Lowers the steps of a source graph to integer layers.

Between two quantizers a tensor is carried by integers, with an exact curve from those integers to the reals of the
source graph (:mod:`fewbit.importers.lowering.tensor`). A quantizer folds the curve into integer thresholds.

This module holds elementwise steps, reshaping, quantizers and the end of a network. Products are in
:mod:`fewbit.importers.lowering.products`, pooling is in :mod:`fewbit.importers.lowering.pools`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.exact import (
    Boundary,
    Curve,
    Reals,
    Smooth,
    check_thresholds,
    comparable_scores,
    exact,
    fold_thresholds,
)
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.graph import named, unnamed
from fewbit.golden.network import (
    INPUT,
    Affine,
    ArgMax,
    Flatten,
    InputQuantizer,
    Join,
    Layer,
    Network,
    TensorType,
    Threshold,
)
from fewbit.golden.quantizers.fixed_point import fixed_point
from fewbit.importers.lowering.float_steps import Floats, input_thresholds, level_table, table_thresholds
from fewbit.importers.lowering.quantizer import Quantizer
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_constants import broadcasts
from fewbit.importers.onnx_graph import Array, Refusal

_TABLE = 1 << 24
"""Most input values times channels for which the float32 steps after an integer input are executed one by one."""
_MOST_CHANNELS = 1 << 18
_LADDER = 1 << 12
"""Most levels of a Relu or Clip that no quantizer follows."""
SAY_INPUT = "--input uint8/255, or input='uint8/255' in Python"
"""How a user says which integers a float input holds."""
_BIAS_BITS = 24
"""Bits of the bias of scores whose gains are all 0."""


class Builder:
    """Collects the layers of a network. Each step takes a :class:`Tensor`, appends the layers that the step needs, and
    returns the tensor after the step.

    Attributes
    ----------
    layers : list of Layer
    input : TensorType
        Type of the input of the network.
    input_quantizer : InputQuantizer or None
        Quantizer of a float32 input.
    input_shape, input_order : tuples of int
        How the host transposes a frame of the source graph's input; None and empty if it does not.
    batch : int
        Frames that one input of the source graph holds. Tensors have the shape that they have for one frame.
    """

    def __init__(self, source: Tensor, batch: int = 1) -> None:
        self.layers: list[Layer] = []
        self.batch = batch
        self.input_shape: tuple[int, ...] | None = None
        self.input_order: tuple[int, ...] = ()
        self.input_quantizer: InputQuantizer | None = None
        self.input = TensorType(source.dtype or DType("uint", 1), source.frame)

    def network(self, name: str, tensor: Tensor, sizes: tuple[int, ...] = ()) -> Network:
        """The network whose output is ``tensor``; ``sizes`` where it holds several output tensors of the source graph
        (:func:`fewbit.importers.lowering.joins.outputs`)."""
        scale, bias = exact([1]), exact([0])
        if tensor.dtype is None:
            raise Refusal("the output is not quantized anywhere: there is nothing to compute")
        function = tensor.function
        if tensor.order:
            if function is not None:
                raise Refusal("ends in a softmax over channels that come last: export it with channels first")
            tensor = self.flat(tensor)
        if not tensor.index:
            if function is None and tensor.curve.end is not None:
                function = tensor.curve.end
                tensor = replace(tensor, curve=tensor.curve.before_end(), chain=None)
            tensor = self.affine_levels(tensor, "the output")
            scale, bias = (_over_frame(values, tensor.frame) for values in (tensor.gains.gain, tensor.gains.shift))
        try:
            reals = [np.array([float(value) for value in values]) for values in (scale, bias)]
        except OverflowError:
            raise Refusal("the scale of the output is beyond float64") from None
        return Network(
            name=name,
            input=self.input,
            layers=self._layers_before(tensor),
            input_quantizer=self.input_quantizer,
            output_scale=reals[0],
            output_bias=reals[1],
            output_shape=None if tensor.shape[1:] == tensor.frame else tensor.shape[1:],
            input_batch=self.batch,
            input_shape=self.input_shape,
            input_order=self.input_order,
            output_function=None if tensor.index else function,
            output_sizes=sizes,
        )

    def _layers_before(self, tensor: Tensor) -> tuple[Layer, ...]:
        """The layers that ``tensor`` depends on."""
        wanted, kept = {tensor.layer}, []
        for layer in reversed(named(self.layers)):
            if layer.name in wanted:
                wanted.update(layer.inputs)
                kept.append(layer)
        return unnamed(kept[::-1])

    def flat(self, tensor: Tensor, channels_last: bool = False) -> Tensor:
        """``tensor`` with its frame on one axis, by a Flatten layer if needed; its shape in the source graph stays."""
        if tensor.order:
            last = channels_last_order(len(tensor.shape)) == tensor.order and len(tensor.frame) == 3
            if tensor.dtype is None or not last:
                tensor = self.transposed_input(tensor)
            else:
                tensor, channels_last = replace(tensor, order=()), True
        if len(tensor.frame) == 1:
            return tensor
        size = math.prod(tensor.frame)
        layer = Flatten(name=self.name(Flatten), channels_last=channels_last)
        if tensor.channels > 1:
            _check_channels(size)
            channels = layer.places(tensor.frame) // (size // tensor.frame[0])
            low, high = (ends[channels] if ends.size > 1 else ends for ends in (tensor.low, tensor.high))
            chain = tensor.chain and tensor.chain.of_channels(channels)
            tensor = replace(tensor, low=low, high=high, curve=tensor.curve.of_channels(channels), chain=chain)
        if tensor.dtype is None:
            return replace(tensor, frame=(size,))
        return self.add(layer, tensor, low=tensor.low, high=tensor.high)

    def vectors(self, tensor: Tensor, *constants: Array) -> tuple[Tensor, list[Floats]]:
        """``tensor`` and ``constants`` as (1,) or (channels,).

        Constants that differ within a channel flatten the tensor, so that each element becomes a channel.
        """
        spread = []
        for constant in map(float32, constants):
            if not np.isfinite(constant).all():
                raise Refusal("a constant is not a finite number")
            if constant.size == 1 and constant.ndim <= len(tensor.shape):
                spread.append(constant.reshape(1))
                continue
            if not broadcasts(constant, tensor.shape):
                raise Refusal(f"a constant of shape {constant.shape} does not fit activations of shape {tensor.shape}")
            spread.append(np.broadcast_to(constant, tensor.shape))
        if self._channels_behind(tensor, spread):
            tensor = self.channels_first(tensor).transposed(channels_last_order(len(tensor.shape)))
        wide = [tensor.in_frame(values) for values in spread if values.size > 1]
        for values in wide:
            _check_channels(values.shape[0])
        if any((values != values[(slice(None), *[slice(1)] * (values.ndim - 1))]).any() for values in wide):
            _check_channels(math.prod(tensor.frame))
            tensor = self.flat(tensor)
        return tensor, [
            values if values.size == 1 else one_if_alike(tensor.in_frame(values).reshape(tensor.frame[0], -1)[:, 0])
            for values in spread
        ]

    def map(self, tensor: Tensor) -> Tensor:
        """``tensor`` with a frame of (channels, height, width), its shape in the source graph."""
        if len(tensor.shape) != 4:
            raise Refusal(f"takes maps of shape (1, channels, height, width), not {tensor.shape}")
        tensor = self.transposed_input(tensor)
        frame = tensor.shape[1:]
        if tensor.frame == frame:
            return tensor
        elementwise = all(isinstance(layer, Threshold) for layer in self.layers)
        alike = tensor.channels == 1 and all(
            isinstance(layer, Threshold) and layer.channels == 1 for layer in self.layers
        )
        if not elementwise or not (alike or tensor.frame[0] == frame[0]):
            raise Refusal(f"takes maps, but its activations lie in a frame of shape {tensor.frame} already")
        self.input = TensorType(self.input.dtype, frame)
        return replace(tensor, frame=frame)

    def transposed(self, tensor: Tensor, perm: tuple[int, ...]) -> Tensor:
        """``tensor`` with the axes of its shape in the order ``perm``.

        Channels become the last axis in the shape only: the frame of the network keeps them first. Any other order is
        left to the host, at the input.

        Raises
        ------
        Refusal
            If that is not possible (:meth:`transposed_input`).
        """
        moved = tensor.transposed(perm)
        last = moved.order == channels_last_order(len(perm)) and len(moved.frame) == 3
        if last and not (len(perm) == 3 and self._can_transpose(moved)):
            return moved
        return self.transposed_input(moved)

    def channels_first(self, tensor: Tensor) -> Tensor:
        """``tensor`` with the last axis of its shape as the second."""
        rank = len(tensor.shape)
        return self.transposed(tensor, (0, rank - 1, *range(1, rank - 1)))

    def transposed_input(self, tensor: Tensor) -> Tensor:
        """``tensor`` with a frame in the order of its shape, which the host gives to the network's input.

        Raises
        ------
        Refusal
            If the orders differ, and more than elementwise steps that are alike for all channels stand between the
            input and ``tensor``, or another branch reads one of these.
        """
        if not tensor.order:
            return tensor
        if not self._can_transpose(tensor):
            raise Refusal(
                "reorders the activations of a frame, which only the host can do, at the input: export the network "
                "with channels first"
            )
        order = tuple(place - 1 for place in tensor.order[1:])
        given = self.input_order or tuple(range(len(order)))
        if self.input_shape is None:
            canonical = [0] * len(order)
            for extent, place in zip(tensor.shape[1:], order):
                canonical[place] = extent
            self.input_shape = tuple(canonical)
        self.input_order = tuple(given[place] for place in order)
        if self.input_order == tuple(range(len(order))):
            self.input_shape, self.input_order = None, ()
        frame = tensor.shape[1:]
        self.input = TensorType(self.input.dtype, frame)
        return replace(tensor, frame=frame, order=())

    def _can_transpose(self, tensor: Tensor) -> bool:
        elementwise = all(isinstance(layer, Threshold) and layer.channels == 1 for layer in self.layers)
        return elementwise and tensor.channels == 1 and not tensor.forked and not tensor.index

    def _channels_behind(self, tensor: Tensor, spread: Sequence[Floats]) -> bool:
        """Whether ``spread``, constants of the shape of ``tensor``, differ along its last axis only, so that this is
        the axis of its channels, and the host can make it the first."""
        wide = [values for values in spread if values.size > 1 and (values != values.flat[0]).any()]
        if not wide or (len(tensor.shape), len(tensor.frame)) != (4, 3) or tensor.order:
            return False
        return self._can_transpose(tensor) and all((values == values[:, :1, :1]).all() for values in wide)

    def affine(
        self, tensor: Tensor, gain: Reals | None = None, shift: Reals | None = None, step: str = "", *constants: Floats
    ) -> Tensor:
        """``gain * tensor + shift``. ``step`` with ``constants`` is the same operation in the float32 chain."""
        curve = tensor.curve.scaled(exact([1]) if gain is None else gain, exact([0]) if shift is None else shift)
        return replace(tensor, curve=curve, chain=tensor.chain and tensor.chain.then(step, *constants))

    def quantize(self, tensor: Tensor, quantizer: Quantizer) -> Tensor:
        """``tensor`` quantized by ``quantizer``: a Threshold layer, or the input quantizer of a float32 input."""
        tensor = self.affine(tensor, 1 / exact(quantizer.scale), exact(quantizer.zero), "div", quantizer.scale)
        tensor = replace(tensor, chain=tensor.chain and tensor.chain.then("add", quantizer.zero))
        dtype, base = quantizer.dtype, quantizer.base
        curve = Curve().scaled(quantizer.out_scale, quantizer.out_shift)
        if tensor.dtype is not None:
            executed = _executed_thresholds(tensor, quantizer)
            if executed is None:
                return self.fold(tensor, quantizer.boundaries, dtype, base, curve)
            return self.threshold(tensor, *executed, dtype, base, curve)
        if tensor.chain is None or tensor.chain.channels > 1 or len(quantizer.boundaries) > 1:
            raise Refusal(
                "the float input is scaled or quantized a channel each: make it one scale, or say which integers the "
                f"input holds: {SAY_INPUT}"
            )
        folded = input_thresholds(tensor.chain, quantizer.level, quantizer.count)
        if folded is None:
            raise Refusal("its level is the same for every input")
        thresholds, direction, lowest = folded
        input_quantizer = InputQuantizer(thresholds=thresholds, sign=direction, base=base + dtype.step * lowest)
        if self.input_quantizer not in (None, input_quantizer) or (self.input_quantizer and dtype != self.input.dtype):
            raise Refusal(
                "quantizes the float input a second time, otherwise than before: quantize it once for both branches, "
                f"or say which integers the input holds: {SAY_INPUT}"
            )
        self.input_quantizer = input_quantizer
        self.input = TensorType(dtype, self.input.shape)
        low, high = np.array([dtype.min]), np.array([dtype.max])
        return replace(tensor, dtype=dtype, low=low, high=high, curve=curve, chain=None)

    def fold(self, tensor: Tensor, boundaries: list[list[Boundary]], dtype: DType, base: int, curve: Curve) -> Tensor:
        """``tensor`` quantized to levels that begin at the reals ``boundaries``, exactly, by a Threshold layer.

        ``curve`` gives the real that each new integer represents.
        """
        thresholds, signs = fold_thresholds(tensor.curve, boundaries, tensor.low, tensor.high)
        return self.threshold(tensor, thresholds, signs, dtype, base, curve)

    def threshold(self, tensor: Tensor, thresholds: Ints, sign: Ints, dtype: DType, base: int, curve: Curve) -> Tensor:
        """The output of a Threshold layer; ``curve`` gives the real that each of its integers represents."""
        name = self.name(Threshold)
        layer = Threshold(name=name, thresholds=thresholds, sign=sign, dtype=dtype, base=base)
        return self.add(layer, tensor, curve=curve, chain=None, quantized=True)

    def affine_levels(self, tensor: Tensor, what: str, zero: bool = False) -> Tensor:
        """``tensor`` without a pending Relu or Clip and, with ``zero``, with the integer 0 for the real 0.

        A Threshold layer maps few-bit levels to such levels where necessary.
        """
        if tensor.curve.gains is None:
            return self.levels(tensor, what, f"{what} is a Relu or Clip that no quantizer follows", zero)
        if zero and any(tensor.gains.shift):
            return self.levels(tensor, what, f"{what} has an offset, beside which 0, its padding, is no level", zero)
        return tensor

    def levels(self, tensor: Tensor, what: str, reason: str, zero: bool = False) -> Tensor:
        """Maps few-bit levels by a Threshold layer to integers whose reals are ``gain * integer + offset``.

        The offset is 0 where possible; with ``zero`` it must be. Refuses with the message ``reason`` if it cannot.
        """
        assert tensor.dtype is not None
        if any(isinstance(step, Smooth) for step in tensor.curve.steps):
            raise Refusal(f"{what} is a sigmoid or tanh that no quantizer follows: put a Quant behind it")
        values = range(tensor.dtype.min, tensor.dtype.max + 1, tensor.dtype.step)
        if not tensor.quantized or len(values) > _LADDER or tensor.curve.channels > 1:
            raise Refusal(reason)
        reals = [tensor.curve.value(0, x) for x in values]
        ladder = sorted(set(reals))
        if len(ladder) == 1:
            raise Refusal(f"{what} is the same for every input")
        unit = common_unit(ladder if zero else [value - ladder[0] for value in ladder[1:]])
        start = ladder[0] / unit
        if zero and abs(start) >= _LADDER:
            raise Refusal(reason)
        count = int((ladder[-1] - ladder[0]) / unit)
        base = int(start) if start.denominator == 1 and abs(start) < _LADDER else 0
        if count >= _LADDER:
            raise Refusal(f"{what} is a Relu or Clip that cuts between two levels")
        dtype = DType.spanning(base, base + count)
        table = np.array([[int((value - ladder[0]) / unit)] for value in reals])
        folded = table_thresholds(table, np.array(values), count)
        assert folded is not None
        curve = Curve().scaled(exact([1]) * unit, exact([1]) * (ladder[0] - base * unit))
        return self.threshold(tensor, *folded, dtype, base, curve)

    def arg_max(self, tensor: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
        """Index of the largest real along ``axis``."""
        if not -len(tensor.shape) <= axis < len(tensor.shape):
            raise Refusal(f"has no axis {axis} in shape {tensor.shape}")
        if axis % len(tensor.shape) == 0 or tensor.shape[axis] != int(np.prod(tensor.shape)):
            raise Refusal(f"must run over all the scores of a frame, not over axis {axis} of shape {tensor.shape}")
        if tensor.dtype is None:
            raise Refusal("its input is not quantized")
        while tensor.curve.end is not None:  # it rises, so that the largest stays the largest
            tensor = replace(tensor, curve=tensor.curve.before_end(), chain=None)
        tensor = self.affine_levels(self.flat(tensor), "its input")
        gain, shift = (np.resize(values, tensor.frame[0]) for values in (tensor.gains.gain, tensor.gains.shift))
        if any(value != gain[0] for value in gain) or any(value != shift[0] for value in shift) or gain[0] <= 0:
            low, high = (np.resize(ends, tensor.frame[0]) for ends in (tensor.low, tensor.high))
            scale, bias = comparable_scores(gain, shift, low, high)
            layer = Affine(name=self.name(Affine), scale=np.array(scale), bias=np.array(bias))
            tensor = self.add(layer, tensor, curve=Curve())
        return replace(self.best(tensor), shape=shape)

    def best(self, tensor: Tensor) -> Tensor:
        """Index of the largest real; all channels have one gain and offset; a negative gain negates the integers."""
        if tensor.gains.gain[0] < 0:
            ones = np.ones(tensor.frame[0], np.int64)
            tensor = self.add(Affine(name=self.name(Affine), scale=-ones, bias=0 * ones), tensor, curve=Curve())
        return self.add(ArgMax(name=self.name(ArgMax)), tensor, index=True)

    def scores(self, tensor: Tensor, scale_bits: int) -> Tensor:
        """``tensor`` with one gain for all channels and no offset, by an Affine layer where they have others.

        Gains that differ are rounded to ``scale_bits`` bits, offsets to whole units of the result.
        """
        gains = tensor.gains
        if all(gain == gains.gain[0] for gain in gains.gain) and not any(gains.shift):
            return tensor
        channels = tensor.frame[0]
        gain, shift = (np.resize(values, channels) for values in (gains.gain, gains.shift))
        if not any(gain):
            scale, places = np.zeros(channels, np.int64), fixed_point(shift.astype(np.float64), _BIAS_BITS)[1]
            unit = Fraction(2) ** -places
        elif all(value == gain[0] for value in gain):
            scale, unit = np.full(channels, 1 if gain[0] > 0 else -1), abs(gain[0])
        else:
            scale, places = fixed_point(gain.astype(np.float64), scale_bits)
            unit = Fraction(2) ** -places
        bias = [round(value / unit) for value in shift]
        if max(map(abs, bias)) >= 1 << 63:
            raise FewbitError("the biases of the scores are too large beside their scales: they need more than 64 bits")
        layer = Affine(name=self.name(Affine), scale=scale, bias=np.array(bias, np.int64))
        return self.add(layer, tensor, curve=Curve().scaled(exact([unit]), exact([0])))

    def name(self, kind: Any) -> str:
        """The name of the next layer of ``kind``: the kind and its running number."""
        return f"{kind.kind}_{sum(isinstance(layer, kind) for layer in self.layers)}"

    def add(self, layer: Layer, tensor: Tensor, **changes: Any) -> Tensor:
        """The output of ``layer``, which reads ``tensor`` and is appended to the layers.

        The layer determines type and range of the output; ``changes`` sets the other fields of the tensor.
        """
        if tensor.layer != (self.layers[-1].name if self.layers else ""):  # a branch from an earlier layer
            layer = replace(layer, inputs=(tensor.layer or INPUT,))
        return self._added(layer, [tensor], changes)

    def join(self, make: Callable[..., Join], tensors: Sequence[Tensor], **changes: Any) -> Tensor:
        """The output of the layer that ``make``, such as ``Concat``, gives for its name and the names of its inputs."""
        kind = make.func if isinstance(make, partial) else make
        layer = make(name=self.name(kind), inputs=tuple(tensor.layer or INPUT for tensor in tensors))
        return self._added(layer, tensors, changes)

    def _added(self, layer: Layer, tensors: Sequence[Tensor], changes: dict[str, Any]) -> Tensor:
        types = [tensor.type for tensor in tensors]
        output = layer.output_of(types)
        if "low" not in changes:
            ranges = [partial(_range, tensor) for tensor in tensors]
            ends = np.array(layer.output_range_of(types, ranges))
            ends = ends.reshape(2, -1)
            changes["low"], changes["high"] = ends[:, :1] if (ends == ends[:, :1]).all() else ends
        self.layers.append(layer)
        fields: dict[str, Any] = {"layer": layer.name, "frame": output.shape, "dtype": output.dtype, "shared": False}
        return replace(tensors[0], **(fields | changes))


def channels_last_order(rank: int) -> tuple[int, ...]:
    """The order of axes with channels, the second one, last.

    >>> channels_last_order(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1)


def _range(tensor: Tensor) -> tuple[Ints, Ints]:
    return tensor.low, tensor.high


def _executed_thresholds(tensor: Tensor, quantizer: Quantizer) -> tuple[Ints, Ints] | None:
    """Thresholds and signs from executing the float32 chain for every input; None without a chain or beyond _TABLE."""
    if tensor.chain is None:
        return None
    assert tensor.dtype is not None
    channels = max(tensor.chain.channels, len(quantizer.boundaries))
    check_thresholds(channels, quantizer.count)
    if (tensor.dtype.max - tensor.dtype.min + 1) * channels > _TABLE:
        return None
    values = np.arange(tensor.dtype.min, tensor.dtype.max + 1, tensor.dtype.step)
    thresholds = table_thresholds(level_table(tensor.chain, quantizer.level, values), values, quantizer.count)
    if thresholds is None:
        raise Refusal("neither rises nor falls with its input")
    return thresholds


def _check_channels(count: int) -> None:
    """Raises Refusal if more than the supported number of channels differ in scale, shift or range."""
    if count > _MOST_CHANNELS:
        raise Refusal(f"has {count:,} elements that differ in scale or range, {_MOST_CHANNELS:,} are the most")


def float32(constant: Array) -> Floats:
    """``constant`` in the number type in which the source graph computes; a number that is too large is infinite."""
    with np.errstate(over="ignore"):
        return constant.astype(np.float32)


def one_if_alike(values: NDArray[Any]) -> NDArray[Any]:
    """``values`` shortened to (1,) if all are equal."""
    return values[:1] if (values == values[0]).all() else values


def common_unit(values: list[Fraction]) -> Fraction:
    """The greatest rational number that divides each of ``values``."""
    denominator = int(np.lcm.reduce(np.array([value.denominator for value in values], object)))
    return Fraction(int(np.gcd.reduce(np.array([int(v * denominator) for v in values], object))), denominator)


def _over_frame(values: Reals, frame: tuple[int, ...]) -> Reals:
    """``values`` of channels as (1,) if all are equal, else one for each element of a frame."""
    if all(value == values[0] for value in values):
        return values[:1]
    return np.repeat(values, int(np.prod(frame[1:], dtype=int)))
