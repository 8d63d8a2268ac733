"""Where a float network becomes few-bit integers: once behind each product, before the next one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from fewbit.importers.float_onnx.network import FloatLayer, FloatNetwork, FloatPool, Product, Relu


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A product and what follows it, up to the next one.

    Attributes
    ----------
    product : Product or None
        None for what stands before the first one.
    wide : tuple of FloatLayer
        Done on the sums: nothing, or all up to the last mean before the ReLU, so that it is quantized once.
    quantized : bool
        Whether few-bit levels come next; not where the network ends in sums.
    relu : bool
    narrow : tuple of FloatLayer
        Done on the levels: a maximum and a ReLU may change places with the quantizer.
    level_at, seen_at : int
        Layers of the network up to where the levels are made, and up to where their reals are first summed up: maxima
        that follow tell which of the reals count.
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
