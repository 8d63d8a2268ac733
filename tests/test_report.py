"""Networks as text."""

from __future__ import annotations

import numpy as np

from fewbit.golden.codes import BINARY, TERNARY, Code
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.network import Conv, Dense, Flatten, Network, Pool, TensorType, Threshold
from fewbit.report import describe_network


def test_weights_and_operations_of_a_convolutional_network() -> None:
    layers = (
        Conv(name="conv", weights=np.ones((4, 1, 3, 3)), code=BINARY, padding=(1, 1, 1, 1), groups=2, stride=(2, 2)),
        Threshold(name="sign", thresholds=np.zeros((4, 1)), sign=np.ones(4), dtype=BIPOLAR, base=-1),
        Pool(name="pool", mode="max", kernel=(2, 2), stride=(1, 1)),
        Flatten(name="flat"),
        Dense(name="dense", weights=np.zeros((5, 16)), code=TERNARY),
    )
    network = Network(name="net", input=TensorType(BIPOLAR, (2, 6, 6)), layers=layers)
    lines = [line.split() for line in describe_network(network).splitlines()]
    by_name = {line[0]: line for line in reversed(lines) if line}
    # 36 weights at 3x3 positions, of which the pool leaves 2x2
    assert by_name["conv"][-3:] == ["binary", "36", "324"]
    assert by_name["sign"][-1] == "36"
    assert by_name["pool"][-1] == "64"
    assert by_name["dense"][-3:] == ["ternary", "160", "80"]
    text = describe_network(network)
    assert "116 weights in 196 bits; 404 multiply-accumulates a frame" in text
    assert text.endswith("lane operations a frame with a zero weight: 80 of 80, 100.0 %")


def test_zeros_and_partial_products_by_quality() -> None:
    layers = (
        # at 2 x 2 positions; two zeros of eight weights; scales of 4 bits have 2 rows each
        Conv(
            name="conv",
            weights=np.array([[[[1, 0], [-4, 2]]], [[[0, 1], [1, 1]]]]),
            code=Code.parse("shift3"),
            scales=np.array([[7, 4], [-6, 0]]),
            vector=2,
        ),
        Flatten(name="flat"),
        # 7 is 8 - 1, 5 is 4 + 1, 2 is one digit: 8 + 0 digits in 8 words of 3 rows
        Dense(name="dense", weights=np.array([[7, 5, 2, 0, -7, 8, 0, 0]]), code=Code.parse("csd(2,5)")),
    )
    network = Network(name="net", input=TensorType(DType("uint", 2), (1, 3, 3)), layers=layers)
    lines = describe_network(network).splitlines()
    rows = [line.split() for line in lines if line.startswith(("conv ", "dense "))]
    assert rows[2] == ["conv", "2", "25.0", "%", "0.75", "32", "8"]
    assert rows[3] == ["dense", "3", "37.5", "%", "1.00", "8", "3"]
    # 7 and -6 have two digits, 4 has one, 0 none
    assert rows[4] == ["conv", "16", "32", "12", "20"]
    assert rows[5] == ["dense", "8", "24", "5", "8"]
    assert "lane operations a frame with a zero weight: 11 of 40, 27.5 %" in lines
    assert lines[-1].endswith("of 56 rows gated: 69.6 % at 1, 50.0 % at 2")


def test_a_network_of_signs_has_no_zeros_to_tell_of() -> None:
    dense = Dense(name="dense", weights=np.ones((2, 4)), code=BINARY)
    network = Network(name="net", input=TensorType(BIPOLAR, (4,)), layers=(dense,))
    assert "zero" not in describe_network(network)
    assert "quality" not in describe_network(network)
