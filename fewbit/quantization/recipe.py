"""How the weights of a layer are quantized."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from fewbit.golden.codes import FAMILIES, Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.rules import RULES
from fewbit.golden.quantizers.weight_vectors import AXES, WeightVectors

_NUMBERS = {"alpha-bits": "scale_bits", "alpha-fraction": "scale_fraction"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the weights of a layer are quantized; see :func:`fewbit.golden.quantizers.rules.quantize`.

    Parameters
    ----------
    code : Code
        Weight code.
    rule : str
        Quantization rule, one of :data:`fewbit.golden.quantizers.rules.RULES`.
    vectors : WeightVectors
        Which weights share a scale.
    two_scales : bool
        Whether positive and negative levels have a scale each.
    scale_bits : int
        Bits of a stored scale. Scales are stored if an output has several of them, or if they differ between the
        outputs of the last layer. Otherwise a single scale per output is folded exactly into thresholds, at no cost.
    scale_fraction : int or None
        Fraction bits of a stored scale; None for as many as fit. See
        :func:`fewbit.golden.quantizers.fixed_point.fixed_point`.
    """

    code: Code
    rule: str = "nearest"
    vectors: WeightVectors = field(default_factory=WeightVectors)
    two_scales: bool = False
    scale_bits: int = 8
    scale_fraction: int | None = None

    def named(self, text: str) -> tuple[str, Recipe]:
        """Parse ``NAME=SETTING:...``; return the name of the layer, and this recipe with the settings applied.

        A setting is a code, a rule, ``two-scales``, ``alpha-bits=B``, ``alpha-fraction=F``, ``vector=N`` or ``axis=A``.

        Raises
        ------
        FewbitError
            If a setting is none of these.
        """
        name, _, settings = text.partition("=")
        changes: dict[str, Any] = {}
        axis, length = None, None
        for setting in settings.split(":"):
            key, _, value = setting.partition("=")
            if not name or not setting:
                raise FewbitError(f"the settings of a layer must be NAME=SETTING or NAME=SETTING:SETTING, not {text!r}")
            if setting in RULES:
                changes["rule"] = setting
            elif setting == "two-scales":
                changes["two_scales"] = True
            elif key in _NUMBERS:
                changes[_NUMBERS[key]] = _whole(name, key, value)
            elif key == "vector":
                length = _whole(name, key, value)
            elif key == "axis" and value in AXES:
                axis = value
            elif setting.partition("(")[0] not in FAMILIES:
                raise FewbitError(
                    f"layer {name!r}: a setting must be a code, {', '.join(RULES)}, two-scales, alpha-bits=B, "
                    f"alpha-fraction=F, vector=N or axis={'|'.join(AXES)}, not {setting!r}"
                )
            else:
                changes["code"] = Code.parse(setting)
        if axis is not None or length is not None:
            changes["vectors"] = self._cut(axis, length)
        return name, replace(self, **changes)

    def _cut(self, axis: str | None, length: int | None) -> WeightVectors:
        """The vectors of this recipe with another axis, length or both."""
        vectors = self.vectors
        axis = axis or (vectors.axis if vectors.length else "inputs")
        usual = vectors.length if axis in ("inputs", "outputs") else 0
        return WeightVectors(axis, usual if length is None else length)


def _whole(name: str, key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise FewbitError(f"layer {name!r}: {key} takes a whole number, not {value!r}") from None
