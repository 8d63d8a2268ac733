"""Selects the lanes for a weight code and a kind of activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import check_target
from fewbit.hw.lanes.base import CodeLanes, Lanes
from fewbit.hw.lanes.codebook import CodebookLanes, KnownCodebookLanes
from fewbit.hw.lanes.csd import CsdLanes
from fewbit.hw.lanes.one_bit import CountLanes, GateLanes, XnorLanes
from fewbit.hw.lanes.product import ProductLanes
from fewbit.hw.lanes.terms import ExactLanes, KnownTermLanes, TermLanes, TreeLanes

LANES: tuple[type[CodeLanes], ...] = (
    ProductLanes, CsdLanes, XnorLanes, CountLanes, GateLanes, TreeLanes, KnownTermLanes, ExactLanes, TermLanes,
    KnownCodebookLanes, CodebookLanes,
)  # fmt: skip
"""All kinds of lanes, in order of preference: the first that serves a code and an activation is used."""


@lru_cache(maxsize=256)
def lanes_for(activation: DType, code: Code, target: str = "generic", *, exact: bool = True) -> type[CodeLanes]:
    """The class of lanes for ``code`` weights and ``activation`` inputs, made for ``target``.

    Parameters
    ----------
    activation : DType
    code : Code
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
    exact : bool
        Whether the lanes must take plain code words and give sums that need no correction. Lanes for weights that are
        known at generation time (False) are smaller.

    Raises
    ------
    FewbitError
        If no lanes serve the code and the activation, or the target is unknown.
    """
    check_target("a lane", target)
    for kind in LANES:
        if target in kind.targets and (kind.exact or not exact) and kind.serves(code, activation):
            return kind
    raise FewbitError(f"no lanes support {code} weights and {activation} activations")


def lane_kind(
    activation: DType, code: Code, target: str = "generic", *, exact: bool = True, dsp: bool = False
) -> Callable[[int, DType, Code, int], Lanes]:
    """A function from SIMD, activation, code and pipeline stages to a lane component of the class that
    :func:`lanes_for` selects.

    With ``dsp`` synthesis may put products into the device's DSP blocks.
    """
    kind: Any = lanes_for(activation, code, target, exact=exact)
    return partial(kind, target=target, dsp=dsp)
