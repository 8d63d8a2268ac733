"""Tensors of a source graph while it is read into float layers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from fewbit.importers.float_onnx.draft import Draft
from fewbit.importers.float_onnx.layers import Bend, Clip, Flat, FloatLayer, Floats, Product, Scale, Smooth
from fewbit.importers.onnx_constants import broadcasts
from fewbit.importers.onnx_graph import Array, Graph, Refusal


def lifted(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a map with one axis, (1, channels, length), as that of a map of height 1; others as they are."""
    return (*shape[:2], 1, shape[2]) if len(shape) == 3 else shape


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of the source graph that depends on the input.

    Attributes
    ----------
    number : int
        The tensor of the float network that holds its elements.
    shape : tuple of int
        Shape in the source graph, with the batch axis.
    kind : str
        Element type in the source graph.
    channels_last : bool
        Whether the source graph has transposed a map, so that its channels are the last axis of ``shape``.
    function : str or None
        Function of all scores, such as a softmax, that the host applies; only an arg-max may follow.
    index : bool
        Whether this is the output of the arg-max.
    """

    number: int
    shape: tuple[int, ...]
    kind: str
    channels_last: bool = False
    function: str | None = None
    index: bool = False

    @property
    def natural(self) -> tuple[int, ...]:
        """The shape with the channels first."""
        return (self.shape[0], self.shape[-1], *self.shape[1:-1]) if self.channels_last else self.shape

    def axis(self, axis: int) -> int:
        """The axis of :attr:`natural` that is ``axis``, 0 or more, of the shape."""
        return axis if not self.channels_last or axis == 0 else axis % (len(self.shape) - 1) + 1


class Reading:
    """The layers so far, and the shapes of their outputs.

    Attributes
    ----------
    draft : Draft
    frames : dict of int to tuple of int
        Shape of one frame of each tensor.
    source : Value
        The input of the graph.
    batch : int
        Frames that one input of the source graph holds.
    input_shape, input_order
        How the host reorders a frame of the source graph's input; None and empty if it does not.
    """

    def __init__(self, graph: Graph) -> None:
        self.draft = Draft()
        self.frames = {0: graph.input_shape[1:]}
        self.source = Value(number=0, shape=graph.input_shape, kind=graph.input_type)
        self.batch = graph.batch
        self.input_shape: tuple[int, ...] | None = None
        self.input_order: tuple[int, ...] = ()

    def add(self, layer: FloatLayer, *values: Value, frame: tuple[int, ...] | None = None) -> Value:
        """The output of ``layer``, whose shape is that of the first of ``values`` unless ``frame`` says otherwise."""
        number = self.draft.add(layer, *(value.number for value in values))
        self.frames[number] = self.frames[values[0].number] if frame is None else frame
        return replace(values[0], number=number)

    def name_of(self, text: str, kind: str) -> str:
        """A name for a product: that of its node if it has one that no other product has."""
        taken = {layer.name for layer in self.draft.layers.values() if isinstance(layer, Product)}
        name = re.sub(r"\W+", "_", text).strip("_")
        return f"{kind}_{len(taken)}" if not name or name in taken else name

    def flat(self, value: Value) -> Value:
        """``value`` with its frame on one axis, by a Flat layer if needed; its shape in the source graph stays."""
        frame = self.frames[value.number]
        if len(frame) == 1:
            return replace(value, channels_last=False)
        layer = Flat(channels_last=value.channels_last)
        return replace(self.add(layer, value, frame=(math.prod(frame),)), channels_last=False)

    def map(self, value: Value) -> Value:
        """``value`` with a frame of (channels, height, width), its shape in the source graph."""
        shape = lifted(value.shape)
        if len(shape) != 4:
            raise Refusal(f"takes maps of shape (1, channels, height, width), not {value.shape}")
        if value.channels_last:
            raise Refusal("takes maps with their channels first: transpose them back in front of it")
        frame = self.frames[value.number]
        if frame == shape[1:]:
            return value
        if not self._only_elementwise:
            raise Refusal(
                f"takes maps, but its activations lie in a frame of shape {frame} already, as behind a reshape or a "
                f"constant that differs within a channel: only the input may be reshaped to {value.shape}"
            )
        if [extent for extent in frame if extent > 1] != [extent for extent in shape[1:] if extent > 1]:
            self.input_shape = self.source.shape[1:]
        self._reframe(shape[1:])
        return value

    def transposed_input(self, value: Value, order: tuple[int, ...]) -> Value:
        """``value`` with the axes of a frame in ``order``, which the host gives to the network's input."""
        if not self._only_elementwise or self.input_order or self.frames[0] != value.shape[1:]:
            raise Refusal(
                "reorders the activations of a frame, which only the host can do, at the input: export the network "
                "with channels first"
            )
        self.input_shape, self.input_order = value.shape[1:], order
        frame = tuple(value.shape[1 + axis] for axis in order)
        self._reframe(frame)
        return replace(value, shape=(1, *frame))

    @property
    def _only_elementwise(self) -> bool:
        return all(
            isinstance(layer, (Clip, Smooth))
            or (isinstance(layer, Scale) and layer.gain.size == layer.shift.size == 1)
            or (isinstance(layer, Bend) and layer.slope.size == 1)
            for layer in self.draft.layers.values()
        )

    def _reframe(self, frame: tuple[int, ...]) -> None:
        self.frames = dict.fromkeys(self.frames, frame)

    def vectors(self, value: Value, *constants: Array) -> tuple[Value, list[Floats]]:
        """``value`` and ``constants`` as float64 (1,) or (channels,).

        Constants that differ within a channel flatten the value, so that each element becomes a channel.
        """
        frame, wide = self.frames[value.number], []
        for constant in constants:
            if constant.dtype.kind != "f" or not np.isfinite(constant).all():
                raise Refusal(f"its constant must be finite {value.kind} numbers")
            constant = constant.astype(np.float64)
            if constant.size == 1 and constant.ndim <= len(value.shape):
                wide.append(constant.reshape(1))
                continue
            if not broadcasts(constant, value.shape):
                raise Refusal(f"a constant of shape {constant.shape} does not fit activations of shape {value.shape}")
            whole = np.broadcast_to(constant, value.shape)[0]
            wide.append((np.moveaxis(whole, -1, 0) if value.channels_last else whole).reshape(frame))
        if any(w.size > 1 and (w != w[(slice(None), *[slice(1)] * (w.ndim - 1))]).any() for w in wide):
            if value.channels_last:
                raise Refusal("its constant differs within a channel")
            value = self.flat(value)
            frame = self.frames[value.number]
        return value, [w if w.size == 1 else w.reshape(frame[0], -1)[:, 0] for w in wide]
