"""Folds gains and shifts of a float network, such as batch normalizations, into the products next to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fewbit.importers.float_onnx.network import Best, FloatLayer, FloatPool, Floats, Product, Relu
from fewbit.importers.onnx_graph import Refusal


@dataclass(frozen=True, eq=False)
class Scale:
    """``gain[c] * x[c] + shift[c]``; ``label`` names the node to the user.

    Parameters
    ----------
    gain, shift : float64 array (1,) or (channels,)
    """

    label: str
    gain: Floats
    shift: Floats

    def then(self, later: Scale) -> Scale:
        """This step followed by ``later``, which may have more channels where a map is flattened in between."""
        vectors = (self.gain, self.shift, later.gain, later.shift)
        size = max(vector.size for vector in vectors)
        gain, shift, later_gain, later_shift = (np.repeat(vector, size // vector.size) for vector in vectors)
        return Scale(later.label, gain * later_gain, shift * later_gain + later_shift)

    def after(self, product: Product) -> Product:
        """A product that computes ``product`` followed by this step."""
        gain = np.broadcast_to(self.gain, product.bias.shape)
        weights = product.weights * gain.reshape(-1, *[1] * (product.weights.ndim - 1))
        return replace(product, weights=weights, bias=product.bias * gain + self.shift)

    def before(self, product: Product) -> Product:
        """A product that computes this step followed by ``product``. Refuses a shift in front of padding."""
        outputs, group_inputs = product.weights.shape[:2]
        inputs = group_inputs * product.groups
        gain, shift = (np.resize(np.repeat(v, inputs // v.size), inputs) for v in (self.gain, self.shift))
        if shift.any() and any(product.padding):
            raise Refusal(
                f"{self.label}: its shift would have to pass the padding of {product.name!r}, which is 0 after it: "
                "shift the input, or put it behind a product"
            )
        group = np.arange(outputs) // (outputs // product.groups)
        seen = (slice(None), slice(None), *[None] * (product.weights.ndim - 2))
        weights = product.weights * gain.reshape(product.groups, group_inputs)[group][seen]
        sums = (product.weights * shift.reshape(product.groups, group_inputs)[group][seen]).reshape(outputs, -1).sum(1)
        return replace(product, weights=weights, bias=product.bias + sums)

    def check_passes(self, layer: FloatLayer) -> None:
        """Raises Refusal unless this step and ``layer``, not a product, give the same result in either order."""
        if isinstance(layer, Relu):
            passes = (self.gain >= 0).all() and not self.shift.any()
        elif isinstance(layer, FloatPool):
            padded = any(layer.padding) and self.shift.any()
            passes = (self.gain >= 0).all() if layer.mode == "max" else not padded
        elif isinstance(layer, Best):
            passes = (self.gain == self.gain[0]).all() and self.gain[0] > 0 and (self.shift == self.shift[0]).all()
        else:
            passes = True
        if not passes:
            raise Refusal(f"{self.label}: has no product before it or behind it to go into")


def fold_scales(steps: Iterable[FloatLayer | Scale]) -> tuple[FloatLayer, ...]:
    """The layers without Scale steps: each is folded into the product before it, else into the next product."""
    layers: list[FloatLayer] = []
    moving: Scale | None = None
    for step in steps:
        if isinstance(step, Scale):
            if moving is None and layers and isinstance(last := layers[-1], Product):
                layers[-1] = step.after(last)
            else:
                moving = step if moving is None else moving.then(step)
        elif isinstance(step, Product):
            layers.append(step if moving is None else moving.before(step))
            moving = None
        else:
            if moving is not None:
                moving.check_passes(step)
            layers.append(step)
            if isinstance(step, Best):
                moving = None
    if moving is not None:
        raise Refusal(f"{moving.label}: has no product before it or behind it to go into")
    return tuple(layers)
