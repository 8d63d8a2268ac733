"""Faults planted in generated Verilog: chosen vectors see them, through the compiled RTL."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
from networks import random_threshold

from fewbit import engines
from fewbit.generator import design
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Conv, Dense, Flatten, Network, TensorType, Threshold
from fewbit.stimulus import choose

pytestmark = pytest.mark.usefixtures("cache")

_NUMBER = re.compile(r"(\d+)'h([0-9a-f]+);")
"""A word of a memory, the initial value of a register or a constant that is assigned."""


def network() -> Network:
    """A padded convolution, thresholds and a product: every kind of number that a design stores."""
    rng = np.random.default_rng(2)
    ternary = Code.parse("ternary")
    conv = Conv(name="conv", weights=rng.choice(ternary.levels, (4, 2, 3, 3)), code=ternary, padding=(1, 1, 1, 1))
    source = TensorType(DType("uint", 2), (2, 5, 4))
    act = random_threshold(rng, "act", DType("uint", 2), 4, -8, 8)
    assert isinstance(act, Threshold)
    dense = Dense(name="dense", weights=rng.choice(ternary.levels, (5, 80)), code=ternary)
    layers = (conv, act, Flatten(name="flatten"), dense, ArgMax(name="class"))
    return Network(name="planted", input=source, layers=layers)


def mutants(verilog: str, count: int, seed: int) -> list[str]:
    """The Verilog with one bit of one number flipped: of initial values, such as words of weights, and of constants."""
    rng = random.Random(seed)
    places = [match for match in _NUMBER.finditer(verilog) if 0 < int(match[1]) <= 512]
    made = []
    for match in rng.sample(places, count):
        flipped = int(match[2], 16) ^ 1 << rng.randrange(int(match[1]))
        made.append(f"{verilog[: match.start()]}{match[1]}'h{flipped:x};{verilog[match.end() :]}")
    return made


def seen(made, text, frames) -> bool:
    """Whether ``frames`` tell the design of Verilog ``text`` from golden: other scores, or none in time."""
    broken = replace(made)
    broken.__dict__["verilog"] = text
    try:
        result = engines.run_rtl(broken, frames)
    except FewbitError:
        return True
    return len(engines.differing_frames(result, engines.run_golden(made.network, frames))) > 0


@pytest.mark.parametrize("count", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_flipped_bits_of_the_verilog(count):
    """Of those that thousands of frames tell, the chosen vectors tell all; some bits make no difference at all."""
    made = design(network(), "up5k")
    chosen = choose(made.network, effort=40).frames
    assert not seen(made, made.verilog, chosen)
    rng = np.random.default_rng(5)
    many = rng.integers(0, 4, (3000, *made.network.input.shape))
    told = [(seen(made, text, chosen), seen(made, text, many)) for text in mutants(made.verilog, count, 3)]
    print(f"{sum(few for few, _ in told)} of {count} planted faults are seen by {len(chosen)} vectors, "
          f"{sum(all_of for _, all_of in told)} by 3,000 random frames")  # fmt: skip
    assert any(few for few, _ in told)
    assert all(few or not all_of for few, all_of in told)
