"""Every obstacle of a file is told in one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import WEIGHTS, GraphBuilder, started

from fewbit.cli.main import main
from fewbit.importers.obstacles import MOST, Obstacles
from fewbit.importers.qonnx.reader import load


def three_obstacles() -> GraphBuilder:
    graph = started(4)
    x = graph.x
    graph.node("MatMul", x, graph.quant(0, x=graph.constant(WEIGHTS)), name="first")
    graph.node("Relu", graph.x)
    graph.node("Cosh", graph.x, name="second")
    graph.op("Mul", np.inf)
    graph.node("LpPool", graph.x, kernel_shape=[2], name="third")
    return graph


LINES = [
    "node 'Quant_1' (Quant): its scale must be finite and not 0",
    "node 'second' (Cosh): this op is not supported",
    "node 'third' (LpPool): this op is not supported: use MaxPool or AveragePool",
]


def test_all_obstacles_of_a_file(tmp_path: Path) -> None:
    path = three_obstacles().save(tmp_path / "graph.onnx")
    with pytest.raises(Obstacles) as error:
        load(path)
    assert error.value.lines == (f"{path}: 3 obstacles:", *LINES)


def test_command_line_prints_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = three_obstacles().save(tmp_path / "graph.onnx")
    with pytest.raises(SystemExit) as end:
        main(["info", str(path)])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [f"fewbit: {path}: 3 obstacles:", *LINES]


def test_many_obstacles_are_counted(tmp_path: Path) -> None:
    graph = started(4)
    for _ in range(MOST + 5):
        graph.node("Cosh", graph.x)
    with pytest.raises(Obstacles) as error:
        load(graph.save(tmp_path / "graph.onnx"))
    assert len(error.value.lines) == MOST + 2
    assert error.value.lines[0].endswith(f": {MOST + 5} obstacles:")
    assert error.value.lines[-1] == "and 5 more"


def test_supported_operators_are_those_of_the_readers(capsys: pytest.CaptureFixture[str]) -> None:
    from fewbit.importers.qdq import operators as qdq
    from fewbit.importers.qonnx.ops import JOINS, STEPS

    with pytest.raises(SystemExit) as end:
        main(["info", "--supported"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    first, _, rest = said.partition("QDQ networks, and those of operators on integers:")
    listed = first.removeprefix("QONNX networks:").replace(",", " ").split()
    assert sorted(listed) == sorted(STEPS.keys() | JOINS.keys() | {"Shape"})
    listed = rest.partition("float ONNX networks, for fewbit quantize:")[0].replace(",", " ").split()
    assert sorted(listed) == sorted(qdq.STEPS.keys() | qdq.JOINS.keys() | {"Shape"})
