"""Changed tensors of one frame, carried through the layers behind them to the output of a network.

Of a tensor that is changed in one channel only that channel is carried on, until a sum takes it in: what the other
channels give is not computed again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.matvec import product
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Linear, Network, Pool, Threshold
from fewbit.golden.run import step
from fewbit.golden.threshold import row_levels
from fewbit.golden.window import windows

MOST_ELEMENTS = 1 << 22
"""Elements of changed tensors that are held at a time."""

Flags = NDArray[np.bool_]
Tensors = tuple[Ints, ...]


class Path:
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
        level = _levels(layer, rows, x)
        sign = layer.sign[rows].astype(np.int64)[:, None]
        down, up = bounds[rows[:, None], level] - sign * x, bounds[rows[:, None], level + 1] - 1 - sign * x
        return np.where(sign > 0, down, -up), np.where(sign > 0, up, -down)

    def whole(self, index: int, values: Ints, tensors: Tensors) -> Flags:
        """Whether changed inputs of layer ``index`` change the output.  # (n, \\*shape) -> (n,)"""
        most = max(kind.size for kind in self.types[index:])
        rows = max(1, MOST_ELEMENTS // most)
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
        rows = max(1, MOST_ELEMENTS // size)
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
        return layer.base + layer.dtype.step * _levels(layer, rows, values)

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
        rows = max(1, MOST_ELEMENTS // sums.size)
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


def _levels(layer: Threshold, rows: Ints, values: Ints) -> Ints:
    """Levels of ``values``, the thresholds of each in the row that ``rows`` says.  # (n,), (n, ...) -> (n, ...)"""
    return row_levels(values, layer.thresholds[rows], layer.sign[rows])
