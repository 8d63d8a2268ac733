"""Propagation of changed tensors of one frame through the following layers to the output of a network.

If only one channel of a tensor has changed, only this channel is propagated, until a layer with weights sums it with
others: the outputs of the other channels are not computed again. Where branches fork or join, whole tensors are
propagated, along every branch that the change reaches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.matvec import product
from fewbit.golden.network import Affine, Conv, Dense, Flatten, Linear, Network, Pool, Threshold
from fewbit.golden.threshold import row_levels
from fewbit.golden.window import windows

MOST_ELEMENTS = 1 << 22
"""Number of elements of changed tensors that are kept in memory at a time."""

Flags = NDArray[np.bool_]
Tensors = tuple[Ints, ...]


class Path:
    """Propagation of changed tensors to the output of ``network``: which of them change the scores."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers, self.types = network.layers, network.tensor_types
        self.factors = [layer.factors() if isinstance(layer, Linear) else None for layer in network.layers]
        self._columns: dict[tuple[int, int], Ints] = {}

    def tensors(self, frames: Ints) -> Tensors:
        """The input and the output of every layer for one or more ``frames``, as in
        :class:`fewbit.golden.run.Result`."""
        tensors = [frames.astype(np.int64)]
        for index, numbers in enumerate(self.network.reads):
            tensors.append(self._outputs(index, [tensors[number] for number in numbers]))
        return tuple(tensors)

    def _outputs(self, index: int, inputs: list[Ints]) -> Ints:
        """Output of layer ``index`` for ``inputs``."""
        layer, factors = self.layers[index], self.factors[index]
        if factors is None:
            return layer.step_of([self.types[number] for number in self.network.reads[index]], inputs)
        assert isinstance(layer, Linear)
        (x,) = inputs
        return layer.products(self.network.source(layer), x, factors)

    def _ends(self, tensor: int) -> bool:
        """Whether tensor number ``tensor`` is the scores."""
        return tensor == self.network.scores_tensor

    def slack(self, tensor: int, tensors: Tensors) -> tuple[Ints, Ints] | None:
        """By how much each element of a tensor may change, down and up, without changing a level of the Threshold that
        reads it; None if the tensor is not read by a Threshold alone.  # -> (channels, positions) twice
        """
        reader = self.network.only_reader(tensor)
        layer = None if reader is None else self.layers[reader]
        if not isinstance(layer, Threshold):
            return None
        x = tensors[tensor][0].reshape(len(tensors[tensor][0]), -1)
        rows = np.arange(len(x)) if layer.channels > 1 else np.zeros(len(x), np.int64)
        ends = np.full((layer.channels, 1), 1 << 62)
        bounds = np.concatenate([-ends, layer.thresholds, ends], 1)
        level = _levels(layer, rows, x)
        sign = layer.sign[rows].astype(np.int64)[:, None]
        down, up = bounds[rows[:, None], level] - sign * x, bounds[rows[:, None], level + 1] - 1 - sign * x
        return np.where(sign > 0, down, -up), np.where(sign > 0, up, -down)

    def whole(self, tensor: int, values: Ints, tensors: Tensors) -> Flags:
        """Whether changed ``values`` of a whole tensor change the scores.  # (n, \\*shape) -> (n,)"""
        rows = max(1, MOST_ELEMENTS // max(kind.size for kind in self.types[tensor:]))
        if len(values) > rows:
            parts = [self.whole(tensor, values[start : start + rows], tensors) for start in range(0, len(values), rows)]
            return np.concatenate(parts)
        arrived = np.zeros(len(values), bool)
        places = np.arange(len(values))
        while True:
            differs = _any(values != tensors[tensor])
            values, places = values[differs], places[differs]
            if not len(places) or self._ends(tensor):
                arrived[places] = True
                return arrived
            reader = self.network.only_reader(tensor)
            if reader is None:
                arrived[places] = self._branches(tensor, values, tensors)
                return arrived
            values = self._outputs(reader, [values])
            tensor = reader + 1

    def _branches(self, tensor: int, values: Ints, tensors: Tensors) -> Flags:
        """Whether changed ``values`` of a tensor change the scores, if several layers read it, or a join does: they are
        propagated along every branch.  # (n, \\*shape) -> (n,)"""
        changed = {tensor: values}
        for index in range(tensor, self.network.scores_tensor):
            numbers = self.network.reads[index]
            if not any(number in changed for number in numbers):
                continue
            inputs = [
                changed[number] if number in changed else np.repeat(tensors[number], len(values), 0)
                for number in numbers
            ]
            output = self._outputs(index, inputs)
            if (output != tensors[index + 1]).any():
                changed[index + 1] = output
        scores = self.network.scores_tensor
        if scores not in changed:
            return np.zeros(len(values), bool)
        return _any(changed[scores] != tensors[scores])

    def channel(self, tensor: int, channels: Ints, values: Ints, tensors: Tensors) -> Flags:
        """Whether a tensor that has changed in one channel changes the scores.

        # (n,) channels, (n, \\*map) values of that channel -> (n,)
        """
        size = max(1, int(np.prod(values.shape[1:])))
        rows = max(1, MOST_ELEMENTS // size)
        if len(values) > rows:
            spans = [slice(start, start + rows) for start in range(0, len(values), rows)]
            return np.concatenate([self.channel(tensor, channels[span], values[span], tensors) for span in spans])
        arrived = np.zeros(len(values), bool)
        places = np.arange(len(values))
        while True:
            differs = _any(values != tensors[tensor][0][channels])
            values, places, channels = values[differs], places[differs], channels[differs]
            if not len(places) or self._ends(tensor):
                arrived[places] = True
                return arrived
            reader = self.network.only_reader(tensor)
            if reader is None:
                arrived[places] = self.whole(tensor, self._filled(tensor, channels, values, tensors), tensors)
                return arrived
            layer = self.layers[reader]
            if isinstance(layer, Linear):
                arrived[places] = self._summed(reader, tensor, channels, values, tensors)
                return arrived
            if isinstance(layer, Flatten):
                arrived[places] = self._flattened(reader, tensor, channels, values, tensors)
                return arrived
            values = self._step(reader, channels, values)
            tensor = reader + 1
            if values.ndim == 1:  # many changes of a channel give the same few levels
                least = int(values.min())
                span = int(values.max()) - least + 1
                if span * len(tensors[tensor][0]) < 1 << 62:
                    keys, inverse = np.unique(channels * span + (values - least), return_inverse=True)
                    channels, values = np.divmod(keys, span)
                    arrived[places] = self.channel(tensor, channels, values + least, tensors)[inverse]
                    return arrived

    def _filled(self, tensor: int, channels: Ints, values: Ints, tensors: Tensors) -> Ints:
        """Complete tensors, each with one changed channel.  # (n,), (n, \\*map) -> (n, \\*shape)"""
        whole = np.repeat(tensors[tensor], len(values), 0)
        whole[np.arange(len(values)), channels] = values
        return whole

    def _step(self, index: int, channels: Ints, values: Ints) -> Ints:
        """Output of layer ``index`` for one channel.  # (n,), (n, \\*map) -> (n, \\*map)"""
        layer = self.layers[index]
        if isinstance(layer, Pool):
            return layer.step(self.network.source(layer), values[:, None])[:, 0]
        if isinstance(layer, Affine):
            axes = (-1,) + (1,) * (values.ndim - 1)
            return values * layer.scale[channels].reshape(axes) + layer.bias[channels].reshape(axes)
        assert isinstance(layer, Threshold)
        rows = channels if layer.channels > 1 else np.zeros(len(channels), np.int64)
        return layer.base + layer.dtype.step * _levels(layer, rows, values)

    def _flattened(self, index: int, tensor: int, channels: Ints, values: Ints, tensors: Tensors) -> Flags:
        """Whether a channel that has changed in front of the Flatten ``index`` changes the scores: each element of its
        map is a channel of the following layer.  # (n,), (n, \\*map) -> (n,)"""
        after = self.network.only_reader(index + 1)
        if after is not None and isinstance(self.layers[after], Dense):
            return self._summed(after, tensor, channels, values, tensors)
        whole = self._filled(tensor, channels, values, tensors)
        return self.whole(index + 1, self._outputs(index, [whole]), tensors)

    def _summed(self, index: int, source: int, channels: Ints, values: Ints, tensors: Tensors) -> Flags:
        """Whether changed channels of tensor ``source`` change the scores. Layer ``index`` multiplies this tensor, or a
        flattened copy of it, by weights: its sums change by the product of weights and changes.

        # (n,), (n, \\*map) -> (n,)
        """
        changes = values - tensors[source][0][channels]
        sums = tensors[index + 1]
        arrived = np.zeros(len(values), bool)
        rows = max(1, MOST_ELEMENTS // sums.size)
        if values.ndim == 1:
            columns = self._factors(index).T
            for start in range(0, len(values), rows):
                span = slice(start, start + rows)
                changed = sums + changes[span, None] * columns[channels[span]]
                arrived[span] = self.whole(index + 1, changed, tensors)
            return arrived
        order = np.argsort(channels, kind="stable")
        for same_channel in np.split(order, np.flatnonzero(np.diff(channels[order])) + 1):
            for start in range(0, len(same_channel), rows):
                part = same_channel[start : start + rows]
                changed = np.repeat(sums, len(part), 0)
                self._add(index, source, int(channels[part[0]]), changes[part], changed)
                arrived[part] = self.whole(index + 1, changed, tensors)
        return arrived

    def _add(self, index: int, source: int, channel: int, changes: Ints, sums: Ints) -> None:
        """Add the products of the weights and the ``changes`` (n, \\*map) of one input channel to
        ``sums`` (n, \\*shape)."""
        layer, kind = self.layers[index], self.types[source].dtype
        factors = self._factors(index)
        difference = DType("int", min(64, kind.bits + 2))
        if isinstance(layer, Conv):
            group_channels, outputs = layer.channels // layer.groups, layer.outputs // layer.groups
            group, local = divmod(channel, group_channels)
            group_outputs = slice(group * outputs, (group + 1) * outputs)
            taps = factors[group_outputs].reshape(outputs, -1, group_channels)[:, :, local]
            elements = windows(changes[:, None], layer.kernel, layer.stride, layer.padding)
            count, rows, columns = elements.shape[:3]
            products = product(elements.reshape(count * rows * columns, -1), taps, difference)
            sums[:, group_outputs] += products.reshape(count, rows, columns, outputs).transpose(0, 3, 1, 2)
        else:
            places = self._places(self.network.reads[index][0] - 1, channel)
            sums += product(changes.reshape(len(changes), -1), factors[:, places], difference)

    def _factors(self, index: int) -> Ints:
        factors = self.factors[index]
        assert factors is not None
        return factors

    def _places(self, index: int, channel: int) -> Ints:
        """Positions of the elements of one channel in the output of the Flatten ``index``."""
        key = index, channel
        if key not in self._columns:
            layer = self.layers[index]
            assert isinstance(layer, Flatten)
            shape = self.network.source(layer).shape
            size = int(np.prod(shape[1:]))
            elements = np.arange(channel * size, (channel + 1) * size)
            inverse = np.empty(int(np.prod(shape)), np.int64)
            inverse[layer.places(shape)] = np.arange(len(inverse))
            self._columns[key] = inverse[elements]
        return self._columns[key]


def _any(flags: Flags) -> Flags:
    """Whether any element of each row is set.  # (n, ...) -> (n,)"""
    return np.asarray(flags.any(tuple(range(1, flags.ndim))))


def _levels(layer: Threshold, rows: Ints, values: Ints) -> Ints:
    """Levels of ``values``; each has its thresholds in the row with the number in ``rows``.

    # (n,), (n, ...) -> (n, ...)
    """
    return row_levels(values, layer.thresholds[rows], layer.sign[rows])
