"""Constant folding of an ONNX graph, and the result shapes of its reshaping ops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fewbit.golden.budget import Budget, check_shape
from fewbit.golden.errors import FewbitError
from fewbit.importers.onnx_evaluate import evaluated, evaluated_operators
from fewbit.importers.onnx_graph import Array, Node, Refusal, numeric


def reshaped(shape: tuple[int, ...], target: list[int], allow_zero: bool = False) -> tuple[int, ...]:
    """Result shape of ONNX Reshape: 0 keeps an extent, one -1 takes the rest."""
    if not allow_zero and any(extent == 0 and axis >= len(shape) for axis, extent in enumerate(target)):
        raise Refusal(f"cannot reshape {shape} to {tuple(target)}")
    result = [shape[axis] if extent == 0 and not allow_zero else extent for axis, extent in enumerate(target)]
    size, known = math.prod(shape), math.prod(extent for extent in result if extent != -1)
    if result.count(-1) == 1 and known > 0 and size % known == 0:
        result[result.index(-1)] = size // known
    if any(extent < 0 for extent in result) or math.prod(result) != size:
        raise Refusal(f"cannot reshape {shape} to {tuple(target)}")
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


def flattened(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Result shape of ONNX Flatten."""
    if not -len(shape) <= axis <= len(shape):
        raise Refusal(f"a tensor with {len(shape)} axes has no axis {axis}")
    axis += len(shape) if axis < 0 else 0
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Refusal(f"a tensor with {rank} axes has no axis {axis}")
    return axis % rank


def axes_of(node: Node, constants: list[Array]) -> list[int] | None:
    """Axes of Squeeze or Unsqueeze: an input since opset 13, an attribute before."""
    (axes,) = node.settings(axes=None)
    return whole_numbers(constants[0]) if constants else axes


def whole_numbers(constant: Array) -> list[int]:
    """Elements of a constant that holds axes, extents or a count. Raises Refusal if its type is not an integer."""
    if constant.dtype.kind not in "iu":
        raise Refusal(f"needs integers, and a constant of it is {constant.dtype}")
    return [int(value) for value in constant.ravel().tolist()]


def broadcasts(constant: Array, shape: tuple[int, ...]) -> bool:
    """Whether ``constant`` broadcasts to ``shape``."""
    try:
        return np.broadcast_shapes(shape, constant.shape) == tuple(shape)
    except ValueError:
        return False


def constant_result(node: Node, inputs: list[Array], budget: Budget) -> Array:
    """The first result of ``node`` for constant ``inputs``, in the element type of the graph.

    Operators that are not computed here are left to onnx's reference evaluator.

    Raises
    ------
    FewbitError
        If the op is not supported, does not fit its inputs, or gives a result larger than the rest of ``budget``.
    """
    if node.domain != "":
        raise Refusal("this op is not supported on constants")
    fold = _CONSTANT_OPS.get(node.op)
    if fold is None:
        return evaluated(node, inputs, budget)
    try:
        if node.op in _GROWING:
            budget.take(*_GROWING[node.op](node, *inputs), "its result")
        with np.errstate(all="ignore"):
            result = np.asarray(fold(node, *inputs))
    except FewbitError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise Refusal(f"cannot be worked out: {error}") from None
    check_shape(result.shape, "its result")
    return result


def constant_operators() -> list[str]:
    """Operators that are computed while a file is read, where all their inputs are constant."""
    return sorted(_CONSTANT_OPS.keys() | evaluated_operators())


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
    value = _filling(node)
    return np.full(tuple(whole_numbers(shape)), value.ravel()[0], value.dtype)


def _filling(node: Node) -> Array:
    (value,) = node.settings(value=np.zeros(1, np.float32))
    return np.asarray(value)


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
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    if (b == 0).any():
        raise Refusal("divides by zero")
    quotient = a // b  # ONNX rounds towards zero
    return np.asarray(quotient + ((a % b != 0) & ((a < 0) != (b < 0))))


def cast_target(node: Node) -> np.dtype[Any]:
    """Element type that a Cast gives."""
    from onnx import helper

    to, _ = node.settings(to=None, saturate=1)
    try:
        kind: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(to)
    except (KeyError, TypeError):
        raise Refusal(f"its element type {to} is not known") from None
    if not numeric(kind):
        raise Refusal(f"a cast to {kind} is not supported, only to integers, floats and booleans")
    return kind


def _cast(node: Node, data: Array) -> Array:
    return data.astype(cast_target(node))


def _reshape(node: Node, data: Array, shape: Array) -> Array:
    (allow_zero,) = node.settings(allowzero=0)
    return data.reshape(reshaped(data.shape, whole_numbers(shape), bool(allow_zero)))


def _flatten(node: Node, data: Array) -> Array:
    (axis,) = node.settings(axis=1)
    return data.reshape(flattened(data.shape, axis))


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
    """An op without attributes that is ``function`` of NumPy."""

    def fold_plain(node: Node, *inputs: Array) -> Any:
        node.settings()
        return function(*inputs)

    return fold_plain


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


def _elementwise(node: Node, *inputs: Array) -> tuple[tuple[int, ...], int]:
    return np.broadcast_shapes(*(x.shape for x in inputs)), max(x.itemsize for x in inputs)


_GROWING: dict[str, Callable[..., tuple[tuple[int, ...], int]]] = {
    **dict.fromkeys((op for op, fold in _CONSTANT_OPS.items() if fold.__name__ == "fold_plain"), _elementwise),
    "Div": _elementwise,
    "ConstantOfShape": lambda node, shape: (tuple(whole_numbers(shape)), _filling(node).itemsize),
    "Cast": lambda node, data: (data.shape, cast_target(node).itemsize),
    "Concat": lambda node, *parts: ((sum(part.size for part in parts),), max(part.itemsize for part in parts)),
    "Gather": lambda node, data, indices: (
        (data.size // max(1, data.shape[node.settings(axis=0)[0]]) * indices.size,),
        data.itemsize,
    ),
}
"""Result shape and bytes for each element, of the ops whose result is not a view of an input."""
