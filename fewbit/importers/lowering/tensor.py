"""A tensor of a source graph while it is lowered: the integers that carry it, and the reals that they represent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fewbit.exact import Curve, Gain, Reals, exact
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import TensorType
from fewbit.importers.lowering.float_steps import FloatChain


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of the source graph, and the layer of the network whose integers carry it.

    Attributes
    ----------
    layer : str
        Name of the layer that gives the integers; empty for the input of the network.
    shape : tuple of int
        Shape in the source graph, with the batch axis.
    frame : tuple of int
        Shape of one frame in the network; channels are the first axis.
    order : tuple of int
        Where the source graph has the axes in another order than the frame: for each axis of ``shape``, its place in
        the order of the frame, the batch axis first. (0, 2, 3, 1) is a map with channels last. Empty if the order is
        the same.
    dtype : DType or None
        Type of the integers; None for a float32 input that nothing has quantized yet.
    low, high : int arrays (1,) or (channels,)
        Lowest and highest integer that can occur.
    curve : Curve
        From an integer to the real that it represents, in each channel: gain, offset, and limits such as a ReLU's.
    chain : FloatChain or None
        The same function as float32 steps, for as long as no quantizer and no product comes before it.
    quantized : bool
        Whether the integers are few-bit levels; False for the sums of a product.
    integral : bool
        Whether the source graph declares an integer element type.
    index : bool
        Whether this is the output of the arg-max.
    function : str or None
        Function of all scores, such as a softmax, that the host applies to the reals; only an arg-max may follow.
    pending : object
        A quantizer whose integers the source graph has here, and that a later node completes; no layer has it yet.
    shared : bool
        Whether several nodes of the source graph read what the layer gives, so that the layer must stay as it is.
    forked : bool
        Whether several nodes read this tensor or one that it is computed from, so that the frame must stay as it is.
    """

    layer: str = ""
    shape: tuple[int, ...]
    frame: tuple[int, ...]
    order: tuple[int, ...] = ()
    dtype: DType | None
    low: Ints
    high: Ints
    curve: Curve
    chain: FloatChain | None = None
    quantized: bool = True
    integral: bool = False
    index: bool = False
    function: str | None = None
    pending: Any = None
    shared: bool = False
    forked: bool = False

    @staticmethod
    def source(
        shape: tuple[int, ...],
        dtype: DType | None,
        curve: Curve,
        chain: FloatChain | None = None,
        integral: bool = False,
    ) -> Tensor:
        """The input of a graph; ``shape`` has the batch axis."""
        low, high = (dtype.min, dtype.max) if dtype else (0, 0)
        return Tensor(
            shape=shape,
            frame=shape[1:],
            dtype=dtype,
            low=np.array([low]),
            high=np.array([high]),
            curve=curve,
            chain=chain,
            integral=integral,
        )

    def transposed(self, perm: tuple[int, ...]) -> Tensor:
        """The tensor with the axes of its shape in the order ``perm``; the integers stay where they are."""
        places = self.order or tuple(range(len(self.shape)))
        shape, order = tuple(self.shape[axis] for axis in perm), tuple(places[axis] for axis in perm)
        long = [place for extent, place in zip(shape, order) if extent > 1]
        return replace(self, shape=shape, order=() if long == sorted(long) else order)

    def with_height(self) -> Tensor:
        """A map with one axis, (1, channels, length), as a map of height 1; any other tensor as it is."""
        if len(self.shape) != 3 or self.order:
            return self
        return replace(self, shape=(*self.shape[:2], 1, self.shape[2]))

    def without_height(self) -> Tensor:
        """The inverse of :meth:`with_height`."""
        return replace(self, shape=(*self.shape[:2], self.shape[3]))

    def in_frame(self, values: Any) -> Any:
        """``values`` of the shape of this tensor, in the shape of its frame.  # shape -> frame"""
        return (values.transpose(np.argsort(self.order)) if self.order else values).reshape(self.frame)

    def axis(self, place: int) -> int:
        """The place of axis ``place`` of the shape in the order of the frame, the batch axis first."""
        place %= len(self.shape)
        return self.order[place] if self.order else place

    @property
    def type(self) -> TensorType:
        """Type of the integers in the network."""
        assert self.dtype is not None
        return TensorType(self.dtype, self.frame)

    @property
    def gains(self) -> Gain:
        """Gain and offset of each channel, of a tensor on which no limit is pending."""
        gains = self.curve.gains
        assert gains is not None
        return gains

    @property
    def channels(self) -> int:
        """Channels that differ in their curve or their range; 1 if all are alike."""
        return max(self.curve.channels, self.low.size, self.chain.channels if self.chain else 1)

    @property
    def real_range(self) -> tuple[Reals, Reals]:
        """Lowest and highest real that can occur, (1,) or (channels,) each."""
        channels = range(max(self.curve.channels, self.low.size))
        ends = [
            sorted(self.curve.value(channel, int(np.resize(x, len(channels))[channel])) for x in (self.low, self.high))
            for channel in channels
        ]
        return exact([low for low, _ in ends]), exact([high for _, high in ends])
