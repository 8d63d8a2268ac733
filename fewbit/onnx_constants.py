"""Constants of an ONNX graph: what its nodes make of them, and the shapes that its reshaping ops give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fewbit.onnx_graph import LARGEST, Array, Node, Refusal


def reshaped(shape: tuple[int, ...], wanted: list[int], allow_zero: bool = False) -> tuple[int, ...]:
    """Result shape of ONNX Reshape: 0 keeps an extent, one -1 takes the rest."""
    if not allow_zero and any(extent == 0 and axis >= len(shape) for axis, extent in enumerate(wanted)):
        raise Refusal(f"cannot reshape {shape} to {tuple(wanted)}")
    result = [shape[axis] if extent == 0 and not allow_zero else extent for axis, extent in enumerate(wanted)]
    size, known = (
        int(np.prod(shape, dtype=object)),
        int(np.prod([e for e in result if e != -1], dtype=object)),
    )
    if result.count(-1) == 1 and known > 0 and size % known == 0:
        result[result.index(-1)] = size // known
    if any(extent < 0 for extent in result) or int(np.prod(result, dtype=object)) != size:
        raise Refusal(f"cannot reshape {shape} to {tuple(wanted)}")
    return tuple(result)


def squeezed(shape: tuple[int, ...], axes: list[int] | None) -> tuple[int, ...]:
    """Result shape of ONNX Squeeze."""
    chosen = {axis for axis, extent in enumerate(shape) if extent == 1} if axes is None else {
        _axis(axis, len(shape)) for axis in axes
    }  # fmt: skip
    if any(shape[axis] != 1 for axis in chosen):
        raise Refusal(f"cannot squeeze the axes {sorted(chosen)} of shape {shape}")
    return tuple(extent for axis, extent in enumerate(shape) if axis not in chosen)


def unsqueezed(shape: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    """Result shape of ONNX Unsqueeze."""
    rank = len(shape) + len(axes)
    chosen = {_axis(axis, rank) for axis in axes}
    rest: Iterator[int] = iter(shape)
    if len(chosen) != len(axes):
        raise Refusal(f"an axis is named twice in {axes}")
    return tuple(1 if axis in chosen else next(rest) for axis in range(rank))


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Refusal(f"a tensor with {rank} axes has no axis {axis}")
    return axis % rank


def axes_of(node: Node, constants: list[Array]) -> list[int] | None:
    """Axes of Squeeze or Unsqueeze: an input since opset 13, an attribute before."""
    (axes,) = node.settings(axes=None)
    return [int(axis) for axis in constants[0].ravel()] if constants else axes


def constant_result(node: Node, inputs: list[Array]) -> Array:
    """What ``node`` makes of constants, in the element type of the graph. Refuses an op it lacks."""
    fold = _CONSTANT_OPS.get(node.op) if node.domain == "" else None
    if fold is None:
        raise Refusal("this op is not supported on constants")
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(fold(node, *inputs))
    except Refusal:
        raise
    except (ValueError, TypeError, IndexError) as error:
        raise Refusal(f"cannot be worked out: {error}") from None
    if result.size > LARGEST:
        raise Refusal(f"makes a constant of {result.size} elements")
    return result


def _constant(node: Node) -> Array:
    value, number, numbers, integer, integers = node.settings(
        value=None, value_float=None, value_floats=None, value_int=None, value_ints=None
    )
    if value is not None:
        return np.asarray(value)
    if number is not None or numbers is not None:
        return np.array(number if numbers is None else numbers, np.float32)
    if integer is None and integers is None:
        raise Refusal("holds no value")
    return np.array(integer if integers is None else integers, np.int64)


def _constant_of_shape(node: Node, shape: Array) -> Array:
    (value,) = node.settings(value=np.zeros(1, np.float32))
    if int(np.prod(shape, dtype=object)) > LARGEST:
        raise Refusal(f"makes a constant of shape {tuple(shape.tolist())}")
    return np.full(tuple(shape.tolist()), value.ravel()[0], value.dtype)


def _slice(node: Node, data: Array, *bounds: Array) -> Array:
    starts, ends, axes = node.settings(starts=None, ends=None, axes=None)
    if bounds:
        starts, ends, *rest = (bound.tolist() for bound in bounds)
        axes, steps = (rest[0] if rest else None), (rest[1] if len(rest) > 1 else None)
    else:
        steps = None
    axes = range(len(starts)) if axes is None else axes
    index = [slice(None)] * data.ndim
    for place, axis in enumerate(axes):
        index[axis] = slice(starts[place], ends[place], steps[place] if steps else 1)
    return data[tuple(index)]


def _divide(node: Node, a: Array, b: Array) -> Array:
    node.settings()
    if a.dtype.kind in "iu":
        return np.trunc(a / b).astype(a.dtype)
    return np.asarray(a / b)


def cast_target(node: Node) -> np.dtype[Any]:
    """Element type that a Cast gives."""
    from onnx import helper

    to, _ = node.settings(to=None, saturate=1)
    try:
        kind: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(to)
    except (KeyError, TypeError):
        raise Refusal(f"its element type {to} is not known") from None
    return kind


def _cast(node: Node, data: Array) -> Array:
    return data.astype(cast_target(node))


def _reshape(node: Node, data: Array, shape: Array) -> Array:
    (allow_zero,) = node.settings(allowzero=0)
    return data.reshape(reshaped(data.shape, shape.tolist(), bool(allow_zero)))


def _flatten(node: Node, data: Array) -> Array:
    (axis,) = node.settings(axis=1)
    return data.reshape(int(np.prod(data.shape[:axis], dtype=int)), -1)


def _transpose(node: Node, data: Array) -> Array:
    (perm,) = node.settings(perm=None)
    return data.transpose(perm)


def _gather(node: Node, data: Array, indices: Array) -> Array:
    (axis,) = node.settings(axis=0)
    return np.take(data, indices, axis)


def _concat(node: Node, *parts: Array) -> Array:
    (axis,) = node.settings(axis=None)
    return np.concatenate(parts, axis)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """An op without attributes that NumPy has under another name."""

    def fold(node: Node, *inputs: Array) -> Any:
        node.settings()
        return function(*inputs)

    return fold


_CONSTANT_OPS: dict[str, Callable[..., Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _plain(np.asarray),
    "Shape": lambda node, data: np.array(data.shape, np.int64)[slice(*node.settings(start=0, end=None))],
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Squeeze": lambda node, data, *axes: data.reshape(squeezed(data.shape, axes_of(node, list(axes)))),
    "Unsqueeze": lambda node, data, *axes: data.reshape(unsqueezed(data.shape, axes_of(node, list(axes)) or [])),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Cast": _cast,
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _divide,
    "Pow": _plain(lambda base, exponent: np.power(base, exponent.astype(base.dtype))),
    "Sqrt": _plain(np.sqrt),
    "Reciprocal": _plain(np.reciprocal),
    "Neg": _plain(np.negative),
    "Abs": _plain(np.abs),
    "Floor": _plain(np.floor),
    "Ceil": _plain(np.ceil),
    "Round": _plain(np.round),
}
