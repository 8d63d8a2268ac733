"""Connections between the layers of a network: which tensors each layer reads, and which layers read each tensor.

Tensors are numbered: 0 is the network's input, ``k`` the output of layer ``k - 1``. Layers are in topological order:
each reads only the input or outputs of earlier layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fewbit.golden.errors import FewbitError
from fewbit.golden.layer import Layer

INPUT = "input"
"""Name of the network's input in the ``inputs`` of a layer."""


def tensors_read(layers: Sequence[Layer]) -> tuple[tuple[int, ...], ...]:
    """For each layer the numbers of the tensors that it reads, in the order of its ``inputs``.

    Raises
    ------
    FewbitError
        If a layer names an input that is not an earlier layer, or has too few or too many inputs, or if no layer reads
        a tensor other than the last.
    """
    numbers = {INPUT: 0}
    places = {layer.name: index for index, layer in enumerate(layers)}
    read = []
    for index, layer in enumerate(layers):
        for name in layer.inputs:
            if name == INPUT and INPUT in places:
                raise FewbitError(
                    f"{layer.label}: reads {INPUT!r}, which is the network's input and also a layer; rename that layer"
                )
            if name in numbers:
                continue
            problem = "is not earlier in the list of layers" if name in places else "is not the name of a layer"
            raise FewbitError(f"{layer.label}: reads {name!r}, which {problem}")
        sources = tuple(numbers[name] for name in layer.inputs) or (index,)
        if layer.joins and len(sources) < 2:
            raise FewbitError(f"{layer.label}: {_with_article(layer.kind)} joins two inputs or more; name them")
        if not layer.joins and len(sources) > 1:
            raise FewbitError(f"{layer.label}: {_with_article(layer.kind)} layer reads one input, not {len(sources)}")
        read.append(sources)
        numbers[layer.name] = index + 1
    numbers_read = {number for sources in read for number in sources}
    for number in range(len(layers)):
        if number not in numbers_read:
            tensor = layers[number - 1].label if number else "the network's input"
            raise FewbitError(f"{tensor}: no layer reads it")
    return tuple(read)


def _with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def tensor_readers(read: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """For each tensor the indices of the layers that read it, ascending; the last tensor has none.

    ``read`` has the numbers of the tensors that each layer reads, as :func:`tensors_read` returns them.
    """
    readers: list[list[int]] = [[] for _ in range(len(read) + 1)]
    for index, sources in enumerate(read):
        for number in dict.fromkeys(sources):
            readers[number].append(index)
    return tuple(map(tuple, readers))


def named(layers: Sequence[Layer]) -> list[Layer]:
    """Return ``layers`` with every input named, so that layers can be moved, added or removed. The inverse is
    :func:`unnamed`."""
    names = [INPUT, *(layer.name for layer in layers)]
    return [layer if layer.inputs else replace(layer, inputs=(names[index],)) for index, layer in enumerate(layers)]


def unnamed(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return ``layers`` with empty ``inputs`` where a layer reads only the layer directly before it."""
    names = [INPUT, *(layer.name for layer in layers)]
    return tuple(
        replace(layer, inputs=()) if layer.inputs == (names[index],) else layer for index, layer in enumerate(layers)
    )


def without(layers: Sequence[Layer], removed: Layer) -> list[Layer]:
    """Remove one layer with one input from ``layers``, all of which must be :func:`named`: its readers then read its
    input."""
    (source,) = removed.inputs
    return [
        replace(layer, inputs=tuple(source if name == removed.name else name for name in layer.inputs))
        for layer in layers
        if layer is not removed
    ]


def swapped(layers: Sequence[Layer], first: str, second: str) -> list[Layer]:
    """Exchange the layers named ``first`` and ``second`` in ``layers``, all of which must be :func:`named`. ``second``
    must be the only layer that reads ``first``."""
    before = next(layer for layer in layers if layer.name == first)
    behind = next(layer for layer in layers if layer.name == second)
    result = []
    for layer in layers:
        if layer is before:
            result.append(replace(behind, inputs=before.inputs))
        elif layer is behind:
            result.append(replace(before, inputs=(second,)))
        else:
            names = (first if name == second else name for name in layer.inputs)
            result.append(replace(layer, inputs=tuple(names)))
    return result
