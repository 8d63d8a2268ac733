# amaranth: UnusedElaboratable=no
"""The chain of components that a folded network becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from amaranth.lib import wiring

from fewbit.golden.dtype import BIPOLAR, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Affine,
    ArgMax,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    Pool,
    TensorType,
    Threshold,
)
from fewbit.golden.reach import threshold_reach
from fewbit.hw.fold import (
    BIT_PLANES,
    FUSED_SIGN,
    PARALLEL,
    TERMS,
    AffineFold,
    Folding,
    MatVecFold,
    ThresholdFold,
    WindowFold,
    consumer,
    takes_bias,
)
from fewbit.hw.layers.affine import AffineUnit
from fewbit.hw.layers.argmax import ArgMaxUnit
from fewbit.hw.layers.conv import ConvUnit
from fewbit.hw.layers.pool import PoolUnit
from fewbit.hw.layers.threshold import ThresholdUnit
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.bit_serial import BitSerialMatVec
from fewbit.hw.matvec.fused_sign import SignMatVec
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.matvec.term_serial import TermSerialMatVec
from fewbit.hw.schedule import Schedule, Step, schedule
from fewbit.hw.streams import Gearbox, shape_of, to_stream


class Unit(Protocol):
    """A component of the chain: a stream in, a stream out, and its timing."""

    i: wiring.PureInterface
    o: wiring.PureInterface

    def timing(self) -> list[Step]: ...


def chain(network: Network, folding: Folding, target: str = "generic") -> list[tuple[str, Unit]]:
    """Named components in stream order; each takes what the one before it gives. Datapaths are made for ``target``.

    Raises
    ------
    FewbitError
        If a fold does not divide its layer, or a layer has no hardware.
    """
    if folding.input_lanes < 1 or network.input.size % folding.input_lanes:
        raise FewbitError(f"input lanes must divide the {network.input.size} inputs, not {folding.input_lanes}")
    return list(_chain(network, folding, target))


def _chain(network: Network, folding: Folding, target: str) -> Iterator[tuple[str, Unit]]:
    lanes = folding.input_lanes
    types = list(network.types)
    unbiased: FoldedMatVec | None = None  # the unit before, if it leaves its bias to the thresholds
    ridden: Layer | None = None  # thresholds that the unit before holds already
    for index, layer in enumerate(network.layers):
        source = types[index]
        name = f"layer_{index}_{layer.kind}"
        unit: Unit
        if isinstance(layer, Flatten):
            check_flatten(layer, source)
        if isinstance(layer, (Flatten, ArgMax)) or layer is ridden:
            continue
        if isinstance(layer, Linear):
            fold = folding.of(layer, MatVecFold)
            ridden = _fused_thresholds(network, index, fold)
            exact = not takes_bias(network, index)
            unit, plain = _linear(layer, source, fold, target, ridden=ridden, exact=exact)
            wanted, given = unit.lanes if isinstance(unit, ConvUnit) else fold.simd, fold.pe
            unbiased = plain if isinstance(plain, FoldedMatVec) and not exact else None
        elif isinstance(layer, Pool):
            pooled = folding.of(layer, WindowFold)
            unit = PoolUnit(layer, source, lanes=pooled.lanes, rows=pooled.rows, memory=pooled.memory)
            wanted = given = pooled.lanes
        elif isinstance(layer, Threshold):
            low, high = threshold_reach(network, index)
            if unbiased is not None:
                layer = biased(layer, unbiased.step, unbiased.bias)
                source = TensorType(unbiased.sum, source.shape)
                low, high = ((end - unbiased.bias) // unbiased.step for end in (low, high))
                unbiased = None
            levels = folding.of(layer, ThresholdFold)
            wanted = given = levels.lanes if layer.name in folding.folds else lanes
            unit = ThresholdUnit(
                layer, source, lanes=wanted, reach=(low, high), form=levels.form, memory=levels.memory,
                stages=levels.stages, target=target,
            )  # fmt: skip
        elif isinstance(layer, Affine):
            unit = AffineUnit(layer, source, target, dsp=folding.of(layer, AffineFold).dsp)
            wanted = given = 1
        else:
            raise FewbitError(f"layer {layer.name!r}: there is no hardware for a {layer.kind} layer")
        if wanted != lanes:
            yield f"{name}_gearbox", Gearbox(shape_of(source.dtype), lanes, wanted)
        yield name, unit
        lanes = given
    scores = network.scores
    if lanes != 1:
        yield "scores_gearbox", Gearbox(shape_of(scores.dtype), lanes, 1)
    yield "argmax", ArgMaxUnit(shape_of(scores.dtype), scores.size)


_UNITS: dict[str, type[FoldedMatVec]] = {PARALLEL: MatVec, BIT_PLANES: BitSerialMatVec, TERMS: TermSerialMatVec}


def _linear(
    layer: Linear, source: TensorType, fold: MatVecFold, target: str, *, ridden: Threshold | None, exact: bool
) -> tuple[Unit, FoldedMatVec | SignMatVec]:
    """The unit of a dense or convolutional layer, and the matrix-vector unit in it."""
    product, kind = layer.position(), layer.lane_kind(source.dtype)
    groups = layer.groups if isinstance(layer, Conv) else 1
    options: dict[str, Any] = {"pe": fold.pe, "simd": fold.simd, "target": target, "groups": groups}
    options |= {"memory": fold.memory, "buffer": fold.buffer, "stages": fold.stages}
    unit: FoldedMatVec | SignMatVec
    if ridden is not None:
        if kind != BIPOLAR:
            raise FewbitError(f"layer {ridden.name!r}: thresholds ride with the weights of bipolar inputs, not {kind}")
        unit = SignMatVec(product, ridden, **options)
    else:
        unit = _UNITS[fold.unit](product, kind, exact=exact, dsp=fold.dsp, **options)
    if isinstance(layer, Conv):
        result = layer.output(source).dtype if exact and ridden is None else None
        window = fold.window
        windows: dict[str, Any] = {"lanes": window.lanes, "rows": window.rows, "memory": window.memory}
        return ConvUnit(layer, source, unit, result=result, **windows), unit
    return unit, unit


def check_flatten(layer: Flatten, source: TensorType) -> None:
    """Raises FewbitError if hardware, which streams maps with their channels last, cannot flatten for nothing."""
    if not np.array_equal(to_stream(np.arange(source.size).reshape(1, *source.shape), source.shape)[0],
                          layer.places(source.shape)):  # fmt: skip
        raise FewbitError(
            f"layer {layer.name!r}: hardware flattens maps with their channels last, vectors of scales have to follow"
        )


def _fused_thresholds(network: Network, index: int, fold: MatVecFold) -> Threshold | None:
    """The thresholds that the fused-sign unit of layer ``index`` holds, if it is one.

    Raises FewbitError if there are none behind it.
    """
    if fold.unit != FUSED_SIGN:
        return None
    after = consumer(network, index)
    if not isinstance(after, Threshold):
        raise FewbitError(f"layer {network.layers[index].name!r}: a fused-sign unit takes thresholds behind it")
    return after


def biased(layer: Threshold, step: int, bias: Ints) -> Threshold:
    """The thresholds that ``x`` has where ``layer`` has its own of ``step * x + bias``."""
    own = layer.thresholds - (layer.sign * bias)[:, None]
    return replace(layer, thresholds=-(-own // step))


def timing(network: Network, folding: Folding) -> Schedule:
    """Exact latency and interval of the folded network, in cycles."""
    units = [unit for _, unit in chain(network, folding)]
    beats_in, beats_out = network.input.size // folding.input_lanes, network.scores.size
    fastest = max(beats_in, *(getattr(unit, "cycles_per_frame", 0) for unit in units))
    return schedule([step for unit in units for step in unit.timing()], beats_in, beats_out, fastest)
