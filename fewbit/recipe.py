"""How the weights of a layer are quantized."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fewbit.golden.codes import Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.weight_vectors import WeightVectors


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the weights of a layer are quantized; see :func:`fewbit.golden.quantize.quantize`.

    Parameters
    ----------
    code : Code
    rule : str
    vectors : WeightVectors
    two_scales : bool
    """

    code: Code
    rule: str = "nearest"
    vectors: WeightVectors = field(default_factory=WeightVectors)
    two_scales: bool = False

    def named(self, text: str) -> tuple[str, Recipe]:
        """Layer and recipe in ``NAME=CODE`` or ``NAME=CODE:RULE``: this one but for the code, and perhaps the rule."""
        name, equals, rest = text.partition("=")
        code, colon, rule = rest.partition(":")
        if not name or not equals or (colon and not rule):
            raise FewbitError(f"a layer's own code is NAME=CODE or NAME=CODE:RULE, not {text!r}")
        return name, replace(self, code=Code.parse(code), rule=rule or self.rule)
