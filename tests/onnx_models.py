"""Small ONNX graphs by hand, qonnx to execute them, and the comparison of both with the importer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fewbit.golden.network import Network  # noqa: E402
from fewbit.golden.run import dequantize_output, quantize_input, run  # noqa: E402
from fewbit.importers.qonnx.reader import load  # noqa: E402

QONNX = "qonnx.custom_op.general"
WEIGHTS = np.array([[1, -1, 1], [-1, -1, 1], [1, 1, -1], [1, -1, -1]], np.float32)
"""Binary weights (inputs, outputs)."""
EIGHTHS = np.arange(-40, 41, dtype=np.float32) / 8


class GraphBuilder:
    """A graph that grows node by node; ``x`` is the name of the newest tensor.

    ``shape`` is that of one frame. The batch axis in front of it is 1; :meth:`model` gives it another extent
    where a reference executes many frames at once.
    """

    def __init__(self, *shape: int, element: int = TensorProto.FLOAT, annotation: str | None = None) -> None:
        self.shape, self.element, self.annotation = shape, element, annotation
        self.x, self.opset, self.result = "x", 13, TensorProto.FLOAT
        self.qonnx_opset = 1
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.extra_inputs: list[Any] = []
        self.extra_outputs: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(
        self,
        op: str,
        *inputs: str,
        domain: str = "",
        name: str | None = None,
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Any node; ``inputs`` are names. Gives the name of its first output, which becomes ``x``."""
        made = [f"t{len(self.nodes)}" + "abc"[index] * (index > 0) for index in range(outputs)]
        label = f"{op}_{len(self.nodes)}" if name is None else name
        self.nodes.append(helper.make_node(op, list(inputs), made, label, domain=domain, **attributes))
        self.x = made[0]
        return self.x

    def quant(
        self,
        scale: Any = 1.0,
        zero: Any = 0.0,
        bits: Any = 4,
        signed: int = 1,
        narrow: int = 0,
        mode: str = "ROUND",
        x: str | None = None,
        **more: Any,
    ) -> str:
        parameters = [self.constant(value) for value in (scale, zero, bits)]
        settings = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        return self.node(
            "Quant",
            self.x if x is None else x,
            *parameters,
            domain=more.pop("domain", QONNX),
            **settings,
            **more,
        )

    def bipolar(self, scale: Any = 1.0, x: str | None = None) -> str:
        return self.node("BipolarQuant", self.x if x is None else x, self.constant(scale), domain=QONNX)

    def thresholds(
        self,
        values: Any,
        out_scale: float = 1.0,
        out_bias: float = 0.0,
        out_dtype: str = "UINT2",
        **more: Any,
    ) -> str:
        return self.node(
            "MultiThreshold",
            self.x,
            self.constant(values),
            domain=QONNX,
            out_scale=out_scale,
            out_bias=out_bias,
            out_dtype=out_dtype,
            **more,
        )

    def op(self, op: str, *constants: Any, left: bool = False, **attributes: Any) -> str:
        """A standard node on ``x`` with float32 constants after it, or before it if ``left``."""
        names = [self.constant(constant) for constant in constants]
        return self.node(op, *([*names, self.x] if left else [self.x, *names]), **attributes)

    def batch_norm(self, gain: Any, bias: Any, mean: Any, var: Any, **attributes: Any) -> str:
        return self.op("BatchNormalization", *map(np.atleast_1d, (gain, bias, mean, var)), **attributes)

    def flatten(self) -> str:
        return self.node("Flatten", self.x, axis=1)

    def dense(self, weights: Any) -> str:
        """MatMul with ``weights`` (inputs, outputs) as they are."""
        return self.op("MatMul", weights)

    def conv(self, weights: Any, bias: Any = None, x: str | None = None, **attributes: Any) -> str:
        """Conv with ``weights`` (outputs, channels / groups, rows, columns): as they are, or the name of a tensor."""
        x = self.x if x is None else x
        names = [weights if isinstance(weights, str) else self.constant(weights)]
        return self.node("Conv", x, *names, *([] if bias is None else [self.constant(bias)]), **attributes)

    def model(self, batch: Any = 1) -> Any:
        source = helper.make_tensor_value_info("x", self.element, [batch, *self.shape])
        sink = helper.make_tensor_value_info(self.x, self.result, None)
        graph = helper.make_graph(
            self.nodes, "g", [source, *self.extra_inputs], [sink, *self.extra_outputs], self.initializers
        )
        if self.annotation is not None:
            entry = onnx.StringStringEntryProto(key="finn_datatype", value=self.annotation)
            annotation = onnx.TensorAnnotation(tensor_name="x", quant_parameter_tensor_names=[entry])
            graph.quantization_annotation.append(annotation)
        domains = dict.fromkeys(["", *(node.domain for node in self.nodes)])
        opsets = [helper.make_opsetid(domain, self.qonnx_opset if domain else self.opset) for domain in domains]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path: Path, batch: Any = 1) -> Path:
        path.write_bytes(self.model(batch).SerializeToString())
        return path


def execute(graph: GraphBuilder, frames: Any) -> dict[str, Any]:
    """Every tensor of ``graph`` for ``frames`` (N, ...), as qonnx executes it."""
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # qonnx warns where shape inference left a shape open
        model = ModelWrapper(graph.model(len(frames))).transform(InferShapes())
        return execute_onnx(model, {"x": frames}, return_full_exec_context=True)  # type: ignore[no-any-return]


def frames_of(graph: GraphBuilder, count: int = 200, seed: int = 1) -> Any:
    """Multiples of 1/8 in [-5, 5]: with dyadic constants float32 is exact on them, and ties are common."""
    return np.random.default_rng(seed).choice(EIGHTHS, (count, *graph.shape))


def outputs(network: Network, frames: Any) -> Any:
    integers = frames.astype(np.int64) if network.input_quantizer is None else quantize_input(network, frames)
    return dequantize_output(network, run(network, integers).output)


def agrees(graph: GraphBuilder, path: Path, frames: Any = None, exact: bool = True, **options: Any) -> Network:
    """The imported graph, after its outputs have been found equal to qonnx'."""
    frames = frames_of(graph) if frames is None else frames
    network = load(graph.save(path / "graph.onnx"), **options)
    wanted = execute(graph, frames)[graph.x]
    got = outputs(network, frames)
    assert got.shape == wanted.shape
    if exact:
        assert np.array_equal(got, wanted)
    else:
        assert np.allclose(got, wanted, rtol=1e-5, atol=1e-5)
    return network


def started(*shape: int) -> GraphBuilder:
    """A graph of which the float input is 4-bit quantized."""
    graph = GraphBuilder(*(shape or (4,)))
    graph.quant(0.5)
    return graph


def summed(*shape: int) -> GraphBuilder:
    """A graph up to three sums of four inputs."""
    graph = started(*shape)
    graph.dense(WEIGHTS)
    return graph


def kinds(network: Network) -> list[str]:
    return [layer.kind for layer in network.layers]
