"""LiteRT's reference kernels, which say what a TensorFlow Lite file computes."""

from pathlib import Path

from ai_edge_litert import interpreter as litert


def interpreter_of(path: Path) -> litert.Interpreter:
    """An interpreter of the file that is ready to run and keeps every tensor. Its optimized kernels round otherwise."""
    interpreter = litert.Interpreter(
        model_path=str(path), experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )  # fmt: skip
    interpreter.allocate_tensors()
    return interpreter
