"""The integers from which the float input of a model is computed, as the user specifies them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError

_NEARLY = 1e-2
"""Largest distance of a float from the whole number that it stands for."""


@dataclass(frozen=True)
class InputKind:
    """Integer type of an input, and the float32 multiplication or division before the graph of the model."""

    dtype: DType
    step: str | None = None
    number: np.float32 | None = None

    @staticmethod
    def parse(text: str) -> InputKind:
        """Parse ``uint8`` (the integers themselves), or ``uint8/255`` or ``uint8*0.5`` (float32 quotient or product).

        Raises
        ------
        FewbitError
            If ``text`` is anything else, or the type has more than 16 bits.
        """
        match = re.fullmatch(r"(u?int)([1-9][0-9]?)(?:([/*])([0-9.eE+-]+))?", text.replace(" ", ""))
        try:
            number = np.float32(match[4] or 1) if match else np.float32(0)
        except ValueError:
            number = np.float32(0)
        if match is None or int(match[2]) > 16 or not (np.isfinite(number) and number > 0):
            raise FewbitError(
                f"input must be uintN or intN of 1 to 16 bits, optionally with /NUMBER or *NUMBER, not {text!r}"
            )
        return InputKind(DType.parse(match[1] + match[2]), {"/": "div", "*": "mul", None: None}[match[3]], number)

    @property
    def scale(self) -> Fraction:
        """The real value of the integer 1."""
        number = Fraction(1 if self.number is None else float(self.number))
        return 1 / number if self.step == "div" else number

    def integers(self, frames: Ints) -> Ints:
        """Convert ``frames`` to integers of the type: floats are divided by :attr:`scale`, integers are unchanged.

        Raises
        ------
        FewbitError
            If a value is out of range, or a float is not a multiple of the scale.
        """
        values = frames
        if frames.dtype.kind == "f":
            real = frames / float(self.scale)
            values = np.rint(real)
            if not (np.abs(real - values) < _NEARLY).all():
                raise FewbitError(f"float inputs must be {self.scale} times a whole number, and some are not")
        if not self.dtype.contains(values):
            raise FewbitError(f"inputs must be {self.dtype}, got {values.min():g} to {values.max():g}")
        return values.astype(np.int64)

    def reals(self, integers: Ints) -> Ints:
        """Convert integers to the float32 input of the model."""
        values, number = integers.astype(np.float32), np.float32(1 if self.number is None else self.number)
        return np.asarray(values / number if self.step == "div" else values * number)
