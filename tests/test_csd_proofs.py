"""The CSD multipliers, the recoder and the exact multipliers equal their specifications for all inputs, by SAT."""

from __future__ import annotations

from itertools import product

import pytest
from faults import mutant
from formal import ProofFailedError, prove, prove_equal
from tiers import each_value, slow_but

from fewbit.golden import csd
from fewbit.golden.digits import largest_count, quality_bits, row_fields, word_bits
from fewbit.hw.emit import verilog
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.multiply.recoder import Recoder

TARGETS = ["generic", "ice40", "ecp5"]


def cells(target: str) -> str:
    return target if target in ("ice40", "ecp5") else ""


def digit_sum(width_a: int, width_b: int) -> str:
    """Statements for ``product``: ``a`` times the digits in ``kept`` and ``minus``, one by one."""
    return f"""
    product = 0;
    for (i = 0; i < {width_b}; i = i + 1)
      product = product + ((kept[i] ? (minus[i] ? ~wide : wide) : 0) <<< i) + ((kept[i] & minus[i]) << i);"""


def specification(width_a: int, width_b: int) -> str:
    """A multiplier by the definition: carries, digits, those that count from the top, their sum."""
    return f"""
module specification(
  input signed [{width_a - 1}:0] a, input signed [{width_b - 1}:0] b, input [{quality_bits(width_b) - 1}:0] quality,
  output reg signed [{width_a + width_b - 1}:0] product
);
  wire signed [{width_a + width_b - 1}:0] wide = a;
  wire [{width_b}:0] bits = {{b[{width_b - 1}], b}};
  wire [{width_b - 1}:0] minus = bits >> 1;
  reg [{width_b}:0] carry;
  reg [{width_b - 1}:0] nonzero, kept;
  reg [{quality_bits(width_b)}:0] count;
  integer i;
  always @* begin
    carry = 0; nonzero = 0; kept = 0; count = 0;
    for (i = 0; i < {width_b}; i = i + 1) begin
      nonzero[i] = bits[i] ^ carry[i];
      carry[i + 1] = (bits[i] & bits[i + 1]) | (carry[i] & (bits[i] | bits[i + 1]));
    end
    for (i = {width_b - 1}; i >= 0; i = i - 1) begin
      kept[i] = nonzero[i] && count < quality;
      count = count + nonzero[i];
    end{digit_sum(width_a, width_b)}
  end
endmodule
"""


def recoded_check(width_a: int, width_b: int) -> str:
    """``dut`` with digits beforehand against the sum of the digits that the word's fields stand for."""
    fields = "\n".join(
        f"    kept[{2 * row}] = order{row} != 0 && order{row} <= quality"
        f"{f' && !digits[{f.upper}]' if f.upper_bits else ''};"
        f" minus[{2 * row}] = digits[{f.negative}];"
        + (
            f" kept[{2 * row + 1}] = order{row} != 0 && order{row} <= quality && digits[{f.upper}];"
            f" minus[{2 * row + 1}] = digits[{f.negative}];"
            if f.upper_bits
            else ""
        )
        for row, f in enumerate(row_fields(width_b))
    )
    wires = "\n".join(
        f"  wire [{f.order_bits - 1}:0] order{row} = digits[{f.negative - 1}:{f.offset}];"
        for row, f in enumerate(row_fields(width_b))
    )
    return f"""
module check(
  input signed [{width_a - 1}:0] a, input [{word_bits(width_b) - 1}:0] digits,
  input [{quality_bits(width_b) - 1}:0] quality
);
  wire signed [{width_a + width_b - 1}:0] got, wide = a;
  reg signed [{width_a + width_b - 1}:0] product;
  reg [{width_b - 1}:0] kept, minus;
  integer i;
{wires}
  dut dut(.a(a), .digits(digits), .quality(quality), .product(got));
  always @* begin
{fields}{digit_sum(width_a, width_b)}
    assert(got == product);
  end
endmodule
"""


def full_check(width_a: int, width_b: int, ports: str = "") -> str:
    return f"""
module check(input signed [{width_a - 1}:0] a, input signed [{width_b - 1}:0] b);
  wire signed [{width_a + width_b - 1}:0] product;
  dut dut(.a(a), .b(b), .product(product){ports});
  always @* assert(product == a * b);
endmodule
"""


def exact_check(width_a: int, width_b: int) -> str:
    """At the largest number of digits, ``a * b``."""
    return full_check(width_a, width_b, f", .quality({quality_bits(width_b)}'d{largest_count(width_b)})")


def bound_check(width_a: int, width_b: int) -> str:
    """At every quality, off by no more than the dropped digits can weigh."""
    wide = width_a + width_b + 2
    bounds = "".join(
        f"quality == {quality} ? {wide}'sd{csd.bound(width_b, quality)} : " for quality in range(largest_count(width_b))
    )
    return f"""
module check(
  input signed [{width_a - 1}:0] a, input signed [{width_b - 1}:0] b, input [{quality_bits(width_b) - 1}:0] quality
);
  wire signed [{width_a + width_b - 1}:0] product;
  wire signed [{wide - 1}:0] error = product - a * b, size = a < 0 ? -a : a, most = {bounds}{wide}'sd0;
  dut dut(.a(a), .b(b), .quality(quality), .product(product));
  always @* assert((error < 0 ? -error : error) <= size * most);
endmodule
"""


def recoder_check(width: int) -> str:
    return f"""
module check(input signed [{width - 1}:0] i);
  wire [{width - 1}:0] nonzero, negative;
  wire signed [{width}:0] plus = nonzero & ~negative, minus = nonzero & negative;
  dut dut(.i(i), .nonzero(nonzero), .negative(negative));
  always @* begin
    assert((nonzero & (nonzero >> 1)) == 0);
    assert(plus - minus == i);
  end
endmodule
"""


def serial_check(width_a: int, width_b: int) -> str:
    """A product started at any time, with no start after it, is right when ``done`` rises, and that is in time."""
    return (
        specification(width_a, width_b)
        + f"""
module check(
  input clk, input signed [{width_a - 1}:0] a, input signed [{width_b - 1}:0] b,
  input [{quality_bits(width_b) - 1}:0] quality, input start
);
  wire signed [{width_a + width_b - 1}:0] product, right;
  reg signed [{width_a + width_b - 1}:0] expected;
  reg started = 0;
  reg [7:0] age = 0;
  wire done;
  dut dut(.clk(clk), .rst(1'b0), .a(a), .b(b), .quality(quality), .start(start), .done(done), .product(product));
  specification spec(.a(a), .b(b), .quality(quality), .product(right));
  always @(posedge clk) begin
    if (start) begin expected <= right; started <= 1; age <= 1; end
    else if (age != 255) age <= age + 1;
    if (started && done) assert(product == expected);
    if (started && age > {largest_count(width_b)}) assert(done);
    if (!started) assert(!done);
  end
endmodule
"""
    )


@pytest.mark.parametrize(
    "width, target",
    slow_but([(1, "generic"), (2, "ice40"), (3, "ecp5"), (8, "ecp5"), (9, "ice40")], product(range(1, 17), TARGETS)),
)
def test_recoder(width, target):
    prove(verilog(Recoder(width, target), "dut") + recoder_check(width), "check", cells=cells(target))


LADDER = [(1, 1), (2, 1), (1, 4), (3, 3), (4, 4), (2, 6), (5, 6), (6, 6)]
SLOW = [(7, 7), (8, 7), (7, 8), (1, 10), (10, 4), (4, 9)]


@pytest.mark.parametrize(
    "widths, target",
    slow_but(
        [(widths, TARGETS[place % len(TARGETS)]) for place, widths in enumerate(LADDER)],
        product([*LADDER, *SLOW], TARGETS),
    ),
)
def test_every_quality(widths, target):
    width_a, width_b = widths
    text = verilog(CsdMultiplier(width_a, width_b, target=target), "dut") + specification(width_a, width_b)
    prove_equal(text, "", "dut", "specification", cells=cells(target), seconds=300)


def top_bits(port: str, width: int, number: int) -> list[str]:
    return [f"{port}[{place}]" for place in range(width - number, width)]


def signs(width: int) -> list[str]:
    """Bits of the word of digits that say what a row is, if it counts: its sign, and which of its two digits it is."""
    fields = row_fields(width)
    return [f"digits[{f.negative}]" for f in fields] + [f"digits[{f.upper}]" for f in fields if f.upper_bits]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tree", ["ripple", "balanced"])
def test_every_quality_of_8_bits(tree, target):
    """By cases of ``b``: on ECP5, rippling, sixteen took the solver a third of the time that one problem did."""
    text = verilog(CsdMultiplier(8, 8, target=target, tree=tree), "dut") + specification(8, 8)
    prove_equal(text, "", "dut", "specification", cells=cells(target), seconds=900, split=top_bits("b", 8, 6))


@pytest.mark.parametrize(
    "widths, tree, target",
    slow_but(
        [((1, 1), "ripple", "generic"), ((3, 4), "ripple", "ecp5"), ((3, 4), "balanced", "ice40")],
        product([(1, 1), (3, 4), (4, 5), (1, 7), (6, 6), (8, 8)], ["ripple", "balanced"], TARGETS),
    ),
)
def test_recoded_at_every_quality(widths, tree, target):
    width_a, width_b = widths
    component = CsdMultiplier(width_a, width_b, recoded=True, target=target, tree=tree)
    split = signs(8) if width_b == 8 else []
    text = verilog(component, "dut") + recoded_check(width_a, width_b)
    prove(text, "check", cells=cells(target), seconds=900, split=split)


@pytest.mark.parametrize(
    "width, target",
    slow_but(
        [(1, "ecp5"), (2, "ice40"), (4, "ecp5"), (5, "generic"), (5, "ice40")],
        product((1, 2, 3, 4, 5, 6, 8), TARGETS),
    ),
)
def test_product_at_full_quality(width, target):
    text = verilog(CsdMultiplier(width, width, target=target), "dut") + exact_check(width, width)
    split = top_bits("b", 8, 8 if target == "ice40" else 6) if width == 8 else []
    prove(text, "check", cells=cells(target), seconds=900, split=split)


@pytest.mark.parametrize("width_a, width_b", [(1, 4), (3, 5), (4, 4), (4, 6)])
def test_quality_bound(width_a, width_b):
    prove(verilog(CsdMultiplier(width_a, width_b), "dut") + bound_check(width_a, width_b), "check", seconds=300)


@pytest.mark.parametrize(
    "widths, target",
    slow_but(
        [((1, 1), "ecp5"), ((3, 2), "ice40"), ((4, 4), "ecp5"), ((3, 5), "ice40")],
        product([(1, 1), (2, 2), (3, 2), (2, 3), (4, 4), (5, 3), (3, 5), (6, 6), (8, 8)], ["ice40", "ecp5"]),
    ),
)
def test_exact_multiplier(widths, target):
    width_a, width_b = widths
    text = verilog(Multiplier(width_a, width_b, target), "dut") + full_check(width_a, width_b)
    prove(text, "check", cells=target, seconds=900, split=top_bits("b", 8, 8) if width_b == 8 else [])


@pytest.mark.parametrize("target, tree", each_value(["ice40", "ecp5"], ["ripple", "balanced"]))
def test_fabric_is_generic(target, tree):
    ours = verilog(CsdMultiplier(6, 6, target=target, tree=tree), "ours")
    theirs = verilog(CsdMultiplier(6, 6), "theirs")
    prove_equal(ours, theirs, "ours", "theirs", cells=target, seconds=300)


@pytest.mark.parametrize("width_a, width_b", [(1, 1), (2, 3), (3, 4)])
def test_serial_bounded(width_a, width_b):
    text = verilog(CsdMultiplierSerial(width_a, width_b), "dut") + serial_check(width_a, width_b)
    prove(text, "check", steps=largest_count(width_b) + 4, seconds=300)


FAULTS = {
    "recoder": (
        "hw.multiply.recoder", "Cat(*bits) + Cat(ZERO, *bits[:-1])",
        "Cat(*bits) + Cat(ZERO, ZERO, *bits[:-2])", Recoder, recoder_check, (5,), {},
    ),
    "recoder, iCE40": (
        "hw.multiply.recoder", "bit ^ carry)", "bit | carry)", Recoder, recoder_check, (5,), {"target": "ice40"},
    ),
    "recoder, ECP5": (
        "hw.multiply.recoder", "bit ^ after if d else after",
        "bit ^ after if d else 1", Recoder, recoder_check, (5,), {"target": "ecp5"},
    ),
    "product": (
        "hw.multiply.csd", "(negative[2 * j] & ~upper)",
        "(negative[2 * j + 1] & ~upper)", CsdMultiplier, exact_check, (4, 4), {},
    ),
    "bound": (
        "hw.multiply.csd", "some & less(above or [ZERO], list(self.quality))",
        "some & ~less(above or [ZERO], list(self.quality))", CsdMultiplier, bound_check, (3, 4), {},
    ),
    "word of digits": (
        "hw.multiply.csd", "some & ~less(list(quality), order)",
        "~less(list(quality), order)", CsdMultiplier, recoded_check, (3, 4), {"recoded": True},
    ),
    "serial": (
        "hw.multiply.csd_serial", "busy & ends)", "busy & (left == 0))", CsdMultiplierSerial, serial_check, (2, 3), {},
    ),
    "binary rows": (
        "hw.multiply.exact", "(k == top) != (row == last)",
        "(k == top)", Multiplier, full_check, (4, 4), {"target": "ecp5"},
    ),
    "Booth rows": (
        "hw.multiply.exact", "(below ^ low) | (low ^ high)",
        "(below ^ low)", Multiplier, full_check, (4, 4), {"target": "ice40"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refuted(fault):
    module, old, new, kind, check, widths, options = FAULTS[fault]
    faulty = getattr(mutant(module, old, new), kind.__name__)(*widths, **options)
    steps = 6 if kind is CsdMultiplierSerial else 0
    with pytest.raises(ProofFailedError, match="model found: FAIL"):
        prove(verilog(faulty, "dut") + check(*widths), "check", cells=cells(options.get("target", "")), steps=steps)


@pytest.mark.parametrize("recoded", [False, True])
def test_a_planted_fault_is_refuted_case_by_case(recoded):
    """One that shows only where b is least: in one case of the sixteen, or where a row is not the upper one."""
    if recoded:
        text = verilog(CsdMultiplier(4, 4, recoded=True), "dut") + recoded_check(4, 4)
        text, split = text.replace("minus[0] = digits[2]", "minus[0] = digits[2] && digits[3]"), signs(4)
    else:
        text = verilog(CsdMultiplier(4, 4), "dut") + exact_check(4, 4)
        text, split = text.replace("product == a * b", "product == (b == -8 ? 0 : a * b)"), top_bits("b", 4, 4)
    with pytest.raises(ProofFailedError, match="model found: FAIL"):
        prove(text, "check", split=split)


@pytest.mark.parametrize("target", ["ice40", "ecp5"])
def test_a_planted_fault_in_a_fabric_form_is_refuted(target, monkeypatch):
    old = "flips = [row.negative] * 2" if target == "ice40" else "return b ^ c"
    faulty = mutant("hw.multiply.partial_products", old, "flips = [ZERO] * 2" if target == "ice40" else "return b")
    monkeypatch.setattr("fewbit.hw.multiply.csd.chain_sum", faulty.chain_sum)
    ours, theirs = verilog(CsdMultiplier(4, 4, target=target), "ours"), verilog(CsdMultiplier(4, 4), "theirs")
    with pytest.raises(ProofFailedError):
        prove_equal(ours, theirs, "ours", "theirs", cells=target)
