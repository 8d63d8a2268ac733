"""The boards of the catalogue are what their platforms and targets say."""

import re

import pytest

from fewbit.boards import catalogue
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric import devices


@pytest.mark.parametrize("board", catalogue.BOARDS, ids=lambda board: board.name)
def test_platform_has_what_the_entry_says(board):
    platform = board.make_platform()
    assert platform.lookup(board.oscillator).clock.frequency == board.oscillator_hz
    assert {"rx", "tx"} <= {sub.name for sub in platform.lookup(*board.uart).ios}
    for number in range(board.leds):
        platform.lookup("led", number)
    for name, number, subsignal in board.hold_high:
        assert subsignal in {sub.name for sub in platform.lookup(name, number).ios}
    assert platform.default_clk == board.oscillator


@pytest.mark.parametrize("board", catalogue.BOARDS, ids=lambda board: board.name)
def test_target_is_known_and_of_the_same_family(board):
    assert devices.target(board.target).family == board.family


def test_names_are_unique():
    names = [name for board in catalogue.BOARDS for name in (board.name, *board.aliases)]
    assert len(names) == len(set(names))


def test_four_boards_and_the_alias():
    assert [board.name for board in catalogue.BOARDS] == ["icebreaker", "ice40-hx8k-b-evn", "ulx3s-25f", "ulx3s-85f"]
    assert catalogue.get("hx8k") is catalogue.get("ICE40-HX8K-B-EVN")
    assert [board.suffix for board in catalogue.BOARDS] == [".bin", ".bin", ".bit", ".bit"]


def test_unknown_board():
    message = "unknown board 'arty'; the boards are icebreaker, ice40-hx8k-b-evn, ulx3s-25f, ulx3s-85f"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        catalogue.get("arty")


def test_absent_platform_package():
    from dataclasses import replace

    board = replace(catalogue.get("icebreaker"), platform="no_such_package.x:Y")
    with pytest.raises(FewbitError, match=r"^board icebreaker needs the Python package amaranth-boards"):
        board.make_platform()
