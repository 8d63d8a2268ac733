"""Single faults of a network, and which of them frames make visible: fault simulation on the golden model.

A fault changes one number that hardware stores, or one limit that it counts to. It is *visible* to a frame if some
score or the class of that frame differs from the faultless network's. Vectors that see all faults which any frame can
see leave a defect of the hardware little room to hide in.

The kinds:

``weight``
    One weight has the sign of its stored word flipped (:meth:`fewbit.golden.codes.Code.sign_flipped`): its negative,
    half the range away in two's complement, and the largest level in place of a zero.
``digit``
    One signed digit of one scale is missing.
``threshold``
    One threshold is never reached; one threshold is always reached.
``border``
    Beyond one side of a padded map its opposite side is read, as a line buffer holds it, instead of zeros.
``limit``
    A counter ends one early: the last input channel, kernel row or kernel column is left out of every sum, the last
    row, column or channel of a map repeats the one before it.
``class``
    The arg-max passes over one class.

One frame is simulated at a time; :mod:`fewbit.golden.carry` carries what a fault changes to the output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fewbit.golden import csd
from fewbit.golden.carry import MOST_ELEMENTS, Flags, Path, Tensors
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.matvec import product
from fewbit.golden.network import ArgMax, Conv, Dense, Linear, Network, Pool, Threshold
from fewbit.golden.run import check_frames
from fewbit.golden.window import windows

KINDS = ("weight", "digit", "threshold", "border", "limit", "class")


@dataclass(frozen=True)
class Fault:
    """One fault, named as a report names it.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    layer : str
        Name of the layer.
    place : str
        Which of its numbers or limits, in words.
    """

    kind: str
    layer: str
    place: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.place}"


class FaultSimulator:
    """All single faults of a network, numbered, and a simulation of them.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    kinds : int array (faults,)
        Index into :data:`KINDS` of each fault.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._path = Path(network)
        self._groups = [group for index in range(len(network.layers)) for group in _groups(network, index)]
        sizes = [group.size for group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.kinds = np.repeat([KINDS.index(group.kind) for group in self._groups], sizes).astype(np.int8)

    @property
    def faults(self) -> int:
        """How many faults there are."""
        return int(self._starts[-1])

    def fault(self, number: int) -> Fault:
        """What fault ``number`` is."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        chosen = self._groups[group]
        return Fault(chosen.kind, chosen.layer.name, chosen.place(int(number - self._starts[group])))

    def weights(self, index: int) -> tuple[int, int]:
        """The first fault of a weight of linear layer ``index``, and how many there are: output by output."""
        place = next(
            place for place, group in enumerate(self._groups) if isinstance(group, _Weights) and group.index == index
        )
        return int(self._starts[place]), self._groups[place].size

    def planted(self, number: int) -> Network | None:
        """The network with fault ``number`` in it, where a network can hold it: weights, digits and thresholds."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        layer = self._groups[group].planted(int(number - self._starts[group]))
        if layer is None:
            return None
        layers = tuple(layer if old is self._groups[group].layer else old for old in self.network.layers)
        return replace(self.network, layers=layers)

    def visible(self, frame: Ints, among: Ints | None = None) -> Ints:
        """Numbers of the faults that ``frame`` makes visible.

        Parameters
        ----------
        frame : int array (\\*network.input.shape)
        among : int array (n,), optional
            Ascending numbers of the faults to simulate; all by default.

        Returns
        -------
        int64 array (m,), ascending
        """
        tensors = self._path.tensors(check_frames(self.network, frame[None]))
        wanted = np.arange(self.faults) if among is None else np.asarray(among)
        cuts = np.searchsorted(wanted, self._starts)
        seen = []
        for group, start, begin, end in zip(self._groups, self._starts, cuts, cuts[1:]):
            if begin < end:
                local = wanted[begin:end] - start
                seen.append(local[group.visible(self._path, tensors, local)] + start)
        return np.concatenate(seen) if seen else np.zeros(0, np.int64)


@dataclass
class _Group(ABC):
    """Faults of one kind in one layer."""

    network: Network
    index: int
    kind: str = ""

    @property
    def layer(self) -> Any:
        return self.network.layers[self.index]

    @property
    def source(self) -> int:
        """Number of the tensor that the layer reads."""
        return self.network.reads[self.index][0]

    @property
    def _kind(self) -> DType:
        """Kind of what a linear layer multiplies."""
        kind: DType = self.layer.lane_kind(self.network.source(self.layer).dtype)
        return kind

    @property
    @abstractmethod
    def size(self) -> int:
        """How many there are."""

    @abstractmethod
    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        """Which of the faults ``local`` (n,) the frame of ``tensors`` shows."""

    @abstractmethod
    def place(self, number: int) -> str:
        """What fault ``number`` is, in words."""

    def planted(self, number: int) -> Any:
        """The layer with fault ``number`` in it; None where a layer cannot hold it."""
        return None


def _vectors(layer: Linear, group: int, x: Ints) -> Ints:
    """What the outputs of a group multiply, at every position.  # (1, \\*shape) -> (inputs, positions)"""
    if isinstance(layer, Conv):
        each = layer.channels // layer.groups
        seen = windows(x[:, group * each : (group + 1) * each], layer.kernel, layer.stride, layer.padding)
        return np.ascontiguousarray(seen.reshape(-1, layer.fan_in).T)
    return x.reshape(-1, 1)


def _group_of(layer: Linear, rows: Ints) -> Ints:
    return rows // (layer.outputs // layer.groups) if isinstance(layer, Conv) else np.zeros_like(rows)


def _moved(path: Path, group: _Group, tensors: Tensors, rows: Ints, changes: Iterator[tuple[slice, Ints]]) -> Flags:
    """Whether sums of output ``rows`` (n,), changed by ``changes`` (n, positions), change the output."""
    sums = tensors[group.index + 1][0]
    seen = np.zeros(len(rows), bool)
    slack = path.slack(group.index + 1, tensors)
    for span, change in changes:
        own = rows[span]
        if slack is None:
            moving = np.flatnonzero(change.any(1))
        else:
            least, most = slack
            moving = np.flatnonzero(((change < least[own]) | (change > most[own])).any(1))
        own = own[moving]
        moved = sums[own] + change[moving].reshape(len(own), *sums.shape[1:])
        seen[span.start + moving] = path.channel(group.index + 1, own, moved, tensors)
    return seen


def _spans(count: int, size: int) -> Iterator[slice]:
    rows = max(1, MOST_ELEMENTS // max(1, size))
    return (slice(start, min(count, start + rows)) for start in range(0, count, rows))


class _Weights(_Group):
    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index, "weight")
        self.faulty = self.layer.code.sign_flipped(self.layer.weights)
        self.differences = (replace(self.layer, weights=self.faulty).factors() - self.layer.factors()).ravel()

    @property
    def size(self) -> int:
        return int(self.layer.weights.size)

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        slack = path.slack(self.index + 1, tensors)
        if isinstance(self.layer, Dense) and slack is not None and 8 * len(local) > self.size:
            return self._dense(path, tensors, local, *slack)
        rows, inputs = np.divmod(local, self.layer.fan_in)
        by_group = _group_of(self.layer, rows)
        x = tensors[self.source]
        seen = np.zeros(len(local), bool)
        for group in np.unique(by_group):
            own = np.flatnonzero(by_group == group)
            vectors = _vectors(self.layer, int(group), x)
            changes = (
                (span, self.differences[local[own[span]], None] * vectors[inputs[own[span]]])
                for span in _spans(len(own), vectors.shape[1])
            )
            seen[own] = _moved(path, self, tensors, rows[own], changes)
        return seen

    def _dense(self, path: Path, tensors: Tensors, local: Ints, least: Ints, most: Ints) -> Flags:
        """As :meth:`visible`, where most faults are asked for: faster as one matrix than one by one."""
        changes = self.differences.reshape(self.layer.outputs, -1) * tensors[self.source]
        wanted = np.zeros(changes.shape, bool)
        wanted.ravel()[local] = True
        wanted &= (changes < least) | (changes > most)
        rows, _ = np.nonzero(wanted)
        sums = tensors[self.index + 1][0][rows] + changes[wanted]
        wanted[wanted] = path.channel(self.index + 1, rows, sums, tensors)
        return wanted.ravel()[local]

    def _where(self, number: int) -> tuple[int, ...]:
        """Index of a weight in the layer's own array, from its number in the matrix."""
        output, place = divmod(number, self.layer.fan_in)
        if not isinstance(self.layer, Conv):
            return output, place
        channels = self.layer.weights.shape[1]
        tap, channel = divmod(place, channels)
        return (output, channel, *divmod(tap, self.layer.kernel[1]))

    def place(self, number: int) -> str:
        where = self._where(number)
        was, now = self.layer.weights[where], self.faulty[where]
        return f"weight [{', '.join(map(str, where))}] {was} is {now}"

    def planted(self, number: int) -> Any:
        weights = self.layer.weights.copy()
        weights[self._where(number)] = self.faulty[self._where(number)]
        return replace(self.layer, weights=weights)


class _Digits(_Group):
    """Signed digits of scales; an entry is (output row or vector, vector or input, digit position)."""

    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index, "digit")
        layer = self.layer
        self.names = ["scales"] + (["negative_scales"] if layer.negative_scales is not None else [])
        entries = []
        for which, name in enumerate(self.names):
            digits = csd.recode(getattr(layer, name), csd.WIDEST)
            rows, columns, places = np.nonzero(digits)
            weight = digits[rows, columns, places].astype(np.int64) << places
            entries.append(np.stack([np.full(len(rows), which), rows, columns, places, weight], 1))
        self.entries = np.concatenate(entries)

    @property
    def size(self) -> int:
        return len(self.entries)

    def _levels(self, which: int) -> Ints:
        """The levels that the scales of one name multiply, zeros elsewhere."""
        layer = self.layer
        matrix: Ints = layer.matrix.astype(np.int64)
        if layer.negative_scales is None:
            return matrix
        return np.where(matrix < 0, matrix, 0) if which else np.where(matrix > 0, matrix, 0)

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        which, rows, columns, _, weight = self.entries[local].T
        seen = np.zeros(len(local), bool)
        for name in np.unique(which):
            factors = self._levels(int(name))
            chosen = np.flatnonzero(which == name)
            if self.layer.across:
                seen[chosen] = self._across(path, tensors, factors, rows[chosen], columns[chosen], weight[chosen])
                continue
            by_group = _group_of(self.layer, rows[chosen])
            for group in np.unique(by_group):
                own = chosen[by_group == group]
                vectors = _vectors(self.layer, int(group), tensors[self.source])
                wanted, places = np.unique(rows[own], return_inverse=True)
                parts = self._parts(factors[wanted], vectors)
                changes = (
                    (span, -weight[own[span], None] * parts[places[span], columns[own[span]]])
                    for span in _spans(len(own), vectors.shape[1])
                )
                seen[own] = _moved(path, self, tensors, rows[own], changes)
        return seen

    def _parts(self, factors: Ints, vectors: Ints) -> Ints:
        """Each vector's part of each sum, before its scale.  # (rows, inputs), (inputs, n) -> (rows, vectors, n)"""
        if vectors.shape[1] == 1:
            starts = np.arange(0, self.layer.fan_in, self.layer.vector)
            return np.add.reduceat(factors * vectors[:, 0], starts, axis=1)[..., None]
        spans = [slice(start, start + self.layer.vector) for start in range(0, self.layer.fan_in, self.layer.vector)]
        return np.stack([product(vectors[span].T, factors[:, span], self._kind).T for span in spans], 1)

    def _across(self, path: Path, tensors: Tensors, factors: Ints, rows: Ints, columns: Ints, weight: Ints) -> Flags:
        """Scales across outputs: a digit is missing from one input of several outputs."""
        layer, sums = self.layer, tensors[self.index + 1]
        outputs = layer.outputs // (layer.groups if isinstance(layer, Conv) else 1)
        seen = np.zeros(len(rows), bool)
        for span in _spans(len(rows), sums.size):
            moved = np.repeat(sums, len(rows[span]), 0)
            for place, (row, column, digit) in enumerate(zip(rows[span], columns[span], weight[span])):
                own = np.arange(row * layer.vector, min(layer.outputs, (row + 1) * layer.vector))
                for output in own:
                    x = _vectors(layer, int(output // outputs), tensors[self.source])[column]
                    moved[place, output] -= (digit * factors[output, column] * x).reshape(moved[place, output].shape)
            seen[span] = path.whole(self.index + 1, moved, tensors)
        return seen

    def place(self, number: int) -> str:
        which, row, column, position, _ = self.entries[number]
        return f"{self.names[which]} [{row}, {column}] without its digit of 2**{position}"

    def planted(self, number: int) -> Any:
        which, row, column, _, weight = self.entries[number]
        scales = getattr(self.layer, self.names[which]).copy()
        scales[row, column] -= weight
        return replace(self.layer, **{self.names[which]: scales})


class _Thresholds(_Group):
    """Threshold k of row r: fault ``2 * (r * T + k)`` is that it is never reached, the next that it always is."""

    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index, "threshold")

    @property
    def size(self) -> int:
        return 2 * int(self.layer.thresholds.size)

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        layer, x = self.layer, tensors[self.source][0]
        rows, places, always = self._split(local)
        if layer.channels == 1:
            reached = x[None] * np.int64(layer.sign[0]) >= layer.thresholds[0, places].reshape(-1, *[1] * x.ndim)
            moved = self._moved(tensors[self.index + 1], reached, always)
            return path.whole(self.index + 1, moved, tensors)
        seen = np.zeros(len(local), bool)
        for span in _spans(len(local), int(np.prod(x.shape[1:]))):
            own = rows[span]
            axes = (-1,) + (1,) * (x.ndim - 1)
            signed = x[own] * layer.sign[own].astype(np.int64).reshape(axes)
            reached = signed >= layer.thresholds[own, places[span]].reshape(axes)
            moved = self._moved(tensors[self.index + 1][0][own], reached, always[span])
            seen[span] = path.channel(self.index + 1, own, moved, tensors)
        return seen

    def _split(self, local: Ints) -> tuple[Ints, Ints, Flags]:
        threshold, always = np.divmod(local, 2)
        rows, places = np.divmod(threshold, self.layer.thresholds.shape[1])
        return rows, places, always == 1

    def _moved(self, output: Ints, reached: Flags, always: Flags) -> Ints:
        each = always.reshape(-1, *[1] * (reached.ndim - 1))
        level: int = self.layer.dtype.step
        moved: Ints = output + level * np.where(each, ~reached, -reached.astype(np.int64))
        return moved

    def place(self, number: int) -> str:
        row, threshold, always = (int(part) for part in self._split(np.array(number)))
        return f"threshold [{row}, {threshold}] is {'always' if always else 'never'} reached"

    def planted(self, number: int) -> Any:
        row, threshold, always = (int(part) for part in self._split(np.array(number)))
        thresholds = self.layer.thresholds.copy()
        end = -(1 << 62) if always else 1 << 62
        thresholds[row, threshold] = end
        thresholds[row].sort()
        return replace(self.layer, thresholds=thresholds)


class _Whole(_Group):
    """A few faults that change all outputs of a layer: each is a name and the output that it gives."""

    def __init__(self, network: Network, index: int, kind: str, names: list[str]) -> None:
        super().__init__(network, index, kind)
        self.names = names

    @property
    def size(self) -> int:
        return len(self.names)

    def place(self, number: int) -> str:
        return self.names[number]

    @abstractmethod
    def outputs(self, path: Path, tensors: Tensors, name: str) -> Ints:
        """What the layer gives with the fault of that name.  # -> (1, \\*shape)"""

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        moved = np.concatenate([self.outputs(path, tensors, self.names[number]) for number in local])
        return path.whole(self.index + 1, moved, tensors)


_SIDES = ("above", "left of", "below", "right of")


class _Borders(_Whole):
    def __init__(self, network: Network, index: int) -> None:
        layer: Any = network.layers[index]
        sides = [f"the map is not 0 {side} it" for side, pad in zip(_SIDES, layer.padding) if pad]
        super().__init__(network, index, "border", sides)

    def outputs(self, path: Path, tensors: Tensors, name: str) -> Ints:
        layer, source, x = self.layer, self.network.source(self.layer), tensors[self.source]
        side = next(place for place, words in enumerate(_SIDES) if f" {words} " in name)
        top, left, bottom, right = (pad if place == side else 0 for place, pad in enumerate(layer.padding))
        wrapped = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], mode="wrap")
        rest = tuple(0 if place == side else pad for place, pad in enumerate(layer.padding))
        shape = (source.shape[0], *wrapped.shape[2:])
        faulty: Conv | Pool = replace(layer, padding=rest)
        return faulty.step(replace(source, shape=shape), wrapped)


class _Limits(_Whole):
    def __init__(self, network: Network, index: int) -> None:
        layer, shape = network.layers[index], network.types[network.layers[index].name].shape
        names = []
        if isinstance(layer, Conv):
            names += [
                f"the last kernel {axis} is left out" for axis, n in zip(("row", "column"), layer.kernel) if n > 1
            ]
            names += ["the last channel is left out of every sum"] if layer.channels > layer.groups else []
        elif isinstance(layer, Dense) and layer.fan_in > 1:
            names += ["the last input is left out of every sum"]
        names += [f"the last {axis} repeats the one before it"
                  for axis, extent in zip(("output", "row", "column"), shape) if extent > 1]  # fmt: skip
        super().__init__(network, index, "limit", names)

    def outputs(self, path: Path, tensors: Tensors, name: str) -> Ints:
        layer, sums = self.layer, tensors[self.index + 1]
        if "repeats" in name:
            axis = 1 + ("output", "row", "column").index(name.split()[2])
            moved = np.moveaxis(sums.copy(), axis, 0)
            moved[-1] = moved[-2]
            return np.moveaxis(moved, 0, axis)
        factors = path.factors[self.index]
        assert factors is not None
        if isinstance(layer, Dense):
            return np.asarray(sums - factors[:, -1] * tensors[self.source][0, -1])
        left = np.zeros_like(factors).reshape(layer.outputs, *layer.kernel, -1)
        whole = factors.reshape(left.shape)
        axis = 1 + next(axis for axis, word in enumerate(("row", "column", "channel")) if word in name)
        np.moveaxis(left, axis, 0)[-1] = np.moveaxis(whole, axis, 0)[-1]
        return np.asarray(sums - self._sums(left.reshape(factors.shape), tensors))

    def _sums(self, factors: Ints, tensors: Tensors) -> Ints:
        layer, outputs = self.layer, self.layer.outputs // self.layer.groups
        shape = tensors[self.index + 1].shape
        parts = []
        for group in range(layer.groups):
            own = factors[group * outputs : (group + 1) * outputs]
            parts.append(product(_vectors(layer, group, tensors[self.source]).T, own, self._kind).T)
        return np.concatenate(parts).reshape(shape)


class _Classes(_Group):
    """The arg-max passes over one class: seen where that class wins."""

    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index, "class")

    @property
    def size(self) -> int:
        return self.network.scores.size

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        scores = tensors[self.source][0] if isinstance(self.layer, ArgMax) else tensors[self.index + 1][0]
        return np.asarray(local == int(np.argmax(scores)))

    def place(self, number: int) -> str:
        return f"class {number} never wins"


def _groups(network: Network, index: int) -> Iterator[_Group]:
    layer = network.layers[index]
    if isinstance(layer, Linear):
        yield _Weights(network, index)
        if layer.scales is not None:
            yield _Digits(network, index)
    if isinstance(layer, Threshold):
        yield _Thresholds(network, index)
    if isinstance(layer, (Conv, Pool)) and any(layer.padding):
        yield _Borders(network, index)
    if isinstance(layer, (Linear, Pool)):
        yield _Limits(network, index)
    if index == len(network.layers) - 1 and network.classifies:
        yield _Classes(network, index)
