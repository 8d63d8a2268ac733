"""Benchmarks as commands: a mistake is one line and exit status 2."""

from __future__ import annotations

import sys

import pytest

from benchmarks import boards, resources, stimulus
from benchmarks.command import command


@pytest.mark.parametrize(
    "main, argument, said",
    [
        (boards.main, "mnist-conv", "a build must be NETWORK@BOARD"),
        (boards.main, "mnist-conv@icebreaker:fps=-1", "the frame rate must be above 0"),
        (resources.main, "mnist@icebreaker", "there is no network 'mnist', only fashion-conv"),
        (resources.main, "mnist-conv@nowhere", "unknown board 'nowhere'"),
        (stimulus.main, "mnist", "there is no network 'mnist', only fashion-conv"),
    ],
)
def test_a_mistake_is_one_line(main, argument, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["it", argument])
    with pytest.raises(SystemExit) as done:
        command("it", main)
    assert done.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith(f"benchmarks.it: {said}")
    assert text.count("\n") == 1
