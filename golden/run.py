"""Runs a Network on frames, every intermediate kept: the reference that all other engines must equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.linear import window_positions
from fewbit.golden.matvec import matvec, product
from fewbit.golden.network import (
    Affine,
    ArgMax,
    Conv,
    Dense,
    Flatten,
    Layer,
    Linear,
    Network,
    Pool,
    TensorType,
    Threshold,
)
from fewbit.golden.threshold import threshold_level
from fewbit.golden.window import windows

_MOST_ELEMENTS = 1 << 24
"""Elements of windows that a convolution holds at a time."""


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes
    ----------
    network : Network
    tensors : tuple of int64 array
        Input and output of every layer, ``(N, *shape)`` each, as ``network.types`` types them.
    """

    network: Network
    tensors: tuple[Ints, ...]

    @property
    def output(self) -> Ints:
        """Output of the last layer, (N, ...) int64."""
        return self.tensors[-1]

    @property
    def scores(self) -> Ints:
        """Integer scores, (N, ...): what the last arg-max saw, or the output where there is none."""
        return self.tensors[-2] if isinstance(self.network.layers[-1], ArgMax) else self.tensors[-1]


def run(network: Network, frames: Ints, quality: int | None = None) -> Result:
    """Runs ``frames``, (N, \\*network.input.shape) integers of the input kind, through every layer.

    ``quality`` caps the signed digits that count in every multiplication by a scale or a ``csd`` weight, the most
    significant first; None, or ``network.digits`` and more, is exact.

    Raises
    ------
    FewbitError
        If shape or values of ``frames`` are not the network's, or the quality is negative.
    """
    if quality is not None and quality < 0:
        raise FewbitError(f"the quality must be 0 or more, not {quality}")
    tensors = [check_frames(network, frames).astype(np.int64)]
    for layer, source in zip(network.layers, network.types):
        factors = layer.factors(quality) if isinstance(layer, Linear) else None
        tensors.append(step(layer, source, tensors[-1], factors))
    return Result(network, tuple(tensors))


def step(layer: Layer, source: TensorType, x: Ints, factors: Ints | None = None) -> Ints:
    """The output of one ``layer`` for ``x``, int64 of type ``source``.  # (N, \\*source.shape) -> (N, \\*output shape)

    ``factors`` is what a linear layer multiplies by, :meth:`fewbit.golden.linear.Linear.factors`; by default that at
    full quality.
    """
    if isinstance(layer, Linear):
        return _LINEAR[type(layer)](layer, source, x, layer.factors() if factors is None else factors)
    return _STEPS[type(layer)](layer, source, x)


def check_frames(network: Network, frames: Ints) -> Ints:
    """``frames`` as (N, \\*input shape), of any shape that :func:`shaped` takes. Raises FewbitError on a misfit."""
    frames = np.asarray(frames)
    dtype = network.input.dtype
    if frames.dtype.kind not in "iub":
        raise FewbitError(f"inputs must be integers ({dtype}), not {frames.dtype}")
    frames = shaped(frames, network.input.shape)
    if not dtype.contains(frames):
        raise FewbitError(f"inputs must be {dtype} ({_range(dtype)}), got {frames.min()} to {frames.max()}")
    return frames


def shaped(frames: Ints, shape: tuple[int, ...]) -> Ints:
    """``frames`` as (N, \\*shape); a frame given flat, or with other axes of one, is given its shape.

    Raises
    ------
    FewbitError
        If a frame has another shape.
    """
    fitting = _long_axes(shape), _long_axes((int(np.prod(shape)),))
    if frames.ndim < 1 + bool(shape) or _long_axes(frames.shape[1:]) not in fitting:
        raise FewbitError(f"inputs must have shape (N, {', '.join(map(str, shape))}), not {frames.shape}")
    return frames.reshape(-1, *shape)


def _long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent > 1)


def quantize_input(network: Network, frames: Ints) -> Ints:
    """float32 ``frames`` (N, ...) as the network's input integers, as the source model quantizes them.

    Raises
    ------
    FewbitError
        If the network takes integers only, or a value is not a number.
    """
    quantizer = network.input_quantizer
    if quantizer is None:
        raise FewbitError(f"network {network.name!r} takes integers ({network.input}), not {frames.dtype}")
    values = np.asarray(frames, np.float32)
    if np.isnan(values).any():
        raise FewbitError("inputs hold a value that is not a number")
    level = np.searchsorted(quantizer.thresholds, values * np.float32(quantizer.sign), side="right")
    return quantizer.base + network.input.dtype.step * level.astype(np.int64)


def dequantize_output(network: Network, output: Ints) -> Ints:
    """Integers (N, ...) of the last layer as the source model's output tensor: float32 scores, or int64 indices."""
    shape = (len(output), *(network.output.shape if network.output_shape is None else network.output_shape))
    if isinstance(network.layers[-1], ArgMax):
        return output.reshape(shape)
    real = output.reshape(len(output), network.output.size) * network.output_scale + network.output_bias
    return real.astype(np.float32).reshape(shape)


def classify(network: Network, scores: Ints) -> Ints:
    """Predicted classes (N,) int64 from integer ``scores`` (N, C), after the output scale where there is one."""
    real = scores if network.classifies else scores * network.output_scale + network.output_bias
    return np.asarray(np.argmax(real, axis=1))


def _range(dtype: object) -> str:
    low, high = dtype.min, dtype.max  # type: ignore[attr-defined]
    return "-1 or +1" if str(dtype) == "bipolar" else f"{low} to {high}"


def _flatten(layer: Flatten, source: TensorType, x: Ints) -> Ints:
    return x.reshape(len(x), source.size)[:, layer.places(source.shape)]


def _sums(layer: Linear, factors: Ints, source: DType, x: Ints) -> Ints:
    """# (N, inputs), (outputs, inputs) -> (N, outputs)"""
    if layer.digits:
        return product(x, factors, source)
    return matvec(x, factors, layer.code, source)


def _dense(layer: Dense, source: TensorType, x: Ints, factors: Ints) -> Ints:
    return _sums(layer, factors, source.dtype, x)


def _conv(layer: Conv, source: TensorType, x: Ints, factors: Ints) -> Ints:
    kind = layer.lane_kind(source.dtype)
    rows, columns = window_positions(layer, layer.kernel, layer.stride, layer.padding, source)
    y = np.empty((len(x), layer.outputs, rows, columns), np.int64)
    channels, outputs = layer.channels // layer.groups, layer.outputs // layer.groups
    frames = max(1, _MOST_ELEMENTS // (rows * columns * layer.inputs))
    for start in range(0, len(x), frames):
        part = slice(start, start + frames)
        for group in range(layer.groups):
            seen = x[part, group * channels : (group + 1) * channels]
            vectors = windows(seen, layer.kernel, layer.stride, layer.padding).reshape(-1, layer.inputs)
            own = slice(group * outputs, (group + 1) * outputs)
            sums = _sums(layer, factors[own], kind, vectors).reshape(len(seen), rows, columns, outputs)
            y[part, own] = sums.transpose(0, 3, 1, 2)
    return y


def _pool(layer: Pool, source: TensorType, x: Ints) -> Ints:
    fill = source.dtype.min if layer.mode == "max" else 0
    seen = windows(x, layer.kernel, layer.stride, layer.padding, fill)
    pooled = seen.max((3, 4)) if layer.mode == "max" else seen.sum((3, 4))
    return np.ascontiguousarray(pooled.transpose(0, 3, 1, 2))


def _threshold(layer: Threshold, _source: TensorType, x: Ints) -> Ints:
    return layer.base + layer.dtype.step * threshold_level(x, layer.thresholds, layer.sign)


def _affine(layer: Affine, _source: TensorType, x: Ints) -> Ints:
    axes = (-1,) + (1,) * (x.ndim - 2)
    return x * layer.scale.reshape(axes) + layer.bias.reshape(axes)


def _argmax(_layer: ArgMax, _source: TensorType, x: Ints) -> Ints:
    return np.asarray(np.argmax(x, axis=1))


_LINEAR: dict[type[Layer], Callable[..., Ints]] = {Dense: _dense, Conv: _conv}

_STEPS: dict[type[Layer], Callable[..., Ints]] = {
    Flatten: _flatten,
    Pool: _pool,
    Threshold: _threshold,
    Affine: _affine,
    ArgMax: _argmax,
}
