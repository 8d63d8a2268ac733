"""Reads QONNX networks, dense and convolutional, as Brevitas, FINN and qonnx write them, into integer networks.

The importer walks the graph from its input to its output, in topological order. Between two quantizers a tensor is an
integer tensor and an exact curve from those integers to the reals that the graph computes
(:mod:`fewbit.exact`); each quantizer turns the curve into integer thresholds. The integer network differs from the
graph executed in float32 only by the rounding of float32.

It refuses, naming the node: products of two activations, weights without a quantizer, scales that are not
constant, and unknown ops and attributes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_call import Call, Constant, plain
from fewbit.importers.onnx_graph import CHANNELS_LAST_DOMAIN, Graph, Node, Refusal, read
from fewbit.importers.onnx_linear import dequantized_constant
from fewbit.importers.onnx_walk import Dialect, network_of, source_of
from fewbit.importers.qonnx.ops import JOINS, NEAREST, STEPS, channels_last, supported
from fewbit.importers.qonnx.quantizer import quantize_constant


def load(path: str | Path, *, input: str | None = None) -> Network:
    """The network in the QONNX file ``path``.

    Parameters
    ----------
    path : str or Path
    input : str, optional
        Which integers the float input holds: ``uint8`` for 8-bit integers as they are, ``uint8/255`` or
        ``uint8*0.5`` for their float32 quotient or product with a number; any ``uintN`` or ``intN`` up to 16 bits.
        The network then takes those integers. Without it, the network takes float32 through its input quantizer,
        unless the file annotates an integer input.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or no ONNX file, or holds something unsupported; the message names every
        node that stands in the way.
    """
    path = Path(path)
    return load_graph(read(path, several_outputs=True), path, input)


def load_graph(graph: Graph, path: Path, input: str | None) -> Network:
    """As :func:`load`, of the graph that is in the file already."""
    try:
        source = _source(graph, input)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    return network_of(graph, str(path), path.stem, source, DIALECT)


def _annotated(name: str, annotation: str) -> DType:
    """The number type that the FINN data type ``annotation`` names."""
    known = {"BIPOLAR": BIPOLAR, "BINARY": DType("uint", 1), "TERNARY": DType("int", 2)}
    if annotation in known:
        return known[annotation]
    if re.fullmatch(r"U?INT([1-9]|1[0-9]|2[0-4])", annotation):
        return DType.parse(annotation.lower())
    raise FewbitError(f"input {name!r}: the data type {annotation} is not supported")


def _source(graph: Graph, option: str | None) -> Tensor:
    """The graph's input, as integers where the file annotates it so or the user says so."""
    dtype, integral = None, False
    if re.fullmatch(r"u?int(8|16)", graph.input_type):
        dtype, integral = DType.parse(graph.input_type), True
    elif graph.input_type != "float32":
        raise FewbitError(
            f"input {graph.input!r}: must be float32 or an integer of 8 or 16 bits, not {graph.input_type}"
        )
    if graph.annotation is not None and graph.annotation != "FLOAT32":
        dtype = _annotated(graph.input, graph.annotation)
    return source_of(graph, option, dtype, integral)


def _check(node: Node, tensors: Sequence[Tensor]) -> None:
    """Raises Refusal if ``node`` cannot take the integers that one of ``tensors`` has in the file."""
    if any(tensor.pending is not None for tensor in tensors):
        if node.op not in ("Clip", "DequantizeLinear"):
            raise Refusal(
                "computes with the integers of a QuantizeLinear: export the network with a DequantizeLinear behind "
                "each QuantizeLinear (the QDQ format)"
            )
    elif any(tensor.integral for tensor in tensors):
        raise Refusal("its input is of an integer type: cast it to float32 first")


def _constant(call: Call, graph: Graph) -> Constant | None:
    """Weights through a quantizer; None for other operators."""
    node = call.node
    values = [value for value in call.inputs if value is not None]
    if node.is_qonnx and node.op in ("Quant", "IntQuant", "BipolarQuant"):
        arrays = [plain(value) for value in values]
        if len(arrays) != (2 if node.op == "BipolarQuant" else 4):
            raise Refusal(f"cannot have {len(arrays)} inputs")
        quantized = quantize_constant(node, arrays[0], arrays[1:], graph.budget)
        return replace(quantized, code=graph.codes.get(node.outputs[0], ""))
    if node.op == "DequantizeLinear" and node.domain == "" and len(values) in (2, 3):
        return dequantized_constant(node, *(plain(value) for value in values))
    return None


DIALECT = Dialect(
    steps=STEPS, joins=JOINS, wrappers={CHANNELS_LAST_DOMAIN: channels_last}, supported=supported, nearest=NEAREST,
    check=_check, constant=_constant,
)  # fmt: skip
