"""Fault simulation on the golden model: single faults of a network, and which of them a frame makes visible.

A fault changes one number that the hardware stores, or one limit of a counter. It is *visible* for a frame if a score
or the class of this frame differs from that of the network without the fault. Test vectors that make every fault
visible which any frame can make visible are likely to reveal a defect of the hardware.

The kinds of faults:

``weight``
    The sign bit in the stored word of one weight is inverted (:meth:`fewbit.golden.codes.Code.sign_flipped`): depending
    on the code, the weight is negated, is off by half the range of two's complement, or has the largest level instead
    of 0.
``digit``
    One signed digit of one scale is missing.
``threshold``
    One threshold is never reached, or is always reached.
``border``
    Instead of the zeros of the padding on one side of a map, the elements of its opposite side are read, which follow
    in a line buffer.
``limit``
    A counter ends one step early: the last input channel, kernel row or kernel column is left out of every sum, or the
    last row, column or channel of a map repeats the one before it.
``class``
    The arg-max ignores one class.

One frame is simulated at a time; :mod:`fewbit.golden.carry` propagates the effects of faults to the output.
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
    """One fault, as it is described in reports.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    layer : str
        Name of the layer.
    place : str
        The faulty number or limit of the layer, in words.
    """

    kind: str
    layer: str
    place: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.place}"


class FaultSimulator:
    """Numbers all single faults of a network and simulates them.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    kinds : int array (faults,)
        For each fault, the index of its kind in :data:`KINDS`.
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
        """Number of faults."""
        return int(self._starts[-1])

    def fault(self, number: int) -> Fault:
        """Description of fault ``number``."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        chosen = self._groups[group]
        return Fault(chosen.kind, chosen.layer.name, chosen.place(int(number - self._starts[group])))

    def weights(self, index: int) -> tuple[int, int]:
        """Number of the first weight fault of the layer with weights ``index``, and how many weight faults it has. They
        are in the order of the outputs, then of the inputs."""
        place = next(
            place for place, group in enumerate(self._groups) if isinstance(group, _Weights) and group.index == index
        )
        return int(self._starts[place]), self._groups[place].size

    def planted(self, number: int) -> Network | None:
        """The network with fault ``number`` inserted; None if a network cannot express it, as it can faults of weights,
        digits and thresholds."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        layer = self._groups[group].planted(int(number - self._starts[group]))
        if layer is None:
            return None
        layers = tuple(layer if old is self._groups[group].layer else old for old in self.network.layers)
        return replace(self.network, layers=layers)

    def visible(self, frame: Ints, among: Ints | None = None) -> Ints:
        """Return the numbers of the faults that ``frame`` makes visible.

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
        simulated = np.arange(self.faults) if among is None else np.asarray(among)
        cuts = np.searchsorted(simulated, self._starts)
        visible = []
        for group, start, begin, end in zip(self._groups, self._starts, cuts, cuts[1:]):
            if begin < end:
                local = simulated[begin:end] - start
                visible.append(local[group.visible(self._path, tensors, local)] + start)
        return np.concatenate(visible) if visible else np.zeros(0, np.int64)


@dataclass
class _Group(ABC):
    """The faults of one kind in one layer; in a group they are numbered from 0."""

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
        """Number kind of the elements that a layer with weights multiplies."""
        kind: DType = self.layer.lane_kind(self.network.source(self.layer).dtype)
        return kind

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of faults in the group."""

    @abstractmethod
    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        """Whether each of the faults ``local`` (n,) is visible for a frame; ``tensors`` are those of the frame without
        faults.  # -> (n,)"""

    @abstractmethod
    def place(self, number: int) -> str:
        """The faulty number or limit of fault ``number``, in words."""

    def planted(self, number: int) -> Any:
        """The layer with fault ``number`` inserted; None if a layer cannot express it."""
        return None


def _vectors(layer: Linear, group: int, x: Ints) -> Ints:
    """Input vectors of the outputs of one convolution group, at every position.

    # (1, \\*shape) -> (inputs, positions)
    """
    if isinstance(layer, Conv):
        channels = layer.channels // layer.groups
        maps = x[:, group * channels : (group + 1) * channels]
        elements = windows(maps, layer.kernel, layer.stride, layer.padding)
        return np.ascontiguousarray(elements.reshape(-1, layer.fan_in).T)
    return x.reshape(-1, 1)


def _group_of(layer: Linear, rows: Ints) -> Ints:
    """Number of the convolution group of each output in ``rows``.  # (n,) -> (n,)"""
    return rows // (layer.outputs // layer.groups) if isinstance(layer, Conv) else np.zeros_like(rows)


def _visible_changes(
    path: Path, group: _Group, tensors: Tensors, rows: Ints, changes: Iterator[tuple[slice, Ints]]
) -> Flags:
    """Whether each of n changes is visible: the sums of output ``rows[k]`` change by ``changes`` (positions,).

    ``changes`` yields them in parts, (m, positions), each with its slice of the n.  # (n,) -> (n,)
    """
    sums = tensors[group.index + 1][0]
    visible = np.zeros(len(rows), bool)
    slack = path.slack(group.index + 1, tensors)
    for span, change in changes:
        outputs = rows[span]
        if slack is None:
            changing = np.flatnonzero(change.any(1))
        else:
            least, most = slack
            changing = np.flatnonzero(((change < least[outputs]) | (change > most[outputs])).any(1))
        outputs = outputs[changing]
        changed = sums[outputs] + change[changing].reshape(len(outputs), *sums.shape[1:])
        visible[span.start + changing] = path.channel(group.index + 1, outputs, changed, tensors)
    return visible


def _spans(count: int, size: int) -> Iterator[slice]:
    """Slices that divide ``count`` tensors of ``size`` elements into parts that fit in memory."""
    rows = max(1, MOST_ELEMENTS // max(1, size))
    return (slice(start, min(count, start + rows)) for start in range(0, count, rows))


class _Weights(_Group):
    """Weights with an inverted sign bit; fault ``r * fan_in + i`` is that of input i of output r."""

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
        groups = _group_of(self.layer, rows)
        x = tensors[self.source]
        visible = np.zeros(len(local), bool)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            vectors = _vectors(self.layer, int(group), x)
            changes = (
                (span, self.differences[local[members[span]], None] * vectors[inputs[members[span]]])
                for span in _spans(len(members), vectors.shape[1])
            )
            visible[members] = _visible_changes(path, self, tensors, rows[members], changes)
        return visible

    def _dense(self, path: Path, tensors: Tensors, local: Ints, least: Ints, most: Ints) -> Flags:
        """:meth:`visible` for many faults of a dense layer: one matrix of all changes is faster than one fault at a
        time.
        """
        changes = self.differences.reshape(self.layer.outputs, -1) * tensors[self.source]
        visible = np.zeros(changes.shape, bool)
        visible.ravel()[local] = True
        visible &= (changes < least) | (changes > most)
        rows, _ = np.nonzero(visible)
        sums = tensors[self.index + 1][0][rows] + changes[visible]
        visible[visible] = path.channel(self.index + 1, rows, sums, tensors)
        return visible.ravel()[local]

    def _where(self, number: int) -> tuple[int, ...]:
        """Index in ``layer.weights`` of the weight of fault ``number``."""
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
    """Missing signed digits of scales. An entry is (number of the array in ``names``, row, column, digit position,
    value of the digit)."""

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
        """The levels that are multiplied by the scales ``names[which]``; the others are replaced by 0."""
        layer = self.layer
        matrix: Ints = layer.matrix.astype(np.int64)
        if layer.negative_scales is None:
            return matrix
        return np.where(matrix < 0, matrix, 0) if which else np.where(matrix > 0, matrix, 0)

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        which, rows, columns, _, weight = self.entries[local].T
        visible = np.zeros(len(local), bool)
        for name in np.unique(which):
            factors = self._levels(int(name))
            chosen = np.flatnonzero(which == name)
            if self.layer.across:
                visible[chosen] = self._across(path, tensors, factors, rows[chosen], columns[chosen], weight[chosen])
                continue
            groups = _group_of(self.layer, rows[chosen])
            for group in np.unique(groups):
                members = chosen[groups == group]
                vectors = _vectors(self.layer, int(group), tensors[self.source])
                distinct_rows, places = np.unique(rows[members], return_inverse=True)
                parts = self._parts(factors[distinct_rows], vectors)
                changes = (
                    (span, -weight[members[span], None] * parts[places[span], columns[members[span]]])
                    for span in _spans(len(members), vectors.shape[1])
                )
                visible[members] = _visible_changes(path, self, tensors, rows[members], changes)
        return visible

    def _parts(self, factors: Ints, vectors: Ints) -> Ints:
        """The part of each sum that comes from each vector, not multiplied by its scale.

        # (rows, inputs), (inputs, n) -> (rows, vectors, n)
        """
        if vectors.shape[1] == 1:
            starts = np.arange(0, self.layer.fan_in, self.layer.vector)
            return np.add.reduceat(factors * vectors[:, 0], starts, axis=1)[..., None]
        spans = [slice(start, start + self.layer.vector) for start in range(0, self.layer.fan_in, self.layer.vector)]
        return np.stack([product(vectors[span].T, factors[:, span], self._kind).T for span in spans], 1)

    def _across(self, path: Path, tensors: Tensors, factors: Ints, rows: Ints, columns: Ints, weight: Ints) -> Flags:
        """:meth:`visible` for scales across outputs: each missing digit changes one input of several outputs."""
        layer, sums = self.layer, tensors[self.index + 1]
        outputs = layer.outputs // (layer.groups if isinstance(layer, Conv) else 1)
        visible = np.zeros(len(rows), bool)
        for span in _spans(len(rows), sums.size):
            changed = np.repeat(sums, len(rows[span]), 0)
            for place, (row, column, digit) in enumerate(zip(rows[span], columns[span], weight[span])):
                for output in np.arange(row * layer.vector, min(layer.outputs, (row + 1) * layer.vector)):
                    x = _vectors(layer, int(output // outputs), tensors[self.source])[column]
                    change = digit * factors[output, column] * x
                    changed[place, output] -= change.reshape(changed[place, output].shape)
            visible[span] = path.whole(self.index + 1, changed, tensors)
        return visible

    def place(self, number: int) -> str:
        which, row, column, position, _ = self.entries[number]
        return f"{self.names[which]} [{row}, {column}] without its digit of 2**{position}"

    def planted(self, number: int) -> Any:
        which, row, column, _, weight = self.entries[number]
        scales = getattr(self.layer, self.names[which]).copy()
        scales[row, column] -= weight
        return replace(self.layer, **{self.names[which]: scales})


class _Thresholds(_Group):
    """Thresholds that are never or always reached. For threshold k of row r, of T in a row, fault ``2 * (r * T + k)``
    is that it is never reached, and the next number that it is always reached."""

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
            changed = self._changed(tensors[self.index + 1], reached, always)
            return path.whole(self.index + 1, changed, tensors)
        visible = np.zeros(len(local), bool)
        for span in _spans(len(local), int(np.prod(x.shape[1:]))):
            channels = rows[span]
            axes = (-1,) + (1,) * (x.ndim - 1)
            signed = x[channels] * layer.sign[channels].astype(np.int64).reshape(axes)
            reached = signed >= layer.thresholds[channels, places[span]].reshape(axes)
            changed = self._changed(tensors[self.index + 1][0][channels], reached, always[span])
            visible[span] = path.channel(self.index + 1, channels, changed, tensors)
        return visible

    def _split(self, local: Ints) -> tuple[Ints, Ints, Flags]:
        """Row and column of the threshold of each fault, and whether it is always reached.  # (n,) -> (n,) thrice"""
        threshold, always = np.divmod(local, 2)
        rows, places = np.divmod(threshold, self.layer.thresholds.shape[1])
        return rows, places, always == 1

    def _changed(self, output: Ints, reached: Flags, always: Flags) -> Ints:
        """The output of the faulty layer, if ``output`` is the fault-free one and ``reached`` tells where the threshold
        of each fault is reached."""
        always = always.reshape(-1, *[1] * (reached.ndim - 1))
        level: int = self.layer.dtype.step
        changed: Ints = output + level * np.where(always, ~reached, -reached.astype(np.int64))
        return changed

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
    """A few faults, known by their names, that can change all outputs of a layer."""

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
        """Output of the layer with the fault ``name``.  # -> (1, \\*shape)"""

    def visible(self, path: Path, tensors: Tensors, local: Ints) -> Flags:
        outputs = np.concatenate([self.outputs(path, tensors, self.names[number]) for number in local])
        return path.whole(self.index + 1, outputs, tensors)


_SIDES = ("above", "left of", "below", "right of")


class _Borders(_Whole):
    """On one side of a map, elements of the opposite side are read instead of the zeros of the padding."""

    def __init__(self, network: Network, index: int) -> None:
        layer: Any = network.layers[index]
        sides = [f"the padding {side} the map is not 0" for side, pad in zip(_SIDES, layer.padding) if pad]
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
    """Counters that end one step early."""

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
            repeated = np.moveaxis(sums.copy(), axis, 0)
            repeated[-1] = repeated[-2]
            return np.moveaxis(repeated, 0, axis)
        factors = path.factors[self.index]
        assert factors is not None
        if isinstance(layer, Dense):
            return np.asarray(sums - factors[:, -1] * tensors[self.source][0, -1])
        omitted = np.zeros_like(factors).reshape(layer.outputs, *layer.kernel, -1)
        kernels = factors.reshape(omitted.shape)
        axis = 1 + next(axis for axis, word in enumerate(("row", "column", "channel")) if word in name)
        np.moveaxis(omitted, axis, 0)[-1] = np.moveaxis(kernels, axis, 0)[-1]
        return np.asarray(sums - self._sums(omitted.reshape(factors.shape), tensors))

    def _sums(self, factors: Ints, tensors: Tensors) -> Ints:
        """Sums of the convolution with other ``factors``.  # (outputs, inputs) -> (1, \\*shape)"""
        layer, outputs = self.layer, self.layer.outputs // self.layer.groups
        shape = tensors[self.index + 1].shape
        parts = []
        for group in range(layer.groups):
            group_factors = factors[group * outputs : (group + 1) * outputs]
            parts.append(product(_vectors(layer, group, tensors[self.source]).T, group_factors, self._kind).T)
        return np.concatenate(parts).reshape(shape)


class _Classes(_Group):
    """Classes that the arg-max ignores: such a fault is visible if this class has the largest score."""

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
    """All groups of faults of layer ``index``."""
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
