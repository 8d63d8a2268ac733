"""The README's figures are those that the commands print, and its commands exist."""

import re
from pathlib import Path

import click
import pytest
from tiers import slow_but

from benchmarks import boards, codes, models, readme, tiny
from fewbit import demo
from fewbit import models as shipped
from fewbit.bitstreams import board_design
from fewbit.boards import catalogue
from fewbit.cli import main as cli
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Linear
from fewbit.hw.planner.constraints import Constraints

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def part(name):
    return re.search(f"<!-- {name}:begin -->\n(.*?)\n<!-- {name}:end -->", TEXT, re.DOTALL)[1]


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_table_of_networks():
    assert part("models") == models.markdown(models.HEAD, models.rows())


def test_demo_page_has_the_exact_figures_of_accuracy_and_cycles():
    page = part("demo")
    network = models.shipped("mnist-small")
    plan = board_design(network, catalogue.get("icebreaker")).plan
    assert f"{shipped.facts('mnist-small')['test_accuracy']:.2f} % on 10,000 test images" in page
    assert f"{plan.cycles_per_frame:,}, {plan.latency:,} from first beat to last score" in page
    assert f"in {plan.latency + 999 * plan.cycles_per_frame:,} cycles" in page


def test_demo_page_is_of_the_network_that_the_demo_takes():
    name, network = demo.choose("icebreaker")
    assert f"model            {name}, {network.input} to {network.output}" in part("demo")


ROWS = list(zip(boards.CASES, part("boards").splitlines()[2:], strict=True))


@pytest.mark.parametrize(
    "case, row",
    slow_but([one for one in ROWS if "ulx3s" not in one[0].board and "large" not in one[0].network][::2], ROWS),
)
def test_table_of_boards_has_the_planned_cycles(case, row):
    plan = case.plan()
    found = dict(zip(boards.HEAD, cells(row), strict=True))
    assert (found["network"], found["board"]) == (f"`{case.network}`", case.board)
    assert found["constraints"].strip("`") == case.constraints
    assert found["cycles a frame"] == f"{plan.cycles_per_frame:,}"
    assert found["frames/s computed"] == f"{plan.frames_per_second:,.0f}"


@pytest.mark.slow
@pytest.mark.parametrize("case, row", ROWS[:4])
def test_table_of_boards_is_what_a_build_gives(case, row):
    assert cells(row) == list(boards.row(case))


@pytest.mark.slow
@pytest.mark.parametrize("case, row", list(zip(tiny.CASES, part("tiny").splitlines()[2:], strict=True)))
def test_table_of_tiny_has_the_planned_rate(case, row):
    case = boards.Case.parse(case)
    plan, found = case.plan(), dict(zip(tiny.HEAD, cells(row), strict=True))
    assert found["network"] == f"`{Path(case.network).stem}`"
    assert found["inferences/s"] == f"{plan.frames_per_second:,.0f}"
    assert found["latency"] == f"{1e6 * plan.latency / plan.clock_hz:,.1f} µs"
    assert found["limited by"] == tiny.limit(plan)


@pytest.mark.parametrize("text", ["mnist-conv", "mnist-conv@icebreaker:fps", "mnist-conv@icebreaker:speed=3"])
def test_a_build_that_no_one_can_read_is_refused(text):
    with pytest.raises(FewbitError, match="a build must be NETWORK@BOARD"):
        boards.Case.parse(text)


CODE_ROWS = [(cells(row)[0].strip("`"), row) for row in part("codes").splitlines()[2:]]


def test_table_of_codes_is_in_the_order_of_the_benchmark():
    named = [code for code, _ in CODE_ROWS]
    assert named == [code for code in codes.CODES if code in named]


@pytest.mark.parametrize("code", codes.CODES)
def test_every_code_has_a_network(code):
    network = codes.row_of(code).network
    assert {str(one.code) for one in network.layers if isinstance(one, Linear)} == {code.removesuffix(codes.TWO_SCALES)}


@pytest.mark.parametrize("code, row", CODE_ROWS)
def test_table_of_codes_has_the_accuracies_on_record(code, row):
    assert cells(row)[:4] == [f"`{code}`", *codes.exact_cells(codes.row_of(code))]


@pytest.mark.slow
@pytest.mark.parametrize("code, row", CODE_ROWS)
def test_table_of_codes_has_the_planned_cycles(code, row):
    network = codes.row_of(code).network
    plan = board_design(network, catalogue.get(codes.BOARD), Constraints(clock_hz=codes.CLOCK_HZ, fps=codes.FPS)).plan
    found = dict(zip(codes.FIGURES, cells(row)[1:], strict=True))
    assert found["cycles a frame"] == f"{plan.cycles_per_frame:,}"
    assert found["frames/s"] == f"{plan.frames_per_second:,.0f}"


@pytest.mark.parametrize("code, trained", [("shift3(1)", "ternary"), ("shift3(2)", "quinary")])
def test_codes_with_the_same_levels_share_a_network(code, trained):
    rows = codes.row_of(code), codes.row_of(trained)
    weights = [[one.weights for one in row.network.layers if isinstance(one, Linear)] for row in rows]
    assert {str(one.code) for one in rows[0].network.layers if isinstance(one, Linear)} == {code}
    assert all((one == other).all() for one, other in zip(*weights, strict=True))
    assert rows[0].accuracy == rows[1].accuracy


def test_a_code_without_a_network_is_named():
    with pytest.raises(LookupError, match=re.escape("no LeNet-5 with int(3) weights and activations of 3 bits")):
        codes.row_of("int(3)")


def test_every_command_is_in_the_table():
    named = set(re.findall(r"^\| `fewbit (\w+)", TEXT, re.MULTILINE))
    assert named == set(cli.cli.list_commands(click.Context(cli.cli)))


def test_replaced_leaves_the_rest():
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb"
    assert readme.replaced(text, "x", r"new \1") == "a\n<!-- x:begin -->\nnew \\1\n<!-- x:end -->\nb"
