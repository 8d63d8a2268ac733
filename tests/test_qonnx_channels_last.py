"""Networks whose input has its channels last: the host transposes frames, the hardware takes maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import GraphBuilder, agrees, execute, frames_of

from fewbit.engines import network_inputs, run_rtl
from fewbit.generator import design
from fewbit.golden import file
from fewbit.golden import run as golden
from fewbit.golden.errors import FewbitError
from fewbit.importers.qonnx.reader import load


def channels_last(quantized_first: bool, **settings: str) -> GraphBuilder:
    graph = GraphBuilder(4, 3, 2, **settings)
    if quantized_first:
        graph.quant(0.5)
    graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
    if not quantized_first:
        graph.quant(0.5)
    graph.conv(np.random.default_rng(1).integers(-1, 2, (3, 2, 2, 2)))
    return graph


@pytest.mark.parametrize("quantized_first", [False, True])
def test_input_with_channels_last(quantized_first: bool, tmp_path: Path) -> None:
    graph = channels_last(quantized_first)
    frames = frames_of(graph, 12)
    network = agrees(graph, tmp_path, frames)
    assert (network.input.shape, network.input_shape, network.input_order) == ((2, 4, 3), (4, 3, 2), (2, 0, 1))
    file.save(network, tmp_path / "saved.safetensors")
    assert file.load(tmp_path / "saved.safetensors") == network
    integers = network_inputs(network, frames)
    assert np.array_equal(network_inputs(network, frames.reshape(12, -1)), integers)
    result = run_rtl(design(network, "ecp5-25k"), integers)
    assert np.array_equal(golden.dequantize_output(network, result.scores), execute(graph, frames)[graph.x])


def test_integer_input_with_channels_last(tmp_path: Path) -> None:
    graph = channels_last(False, annotation="INT4")
    network = load(graph.save(tmp_path / "graph.onnx"))
    frames = np.random.default_rng(1).integers(-8, 8, (12, 4, 3, 2))
    got = golden.dequantize_output(network, golden.run(network, network_inputs(network, frames)).output)
    assert np.array_equal(got, execute(graph, frames.astype(np.float32))[graph.x])
    with pytest.raises(FewbitError, match=r"^inputs must have shape \(N, 4, 3, 2\), not \(12, 3, 4, 2\)$"):
        network_inputs(network, frames.transpose(0, 2, 1, 3))


def test_a_second_branch_that_reads_the_input_as_it_is(tmp_path: Path) -> None:
    graph = GraphBuilder(2, 2, 2)
    graph.quant(0.5)
    one = graph.x
    graph.node("Add", graph.node("Transpose", one, perm=[0, 3, 1, 2]), one)
    with pytest.raises(FewbitError, match="reorders the activations of a frame, which only the host can do"):
        load(graph.save(tmp_path / "graph.onnx"))
