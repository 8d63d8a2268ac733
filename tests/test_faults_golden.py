"""The fault simulation, held to networks that have the fault in them, run whole by the golden model."""

from dataclasses import replace

import numpy as np
import pytest
from networks import random_conv_design, random_design, random_frames, random_threshold
from tiers import slow_but, slow_but_at

from fewbit.golden import carry, faults
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.faults import KINDS, Fault, FaultSimulator
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Network, Pool, TensorType, Threshold
from fewbit.golden.run import run


def visible_by_brute_force(simulator, frame, among):
    """The faults among ``among`` that a network can hold, and those of them that ``frame`` shows, by running each."""
    network = simulator.network
    expected = run(network, frame[None]).scores
    held, shown = [], []
    for number in among:
        planted = simulator.planted(number)
        if planted is not None:
            held.append(number)
            if (run(planted, frame[None]).scores != expected).any():
                shown.append(number)
    return held, shown


def check(network, seed, frames=3, most=150):
    rng = np.random.default_rng(seed)
    simulator = FaultSimulator(network)
    assert len(simulator.kinds) == simulator.faults
    for _ in range(frames):
        frame = random_frames(rng, network.input.dtype, network.input.shape)
        among = np.sort(rng.choice(simulator.faults, min(most, simulator.faults), replace=False))
        held, shown = visible_by_brute_force(simulator, frame, among)
        seen = simulator.visible(frame, among)
        assert np.intersect1d(seen, held).tolist() == shown, [str(simulator.fault(n)) for n in np.setxor1d(seen, shown)]
        assert np.isin(seen, simulator.visible(frame)).all()


@pytest.mark.parametrize("seed", slow_but(range(6), range(12)))
def test_dense_networks_like_planted_faults(seed):
    network, _ = random_design(np.random.default_rng(seed))
    check(network, seed)


@pytest.mark.parametrize("seed", slow_but(range(8), range(16)))
def test_maps_like_planted_faults(seed):
    network, _ = random_conv_design(np.random.default_rng(seed))
    check(network, seed)


def scaled_network(seed, code, *, across=False, two=False, groups=1):
    """Convolution and product with scales by vector, thresholds and gains."""
    rng = np.random.default_rng(seed)
    code = Code.parse(code)

    def scales(outputs, inputs, vector):
        vectors = -(-(outputs if across else inputs) // vector)
        shape = (vectors, inputs) if across else (outputs, vectors)
        made = {"scales": rng.integers(-40, 41, shape), "vector": vector, "across": across}
        return made | ({"negative_scales": rng.integers(1, 41, shape)} if two else {})

    conv = Conv(
        name="conv",
        weights=rng.choice(code.levels, (4, 4 // groups, 3, 2)),
        code=code,
        padding=(1, 0, 2, 1),
        stride=(1, 2),
        groups=groups,
        **scales(4, 4 // groups * 6, 4),
    )
    source = TensorType(DType("uint", 3), (4, 5, 6))
    low, high = conv.bounds(source.dtype)
    threshold = random_threshold(rng, "act", DType("uint", 2), 4, int(low.min()) // 4, int(high.max()) // 4)
    pool = Pool(name="pool", mode="sum", kernel=(2, 2), stride=(2, 1), padding=(1, 0, 0, 1))
    size = pool.output(threshold.output(conv.output(source))).size
    dense = Dense(name="dense", weights=rng.choice(code.levels, (5, size)), code=code, **scales(5, size, 3))
    layers = (conv, threshold, pool, Flatten(name="flatten", channels_last=True), dense)
    gains = Affine(name="gains", scale=rng.integers(1, 9, 5), bias=rng.integers(-9, 9, 5))
    return Network(name="scaled", input=source, layers=(*layers, gains, ArgMax(name="class")))


@pytest.mark.parametrize(
    "code, options",
    slow_but_at((4,), [
        ("shift3", {}),
        ("ternary", {"two": True}),
        ("csd(2,5)", {"groups": 2}),
        ("int(4)", {"across": True}),
        ("ternary", {"across": True, "two": True, "groups": 2}),
    ]),
)  # fmt: skip
def test_scales_like_planted_faults(code, options):
    network = scaled_network(3, code, **options)
    kinds = FaultSimulator(network).kinds
    assert (kinds == KINDS.index("digit")).any()
    check(network, 3, frames=2, most=250)


def numbers(simulator, kind):
    return np.flatnonzero(simulator.kinds == KINDS.index(kind))


def shown(simulator, frame, kind):
    """The faults of one kind that ``frame`` shows, in words."""
    return {str(simulator.fault(number)) for number in simulator.visible(frame, numbers(simulator, kind))}


INT3 = Code.parse("int(3)")


def test_a_border_reads_the_opposite_side():
    """One tap above the pixel: with a border of zeros the first row gives 0, with the fault the last row's pixels."""
    conv = Conv(name="conv", weights=[[[[1], [0]]]], code=INT3, padding=(1, 0, 0, 0))
    network = Network(name="n", input=TensorType(DType("uint", 2), (1, 2, 2)), layers=(conv,))
    simulator = FaultSimulator(network)
    assert [simulator.fault(n) for n in numbers(simulator, "border")] == [
        Fault("border", "conv", "the padding above the map is not 0")
    ]
    assert shown(simulator, np.array([[[1, 1], [0, 0]]]), "border") == set()
    assert shown(simulator, np.array([[[0, 0], [0, 1]]]), "border") == {"conv: the padding above the map is not 0"}


def test_a_limit_leaves_out_the_last_input():
    dense = Dense(name="dense", weights=[[1, 2], [3, 0]], code=INT3)
    network = Network(name="n", input=TensorType(DType("uint", 2), (2,)), layers=(dense,))
    simulator = FaultSimulator(network)
    sums, repeats = "dense: the last input is left out of every sum", "dense: the last output repeats the one before it"
    assert shown(simulator, np.array([0, 0]), "limit") == set()
    assert shown(simulator, np.array([1, 0]), "limit") == {repeats}
    assert shown(simulator, np.array([1, 1]), "limit") == {sums}  # 3 and 3: the second may as well be the first
    assert shown(simulator, np.array([2, 3]), "limit") == {sums, repeats}


@pytest.mark.parametrize("axis, tap", [("row", (0, 1, 0)), ("column", (0, 0, 1)), ("channel", (1, 0, 0))])
def test_a_limit_leaves_out_the_last_of_a_kernel(axis, tap):
    weights = np.zeros((1, 2, 2, 2), int)
    weights[(0, *tap)] = 1
    conv = Conv(name="conv", weights=weights, code=INT3)
    network = Network(name="n", input=TensorType(DType("uint", 1), (2, 2, 2)), layers=(conv,))
    wanted = {
        "row": "conv: the last kernel row is left out",
        "column": "conv: the last kernel column is left out",
        "channel": "conv: the last channel is left out of every sum",
    }
    assert shown(FaultSimulator(network), np.ones((2, 2, 2), int), "limit") == {wanted[axis]}


def test_a_pool_repeats_its_last_row():
    pool = Pool(name="pool", mode="max", kernel=(1, 1), stride=(1, 1))
    network = Network(name="n", input=TensorType(DType("uint", 1), (1, 3, 1)), layers=(pool,))
    simulator = FaultSimulator(network)
    assert shown(simulator, np.array([[[0], [1], [1]]]), "limit") == set()
    assert shown(simulator, np.array([[[1], [1], [0]]]), "limit") == {"pool: the last row repeats the one before it"}


def test_a_class_is_seen_where_it_wins():
    dense = Dense(name="dense", weights=[[1], [-1], [0]], code=INT3)
    layers = (dense, ArgMax(name="class"))
    simulator = FaultSimulator(Network(name="n", input=TensorType(DType("int", 2), (1,)), layers=layers))
    assert [shown(simulator, np.array([x]), "class") for x in (1, -1, 0)] == [
        {f"class: class {index} never wins"} for index in (0, 1, 0)
    ]


def test_faults_say_what_they_are():
    dense = Dense(name="dense", weights=[[0, -2]], code=Code.parse("shift3"), scales=[[6]], vector=2)
    threshold = Threshold(name="act", thresholds=[[5]], sign=[1], dtype=DType("uint", 1), base=0)
    simulator = FaultSimulator(Network(name="n", input=TensorType(DType("uint", 2), (2,)), layers=(dense, threshold)))
    assert [str(simulator.fault(number)) for number in range(simulator.faults)] == [
        "dense: weight [0, 0] 0 is 4",
        "dense: weight [0, 1] -2 is 2",
        "dense: scales [0, 0] without its digit of 2**1",
        "dense: scales [0, 0] without its digit of 2**3",
        "dense: the last input is left out of every sum",
        "act: threshold [0, 0] is never reached",
        "act: threshold [0, 0] is always reached",
    ]


def test_a_planted_weight_is_the_one_that_is_named():
    network = scaled_network(1, "int(4)", groups=2)
    simulator = FaultSimulator(network)
    number = 13
    planted = simulator.planted(number).layers[0]
    where = tuple(int(axis[0]) for axis in np.nonzero(planted.weights != network.layers[0].weights))
    was, now = network.layers[0].weights[where], planted.weights[where]
    assert str(simulator.fault(number)) == f"conv: weight [{', '.join(map(str, where))}] {was} is {now}"


def test_wide_thresholds_are_searched():
    """More thresholds than are compared one by one."""
    rng = np.random.default_rng(1)
    dense = Dense(name="dense", weights=rng.integers(-4, 4, (3, 6)), code=INT3)
    act = random_threshold(rng, "act", DType("uint", 6), 3, -40, 40)
    last = replace(dense, name="last", weights=rng.integers(-4, 4, (2, 3)))
    network = Network(name="n", input=TensorType(DType("uint", 3), (6,)), layers=(dense, act, last))
    check(network, 2)


def test_faults_too_many_at_once_go_in_parts(monkeypatch):
    network = scaled_network(5, "shift3")
    frame = random_frames(np.random.default_rng(5), network.input.dtype, network.input.shape)
    whole = FaultSimulator(network).visible(frame)
    for module in (faults, carry):
        monkeypatch.setattr(module, "MOST_ELEMENTS", 64)
    assert FaultSimulator(network).visible(frame).tolist() == whole.tolist()
    assert len(whole) > 0
