"""Reads quantized ONNX networks as onnxruntime's quantizer writes them, into integer networks.

Two formats are read: QDQ, floats between a DequantizeLinear and the next QuantizeLinear, and operators on integers
(QLinearConv and others). The integers of the network are those of the file less their zero points.
"""

from __future__ import annotations

import re
from pathlib import Path

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Graph
from fewbit.importers.onnx_linear import constant
from fewbit.importers.onnx_walk import Dialect, network_of, source_of
from fewbit.importers.qdq import integers, joins
from fewbit.importers.qdq.operators import JOINS, NEAREST, STEPS, check, supported

DIALECT = Dialect(
    steps=STEPS, joins=JOINS, supported=supported, nearest=NEAREST, check=check, constant=constant,
    finish=joins.settled,
)  # fmt: skip

_MARKS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", *integers.STEPS,
    *integers.JOINS,
})  # fmt: skip


def recognizes(graph: Graph) -> bool:
    """Whether ``graph`` is of this kind: it has quantizers of ONNX, none of QONNX, and no Clip of integers.

    QuantizeLinear, Clip and DequantizeLinear are how QONNX networks spell few-bit quantizers (QCDQ).
    """
    codes = {name for node in graph.nodes if node.op == "QuantizeLinear" for name in node.outputs}
    clipped = any(node.op == "Clip" and node.inputs[:1] and node.inputs[0] in codes for node in graph.nodes)
    few_bit = clipped or any(node.is_qonnx for node in graph.nodes)
    return not few_bit and any(node.op in _MARKS for node in graph.nodes)


def load_graph(graph: Graph, path: Path, input: str | None) -> Network:
    """The network of ``graph``, which is that of the file ``path``.

    Parameters
    ----------
    input : str, optional
        Which integers a float input holds, as for QONNX files.

    Raises
    ------
    FewbitError
        If something is not supported; the message names every node that stands in the way.
    """
    try:
        source = _source(graph, input)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    return network_of(graph, str(path), path.stem, source, DIALECT)


def _source(graph: Graph, option: str | None) -> Tensor:
    if graph.input_type == "float32":
        return source_of(graph, option, None, False)
    if not re.fullmatch(r"u?int(8|16)", graph.input_type):
        raise FewbitError(
            f"input {graph.input!r}: must be float32 or an integer of 8 or 16 bits, not {graph.input_type}"
        )
    return source_of(graph, option, DType.parse(graph.input_type), True)
