"""Test vectors: frames for a stream design and the expected output words, as a file that a bench reads.

The expected words come from the golden model when the file is written. The bench, inside the simulator, only compares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import matvec
from fewbit.golden.network import Dense, Network
from fewbit.golden.run import run
from fewbit.hw.streams import to_stream

VERSION = 1

Beats = tuple[Ints, DType, int]
"""Values, their type, and the number of lanes, that is of values per beat."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """Part of a word: ``lanes`` values of ``bits`` bits each, in the bits above the previous field."""

    name: str
    bits: int
    signed: bool = False
    lanes: int = 1


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Independent frames for a stream design, and the expected output of each.

    Parameters
    ----------
    words : list of int
        Input words of all frames, ``beats_in`` per frame.
    expected : list of int
        Expected output words of all frames, ``beats_out`` per frame.
    fields : tuple of Field
        Layout of an output word, lowest field first.
    beats_in, beats_out : int
        Input and output words per frame.
    latency : int
        Cycles from the first input transfer of a frame into an idle design to its last output transfer, both counted;
        0 if it is not to be checked.
    interval : int
        Cycles from one frame to the next, if both ends are always active and the pipeline is full; 0 if it is not to be
        checked.
    image : tuple of int
        16-bit words that are loaded into the design before the first frame; empty if it has no memories to load.
    """

    words: list[int]
    expected: list[int]
    fields: tuple[Field, ...]
    beats_in: int
    beats_out: int
    latency: int = 0
    interval: int = 0
    image: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        frames = len(self.words) // self.beats_in
        if len(self.words) != frames * self.beats_in or len(self.expected) != frames * self.beats_out:
            raise FewbitError(
                f"vectors must be whole frames of {self.beats_in} words in and {self.beats_out} out, "
                f"not {len(self.words)} and {len(self.expected)}"
            )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.words) // self.beats_in

    def frame(self, index: int) -> tuple[list[int], list[int]]:
        """Input words and expected output words of frame ``index``."""
        start, begin = index * self.beats_in, index * self.beats_out
        return self.words[start : start + self.beats_in], self.expected[begin : begin + self.beats_out]

    def to_json(self) -> str:
        """Return the vectors as JSON, with words in hexadecimal."""
        plain = asdict(self) | {name: [f"{word:x}" for word in getattr(self, name)] for name in ("words", "expected")}
        return json.dumps({"version": VERSION} | plain, indent=1)

    def save(self, path: Path) -> None:
        """Write the vectors to a JSON file."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vectors:
        """Read the vectors in ``path``. Raises FewbitError if the file has another format version."""
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        if plain.pop("version") != VERSION:
            raise FewbitError(f"{path}: the vectors are from another version of fewbit")
        for name in ("words", "expected"):
            plain[name] = [int(word, 16) for word in plain[name]]
        plain["image"] = tuple(plain.get("image", ()))
        return cls(**plain | {"fields": tuple(Field(**field) for field in plain["fields"])})


def lane_words(values: Ints, dtype: DType, lanes: int) -> list[int]:
    """Pack elements, in C order, into words of ``lanes`` encoded elements, the first in the lowest bits."""
    return [
        sum(int(element) << place * dtype.bits for place, element in enumerate(beat))
        for beat in dtype.encode(np.asarray(values)).reshape(-1, lanes)
    ]


def score_words(scores: Ints, dtype: DType) -> list[int]:
    """Expected output words of a design for ``scores`` (N, C): for each score, the score, arg-max so far, and last."""
    classes = scores.shape[1]
    index_bits = _index_bits(classes)
    words = []
    for row, stored in zip(scores, dtype.encode(scores)):
        for place, score in enumerate(stored):
            best = int(np.argmax(row[: place + 1]))
            words.append(int(score) | best << dtype.bits | (place == classes - 1) << dtype.bits + index_bits)
    return words


def score_fields(dtype: DType, classes: int) -> tuple[Field, ...]:
    """Layout of a design's output word: score, arg-max index, and the flag of the last score of a frame."""
    return (
        Field(name="score", bits=dtype.bits, signed=dtype.signed),
        Field(name="index", bits=_index_bits(classes)),
        Field(name="last", bits=1),
    )


def dense_vectors(layer: Dense, activation: DType, *, pe: int, simd: int, frames: int = 12, seed: int = 1) -> Vectors:
    """Vectors for a matrix-vector unit: random inputs, and inputs that bring sums to both ends of their range."""
    rng = np.random.default_rng(seed)
    values = np.arange(activation.min, activation.max + 1, activation.step)
    x = rng.choice(values, (frames, layer.fan_in))
    x[0], x[1] = activation.min, activation.max
    for row, output in zip(range(2, frames, 2), range(layer.outputs)):
        x[row] = np.where(layer.weights[output] > 0, activation.max, activation.min)
        x[row + 1 : row + 2] = np.where(layer.weights[output] > 0, activation.min, activation.max)
    return product_vectors(layer, activation, x, pe=pe, simd=simd)


def product_vectors(layer: Dense, activation: DType, x: Ints, *, pe: int, simd: int) -> Vectors:
    """Vectors for a matrix-vector unit: inputs ``x`` (N, inputs) and the golden products."""
    low, high = layer.bounds(activation)
    kind = DType.holding(int(low.min()), int(high.max()))
    y = matvec(x, layer.weights, layer.code, activation)
    return folded_vectors(layer, (x, activation, simd), (y, kind, pe), name="sum")


def folded_vectors(layer: Dense, inputs: Beats, outputs: Beats, *, name: str) -> Vectors:
    """Vectors for a folded unit of ``layer``, from inputs (N, inputs) and expected outputs (N, outputs).

    ``name`` is the name of the output field.
    """
    _, kind, lanes = outputs
    return Vectors(
        words=lane_words(*inputs),
        expected=lane_words(*outputs),
        fields=(Field(name=name, bits=kind.bits, signed=kind.signed, lanes=lanes),),
        beats_in=layer.fan_in // inputs[2],
        beats_out=layer.outputs // lanes,
    )


def network_vectors(
    network: Network,
    frames: Ints,
    *,
    input_lanes: int,
    latency: int = 0,
    interval: int = 0,
    image: Sequence[int] = (),
) -> Vectors:
    """Vectors for a whole design: ``frames`` (N, *input shape) integers and the golden scores.

    The other parameters are those of :class:`Vectors`; ``input_lanes`` is the number of elements per input word.
    """
    result = run(network, frames)
    scores = to_stream(result.scores, network.scores.shape)
    return Vectors(
        words=lane_words(to_stream(result.tensors[0], network.input.shape), network.input.dtype, input_lanes),
        expected=score_words(scores, network.scores.dtype),
        fields=score_fields(network.scores.dtype, network.scores.size),
        beats_in=network.input.size // input_lanes,
        beats_out=network.scores.size,
        latency=latency,
        interval=interval,
        image=tuple(image),
    )


def fields_of(word: int, fields: Sequence[Field]) -> list[int]:
    """Split a word into fields, lowest first, and the bits above them. The lanes of a field are not split."""
    parts = []
    for field in fields:
        width = field.bits * field.lanes
        parts.append(word & (1 << width) - 1)
        word >>= width
    return [*parts, word]


def _index_bits(classes: int) -> int:
    return max(1, (classes - 1).bit_length())
