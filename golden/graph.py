"""How the layers of a network hang together: which tensors each layer reads, and who reads each tensor.

Tensors are numbered: 0 is the input of the network, ``k`` the output of layer ``k - 1``. Layers stand in topological
order: each reads only tensors that come before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fewbit.golden.errors import FewbitError
from fewbit.golden.layer import Layer

INPUT = "input"
"""What a layer calls the input of the network in its ``inputs``."""


def tensors_read(layers: Sequence[Layer]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the tensors that each layer reads, in the order of its ``inputs``.

    Raises
    ------
    FewbitError
        If a layer names an input that is not before it, has too few or too many, or if nothing reads a tensor.
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
            problem = "stands at or behind it in the order of layers" if name in places else "is no layer"
            raise FewbitError(f"{layer.label}: reads {name!r}, which {problem}")
        sources = tuple(numbers[name] for name in layer.inputs) or (index,)
        if layer.joins and len(sources) < 2:
            raise FewbitError(f"{layer.label}: {_a(layer.kind)} joins two inputs or more; name them")
        if not layer.joins and len(sources) > 1:
            raise FewbitError(f"{layer.label}: {_a(layer.kind)} layer reads one input, not {len(sources)}")
        read.append(sources)
        numbers[layer.name] = index + 1
    wanted = {number for sources in read for number in sources}
    for number in range(len(layers)):
        if number not in wanted:
            what = layers[number - 1].label if number else "the network's input"
            raise FewbitError(f"{what}: no layer reads it")
    return tuple(read)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def tensor_readers(read: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Indices of the layers that read each tensor, ascending, from what each layer reads; the last tensor has none."""
    readers: list[list[int]] = [[] for _ in range(len(read) + 1)]
    for index, sources in enumerate(read):
        for number in dict.fromkeys(sources):
            readers[number].append(index)
    return tuple(map(tuple, readers))


def named(layers: Sequence[Layer]) -> list[Layer]:
    """``layers`` with every input named, so that they can be moved, added and left out. Inverse: :func:`unnamed`."""
    names = [INPUT, *(layer.name for layer in layers)]
    return [layer if layer.inputs else replace(layer, inputs=(names[index],)) for index, layer in enumerate(layers)]


def unnamed(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """``layers`` without the names of inputs that are the layer before."""
    names = [INPUT, *(layer.name for layer in layers)]
    return tuple(
        replace(layer, inputs=()) if layer.inputs == (names[index],) else layer for index, layer in enumerate(layers)
    )


def without(layers: Sequence[Layer], removed: Layer) -> list[Layer]:
    """:func:`named` ``layers`` without one of them, whose readers read what it reads."""
    (source,) = removed.inputs
    return [
        replace(layer, inputs=tuple(source if name == removed.name else name for name in layer.inputs))
        for layer in layers
        if layer is not removed
    ]


def swapped(layers: Sequence[Layer], first: str, second: str) -> list[Layer]:
    """:func:`named` ``layers`` with two of them, by name, in the other order: ``second`` alone reads ``first``."""
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
