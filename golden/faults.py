"""Single faults of a network, and which of them frames make visible: fault simulation on the golden model.

A fault changes one number that hardware stores, or one limit that it counts to. It is *visible* to a frame if some
score or the class of that frame differs from the faultless network's. Vectors that see all faults which any frame can
see leave a defect of the hardware little room to hide in.

The kinds:

``weight``
    One weight has another level: its negative where the code has that, and the largest level in place of a zero.
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

One frame is simulated at a time. A fault of one output channel is carried through the layers behind it as that channel
alone, until a sum takes it in; frames of the other channels are never computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden import csd
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.matvec import product
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Linear, Network, Pool, Threshold
from fewbit.golden.run import check_frames, step
from fewbit.golden.threshold import row_levels
from fewbit.golden.window import windows

KINDS = ("weight", "digit", "threshold", "border", "limit", "class")

_MOST_ELEMENTS = 1 << 22
"""Elements of changed tensors that are held at a time."""

Flags = NDArray[np.bool_]
Tensors = tuple[Ints, ...]


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
        self._path = _Path(network)
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


class _Path:
    """Carries changed tensors through the layers behind them, and says which arrive at the output."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers, self.types = network.layers, network.types
        self.factors = [layer.factors() if isinstance(layer, Linear) else None for layer in network.layers]
        self._columns: dict[tuple[int, int], Ints] = {}

    def tensors(self, frames: Ints) -> Tensors:
        """Input and output of every layer, as :func:`fewbit.golden.run.run` gives them."""
        tensors = [frames.astype(np.int64)]
        for layer, source, factors in zip(self.layers, self.types, self.factors):
            tensors.append(step(layer, source, tensors[-1], factors))
        return tuple(tensors)

    def slack(self, index: int, tensors: Tensors) -> tuple[Ints, Ints] | None:
        """By how much each input of layer ``index`` may change, down and up, before a level changes; None where the
        layer is no Threshold.  # -> (channels, positions) twice
        """
        layer = self.layers[index] if index < len(self.layers) else None
        if not isinstance(layer, Threshold):
            return None
        x = tensors[index][0].reshape(len(tensors[index][0]), -1)
        rows = np.arange(len(x)) if layer.channels > 1 else np.zeros(len(x), np.int64)
        ends = np.full((layer.channels, 1), 1 << 62)
        bounds = np.concatenate([-ends, layer.thresholds, ends], 1)
        level = levels(layer, rows, x)
        sign = layer.sign[rows].astype(np.int64)[:, None]
        down, up = bounds[rows[:, None], level] - sign * x, bounds[rows[:, None], level + 1] - 1 - sign * x
        return np.where(sign > 0, down, -up), np.where(sign > 0, up, -down)

    def whole(self, index: int, values: Ints, tensors: Tensors) -> Flags:
        """Whether changed inputs of layer ``index`` change the output.  # (n, \\*shape) -> (n,)"""
        most = max(kind.size for kind in self.types[index:])
        rows = max(1, _MOST_ELEMENTS // most)
        if len(values) > rows:
            parts = [self.whole(index, values[start : start + rows], tensors) for start in range(0, len(values), rows)]
            return np.concatenate(parts)
        arrived = np.zeros(len(values), bool)
        places = np.arange(len(values))
        while True:
            differs = _any(values != tensors[index])
            values, places = values[differs], places[differs]
            if not len(places) or index == len(self.layers) or isinstance(self.layers[index], ArgMax):
                arrived[places] = True
                return arrived
            values = step(self.layers[index], self.types[index], values, self.factors[index])
            index += 1

    def channel(self, index: int, channels: Ints, values: Ints, tensors: Tensors) -> Flags:
        """Whether inputs of layer ``index``, changed in one channel each, change the output.

        # (n,) channels, (n, \\*map) values of that channel -> (n,)
        """
        size = max(1, int(np.prod(values.shape[1:])))
        rows = max(1, _MOST_ELEMENTS // size)
        if len(values) > rows:
            spans = [slice(start, start + rows) for start in range(0, len(values), rows)]
            return np.concatenate([self.channel(index, channels[span], values[span], tensors) for span in spans])
        arrived = np.zeros(len(values), bool)
        places = np.arange(len(values))
        while True:
            differs = _any(values != tensors[index][0][channels])
            values, places, channels = values[differs], places[differs], channels[differs]
            if not len(places) or index == len(self.layers) or isinstance(self.layers[index], ArgMax):
                arrived[places] = True
                return arrived
            layer = self.layers[index]
            if isinstance(layer, Linear):
                arrived[places] = self._summed(index, channels, values, tensors)
                return arrived
            if isinstance(layer, Flatten):
                arrived[places] = self._flattened(index, channels, values, tensors)
                return arrived
            values = self._step(index, channels, values)
            index += 1
            if values.ndim == 1:  # many faults of a channel lead to the same few levels
                least = int(values.min())
                span = int(values.max()) - least + 1
                if span * len(tensors[index][0]) < 1 << 62:
                    keys, inverse = np.unique(channels * span + (values - least), return_inverse=True)
                    channels, values = np.divmod(keys, span)
                    arrived[places] = self.channel(index, channels, values + least, tensors)[inverse]
                    return arrived

    def _step(self, index: int, channels: Ints, values: Ints) -> Ints:
        layer = self.layers[index]
        if isinstance(layer, Pool):
            return step(layer, self.types[index], values[:, None])[:, 0]
        if isinstance(layer, Affine):
            axes = (-1,) + (1,) * (values.ndim - 1)
            return values * layer.scale[channels].reshape(axes) + layer.bias[channels].reshape(axes)
        assert isinstance(layer, Threshold)
        rows = channels if layer.channels > 1 else np.zeros(len(channels), np.int64)
        return layer.base + layer.dtype.step * levels(layer, rows, values)

    def _flattened(self, index: int, channels: Ints, values: Ints, tensors: Tensors) -> Flags:
        """A changed channel whose map is made one axis: what follows sees each element as a channel."""
        layer, after = self.layers[index], self.layers[index + 1] if index + 1 < len(self.layers) else None
        assert isinstance(layer, Flatten)
        if isinstance(after, Dense):
            return self._summed(index + 1, channels, values, tensors)
        whole = np.repeat(tensors[index], len(values), 0)
        whole[np.arange(len(values)), channels] = values
        return self.whole(index + 1, step(layer, self.types[index], whole), tensors)

    def _summed(self, index: int, channels: Ints, values: Ints, tensors: Tensors) -> Flags:
        """Changed channels that a product takes in: the sums change by the product of what changed."""
        layer = self.layers[index]
        assert isinstance(layer, Linear)
        source = index if tensors[index].ndim == values.ndim + 1 else index - 1  # before a Flatten
        changes = values - tensors[source][0][channels]
        sums = tensors[index + 1]
        arrived = np.zeros(len(values), bool)
        rows = max(1, _MOST_ELEMENTS // sums.size)
        if values.ndim == 1:
            columns = self._factors(index).T
            for start in range(0, len(values), rows):
                span = slice(start, start + rows)
                moved = sums + changes[span, None] * columns[channels[span]]
                arrived[span] = self.whole(index + 1, moved, tensors)
            return arrived
        order = np.argsort(channels, kind="stable")
        for own in np.split(order, np.flatnonzero(np.diff(channels[order])) + 1):
            for start in range(0, len(own), rows):
                part = own[start : start + rows]
                moved = np.repeat(sums, len(part), 0)
                self._add(index, source, int(channels[part[0]]), changes[part], moved)
                arrived[part] = self.whole(index + 1, moved, tensors)
        return arrived

    def _add(self, index: int, source: int, channel: int, changes: Ints, sums: Ints) -> None:
        """Adds the product of ``changes`` (n, \\*map) of one input channel to ``sums`` (n, \\*shape)."""
        layer, kind = self.layers[index], self.types[source].dtype
        factors = self._factors(index)
        wide = DType("int", min(64, kind.bits + 2))  # of a difference
        if isinstance(layer, Conv):
            each, outputs = layer.channels // layer.groups, layer.outputs // layer.groups
            group, local = divmod(channel, each)
            own = slice(group * outputs, (group + 1) * outputs)
            taps = factors[own].reshape(outputs, -1, each)[:, :, local]
            seen = windows(changes[:, None], layer.kernel, layer.stride, layer.padding)
            count, rows, columns = seen.shape[:3]
            moved = product(seen.reshape(count * rows * columns, -1), taps, wide)
            sums[:, own] += moved.reshape(count, rows, columns, outputs).transpose(0, 3, 1, 2)
        else:
            places = self._places(source, channel)
            sums += product(changes.reshape(len(changes), -1), factors[:, places], wide)

    def _factors(self, index: int) -> Ints:
        factors = self.factors[index]
        assert factors is not None
        return factors

    def _places(self, source: int, channel: int) -> Ints:
        """Where the elements of one channel of the map before a Flatten stand behind it."""
        key = source, channel
        if key not in self._columns:
            layer, shape = self.layers[source], self.types[source].shape
            assert isinstance(layer, Flatten)
            size = int(np.prod(shape[1:]))
            wanted = np.arange(channel * size, (channel + 1) * size)
            inverse = np.empty(int(np.prod(shape)), np.int64)
            inverse[layer.places(shape)] = np.arange(len(inverse))
            self._columns[key] = inverse[wanted]
        return self._columns[key]


def _any(flags: Flags) -> Flags:
    """Whether any element of each row is set.  # (n, ...) -> (n,)"""
    return np.asarray(flags.any(tuple(range(1, flags.ndim))))


def levels(layer: Threshold, rows: Ints, values: Ints) -> Ints:
    """Levels of ``values``, the thresholds of each in the row that ``rows`` says.  # (n,), (n, ...) -> (n, ...)"""
    return row_levels(values, layer.thresholds[rows], layer.sign[rows])


@dataclass
class _Group:
    """Faults of one kind in one layer."""

    network: Network
    index: int
    kind: str = ""

    @property
    def layer(self) -> Any:
        return self.network.layers[self.index]

    @property
    def size(self) -> int:
        raise NotImplementedError

    def visible(self, path: _Path, tensors: Tensors, local: Ints) -> Flags:
        raise NotImplementedError

    def place(self, number: int) -> str:
        raise NotImplementedError

    def planted(self, number: int) -> Any:
        return None


def _vectors(layer: Linear, group: int, x: Ints) -> Ints:
    """What the outputs of a group multiply, at every position.  # (1, \\*shape) -> (inputs, positions)"""
    if isinstance(layer, Conv):
        each = layer.channels // layer.groups
        seen = windows(x[:, group * each : (group + 1) * each], layer.kernel, layer.stride, layer.padding)
        return np.ascontiguousarray(seen.reshape(-1, layer.inputs).T)
    return x.reshape(-1, 1)


def _group_of(layer: Linear, rows: Ints) -> Ints:
    return rows // (layer.outputs // layer.groups) if isinstance(layer, Conv) else np.zeros_like(rows)


def _moved(path: _Path, group: _Group, tensors: Tensors, rows: Ints, changes: Iterator[tuple[slice, Ints]]) -> Flags:
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
    rows = max(1, _MOST_ELEMENTS // max(1, size))
    return (slice(start, min(count, start + rows)) for start in range(0, count, rows))


class _Weights(_Group):
    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index, "weight")
        self.faulty = other_levels(self.layer)
        self.differences = (replace(self.layer, weights=self.faulty).factors() - self.layer.factors()).ravel()

    @property
    def size(self) -> int:
        return int(self.layer.weights.size)

    def visible(self, path: _Path, tensors: Tensors, local: Ints) -> Flags:
        slack = path.slack(self.index + 1, tensors)
        if isinstance(self.layer, Dense) and slack is not None and 8 * len(local) > self.size:
            return self._dense(path, tensors, local, *slack)
        rows, inputs = np.divmod(local, self.layer.inputs)
        by_group = _group_of(self.layer, rows)
        x = tensors[self.index]
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

    def _dense(self, path: _Path, tensors: Tensors, local: Ints, least: Ints, most: Ints) -> Flags:
        """As :meth:`visible`, where most faults are asked for: faster as one matrix than one by one."""
        changes = self.differences.reshape(self.layer.outputs, -1) * tensors[self.index]
        wanted = np.zeros(changes.shape, bool)
        wanted.ravel()[local] = True
        wanted &= (changes < least) | (changes > most)
        rows, _ = np.nonzero(wanted)
        sums = tensors[self.index + 1][0][rows] + changes[wanted]
        wanted[wanted] = path.channel(self.index + 1, rows, sums, tensors)
        return wanted.ravel()[local]

    def _where(self, number: int) -> tuple[int, ...]:
        """Index of a weight in the layer's own array, from its number in the matrix."""
        output, place = divmod(number, self.layer.inputs)
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


def other_levels(layer: Linear) -> Ints:
    """The level that the fault of each weight gives it: its negative, or the largest level in place of a zero and where
    the code has no negative of it.  # () -> the shape of the weights"""
    known = layer.code.levels
    negative = -layer.weights.astype(np.int64)
    allowed = np.isin(negative, known) & (negative != 0)
    return np.where(allowed, negative, known[-1])


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
        matrix = layer.matrix.astype(np.int64)
        if layer.negative_scales is None:
            return matrix
        return np.where(matrix < 0, matrix, 0) if which else np.where(matrix > 0, matrix, 0)

    def visible(self, path: _Path, tensors: Tensors, local: Ints) -> Flags:
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
                vectors = _vectors(self.layer, int(group), tensors[self.index])
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
            starts = np.arange(0, self.layer.inputs, self.layer.vector)
            return np.add.reduceat(factors * vectors[:, 0], starts, axis=1)[..., None]
        spans = [slice(start, start + self.layer.vector) for start in range(0, self.layer.inputs, self.layer.vector)]
        reals, columns = factors.astype(np.float64), vectors.astype(np.float64)
        return np.stack([reals[:, span] @ columns[span] for span in spans], 1).astype(np.int64)

    def _across(
        self, path: _Path, tensors: Tensors, factors: Ints, rows: Ints, columns: Ints, weight: Ints
    ) -> Flags:
        """Scales across outputs: a digit is missing from one input of several outputs."""
        layer, sums = self.layer, tensors[self.index + 1]
        outputs = layer.outputs // (layer.groups if isinstance(layer, Conv) else 1)
        seen = np.zeros(len(rows), bool)
        for span in _spans(len(rows), sums.size):
            moved = np.repeat(sums, len(rows[span]), 0)
            for place, (row, column, digit) in enumerate(zip(rows[span], columns[span], weight[span])):
                own = np.arange(row * layer.vector, min(layer.outputs, (row + 1) * layer.vector))
                for output in own:
                    x = _vectors(layer, int(output // outputs), tensors[self.index])[column]
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

    def visible(self, path: _Path, tensors: Tensors, local: Ints) -> Flags:
        layer, x = self.layer, tensors[self.index][0]
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
        return output + self.layer.dtype.step * np.where(each, ~reached, -reached.astype(np.int64))

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

    def outputs(self, path: _Path, tensors: Tensors, name: str) -> Ints:
        raise NotImplementedError

    def visible(self, path: _Path, tensors: Tensors, local: Ints) -> Flags:
        moved = np.concatenate([self.outputs(path, tensors, self.names[number]) for number in local])
        return path.whole(self.index + 1, moved, tensors)


_SIDES = ("above", "left of", "below", "right of")


class _Borders(_Whole):
    def __init__(self, network: Network, index: int) -> None:
        sides = [f"the map is not 0 {side} it" for side, pad in zip(_SIDES, network.layers[index].padding) if pad]
        super().__init__(network, index, "border", sides)

    def outputs(self, path: _Path, tensors: Tensors, name: str) -> Ints:
        layer, source, x = self.layer, self.network.types[self.index], tensors[self.index]
        side = next(place for place, words in enumerate(_SIDES) if f" {words} " in name)
        top, left, bottom, right = (pad if place == side else 0 for place, pad in enumerate(layer.padding))
        wrapped = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], mode="wrap")
        rest = tuple(0 if place == side else pad for place, pad in enumerate(layer.padding))
        shape = (source.shape[0], *wrapped.shape[2:])
        return step(replace(layer, padding=rest), replace(source, shape=shape), wrapped)


class _Limits(_Whole):
    def __init__(self, network: Network, index: int) -> None:
        layer, shape = network.layers[index], network.types[index + 1].shape
        names = []
        if isinstance(layer, Conv):
            names += [f"the last kernel {axis} is left out" for axis, n in zip(("row", "column"), layer.kernel) if n > 1]
            names += ["the last channel is left out of every sum"] if layer.channels > layer.groups else []
        elif isinstance(layer, Dense) and layer.inputs > 1:
            names += ["the last input is left out of every sum"]
        names += [f"the last {axis} repeats the one before it"
                  for axis, extent in zip(("output", "row", "column"), shape) if extent > 1]  # fmt: skip
        super().__init__(network, index, "limit", names)

    def outputs(self, path: _Path, tensors: Tensors, name: str) -> Ints:
        layer, sums = self.layer, tensors[self.index + 1]
        if "repeats" in name:
            axis = 1 + ("output", "row", "column").index(name.split()[2])
            moved = np.moveaxis(sums.copy(), axis, 0)
            moved[-1] = moved[-2]
            return np.moveaxis(moved, 0, axis)
        factors = path.factors[self.index]
        assert factors is not None
        if isinstance(layer, Dense):
            return sums - (factors[:, -1] * tensors[self.index][0, -1])[None]
        left = np.zeros_like(factors).reshape(layer.outputs, *layer.kernel, -1)
        whole = factors.reshape(left.shape)
        place = (slice(None), -1) if "row" in name else (slice(None), slice(None), -1)
        place = (..., -1) if "channel" in name else place
        left[place] = whole[place]
        return sums - self._sums(left.reshape(factors.shape), tensors)

    def _sums(self, factors: Ints, tensors: Tensors) -> Ints:
        layer, outputs = self.layer, self.layer.outputs // self.layer.groups
        shape = tensors[self.index + 1].shape
        parts = []
        for group in range(layer.groups):
            own = factors[group * outputs : (group + 1) * outputs].astype(np.float64)
            parts.append(own @ _vectors(layer, group, tensors[self.index]).astype(np.float64))
        return np.concatenate(parts).astype(np.int64).reshape(shape)


class _Classes(_Group):
    """The arg-max passes over one class: seen where that class wins."""

    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index, "class")

    @property
    def size(self) -> int:
        return self.network.scores.size

    def visible(self, path: _Path, tensors: Tensors, local: Ints) -> Flags:
        scores = tensors[self.index][0] if isinstance(self.layer, ArgMax) else tensors[self.index + 1][0]
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
