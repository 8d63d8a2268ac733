"""Number kinds: the values that an element of an activation can take, and its encoding in bits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.errors import FewbitError

Ints = NDArray[Any]

_NAME = re.compile(r"(bipolar)|(uint|int)([1-9][0-9]*)")


@dataclass(frozen=True)
class DType:
    """A number kind.

    Parameters
    ----------
    kind : ``"bipolar"``, ``"uint"`` or ``"int"``
        ``bipolar`` is -1 and +1 stored as the bits 0 and 1; ``uint`` is unsigned binary; ``int`` is two's complement.
    bits : int
        Stored bits an element, 1 to 64. A bipolar element has exactly one.

    Raises
    ------
    FewbitError
        If the kind is unknown, or cannot have that many bits.
    """

    kind: Literal["bipolar", "uint", "int"]
    bits: int

    def __post_init__(self) -> None:
        if self.kind not in ("bipolar", "uint", "int"):
            raise FewbitError(f'number kind must be "bipolar", "uint" or "int", not {self.kind!r}')
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 1 <= self.bits <= 64:
            raise FewbitError(f"a number kind has 1 to 64 bits, not {self.bits!r}")
        if self.kind == "bipolar" and self.bits != 1:
            raise FewbitError(f"a bipolar number has 1 bit, not {self.bits}")

    @classmethod
    def parse(cls, name: str) -> DType:
        """The kind called ``name``: ``bipolar``, ``uint8``, ``int4`` and so on. Raises FewbitError if it is unknown.

        >>> DType.parse("uint8").max
        255
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise FewbitError(f'number kind must be "bipolar", "uintN" or "intN", not {name!r}')
        return BIPOLAR if match[1] else cls(match[2], int(match[3]))  # type: ignore[arg-type]

    @classmethod
    def holding(cls, low: int, high: int) -> DType:
        """The narrowest ``int`` that holds every integer from ``low`` to ``high``.

        >>> DType.holding(-4, 3), DType.holding(0, 4)
        (int3, int4)
        """
        return cls("int", max(max(high, 0).bit_length(), max(-low - 1, 0).bit_length()) + 1)

    @classmethod
    def spanning(cls, low: int, high: int) -> DType:
        """The narrowest kind that holds every integer from ``low`` to ``high``: ``uint`` unless ``low`` is negative.

        >>> DType.spanning(0, 4), DType.spanning(-1, 4)
        (uint3, int4)
        """
        return cls.holding(low, high) if low < 0 else cls("uint", max(1, high.bit_length()))

    @property
    def signed(self) -> bool:
        return self.kind == "int"

    @property
    def min(self) -> int:
        return {"bipolar": -1, "uint": 0, "int": -(1 << self.bits - 1)}[self.kind]

    @property
    def max(self) -> int:
        return {"bipolar": 1, "uint": (1 << self.bits) - 1, "int": (1 << self.bits - 1) - 1}[self.kind]

    @property
    def step(self) -> int:
        """Distance between neighbouring values: 2 for bipolar, else 1."""
        return 2 if self.kind == "bipolar" else 1

    @property
    def slot(self) -> int:
        """Bits that an element takes on a byte-wide link: the next power of two, at least 1."""
        return 1 << (self.bits - 1).bit_length()

    def contains(self, values: Ints) -> bool:
        """Whether every element of ``values`` (any shape, integers) is a value of this kind."""
        if values.size == 0:
            return True
        inside = int(values.min()) >= self.min and int(values.max()) <= self.max
        return inside and (self.kind != "bipolar" or bool((values != 0).all()))

    def encode(self, values: Ints) -> Ints:
        """Stored words of ``values`` as unsigned integers, same shape, ``uint64``."""
        if self.kind == "bipolar":
            return (values > 0).astype(np.uint64)
        mask = np.uint64((1 << self.bits) - 1)
        return values.astype(np.int64).view(np.uint64) & mask if self.signed else values.astype(np.uint64)

    def decode(self, stored: Ints) -> Ints:
        """Values of the stored words ``stored``, same shape, ``int64``. The inverse of :meth:`encode`."""
        raw = stored.astype(np.uint64).view(np.int64)
        if self.kind == "bipolar":
            return 2 * raw - 1
        return raw - ((raw >> (self.bits - 1)) << self.bits) if self.signed and self.bits < 64 else raw

    def __str__(self) -> str:
        return self.kind if self.kind == "bipolar" else f"{self.kind}{self.bits}"

    __repr__ = __str__


BIPOLAR = DType("bipolar", 1)


def signed_bits(kind: DType) -> int:
    """Width of a signed operand that holds every value of ``kind``."""
    return DType.holding(kind.min, kind.max).bits
