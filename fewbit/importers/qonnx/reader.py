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
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewbit.exact import Curve, exact
from fewbit.golden.budget import Budget
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.float_steps import FloatChain
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.obstacles import Obstacles
from fewbit.importers.onnx_constants import constant_result
from fewbit.importers.onnx_graph import Graph, Node, Refusal, read
from fewbit.importers.qonnx.call import Call, Constant, plain
from fewbit.importers.qonnx.ops import AFTER_FUNCTION, JOINS, NEAREST, RESHAPING, STEPS, supported
from fewbit.importers.qonnx.qcdq import dequantized_constant
from fewbit.importers.qonnx.quantizer import quantize_constant
from fewbit.input_kind import InputKind


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
    graph = read(path)
    try:
        network, found = _walk(graph, path.stem, input)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    if network is None:
        raise Obstacles(str(path), found)
    return network


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
    stated = None if option is None else InputKind.parse(option)
    dtype, integral = None, False
    if re.fullmatch(r"u?int(8|16)", graph.input_type):
        dtype, integral = DType.parse(graph.input_type), True
    elif graph.input_type != "float32":
        raise FewbitError(
            f"input {graph.input!r}: must be float32 or an integer of 8 or 16 bits, not {graph.input_type}"
        )
    if graph.annotation is not None and graph.annotation != "FLOAT32":
        dtype = _annotated(graph.input, graph.annotation)
    chain, curve = FloatChain(), Curve()
    if stated is not None:
        if dtype is not None and (stated.step or stated.dtype != dtype):
            raise FewbitError(f"input {graph.input!r}: is {dtype} in the file already, so that it cannot be {option}")
        dtype = stated.dtype
        if stated.step is not None and stated.number is not None:
            chain = chain.then(stated.step, np.array([stated.number]))
            curve = curve.scaled(exact([stated.scale]), exact([0]))
    return Tensor.source(graph.input_shape, dtype, curve, chain, integral)


def _walk(graph: Graph, name: str, option: str | None) -> tuple[Network | None, list[str]]:
    """The network, or None and what stands in its way.

    What depends on a refused node is not known. It is only looked at for operators that are refused anywhere.
    """
    unknown: set[str] = set()
    found: list[str] = []
    source = _source(graph, option)
    readers = Counter(name for node in graph.nodes for name in node.inputs) + Counter([graph.output])
    source = replace(source, shared=readers[graph.input] > 1)
    builder = Builder(source, graph.batch)
    tensors: dict[str, Tensor] = {graph.input: source}
    constants: dict[str, Constant] = dict(graph.constants)
    needed = readers.keys()
    for node in graph.nodes:
        try:
            if not unknown.isdisjoint(node.inputs):
                unknown.update(node.outputs)
                _check_supported(node)
                continue
            active = [name for name in node.inputs if name in tensors]
            inputs = tuple(tensors.get(name, constants.get(name)) for name in node.inputs)
            for input_name, value in zip(node.inputs, inputs):
                if input_name and value is None:
                    raise Refusal(f"takes {input_name!r}, an output that is not supported")
            if node.op == "Shape" and active:
                constants[node.outputs[0]] = constant_result(
                    node, [np.empty(tensors[active[0]].shape, np.uint8)], graph.budget
                )
            elif not active:
                constants[node.outputs[0]] = _constant(Call(node, inputs), graph.budget)
            else:
                output = _output(node, needed)
                made = _step(builder, Call(node, inputs), [tensors[name] for name in active])
                tensors[output] = replace(made, shared=made.shared or readers[output] > 1)
        except FewbitError as error:
            found.append(f"{node.label}: {error}")
            unknown.update(node.outputs)
    if found:
        return None, found
    if graph.output not in tensors:
        raise FewbitError(f"the output {graph.output!r} does not depend on the input")
    return builder.network(name, tensors[graph.output]), []


def _output(node: Node, needed: Collection[str]) -> str:
    """Name of the output that carries the activations. Refuses a node with another output that is used."""
    place = 1 if node.op == "TopK" else 0
    if len(node.outputs) <= place:
        raise Refusal(f"cannot have {len(node.outputs)} outputs")
    for index, name in enumerate(node.outputs):
        if index != place and name in needed:
            raise Refusal(f"its output {name!r} is not supported")
    return node.outputs[place]


def _step(builder: Builder, call: Call, tensors: list[Tensor]) -> Tensor:
    node = call.node
    _check_supported(node)
    if node.op not in RESHAPING:
        if any(tensor.index for tensor in tensors):
            raise Refusal("nothing can follow the arg-max but a change of shape or integer type")
        if any(tensor.function for tensor in tensors) and node.op not in AFTER_FUNCTION:
            raise Refusal("follows a softmax, which only the end of a network can be: end the network there")
        if any(tensor.pending is not None for tensor in tensors):
            if node.op not in ("Clip", "DequantizeLinear"):
                raise Refusal(
                    "computes with the integers of a QuantizeLinear: export the network with a DequantizeLinear behind "
                    "each QuantizeLinear (the QDQ format)"
                )
        elif any(tensor.integral for tensor in tensors):
            raise Refusal("its input is of an integer type: cast it to float32 first")
    if len(tensors) > 1 and node.op in JOINS:
        return JOINS[node.op](builder, call)
    if len(tensors) > 1:
        raise Refusal(
            "takes two tensors that both depend on the input, and hardware is made for sums (Add) and concatenations "
            "(Concat) of such only"
        )
    if node.op not in STEPS:
        raise Refusal("joins branches with constants: only tensors that depend on the input can be joined")
    return STEPS[node.op](builder, call, tensors[0])


def _check_supported(node: Node) -> None:
    """Raises Refusal, with the nearest operator that works, if no tensor can go through ``node``."""
    if supported(node) or (node.op == "Shape" and node.domain == ""):
        return
    instead = NEAREST.get(node.op)
    raise Refusal("this op is not supported" + (f": {instead}" if instead else ""))


def _constant(call: Call, budget: Budget) -> Constant:
    """The result of a node whose inputs are all constant. Quantized weights stay quantized when they are reshaped."""
    node = call.node
    values = [value for value in call.inputs if value is not None]
    if node.is_qonnx and node.op in ("Quant", "IntQuant", "BipolarQuant"):
        arrays = [plain(value) for value in values]
        if len(arrays) != (2 if node.op == "BipolarQuant" else 4):
            raise Refusal(f"cannot have {len(arrays)} inputs")
        return quantize_constant(node, arrays[0], arrays[1:], budget)
    if node.op == "DequantizeLinear" and node.domain == "" and len(values) in (2, 3):
        return dequantized_constant(node, [plain(value) for value in values])
    if values and isinstance(first := values[0], QuantizedConstant) and node.op in RESHAPING - {"Cast", "Dropout"}:
        rest = [plain(value) for value in values[1:]]
        return first.map(lambda part: constant_result(node, [part, *rest], budget))
    return constant_result(node, [plain(value) for value in values], budget)
