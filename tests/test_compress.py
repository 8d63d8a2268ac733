"""Plans of compressor trees: whole, cheap, the same every time; registers where they balance the delays."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fewbit.golden.errors import FewbitError
from fewbit.hw.sums.compress import arrival, cut, plan

# What an integer program over the same counters finds, without its bound on time.
OPTIMUM = {16: 30, 64: 126, 256: 510}


def parts(count):
    return [part for part in (count.high, count.low) if part]


def check(count):
    """A tree counts what it says, and costs what its parts do."""
    if parts(count):
        assert count.bits == sum(part.bits for part in parts(count)) + count.carry
        assert count.cells > sum(part.cells for part in parts(count))
        assert count.delay == max(part.delay for part in parts(count)) + count.own_delay
    for part in parts(count):
        assert part.bits <= count.high.bits
        check(part)


@pytest.mark.parametrize("fabric", ["ice40", "ecp5"])
def test_every_width_has_a_plan(fabric):
    for bits in [*range(1, 300), 511, 512, 513, 1000, 2047, 4095, 4096]:
        count = plan(bits, fabric)
        assert count.bits == bits
        check(count)
        assert count.cells <= (2 if fabric == "ice40" else 1.5) * bits


@pytest.mark.parametrize("bits", OPTIMUM)
def test_as_few_cells_as_an_integer_program_finds(bits):
    assert plan(bits, "ice40").cells == OPTIMUM[bits]


def test_cells_never_fall_by_much_as_widths_grow():
    for fabric in ("ice40", "ecp5"):
        cells = [plan(bits, fabric).cells for bits in range(1, 300)]
        assert all(later >= earlier - 3 for earlier, later in pairwise(cells))


@pytest.mark.parametrize("fabric", ["ice40", "ecp5"])
@pytest.mark.parametrize("bits", [1, 2, 7, 64, 255, 1024])
@pytest.mark.parametrize("way", [0, 1.5])
def test_registers_shorten_the_delay(fabric, bits, way):
    root = plan(bits, fabric)
    limits = [cut(root, stages, way) for stages in range(6)]
    assert limits[0] + 1e-9 >= root.delay + (way if root.delay else 0)
    assert limits == sorted(limits, reverse=True)
    for stages, limit in enumerate(limits):
        stage, time = arrival(root, limit, way)
        assert stage <= stages
        assert time <= limit + 1e-9


def test_the_way_of_the_operands_counts_for_what_they_go_into():
    """Three bits in LUTs, then sums of them: the register moves to where the way is made good."""
    root = plan(48, "ice40")
    three = plan(3, "ice40").delay
    assert arrival(plan(3, "ice40"), 9.0, 1.5) == (0, three + 1.5)
    assert arrival(plan(7, "ice40"), three + 1.9, 0.0) == (1, plan(7, "ice40").own_delay)
    assert cut(root, 3) < cut(root, 3, 1.5) == three + 1.5


@pytest.mark.parametrize("fabric", ["ice40", "ecp5"])
def test_no_registers_at_any_width(fabric):
    """Also where the sum of the delays rounds up: ECP5 from 4096 bits on."""
    for bits in (*range(1, 70), 255, 1023, 4095, 4096, 4097, 4200):
        root = plan(bits, fabric)
        assert arrival(root, cut(root, 0))[0] == 0


def test_bad_plans():
    with pytest.raises(FewbitError, match=r"^a popcount needs a width of at least 1, not 0$"):
        plan(0, "ice40")
    with pytest.raises(FewbitError, match=r"^the fabric of a compressor tree must be one of ice40, ecp5, not 'xc7'$"):
        plan(8, "xc7")
