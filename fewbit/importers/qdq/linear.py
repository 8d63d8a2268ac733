"""QuantizeLinear and DequantizeLinear, each by itself.

A tensor of integers in the file is carried as that integer less its zero point, so that the real 0, with which
convolutions are padded, is the integer 0. The reals of its curve are the integers of the file.

    q = clip(round(x / scale) + zero)        x = scale * (q - zero)

Rounding is half to even, before the zero point is added. Where only elementwise steps lie between two quantizers, the
float32 operations of the file are executed for every integer; where a product lies between them, the quotient is exact
(docs/decisions/0033-qdq.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fewbit.exact import Curve, exact, rounding_boundary, rounding_thresholds
from fewbit.golden.dtype import DType, Ints
from fewbit.importers.lowering.builder import Builder, float32
from fewbit.importers.lowering.float_steps import FloatChain, Floats, level_table
from fewbit.importers.lowering.quantizer import Quantizer
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_call import Call
from fewbit.importers.onnx_graph import Array, Refusal
from fewbit.importers.onnx_linear import check_scale, dequantizer_settings, quantizer_settings, zero_type
from fewbit.importers.qdq import joins

_WIDEST = 16
"""Most bits of activations."""


@dataclass(frozen=True)
class Codes:
    """The integers that a file has for an activation.

    Attributes
    ----------
    scale : float32 array (1,)
    zero : int
    low, high : int
        Ends of the integer type.
    """

    scale: Floats
    zero: int
    low: int
    high: int

    @staticmethod
    def of(scale: Array | None, zero: Array | None, dtype: DType | None = None) -> Codes:
        """Codes of ``scale`` and ``zero``, whose type is ``dtype`` where it is narrower than the array.

        Raises
        ------
        Refusal
            If the integers are not 16 bits or fewer, or there is more than one scale.
        """
        scale = np.ones((), np.float32) if scale is None else scale
        zero = np.zeros((), np.uint8) if zero is None else zero
        check_scale(scale)
        if zero.dtype.kind not in "iu":
            raise Refusal(f"its zero point must be an integer, not {zero.dtype}")
        if scale.size != 1 or zero.size != 1:
            raise Refusal(
                f"has {max(scale.size, zero.size)} scales for its activations; one scale for all is supported: "
                "quantize weights a channel, activations as a whole"
            )
        if not np.isfinite(scale).all() or (scale <= 0).any():
            raise Refusal("its scale must be finite and above 0")
        low, high = (
            (dtype.min, dtype.max) if dtype else (int(getattr(np.iinfo(zero.dtype), end)) for end in ("min", "max"))
        )
        if high - low >= 1 << _WIDEST:
            raise Refusal(f"gives {zero.dtype} activations; {_WIDEST} bits are the most")
        return Codes(float32(scale).reshape(1), int(zero.ravel()[0]), low, high)

    @property
    def dtype(self) -> DType:
        """Type of the integers less the zero point."""
        return DType.spanning(self.low - self.zero, self.high - self.zero)

    @property
    def curve(self) -> Curve:
        """From an integer less the zero point to the integer."""
        return Curve().scaled(exact([1]), exact([self.zero]))

    @property
    def chain(self) -> FloatChain:
        """:attr:`curve` as a step in float32."""
        return FloatChain().then("add", np.array([self.zero], np.float32))

    def level(self, y: Floats) -> Ints:
        """Levels, 0 the lowest, of quotients ``x / scale``."""
        levels = np.clip(np.nan_to_num(np.rint(y)).astype(np.float64) + self.zero, self.low, self.high) - self.low
        return np.asarray(levels, np.int64)

    def integers(self, tensor: Tensor) -> Tensor:
        """``tensor``, whose integers are these, as one of integers of the file."""
        return replace(tensor, curve=self.curve, chain=self.chain, integral=True, quantized=True, pending=None)


def quantize_linear(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """QuantizeLinear of activations."""
    _, block = quantizer_settings(call.node)
    if block:
        raise Refusal("quantizes activations in blocks; one scale for all is supported")
    scale, zero = call.parameters(1, 2)
    return quantize(builder, tensor, Codes.of(scale, zero, zero_type(call)))


def quantize(builder: Builder, tensor: Tensor, codes: Codes) -> Tensor:
    """``tensor`` as integers, by a Threshold layer, unless it has the very same integers already."""
    if isinstance(tensor.pending, joins.Sum):
        made = joins.quantized(builder, tensor, codes.scale, codes.level, codes.dtype, codes.low - codes.zero)
        if made is not None:
            return codes.integers(made)
        tensor = joins.settled(builder, tensor)
    if _same_integers(tensor, codes):
        return codes.integers(tensor)
    return codes.integers(_rounded(builder, tensor, codes) or _executed(builder, tensor, codes))


def _rounded(builder: Builder, tensor: Tensor, codes: Codes) -> Tensor | None:
    """Sums of a product, by exact thresholds; None for activations and where a limit lies in between."""
    gains = tensor.curve.scaled(1 / exact(codes.scale), exact([0])).gains
    if tensor.dtype is None or tensor.chain is not None or gains is None or not all(gains.gain):
        return None
    levels = range(codes.low + 1 - codes.zero, codes.high + 1 - codes.zero)
    thresholds, signs = rounding_thresholds(gains, levels, tensor.low, tensor.high)
    return builder.threshold(tensor, thresholds, signs, codes.dtype, codes.low - codes.zero, codes.curve)


def _executed(builder: Builder, tensor: Tensor, codes: Codes) -> Tensor:
    boundaries = [rounding_boundary("ROUND", n - codes.zero) for n in range(codes.low + 1, codes.high + 1)]
    quantizer = Quantizer(
        boundaries=[boundaries], level=codes.level, dtype=codes.dtype, base=codes.low - codes.zero,
        out_scale=exact([1]), scale=codes.scale,
    )  # fmt: skip
    return builder.quantize(tensor, quantizer)


def _same_integers(tensor: Tensor, codes: Codes) -> bool:
    """Whether every integer of ``tensor`` stays as it is."""
    if tensor.dtype is None or tensor.chain is None or tensor.dtype.bits > codes.dtype.bits:
        return False
    values = np.arange(int(tensor.low.min()), int(tensor.high.max()) + 1)
    table = level_table(tensor.chain.then("div", codes.scale), codes.level, values)
    return bool((table + (codes.low - codes.zero) == values[:, None]).all())


def dequantize_linear(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """DequantizeLinear of activations."""
    _, block = dequantizer_settings(call.node)
    if block:
        raise Refusal("has scales for blocks of activations; one scale for all is supported")
    scale, zero = call.parameters(1, 2)
    return dequantize(builder, tensor, Codes.of(scale, zero))


def dequantize(builder: Builder, tensor: Tensor, codes: Codes) -> Tensor:
    """The reals that integers of the file stand for."""
    zero = np.array([codes.zero], np.float32)
    tensor = builder.affine(tensor, None, exact([-codes.zero]), "sub", zero)
    return replace(builder.affine(tensor, exact(codes.scale), None, "mul", codes.scale), integral=False)
