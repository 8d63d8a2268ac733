"""The window of an ONNX convolution or pooling: kernel, stride and padding as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewbit.importers.onnx_graph import Node, Refusal


@dataclass(frozen=True)
class Window:
    """Attributes that convolution and pooling share, as ONNX has them."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]

    @staticmethod
    def of(
        shape: tuple[int, ...],
        kernel: list[int] | tuple[int, ...] | None,
        strides: list[int] | None,
        pads: list[int] | None,
        dilations: list[int] | None,
        auto_pad: str,
        ceil_mode: int = 0,
    ) -> Window:
        """The window over activations of ``shape``; ``auto_pad`` becomes explicit padding.

        A window along one axis is one over a map of height 1.
        """
        if len(shape) == 3:
            kernel = _beside(1, kernel, 1)
            strides, dilations, pads = _beside(1, strides, 1), _beside(1, dilations, 1), _beside(0, pads, 2)
            shape = (*shape[:2], 1, shape[2])
        if len(shape) != 4:
            raise Refusal(f"takes maps of shape (1, channels, height, width), not {shape}")
        rows, columns = _numbers("kernel_shape", kernel, 2, 1)
        stride = _numbers("strides", [1, 1] if strides is None else strides, 2, 1)
        if any(step != 1 for step in _numbers("dilations", [1, 1] if dilations is None else dilations, 2, 1)):
            raise Refusal(f"dilations are not supported, and they are {dilations}")
        top, left, bottom, right = _numbers("pads", [0, 0, 0, 0] if pads is None else pads, 4, 0)
        if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise Refusal(f"its auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {auto_pad!r}")
        if auto_pad != "NOTSET" and any((top, left, bottom, right)):
            raise Refusal(f"has both pads and auto_pad {auto_pad}")
        ends = [(top, bottom), (left, right)]
        for axis, (extent, length, step) in enumerate(zip(shape[2:], (rows, columns), stride)):
            if auto_pad.startswith("SAME"):
                ends[axis] = _same(extent, length, step, upper=auto_pad == "SAME_UPPER")
            elif ceil_mode:
                ends[axis] = _ceil(extent, length, step, *ends[axis])
        (top, bottom), (left, right) = ends
        if max(top, bottom) >= rows or max(left, right) >= columns:
            raise Refusal(f"its padding {(top, left, bottom, right)} must be less than its kernel of {rows}x{columns}")
        return Window((rows, columns), (stride[0], stride[1]), (top, left, bottom, right))

    @staticmethod
    def maximal(node: Node, shape: tuple[int, ...]) -> Window:
        """The window of a MaxPool over activations of ``shape``."""
        auto_pad, ceil_mode, dilations, kernel, pads, _, strides = node.settings(
            auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=0, strides=None
        )
        return Window.of(shape, kernel, strides, pads, dilations, auto_pad, ceil_mode)

    @staticmethod
    def averaging(node: Node, shape: tuple[int, ...]) -> Window:
        """The window of an AveragePool over activations of ``shape``; refuses windows with different divisors."""
        auto_pad, ceil_mode, counted, dilations, kernel, pads, strides = node.settings(
            auto_pad="NOTSET",
            ceil_mode=0,
            count_include_pad=0,
            dilations=None,
            kernel_shape=None,
            pads=None,
            strides=None,
        )
        window = Window.of(shape, kernel, strides, pads, dilations, auto_pad)
        if any(window.padding) and not counted:
            raise Refusal(
                "its padding is not counted (count_include_pad is 0), so that the divisor differs along the border"
            )
        if ceil_mode and Window.of(shape, kernel, strides, pads, dilations, auto_pad, ceil_mode) != window:
            raise Refusal("its ceil_mode adds windows that reach beyond the padding, with a divisor of their own")
        return window

    def positions(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of windows over activations of ``shape``. Raises Refusal if there are none."""
        if len(shape) != 4:
            raise Refusal(f"takes maps of shape (1, channels, height, width), not {shape}")
        top, left, bottom, right = self.padding
        height, width = shape[2] + top + bottom, shape[3] + left + right
        if self.kernel[0] > height or self.kernel[1] > width:
            raise Refusal(f"its kernel of {self.kernel[0]}x{self.kernel[1]} is larger than its input of shape {shape}")
        return (height - self.kernel[0]) // self.stride[0] + 1, (width - self.kernel[1]) // self.stride[1] + 1


def _beside(height: int, values: Any, count: int) -> Any:
    """Attribute of a window along one axis, ``count`` numbers, with that of the height before each; what is not such
    an attribute as it is."""
    if values is None or len(values) != count:
        return values
    return [number for value in values for number in (height, value)]


def _numbers(name: str, values: Any, count: int, least: int) -> list[int]:
    if values is None:
        raise Refusal(f"lacks the attribute {name!r}")
    if len(values) != count or any(not isinstance(value, int) or value < least for value in values):
        raise Refusal(
            f"its attribute {name!r} must be {count} whole numbers of at least {least}, not {list(values)}: "
            "only two dimensions are supported"
        )
    return list(values)


def _same(extent: int, length: int, step: int, upper: bool) -> tuple[int, int]:
    """Padding before and after the map for a position every ``step`` elements; ``upper`` puts an odd one after."""
    total = max(((extent - 1) // step) * step + length - extent, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def _ceil(extent: int, length: int, step: int, before: int, after: int) -> tuple[int, int]:
    """Padding with which the last, partial window counts too, unless it begins after the end of the map."""
    positions = -(-(extent + before + after - length) // step) + 1
    if (positions - 1) * step >= extent + before:
        positions -= 1
    return before, max(after, (positions - 1) * step + length - extent - before)
