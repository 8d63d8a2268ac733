"""The timing models by hand; that they hold for the hardware is tested with each component and in test_chain."""

from __future__ import annotations

import pytest

from fewbit.hw.schedule import schedule
from fewbit.hw.steps import FoldStep, PackStep, Register, Sink, Step, UnpackStep


def times(step: Step, offered: list[int]) -> tuple[list[int], list[int]]:
    """When ``step`` takes beats offered from these cycles on, and when an always willing sink takes its own."""
    step.following = sink = Sink()
    return [step.accept(cycle) for cycle in offered], sink.times


def test_a_register_takes_a_beat_a_cycle_and_a_slow_one_waits():
    assert times(Register(), [0, 1, 5]) == ([0, 1, 5], [1, 2, 6])
    assert times(Register(3), [0, 0, 20]) == ([0, 3, 20], [3, 6, 23])


def test_pack_gives_its_word_a_cycle_after_the_last_part():
    assert times(PackStep(3), [0, 1, 2, 3, 4, 9]) == ([0, 1, 2, 3, 4, 9], [3, 10])


def test_unpack_takes_the_next_word_with_its_last_part():
    assert times(UnpackStep(3), [0, 0]) == ([0, 3], [1, 2, 3, 4, 5, 6])


def test_a_fold_reads_a_whole_vector_for_every_beat():
    # Whole in cycle 1, read in cycles 2 and 3 for the first beat, 4 and 5 for the second, each 3 cycles deep.
    taken, given = times(FoldStep(words=2, folds=2, depth=3, rings=False), [0, 0])
    assert (taken, given) == ([0, 1], [6, 8])


def test_rings_need_a_cycle_more_to_move_the_vector():
    taken, given = times(FoldStep(words=2, folds=2, depth=3, rings=True), [0, 0, 0])
    assert (taken, given[:2]) == ([0, 1, 3], [7, 9])


def test_two_vectors_fit_while_one_is_read():
    fold = FoldStep(words=1, folds=4, depth=1, rings=False)
    taken, given = times(fold, [0] * 4)
    assert taken == [0, 1, 5, 9]
    assert given == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]


def test_a_busy_receiver_stops_the_fold():
    fold, slow = FoldStep(words=1, folds=3, depth=1, rings=False), Register(5)
    fold.following, slow.following = slow, Sink()
    fold.accept(0)
    assert slow.following.times == [7, 12, 17]


@pytest.mark.parametrize("frames", [3, 64])
def test_schedule_of_a_chain(frames):
    steps = [UnpackStep(4), Register(), Register(2)]
    result = schedule(steps, 1, 4, 8, most_frames=frames)
    assert (result.latency, result.interval) == (11, 8)


def test_no_steps_are_wires():
    result = schedule([], 3, 3, 3)
    assert (result.latency, result.interval) == (3, 3)


def test_a_step_has_no_timing_of_its_own():
    with pytest.raises(TypeError, match=r"^Can't instantiate abstract class Step "):
        Step()
