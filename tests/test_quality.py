"""Networks whose quality can be turned: planned, in RTL and as netlist equal to golden at every setting."""

from __future__ import annotations

import re

import numpy as np
import pytest
from networks import random_frames, random_threshold

from fewbit import cli, engines, models
from fewbit.design import design
from fewbit.golden import file
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Conv, Dense, Flatten, Network, Pool, TensorType


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWBIT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def dial(rng):
    """A convolutional network with scales along inputs, across outputs, two for a sign, and csd weights."""
    shift, ternary, digits = (Code.parse(name) for name in ("shift3", "ternary", "csd(2,4)"))
    first = Conv(
        name="conv",
        weights=rng.choice(shift.levels, (4, 2, 3, 3)),
        code=shift,
        scales=rng.integers(1, 60, (4, 9)),
        vector=2,
        padding=(1, 1, 1, 1),
    )
    source = DType.parse("uint3")
    low, high = first.bounds(source)
    second = Dense(
        name="fc1",
        weights=rng.choice(ternary.levels, (8, 16)),
        code=ternary,
        scales=rng.integers(1, 60, (8, 4)),
        negative_scales=rng.integers(1, 60, (8, 4)),
        vector=4,
    )
    between = DType.parse("uint2")
    third = Dense(
        name="fc2",
        weights=rng.choice(shift.levels, (6, 8)),
        code=shift,
        scales=rng.integers(1, 30, (2, 8)),
        vector=3,
        across=True,
    )
    last = Dense(name="fc3", weights=rng.choice(digits.levels, (5, 6)), code=digits)
    ends = [(int(a.min()), int(b.max())) for a, b in (second.bounds(between), third.bounds(between))]
    return Network(
        name="dial",
        input=TensorType(source, (2, 4, 4)),
        layers=(
            first,
            random_threshold(rng, "t1", between, 4, int(low.min()), int(high.max())),
            Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2)),
            Flatten(name="flatten", channels_last=True),
            second,
            random_threshold(rng, "t2", between, 8, *ends[0]),
            third,
            random_threshold(rng, "t3", between, 6, *ends[1]),
            last,
            ArgMax(name="class"),
        ),
    )


def test_rtl_is_golden_at_every_quality():
    rng = np.random.default_rng(5)
    net = dial(rng)
    frames = random_frames(rng, net.input.dtype, (40, *net.input.shape))
    made = design(net, "ecp5-25k")
    assert net.digits >= 3
    seen = set()
    for quality in [*range(net.digits + 2), None]:
        golden = engines.run_golden(net, frames, quality=quality)
        rtl = engines.run_rtl(made, frames, quality=quality)
        assert engines.differing_frames(rtl, golden).tolist() == []
        assert rtl.cycles == made.plan.latency + 39 * made.plan.cycles_per_frame
        seen.add(golden.scores.tobytes())
    assert len(seen) >= 4, "a quality that changes nothing tells nothing"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["up5k", "ecp5-25k"])
def test_netlist_is_golden_at_every_quality(target):
    rng = np.random.default_rng(5)
    net = dial(rng)
    frames = random_frames(rng, net.input.dtype, (10, *net.input.shape))
    made = design(net, target)
    for quality in (0, 1, 2, None):
        golden = engines.run_golden(net, frames, quality=quality)
        assert engines.differing_frames(engines.run_netlist(made, frames, quality=quality), golden).tolist() == []


def test_a_scale_that_is_off_is_seen():
    rng = np.random.default_rng(5)
    net = dial(rng)
    frames = random_frames(rng, net.input.dtype, (40, *net.input.shape))
    wrong = design(dial(np.random.default_rng(6)), "ecp5-25k")
    assert len(engines.differing_frames(engines.run_rtl(wrong, frames), engines.run_golden(net, frames)))


@pytest.fixture
def files(tmp_path):
    net = dial(np.random.default_rng(5))
    file.save(net, tmp_path / "dial.safetensors")
    np.save(tmp_path / "x.npy", random_frames(np.random.default_rng(1), net.input.dtype, (4, *net.input.shape)))
    return str(tmp_path / "dial.safetensors"), str(tmp_path / "x.npy")


def status(*arguments):
    with pytest.raises(SystemExit) as done:
        cli.main(list(arguments))
    return done.value.code or 0


def test_the_command_turns_it(files, capsys):
    model, inputs = files
    assert status("run", model, "--inputs", inputs, "--quality", "1", "--check", "--quiet") == 0
    assert "equal to golden: 4 of 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "model, options, message",
    [
        ("mnist-small", ["--quality", "1"], "network 'mnist-small' has no quality to turn"),
        (None, ["--quality", "1", "--engine", "board"], "the engine board cannot turn the quality"),
    ],
)
def test_what_cannot_be_turned_is_one_line(files, model, options, message, capsys):
    own, inputs = files
    if model is not None:
        inputs = str(models.TEST_IMAGES)
    assert status("run", model or own, "--inputs", inputs, "--limit", "2", "--quiet", *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_negative_quality_is_refused():
    net = dial(np.random.default_rng(5))
    with pytest.raises(FewbitError, match=f"^{re.escape('the quality must be 0 or more, not -1')}$"):
        engines.run_golden(net, np.zeros((1, 2, 4, 4), int), quality=-1)
