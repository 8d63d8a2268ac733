"""Which lanes serve a weight code and a kind of activation."""

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
"""All kinds of lanes; the first one that serves is taken."""


@lru_cache(maxsize=256)
def lanes_for(activation: DType, code: Code, target: str = "generic", *, exact: bool = True) -> type[CodeLanes]:
    """The class of lanes for ``code`` weights and ``activation`` inputs, made for ``target``.

    Parameters
    ----------
    activation : DType
    code : Code
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
    exact : bool
        The weights come as plain code words, and what the lanes give needs no correction. Lanes for weights known
        beforehand are smaller.

    Raises
    ------
    FewbitError
        If there is none, or the target is unknown.
    """
    check_target("a lane", target)
    for kind in LANES:
        if target in kind.targets and (kind.exact or not exact) and kind.serves(code, activation):
            return kind
    raise FewbitError(f"there are no lanes for {code} weights on {activation}")


def lane_kind(
    activation: DType, code: Code, target: str = "generic", *, exact: bool = True, dsp: bool = False
) -> Callable[[int, DType, Code, int], Lanes]:
    """:func:`lanes_for`, as a function of SIMD, activation, code and pipeline stages.

    With ``dsp`` their products are left to the device's DSP blocks.
    """
    kind: Any = lanes_for(activation, code, target, exact=exact)
    return partial(kind, target=target, dsp=dsp)
