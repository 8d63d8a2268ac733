"""A network in integers under construction, and the reals that its integers stand for.

Quantized weights leave a scale behind, and biases a shift: they wait, exact, until thresholds take them in, or, at the
end, a gain in fixed point that makes the scores of all classes comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from fewbit.exact import Boundary, Curve, Reals, exact, fold_thresholds
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
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
from fewbit.golden.quantizers.fixed_point import fixed_point
from fewbit.golden.quantizers.rules import Quantized

Padding = tuple[int, int, int, int]
"""Top, left, bottom, right."""

_BIAS_BITS = 24
"""Of scores that no input reaches: biases alone."""


class IntegerChain:
    """The layers so far.

    Attributes
    ----------
    layers : list of Layer
    kind : TensorType
        Of the newest integers.
    gain, shift : Fractions (1,) or (channels,)
        An integer x of channel c stands for the real ``gain[c] * x + shift[c]``; channels are the first axis.
    """

    def __init__(self, source: TensorType, gain: Fraction = Fraction(1)) -> None:
        self.source = self.kind = source
        self.layers: list[Layer] = []
        self._starts(gain)

    def _starts(self, gain: Fraction) -> None:
        self.gain, self.shift = exact([gain]), exact([0])
        self._low, self._high = np.array([self.kind.dtype.min]), np.array([self.kind.dtype.max])

    def product(self, name: str, made: Quantized, levels: Ints, bias: Reals | None = None, **window: Any) -> None:
        """A dense layer, or with a ``window`` a convolution, of quantized weights; ``levels`` in its own shape.

        Raises
        ------
        FewbitError
            If an integer of its input stands for another real in one channel than in another.
        """
        if any(gain != self.gain[0] for gain in self.gain) or any(self.shift):
            raise FewbitError(
                f"layer {name!r}: no thresholds stand between it and the product before it, so that the scales of "
                "that one cannot differ between outputs: give it one scale a tensor"
            )
        fields, scale = linear_fields(made)
        layer: Linear = (Conv if window else Dense)(name=name, weights=levels, **fields, **window)
        self._low, self._high = layer.bounds(self.kind.dtype)
        self.gain = scale * self.gain[0]
        self.shift = exact([0]) if bias is None else _one_if_alike(bias)
        self._add(layer)

    def pool(self, mode: str, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> None:
        """The greatest integer of every window, or the sum."""
        if mode == "max" and any(gain < 0 for gain in self.gain):
            raise FewbitError("a maximum of what falls where its integers rise is not supported")
        layer = Pool(name=self._name(Pool), mode=mode, kernel=kernel, stride=stride, padding=padding)
        if mode == "sum":
            elements = kernel[0] * kernel[1]
            ends = elements * self._low, elements * self._high
            self._low, self._high = (
                (np.minimum(ends[0], 0), np.maximum(ends[1], 0)) if any(padding) else ends
            )  # padding adds 0
        self._add(layer)

    def mean(self, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> None:
        """The mean real of every window: a sum of integers that stand for less."""
        if any(padding) and any(self.shift):
            raise FewbitError("a mean over padding of what a bias has shifted is not supported: put it behind a ReLU")
        self.pool("sum", kernel, stride, padding)
        self.gain = self.gain / (kernel[0] * kernel[1])

    def flatten(self, channels_last: bool = False) -> None:
        shape = self.kind.shape
        if len(shape) == 1:
            return
        flatten = Flatten(name=self._name(Flatten), channels_last=channels_last)
        channel = flatten.places(shape) // int(np.prod(shape[1:]))
        self.gain, self.shift, self._low, self._high = (
            one[channel] if one.size > 1 else one for one in (self.gain, self.shift, self._low, self._high)
        )
        self._add(flatten)

    def threshold(
        self, boundaries: list[list[Boundary]], dtype: DType, base: int, gain: Fraction, sign: Sequence[int] = (1,)
    ) -> None:
        """``base`` plus a step for each boundary that ``sign`` times the real reaches; it then stands for ``gain``."""
        turn = exact(sign)
        curve = Curve().scaled(self.gain * turn, self.shift * turn)
        thresholds, signs = fold_thresholds(curve, boundaries, self._low, self._high)
        name = self._name(Threshold)
        self._add(Threshold(name=name, thresholds=thresholds, sign=signs, dtype=dtype, base=base))
        self._starts(gain)

    def affine(self, gain: Reals, shift: Reals) -> None:
        """``gain * real + shift``, which waits for what comes next."""
        self.gain, self.shift = self.gain * gain, self.shift * gain + shift

    def scores(self, scale_bits: int) -> None:
        """Makes the integers of all channels stand for the same: by a gain of ``scale_bits`` bits, where theirs differ,
        and a bias in whole units of the sums."""
        if all(gain == self.gain[0] for gain in self.gain) and not any(self.shift):
            return
        channels = self.kind.shape[0]
        gain, shift = (np.resize(one, channels) for one in (self.gain, self.shift))
        if not any(gain):
            scale, places = np.zeros(channels, np.int64), fixed_point(shift.astype(np.float64), _BIAS_BITS)[1]
            unit = Fraction(2) ** -places
        elif all(one == gain[0] for one in gain):
            scale, unit = np.full(channels, 1 if gain[0] > 0 else -1), abs(gain[0])
        else:
            scale, places = fixed_point(gain.astype(np.float64), scale_bits)
            unit = Fraction(2) ** -places
        whole = [round(one / unit) for one in shift]
        if max(map(abs, whole)) >= 1 << 63:
            raise FewbitError("the biases of the scores are too large beside their scales: they need more than 64 bits")
        self._add(Affine(name=self._name(Affine), scale=scale, bias=np.array(whole, np.int64)))
        self._starts(unit)

    def arg_max(self) -> None:
        self._add(ArgMax(name=self._name(ArgMax)))

    def network(self, name: str, **fields: Any) -> Network:
        """The network so far; ``fields`` are those that layers do not tell."""
        return Network(name=name, input=self.source, layers=tuple(self.layers), **fields)

    def _name(self, kind: type[Layer]) -> str:
        return f"{kind.kind}_{sum(isinstance(layer, kind) for layer in self.layers)}"

    def _add(self, layer: Layer) -> None:
        self.kind = layer.output_of([self.kind])
        self.layers.append(layer)


def stores_scales(made: Quantized) -> bool:
    """Whether a layer with the weights ``made`` has scales of its own, which differ within an output."""
    return made.vectors.runs or made.negative_scales is not None


def linear_fields(made: Quantized) -> tuple[dict[str, Any], Reals]:
    """What a layer with the weights ``made`` has for scales, and the scale that is left over of each output.

    One scale for all that an output sees is left over; scales that differ within are the layer's, in fixed point.
    """
    fields: dict[str, Any] = {"code": made.code}
    if not stores_scales(made):
        return fields, _one_if_alike(exact(made.unit * made.scales.ravel()))
    shape = made.shape
    rows = (shape[0], 1) if made.vectors.axis == "tensor" else made.scales.shape
    fields["scales"] = np.broadcast_to(made.scales, rows)
    if made.negative_scales is not None:
        fields["negative_scales"] = np.broadcast_to(made.negative_scales, rows)
    fields["vector"] = made.vectors.length_in(shape) if made.vectors.runs else shape[1]
    fields["across"] = made.vectors.axis == "outputs"
    return fields, exact([made.unit])


def _one_if_alike(values: Reals) -> Reals:
    return values[:1] if all(value == values[0] for value in values) else values
