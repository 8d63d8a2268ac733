"""Networks whose quality can be turned: planned, in RTL and as netlist equal to golden at every setting."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from fake_board import FakeBoard, report_of
from networks import random_frames, random_threshold
from tiers import slow_but

from fewbit import engines, models
from fewbit.boards.report import Report
from fewbit.cli import main as cli
from fewbit.generator import design
from fewbit.golden import file
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Conv, Dense, Flatten, Network, Pool, TensorType
from fewbit.golden.run import run


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


@pytest.mark.slow
def test_a_scale_that_is_off_is_seen():
    rng = np.random.default_rng(5)
    net = dial(rng)
    frames = random_frames(rng, net.input.dtype, (40, *net.input.shape))
    wrong = design(dial(np.random.default_rng(6)), "ecp5-25k")
    assert len(engines.differing_frames(engines.run_rtl(wrong, frames), engines.run_golden(net, frames)))


def mutated(net, layer, field, place, rng):
    """``net`` with one weight, threshold or scale another."""
    layers = list(net.layers)
    at = next(index for index, one in enumerate(layers) if one.name == layer)
    values = getattr(layers[at], field).copy()
    if field == "weights":
        others = layers[at].code.levels[layers[at].code.levels != values.flat[place]]
        values.flat[place] = rng.choice(others)
    elif field == "thresholds":
        row = values[place // values.shape[1]]
        row[place % values.shape[1]] += 1
        row.sort()
    else:
        values.flat[place] += 1
    layers[at] = replace(layers[at], **{field: values})
    return replace(net, layers=tuple(layers))


def sites(rng):
    """Ten places, of which each changes what the golden model gives."""
    net = dial(np.random.default_rng(5))
    frames = random_frames(np.random.default_rng(1), net.input.dtype, (200, *net.input.shape))
    expected = engines.run_golden(net, frames)
    for field, number in (("weights", 4), ("thresholds", 3), ("scales", 2), ("negative_scales", 1)):
        having = [one for one in net.layers if getattr(one, field, None) is not None]
        while number:
            layer = having[int(rng.integers(len(having)))]
            place = int(rng.integers(getattr(layer, field).size))
            wrong = mutated(net, layer.name, field, place, np.random.default_rng(place))
            differs = engines.differing_frames(engines.run_golden(wrong, frames), expected)
            if len(differs):
                number -= 1
                yield f"{layer.name}.{field}[{place}]", wrong, frames, expected, differs


@lru_cache
def mutants():
    return list(sites(np.random.default_rng(9)))


@pytest.mark.parametrize("which", slow_but((0,), range(10)))
def test_any_one_number_that_is_off_is_caught(which):
    assert len(mutants()) == 10
    name, wrong, frames, expected, differs = mutants()[which]
    rtl = engines.run_rtl(design(wrong, "ecp5-25k"), frames)
    assert engines.differing_frames(rtl, expected).tolist() == differs.tolist(), name


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


@pytest.fixture
def build_of(tmp_path):
    """A folder with the report of a build, and no more; without ``has_quality`` as a build of before wrote it."""

    def make(net, has_quality):
        report = report_of(net, has_quality=has_quality)
        tree = json.loads(report.to_json())
        if not has_quality:
            del tree["link"]["has_quality"], tree["link"]["image_bytes"]
        (tmp_path / "report.json").write_text(json.dumps(tree))
        assert Report.load(tmp_path) == report
        return str(tmp_path)

    return make


@pytest.mark.parametrize("has_quality, options", [(True, ["--quality", "1"]), (True, []), (False, [])])
def test_the_command_turns_a_board(files, build_of, has_quality, options, capsys):
    net = dial(np.random.default_rng(5))
    board = FakeBoard(
        lambda frame, quality: run(net, frame[None], quality).scores[0],
        net.input,
        net.scores,
        has_quality=has_quality,
    )
    model, inputs = files
    where = ["--engine", "board", "--port", board.port, "--build", build_of(net, has_quality)]
    try:
        assert status("run", model, "--inputs", inputs, "--check", "--quiet", *where, *options) == 0
    finally:
        board.close()
    assert "equal to golden: 4 of 4" in capsys.readouterr().out


def one_line(capsys):
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_a_network_without_a_quality_is_one_line(capsys):
    options = ["--inputs", str(models.TEST_IMAGES), "--limit", "2", "--quiet", "--quality", "1"]
    for engine in ("golden", "board"):
        assert status("run", "mnist-small", "--engine", engine, *options) == 2
        assert "network 'mnist-small' has no quality to set" in one_line(capsys)


@pytest.mark.parametrize("engine", ["board", "bitstream"])
def test_a_build_of_before_is_one_line(files, build_of, engine, capsys):
    model, inputs = files
    build = build_of(dial(np.random.default_rng(5)), False)
    assert status("run", model, "--inputs", inputs, "--quality", "1", "--engine", engine, "--build", build) == 2
    assert one_line(capsys) == f"fewbit: {build} is an old build that cannot set a quality: run fewbit build again"


def test_a_negative_quality_is_refused():
    net = dial(np.random.default_rng(5))
    with pytest.raises(FewbitError, match=f"^{re.escape('the quality must be 0 or more, not -1')}$"):
        engines.run_golden(net, np.zeros((1, 2, 4, 4), int), quality=-1)
