"""Golden model: runs a network on frames and keeps all intermediate tensors. Other engines must equal its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    ArgMax,
    Layer,
    Network,
)


@dataclass(frozen=True)
class Result:
    """All tensors of a run.

    Attributes
    ----------
    network : Network
    tensors : tuple of int64 array
        The input, then the output of every layer, each of shape ``(N, *shape)`` with the types in
        ``network.tensor_types``.
    """

    network: Network
    tensors: tuple[Ints, ...]

    @property
    def output(self) -> Ints:
        """Output of the last layer, (N, ...) int64."""
        return self.tensors[-1]

    @property
    def scores(self) -> Ints:
        """Integer scores, (N, ...): the input of the final ArgMax, or the output if there is none."""
        return self.tensors[self.network.scores_tensor]

    def of(self, layer: Layer | None) -> Ints:
        """Output of ``layer``, (N, ...) int64; for None, the network's input."""
        return self.tensors[0 if layer is None else self.network.index(layer) + 1]


def run(network: Network, frames: Ints, quality: int | None = None) -> Result:
    """Run ``frames``, (N, \\*network.input.shape) integers of the network's input kind, through every layer.

    ``quality`` limits how many signed digits of each scale and ``csd`` weight are used, the most significant first.
    None, or at least ``network.digits``, is exact.

    Raises
    ------
    FewbitError
        If the shape or values of ``frames`` do not match the network's input, or the quality is negative.
    """
    if quality is not None and quality < 0:
        raise FewbitError(f"the quality must be 0 or more, not {quality}")
    tensors = [check_frames(network, frames).astype(np.int64)]
    for layer, read in zip(network.layers, network.reads):
        tensors.append(layer.step_of(network.sources(layer), [tensors[number] for number in read], quality))
    return Result(network, tuple(tensors))


def check_frames(network: Network, frames: Ints) -> Ints:
    """Return ``frames`` as (N, \\*input shape). Raises FewbitError if they are not integers of the network's input
    kind, or have a shape that :func:`shaped` does not accept."""
    frames = np.asarray(frames)
    dtype = network.input.dtype
    if frames.dtype.kind not in "iub":
        raise FewbitError(f"inputs must be integers ({dtype}), not {frames.dtype}")
    frames = shaped(frames, network.input.shape)
    if not dtype.contains(frames):
        raise FewbitError(f"inputs must be {dtype} ({_range(dtype)}), got {frames.min()} to {frames.max()}")
    return frames


def source_frames(network: Network, frames: Ints) -> Ints:
    """``frames``, (N, ...) as the source model takes them, as frames of the network, one on each row.

    Where an input of the source model holds a batch of B frames, (N, B, ...) are N * B frames. Where the source model
    takes channels last, they become the first axis, unless they are so already.
    """
    given = network.input.shape if network.input_shape is None else network.input_shape
    return reordered(np.asarray(frames), network.input.shape, given, network.input_order, network.input_batch)


def reordered(frames: Ints, shape: tuple[int, ...], given: tuple[int, ...], order: tuple[int, ...], batch: int) -> Ints:
    """``frames`` of shape ``given``, perhaps ``batch`` of them on each row, as frames of ``shape``, one on each row.

    Frames that fit ``shape`` already stay as they are. Parameters as in :class:`fewbit.golden.network.Network`.
    """
    if batch > 1 and frames.ndim > 1 and _long_axes(frames.shape[1:]) == _long_axes((batch, *given)):
        frames = frames.reshape(-1, *given)
    if given != shape and frames.shape[1:] == shape:
        return frames
    if order:
        return shaped(frames, given).transpose((0, *(axis + 1 for axis in order))).reshape(-1, *shape)
    if given != shape and frames.ndim > 1 and _long_axes(frames.shape[1:]) == _long_axes(given):
        return frames.reshape(-1, *shape)
    return frames


def shaped(frames: Ints, shape: tuple[int, ...]) -> Ints:
    """Return ``frames`` as (N, \\*shape). A frame may also be flat, or have additional or missing axes of length 1.

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
    """Quantize float32 ``frames`` (N, ...) to the network's input integers, as the source model does.

    Raises
    ------
    FewbitError
        If the network has no input quantizer, or a value is NaN.
    """
    quantizer = network.input_quantizer
    if quantizer is None:
        raise FewbitError(f"network {network.name!r} takes integers ({network.input}), not {frames.dtype}")
    values = source_frames(network, np.asarray(frames, np.float32))
    if np.isnan(values).any():
        raise FewbitError("inputs hold a value that is not a number")
    level = np.searchsorted(quantizer.thresholds, values * np.float32(quantizer.sign), side="right")
    return quantizer.base + network.input.dtype.step * level.astype(np.int64)


def dequantize_output(network: Network, output: Ints) -> Ints:
    """Convert the last layer's ``output`` (N, ...) to the source model's output tensor: float32 scores, or int64 class
    indices after an ArgMax."""
    shape = (len(output), *(network.output.shape if network.output_shape is None else network.output_shape))
    if isinstance(network.layers[-1], ArgMax):
        return output.reshape(shape)
    real = output.reshape(len(output), network.output.size) * network.output_scale + network.output_bias
    if network.output_function is not None:
        scores = real.astype(np.float32).astype(np.float64)
        real = apply_output_function(network.output_function, scores.reshape(len(output), *network.output.shape))
    return real.astype(np.float32).reshape(shape)


def _sigmoid(x: Ints) -> Ints:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _log_softmax(x: Ints) -> Ints:
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


_FUNCTIONS: dict[str, Callable[[Ints], Ints]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softmax": lambda x: np.exp(_log_softmax(x)),
    "log_softmax": _log_softmax,
}
"""The functions :data:`~fewbit.golden.network.OUTPUT_FUNCTIONS` of reals (N, C, ...)."""


def apply_output_function(name: str, reals: Ints) -> Ints:
    """What the host applies to ``reals`` (N, C, ...) at the end: one of the functions that
    :data:`~fewbit.golden.network.OUTPUT_FUNCTIONS` names."""
    return _FUNCTIONS[name](reals)


def classify(network: Network, scores: Ints) -> Ints:
    """Predicted classes (N,) int64 from integer ``scores`` (N, C). The output scale and bias are applied if they can
    change the result."""
    real = scores if network.classifies else scores * network.output_scale + network.output_bias
    return np.asarray(np.argmax(real, axis=1))


def _range(dtype: object) -> str:
    low, high = dtype.min, dtype.max  # type: ignore[attr-defined]
    return "-1 or +1" if str(dtype) == "bipolar" else f"{low} to {high}"
