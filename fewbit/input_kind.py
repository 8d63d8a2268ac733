"""What the float input of a model is made of, as the user says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError

_NEARLY = 1e-2
"""How far from a whole number a float may be that stands for one."""


@dataclass(frozen=True)
class InputKind:
    """Kind of an integer input, and the float32 step that the user says lies before the graph."""

    dtype: DType
    step: str | None = None
    number: np.float32 | None = None

    @staticmethod
    def parse(text: str) -> InputKind:
        """``uint8``: the integers themselves; ``uint8/255`` or ``uint8*0.5``: their quotient or product in float32.

        Raises
        ------
        FewbitError
            On anything else, or more than 16 bits.
        """
        match = re.fullmatch(r"(u?int)([1-9][0-9]?)(?:([/*])([0-9.eE+-]+))?", text.replace(" ", ""))
        try:
            number = np.float32(match[4] or 1) if match else np.float32(0)
        except ValueError:
            number = np.float32(0)
        if match is None or int(match[2]) > 16 or not (np.isfinite(number) and number > 0):
            raise FewbitError(f"input must be uintN or intN of 1 to 16 bits, perhaps /NUMBER or *NUMBER, not {text!r}")
        return InputKind(DType.parse(match[1] + match[2]), {"/": "div", "*": "mul", None: None}[match[3]], number)

    @property
    def scale(self) -> Fraction:
        """The real that 1 stands for."""
        number = Fraction(1 if self.number is None else float(self.number))
        return 1 / number if self.step == "div" else number

    def integers(self, frames: Ints) -> Ints:
        """``frames`` as integers of the kind: integers as they are, floats divided by :attr:`scale`.

        Raises
        ------
        FewbitError
            If a value is none of the kind.
        """
        found = frames
        if frames.dtype.kind == "f":
            real = frames / float(self.scale)
            found = np.rint(real)
            if not (np.abs(real - found) < _NEARLY).all():
                raise FewbitError(f"float inputs must be {self.scale} times a whole number, and some are not")
        if not self.dtype.contains(found):
            raise FewbitError(f"inputs must be {self.dtype}, got {found.min():g} to {found.max():g}")
        return found.astype(np.int64)

    def reals(self, integers: Ints) -> Ints:
        """What the model takes for ``integers``, float32."""
        values, number = integers.astype(np.float32), np.float32(1 if self.number is None else self.number)
        return np.asarray(values / number if self.step == "div" else values * number)
