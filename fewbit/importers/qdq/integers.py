"""Operators on integers of the file (the QOperator format of onnxruntime)."""

from __future__ import annotations

from fewbit.importers.onnx_walk import Join, Step

STEPS: dict[str, Step] = {}
JOINS: dict[str, Join] = {}
MICROSOFT_OPS: frozenset[str] = frozenset()
