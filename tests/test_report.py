"""Networks as text."""

from __future__ import annotations

import numpy as np

from fewbit.golden.codes import BINARY, TERNARY
from fewbit.golden.dtype import BIPOLAR
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
    by_name = {line[0]: line for line in lines if line}
    # 36 weights at 3x3 positions, of which the pool leaves 2x2
    assert by_name["conv"][-3:] == ["binary", "36", "324"]
    assert by_name["sign"][-1] == "36"
    assert by_name["pool"][-1] == "64"
    assert by_name["dense"][-3:] == ["ternary", "160", "80"]
    assert describe_network(network).endswith("116 weights in 196 bits; 404 multiply-accumulates a frame")
