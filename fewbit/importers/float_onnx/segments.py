"""Where a float network is quantized to few-bit integers: once after each product, before the next product."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from fewbit.importers.float_onnx.network import FloatLayer, FloatNetwork, FloatPool, Product, Relu


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A product and the layers after it, up to the next product.

    Attributes
    ----------
    product : Product or None
        None in the segment of the layers before the first product.
    wide : tuple of FloatLayer
        Layers computed on the sums of the product: all up to the last mean before the ReLU, so that the activations are
        quantized only once; else none.
    quantized : bool
        Whether the sums are quantized to few-bit levels; False where the network ends in sums.
    relu : bool
    narrow : tuple of FloatLayer
        Layers computed on the levels: a maximum and a ReLU commute with the quantizer.
    level_at, seen_at : int
        How many layers of the network come before the quantizer, and how many come before the next mean or product. The
        range of the activations is measured at ``seen_at``: only reals that pass the maxima in between matter.
    """

    product: Product | None
    wide: tuple[FloatLayer, ...] = ()
    quantized: bool = False
    relu: bool = False
    narrow: tuple[FloatLayer, ...] = ()
    level_at: int = 0
    seen_at: int = 0


def segments(network: FloatNetwork) -> list[Segment]:
    """The segments of ``network``, that before its first product first."""
    starts = [index for index, layer in enumerate(network.layers) if isinstance(layer, Product)]
    result = [Segment(product=None, narrow=network.layers[: starts[0]])]
    for start, end in pairwise([*starts, len(network.layers)]):
        product, behind = network.layers[start], network.layers[start + 1 : end]
        assert isinstance(product, Product)
        relu = next((index for index, layer in enumerate(behind) if isinstance(layer, Relu)), None)
        if relu is None and end == len(network.layers):
            result.append(Segment(product=product, wide=behind))
            continue
        means = [index + 1 for index, layer in enumerate(behind[:relu]) if _is_mean(layer)]
        cut = means[-1] if means else 0
        later = next((index for index, layer in enumerate(behind) if index >= cut and _is_mean(layer)), len(behind))
        result.append(
            Segment(
                product=product,
                wide=behind[:cut],
                quantized=True,
                relu=relu is not None,
                narrow=tuple(layer for layer in behind[cut:] if not isinstance(layer, Relu)),
                level_at=start + 1 + cut,
                seen_at=start + 1 + later,
            )
        )
    return result


def _is_mean(layer: FloatLayer) -> bool:
    return isinstance(layer, FloatPool) and layer.mode == "mean"
