"""A float network while it is read or changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fewbit.importers.float_onnx.layers import FloatLayer
from fewbit.importers.float_onnx.network import FloatNetwork


class Draft:
    """Layers by the number of the tensor that each makes; number 0 is the input.

    Attributes
    ----------
    layers : dict of int to FloatLayer
        In topological order.
    reads : dict of int to tuple of int
        The tensors that each layer reads.
    output : int
        The tensor that is the network's output.
    """

    def __init__(self) -> None:
        self.layers: dict[int, FloatLayer] = {}
        self.reads: dict[int, tuple[int, ...]] = {}
        self.output = 0
        self._next = 1

    @staticmethod
    def of(network: FloatNetwork) -> Draft:
        draft = Draft()
        for layer, read in zip(network.layers, network.reads):
            draft.output = draft.add(layer, *read)
        return draft

    def add(self, layer: FloatLayer, *reads: int) -> int:
        """The number of the tensor that ``layer`` makes of the tensors ``reads``."""
        number, self._next = self._next, self._next + 1
        self.layers[number], self.reads[number] = layer, reads
        return number

    def remove(self, number: int) -> None:
        """Removes a layer of one input: what read its output reads its input."""
        (source,) = self.reads.pop(number)
        del self.layers[number]
        for reader, read in self.reads.items():
            if number in read:
                self.reads[reader] = tuple(source if one == number else one for one in read)
        if self.output == number:
            self.output = source

    def readers(self, number: int) -> list[int]:
        """The numbers of the layers that read tensor ``number``."""
        return [reader for reader, read in self.reads.items() for one in read if one == number]

    def only_reader(self, number: int) -> int | None:
        """The one layer that reads tensor ``number`` and no other; None at forks, at joins and at the output."""
        readers = self.readers(number)
        alone = len(readers) == 1 and len(self.reads[readers[0]]) == 1 and number != self.output
        return readers[0] if alone else None

    def forward(self, number: int) -> Iterator[int]:
        """The layers behind tensor ``number``, up to the next fork, join or output."""
        reader = self.only_reader(number)
        while reader is not None:
            yield reader
            reader = self.only_reader(reader)

    def backward(self, number: int) -> Iterator[int]:
        """The layers before layer ``number``, up to one whose output something else reads too, and to joins."""
        while len(self.reads[number]) == 1 and (before := self.reads[number][0]):
            if self.only_reader(before) is None:
                return
            yield before
            number = before

    def network(self, **fields: Any) -> FloatNetwork:
        """The layers that the output depends on; ``fields`` are the other fields of the network."""
        wanted = {self.output}
        for number in reversed(self.layers):
            if number in wanted:
                wanted.update(self.reads[number])
        kept = [number for number in self.layers if number in wanted]
        numbers = {0: 0} | {number: place + 1 for place, number in enumerate(kept)}
        return FloatNetwork(
            layers=tuple(self.layers[number] for number in kept),
            reads=tuple(tuple(numbers[one] for one in self.reads[number]) for number in kept),
            **fields,
        )
