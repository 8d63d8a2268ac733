"""Which lanes serve a weight code and a kind of activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from fewbit.golden.codes import Code, CsdCode
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import Target, check_target
from fewbit.hw.lanes.base import Lanes
from fewbit.hw.lanes.csd import CsdLanes
from fewbit.hw.lanes.one_bit import CountLanes, GateLanes, XnorLanes
from fewbit.hw.lanes.product import ProductLanes
from fewbit.hw.lanes.terms import ExactLanes, TermLanes, TreeLanes


def lane_kind(
    activation: DType, code: Code, target: str = "generic", *, exact: bool = True, dsp: bool = False
) -> Callable[[int, DType, Code, int], Lanes]:
    """The lane component for ``code`` weights and ``activation`` inputs, made for ``target``.

    Parameters
    ----------
    activation : DType
    code : Code
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
    exact : bool
        The weights come as plain code words, and what the lanes give needs no correction. Lanes for weights known
        beforehand are smaller.
    dsp : bool
        Whether products with plain integer weights are left to the device's DSP blocks.

    Raises
    ------
    FewbitError
        If there is none, or the target is unknown.
    """
    check_target("a lane", target)
    cells = target in ("ice40", "ecp5")
    if code.name.startswith("int("):
        return partial(ProductLanes, target=cast(Target, target), dsp=dsp)
    if code.name.startswith("csd("):
        raise FewbitError(f"lanes of {code} weights are those of fewbit.hw.lanes.csd")
    if code.name == "binary" and activation.kind == "bipolar":
        return partial(XnorLanes, target=target) if cells else XnorLanes
    if exact:
        return partial(ExactLanes, target=target) if cells else TermLanes
    if code.name == "binary" and activation.bits == 1:
        return partial(CountLanes, target=target) if cells else CountLanes
    if code.name == "ternary" and activation.bits == 1:
        return partial(GateLanes, target=target) if cells else GateLanes
    return partial(TreeLanes, target=target) if cells else partial(TermLanes, known=True)


def exact_lanes(activation: DType, code: Code, simd: int, stages: int, target: Target, *, dsp: bool = False) -> Lanes:
    """Lanes whose sum needs no correction, of any code."""
    if isinstance(code, CsdCode):
        return CsdLanes(simd, activation, code, stages, target, dsp=dsp)
    return lane_kind(activation, code, target, exact=True, dsp=dsp)(simd, activation, code, stages)
