"""What synthesis makes of every form of CSD multiplier, held to the golden model.

Up to 8 bits every operand at every quality is tried, 12 bits in one form of each family: as good as a proof, of the
netlist itself. On ECP5 both mappers are held, the one of a build and the one that benchmarks use.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from faults import mutant
from tiers import slow_but

from benchmarks.measure import netlist
from fewbit.golden import csd
from fewbit.golden.digits import largest_count, quality_bits, word_bits
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial
from fewbit.hw.multiply.exact import Multiplier
from fewbit.sim.toggles import Mapped

MAPPERS = [("ice40", "hx8k", "default"), ("ecp5", "ecp5-25k", "default"), ("ecp5", "ecp5-25k", "abc")]
FORMS = [(recoded, tree) for recoded in (False, True) for tree in ("ripple", "balanced")]
CHUNK = 1 << 18
"""Products evaluated at once."""

mappers = pytest.mark.parametrize(
    "family, device, flow",
    [pytest.param(*mapper, id="-".join(mapper), marks=[pytest.mark.slow] * (mapper[2] == "abc")) for mapper in MAPPERS],
)
forms = pytest.mark.parametrize(
    "recoded, tree", FORMS, ids=[f"{'digits' if recoded else 'recoder'}-{tree}" for recoded, tree in FORMS]
)


def every(width_a, width_b):
    """Operands and qualities, all of them, in pieces."""
    total = width_a + width_b + quality_bits(width_b)
    for start in range(0, 1 << total, CHUNK):
        index = np.arange(start, min(start + CHUNK, 1 << total))
        index = np.resize(index, -(-len(index) // 64) * 64)
        a = (index & (1 << width_a) - 1) - (1 << width_a - 1)
        b = (index >> width_a & (1 << width_b) - 1) - (1 << width_b - 1)
        yield a, b, index >> width_a + width_b


def some(width_a, width_b, number=1 << 17):
    """Random ones, a quarter of each operand at an end of its range or a power of two beside 0."""
    rng = np.random.default_rng(1)
    operands = []
    for width in (width_a, width_b):
        corners = np.array([0, -1, -(1 << width - 1), (1 << width - 1) - 1, *(-1 << k for k in range(width)),
                            *(1 << k for k in range(width - 1))])  # fmt: skip
        values = rng.integers(-(1 << width - 1), 1 << width - 1, number)
        operands.append(np.where(rng.random(number) < 0.25, rng.choice(corners, number), values))
    yield *operands, rng.integers(0, 1 << quality_bits(width_b), number)


def inputs(component, a, b, quality):
    given = {"a": a, "quality": quality}
    if not getattr(component, "recoded", False):
        return given | {"b": b}
    words = csd.encode(csd.recode(np.arange(-(1 << component.width_b - 1), 1 << component.width_b - 1),
                                  component.width_b)).astype(np.int64)  # fmt: skip
    return given | {"digits": words[b + (1 << component.width_b - 1)]}


def product(component, a, b, quality):
    """By a table of what every ``b`` comes to at every quality."""
    width = component.width_b
    levels = np.arange(-(1 << width - 1), 1 << width - 1)
    digits = csd.recode(levels, width)
    kept = np.stack([csd.value(csd.keep(digits, one)) for one in range(1 << quality_bits(width))])
    return a * kept[quality, b + (1 << width - 1)]


def wrong(component, device, flow, cases):
    """How many products of the mapped netlist, of those asked for, are not the golden ones."""
    mapped = Mapped(netlist(component, device, flow=flow), "top")
    count = 0
    for a, b, quality in cases:
        given = inputs(component, a, b, quality) | {"en": np.ones_like(a)}
        # One cycle more than the latency: a register shows what the netlist computed a cycle before.
        held = {name: np.broadcast_to(values, (component.latency + 1, len(a))) for name, values in given.items()
                if name in mapped.ports}  # fmt: skip
        got = mapped.settle(held).port("product", signed=True)[-1]
        count += int(np.count_nonzero(got != product(component, a, b, quality)))
    return count


@pytest.mark.parametrize(
    "mapper, form, width",
    slow_but(
        [(MAPPERS[place % 2], form, 6) for place, form in enumerate((FORMS[0], FORMS[1], FORMS[3], FORMS[2]))],
        itertools.product(MAPPERS, FORMS, (6, 8)),
    ),
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_every_operand_at_every_quality(mapper, form, width):
    (family, device, flow), (recoded, tree) = mapper, form
    component = CsdMultiplier(width, width, recoded=recoded, target=family, tree=tree)
    assert wrong(component, device, flow, every(width, width)) == 0


@pytest.mark.slow
@mappers
@forms
@pytest.mark.parametrize("registers", ["digits", "rows", "all"])
def test_every_operand_through_registers(family, device, flow, recoded, tree, registers):
    component = CsdMultiplier(6, 6, recoded=recoded, target=family, tree=tree, registers=registers)
    assert wrong(component, device, flow, every(6, 6)) == 0


def held_errors(component, device, flow, cycles=24, streams=1024):
    """How many products are wrong where every stream has an enable of its own, low half the time."""
    rng = np.random.default_rng(2)
    a, b, quality = next(some(component.width_a, component.width_b, cycles * streams))
    a, b, quality = (values.reshape(cycles, streams) for values in (a, b, quality))
    enable = rng.integers(0, 2, (cycles, streams))
    mapped = Mapped(netlist(component, device, flow=flow), "top")
    given = inputs(component, a, b, quality) | {"en": enable}
    got = mapped.settle(given).port("product", signed=True)
    right = product(component, a, b, quality)
    count = 0
    for stream in range(streams):
        taken = np.flatnonzero(enable[:, stream])
        edges = np.cumsum(enable[:, stream]) - enable[:, stream]
        ready = edges >= component.latency
        expected = right[taken[edges[ready] - component.latency], stream]
        count += int(np.count_nonzero(got[ready, stream] != expected))
    return count


@pytest.mark.slow
@mappers
@pytest.mark.parametrize("recoded", [False, True])
@pytest.mark.parametrize("registers", ["digits", "rows", "all"])
@pytest.mark.parametrize("width_a, width_b", [(6, 7), (16, 16)])
def test_registers_hold(family, device, flow, recoded, registers, width_a, width_b):
    component = CsdMultiplier(width_a, width_b, recoded=recoded, target=family, tree="balanced", registers=registers)
    assert held_errors(component, device, flow) == 0


@pytest.mark.slow
@pytest.mark.parametrize("family, device, flow, recoded", [(*MAPPERS[0], True), (*MAPPERS[1], False)])
def test_every_operand_of_12_bits(family, device, flow, recoded):
    """By enumeration: the SAT solver of tests/test_csd_proofs.py, tried on iCE40 on a busy machine, came to no proof of
    either form within 280 s, by 64 cases: the six upper bits of ``b``, or the signs in the word of digits."""
    assert wrong(CsdMultiplier(12, 12, recoded=recoded, target=family), device, flow, every(12, 12)) == 0


@pytest.mark.slow
@mappers
@forms
@pytest.mark.parametrize("width_a, width_b", [(1, 8), (7, 9), (9, 4), (16, 16)])
def test_other_widths(family, device, flow, recoded, tree, width_a, width_b):
    component = CsdMultiplier(width_a, width_b, recoded=recoded, target=family, tree=tree)
    small = width_a + width_b + quality_bits(width_b) <= 20
    assert wrong(component, device, flow, (every if small else some)(width_a, width_b)) == 0


@pytest.mark.parametrize(
    "mapper, widths",
    slow_but([(MAPPERS[0], (8, 8)), (MAPPERS[1], (3, 5))], itertools.product(MAPPERS, [(8, 8), (16, 16), (3, 5)])),
)
def test_exact_multipliers(mapper, widths):
    (family, device, flow), (width_a, width_b) = mapper, widths
    """Every product where they are few; their netlist has no quality."""
    mapped = Mapped(netlist(Multiplier(width_a, width_b, family), device, flow=flow), "top")
    for a, b, _ in (every if width_a < 9 else some)(width_a, width_b):
        got = mapped.settle({"a": a[None], "b": b[None]}).port("product", signed=True)[0]
        assert np.array_equal(got, a * b)
        if width_a == width_b == 8:
            break  # the pieces of one quality after another hold the same operands; the first holds all of them


@pytest.mark.parametrize(
    "mapper, widths",
    slow_but([(MAPPERS[1], (8, 8))], itertools.product(MAPPERS, [(8, 8), (3, 5), (7, 4), (4, 3)])),
)
def test_exact_multipliers_with_a_pipeline_stage(mapper, widths):
    """A product comes one enabled cycle after its operands, whatever follows them."""
    (family, device, flow), (width_a, width_b) = mapper, widths
    mapped = Mapped(netlist(Multiplier(width_a, width_b, family, registered=True), device, flow=flow), "top")
    for a, b, _ in every(width_a, width_b):
        enabled = np.array([1, 0, 1])[:, None].repeat(len(a), 1)
        operands = {"a": np.stack([a, -1 - a, b % 2 - a % 2]), "b": np.stack([b, b[::-1], a % 2 - 1]), "en": enabled}
        got = mapped.settle(operands).port("product", signed=True)
        assert np.array_equal(got[1], a * b)
        assert np.array_equal(got[2], a * b)
        break  # the other pieces hold the same operands at another quality


def serial_errors(component, device, flow, cases):
    """Wrong products, and products that are not there in time or too early, of the serial form's netlist."""
    mapped = Mapped(netlist(component, device, flow=flow), "top")
    count = 0
    for a, b, quality in cases:
        most = component.most_cycles
        held = {name: np.broadcast_to(values, (most + 1, len(a))) for name, values in
                inputs(component, a, b, quality).items()}  # fmt: skip
        start = np.zeros((most + 1, len(a)), np.int64)
        start[0] = 1
        settled = mapped.settle(held | {"start": start})
        done, got = settled.port("done"), settled.port("product", signed=True)
        digits = (csd.recode(b, component.width_b) != 0).sum(-1)
        ready = 1 + np.minimum(digits, quality)
        cycles = np.arange(most + 1)[:, None]
        count += int(np.count_nonzero(done != (cycles >= ready)))
        count += int(np.count_nonzero((got != product(component, a, b, quality)) & (cycles >= ready)))
    return count


@pytest.mark.parametrize(
    "mapper, recoded, width",
    slow_but([(MAPPERS[0], True, 6), (MAPPERS[1], False, 6)], itertools.product(MAPPERS, [False, True], [6, 8, 16])),
)
def test_serial(mapper, recoded, width):
    _, device, flow = mapper
    component = CsdMultiplierSerial(width, width, recoded=recoded)
    cases = every(width, width) if width < 9 else some(width, width, 1 << 13)
    assert serial_errors(component, device, flow, cases) == 0


def test_cases_are_all_there():
    a, b, quality = (np.concatenate(part) for part in zip(*every(3, 4)))
    assert len(set(zip(a.tolist(), b.tolist(), quality.tolist()))) == len(a) == 8 * 16 * 4
    assert (a.min(), a.max(), b.min(), b.max(), quality.max()) == (-4, 3, -8, 7, 3)
    assert largest_count(4) == 2
    assert word_bits(4) <= 62


def test_a_clock_that_stops_too_early_is_seen():
    faulty = mutant("hw.multiply.csd", "self.en & (on | used)", "self.en & on").CsdMultiplier
    counts = [
        held_errors(kind(6, 7, target="ice40", registers="rows"), "hx8k", "default") for kind in (CsdMultiplier, faulty)
    ]
    assert counts[0] == 0 < counts[1]


@pytest.mark.parametrize(
    "module, old, new, kind",
    [
        ("hw.multiply.csd", "some & ~less(list(quality), order)", "some", CsdMultiplier),
        ("hw.multiply.csd_serial", "budget.eq(budget - 1)", "budget.eq(budget)", CsdMultiplierSerial),
    ],
)
def test_a_planted_fault_is_seen(module, old, new, kind):
    component = getattr(mutant(module, old, new), kind.__name__)(4, 4, recoded=True)
    check = serial_errors if kind is CsdMultiplierSerial else wrong
    assert check(component, "hx8k", "default", every(4, 4)) > 0
