"""Broken and hostile files: one line that says what is wrong, exit status 2, soon and in little memory.

The files in ``tests/broken`` were made by mutating real ones; each stands for a kind, of which there are others here.
"""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import started
from tiers import slow_but

from fewbit import arrays
from fewbit.golden import file as native
from fewbit.golden.budget import MOST_FILE_BYTES
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.linear import Dense, truncate
from fewbit.golden.network import Affine, Network, Pool, TensorType, Threshold

FOLDER = Path(__file__).parent / "broken"
_MOST_MEMORY = 1 << 20
"""KiB that a command may take, of which Python and its packages take most."""
_MOST_SECONDS = 10
"""Of processor time."""


def command(*arguments: Any) -> str:
    """The one line with which ``fewbit`` refuses ``arguments``, in a process whose time and memory are looked at."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbit", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 2, said
    assert said.count("\n") == 1, said
    assert len(said) <= 501
    assert usage.ru_maxrss < _MOST_MEMORY
    assert usage.ru_utime + usage.ru_stime < _MOST_SECONDS
    return said.rstrip("\n")


MESSAGES = {
    "bomb_concat.onnx": "node 14 (Concat): its result has the shape (33554432,): 16,777,216 elements are the most",
    "bomb_constantofshape.onnx": "node 0 (ConstantOfShape): its result has the shape (16384, 16384): 16,777,216 "
    "elements are the most",
    "dupinit_1116.onnx": "two initializers are named '1.weight_quant.export_handler.lifted_tensor_1'",
    "onnx_185.onnx": "node 'node__symbolic_4' (Quant): its parameters do not fit weights of shape (8, 16, 1, 1)",
    "onnx_2011.onnx": "tensor 'layers.0.act_quant.export_handler.lifted_tensor_2': its element type string is not "
    "supported, only integers, floats and booleans",
    "onnx_3433.onnx": "node 'node__symbolic_4' (Quant): its parameters do not fit weights of shape (4, 36)",
    "onnx_374.onnx": "tensor '0.input_quant.export_handler.lifted_tensor_2': its element type complex64 is not "
    "supported, only integers, floats and booleans",
    "onnx_4979.onnx": "node 'node__symbolic_3' (Trunc): its output scale is too far from its scale",
    "onnx_5492.onnx": "node 'node__symbolic_3' (Quant): its parameters do not fit weights of shape (8, 4, 3, 3)",
    "st_2036.safetensors": "the network description is damaged: its lists nest too deep",
    "st_2461.safetensors": "tensor 'layers.4.thresholds': its element type F8_E4M3 is not one of U8, I8, U16, I16, "
    "U32, I32, U64, I64, F32, F64",
    "st_880.safetensors": "layer 'pool2': kernel must be two whole numbers, not [2]",
    "st_926.safetensors": "network 'lenet5-ternary': its output_shape has 80 axes, 31 are the most",
}


def test_every_file_has_its_message():
    assert sorted([*MESSAGES, "idx_100"]) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("name", slow_but(list(MESSAGES)[::2], MESSAGES))
def test_broken_model(name):
    options = ["--input", "uint8/255"] if name == "onnx_185.onnx" else []
    assert command("info", FOLDER / name, *options) == f"fewbit: {FOLDER / name}: {MESSAGES[name]}"


def test_idx_whose_sizes_overflow():
    path = FOLDER / "idx_100"
    assert command("run", "mnist-small", "--inputs", path) == f"fewbit: {path}: not a complete idx file"


# Hostile arrays


def test_gzip_bomb(tmp_path):
    path = tmp_path / "bomb.gz"
    start = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 1 << 31))
    path.write_bytes(start + gzip.compress(bytes(1 << 24)) * 128)
    said = command("run", "mnist-small", "--inputs", path)
    assert said == f"fewbit: {path}: holds more than {arrays.MOST_BYTES:,} bytes, which is the limit: pass fewer frames"


def test_array_of_a_terabyte_of_nothing(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"\0\0\x08\1\xff\xff\xff\xff")
        file.truncate(1 << 40)
    said = command("run", "mnist-small", "--inputs", path)
    assert said == f"fewbit: {path}: holds more than {arrays.MOST_BYTES:,} bytes, which is the limit: pass fewer frames"


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + content


def described(descr: str = "'<u1'", shape: str = "(1,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    "header",
    [
        described(shape="(1 << 40,)"),
        described(shape="(1099511627776, 1099511627776)"),
        described(shape="(4294967296, 4294967296, 1)"),  # 2**64: 0 in 64 bits
        described(shape="(-1, -1)"),
        described(shape="(1.0,)"),
        described(shape=f"({'1, ' * 80})"),
        described("'|O'"),
        described("'|S1'"),
        described("'<c8'"),
        described("[('a', '|u1')]"),
        described("'<M8[s]'"),
        described(shape="(" * 300 + ")" * 300),
        described(shape="[" * 5000),
        "{'descr': '<u1'}\n",
        "\0",
        "",
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_npy_header_that_does_not_fit(tmp_path, header, version):
    path = tmp_path / "x.npy"
    path.write_bytes(npy(header, b"\1", version))
    with pytest.raises(FewbitError, match=r"^[^\n]*x\.npy: not a complete \.npy file of numbers \([^\n]*\)$"):
        arrays.read(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i2", ">f8", "?"])
def test_npy_of_each_kind_is_read(tmp_path, order, kind):
    array = np.asarray(np.arange(24).reshape(2, 3, 4), kind, order=order)
    np.save(tmp_path / "x.npy", array)
    found = arrays.read(tmp_path / "x.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    "axes, extents",
    [(100, [1] * 100), (2, [1 << 31, 1 << 31]), (4, [65536] * 4), (8, [256] * 8), (255, [1] * 255)],
)
def test_idx_of_absurd_sizes(tmp_path, axes, extents):
    path = tmp_path / "x"
    path.write_bytes(bytes([0, 0, 8, axes]) + struct.pack(f">{axes}I", *extents) + b"\1" * (extents[0] == 1))
    with pytest.raises(FewbitError, match="x: not a complete idx file$"):
        arrays.read(path)


@pytest.mark.parametrize("wrong", [-1, 10, 1000])
def test_labels_that_are_no_classes(tmp_path, refused, wrong):
    np.save(tmp_path / "x.npy", np.zeros((3, 784), np.uint8))
    np.save(tmp_path / "labels.npy", np.array([0, 9, wrong]))
    said = refused("run", "mnist-small", "--inputs", tmp_path / "x.npy", "--labels", tmp_path / "labels.npy")
    assert said == f"labels must be classes, 0 to 9, got {min(0, wrong)} to {max(9, wrong)}"


@pytest.mark.parametrize("model", ["mnist-small", "lenet5-float"])
def test_labels_that_are_no_classes_of_what_is_quantized(tmp_path, refused, model):
    from fewbit.models import floats

    model = model if model == "mnist-small" else sorted(floats())[0]
    np.save(tmp_path / "x.npy", np.zeros((3, 784), np.uint8))
    np.save(tmp_path / "labels.npy", np.array([0, 9, 10], np.uint16))
    files = ("--inputs", tmp_path / "x.npy", "--labels", tmp_path / "labels.npy")
    said = refused("quantize", model, "-o", tmp_path / "out.safetensors", *files)
    assert said == "labels must be classes, 0 to 9, got 0 to 10"
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("command_and_model", [("run", "mnist-small"), ("quantize", "lenet5", "-o", "o.safetensors")])
def test_accuracy_of_no_frames(tmp_path, monkeypatch, refused, command_and_model):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((0, 784), np.uint8))
    np.save("labels.npy", np.zeros(0, np.uint8))
    assert refused(*command_and_model, "--inputs", "x.npy", "--labels", "labels.npy") == (
        "the accuracy needs at least one frame"
    )


@pytest.mark.parametrize(
    "arguments, what",
    [
        (("run", "mnist-small", "--inputs", "number"), "frames"),
        (("run", "mnist-small", "--inputs", "rows", "--labels", "number", "--limit", "1"), "labels"),
        (("verilog", "mnist-small", "-o", "out", "--inputs", "number"), "frames"),
        (("quantize", "mnist-small", "-o", "o.safetensors", "--inputs", "number", "--labels", "rows"), "frames"),
        (("quantize", "mnist-small", "-o", "o.safetensors", "--inputs", "rows", "--labels", "number"), "labels"),
        (("quantize", "lenet5", "-o", "o.safetensors", "--calibration", "number"), "frames"),
    ],
)
def test_single_number_in_place_of_rows(tmp_path, monkeypatch, refused, arguments, what):
    monkeypatch.chdir(tmp_path)
    for name, array in (("number", np.array(3, np.uint8)), ("rows", np.zeros((2, 784), np.uint8))):
        with (tmp_path / name).open("wb") as file:
            np.save(file, array)
    assert refused(*arguments) == f"number: holds a single number, not {what} (N, ...)"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["number", "rows"]


# Native files


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_model_file_of_a_terabyte(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert command("info", path) == (
        f"fewbit: {path}: has {1 << 40:,} bytes; a model file has at most {MOST_FILE_BYTES:,}"
    )


def test_header_that_would_be_gigabytes_of_objects(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"__metadata__":{"fewbit":"' + b"[]," * (1 << 20) + b'"}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(FewbitError, match=r"safetensors: has a header of 3,145,758 bytes, 1,048,576 are the most$"):
        native.load(path)


@pytest.mark.parametrize("kind", ["F8_E5M2", "BF16", "F16", "BOOL", "C64"])
def test_foreign_element_type(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    size = {"F8_E5M2": 1, "BOOL": 1, "C64": 8}.get(kind, 2)
    header = f'{{"a":{{"dtype":"{kind}","shape":[1],"data_offsets":[0,{size}]}}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(FewbitError, match=rf"tensor 'a': its element type {kind} is not one of U8, I8, "):
        native.load(path)


def network(*layers: Any, shape: tuple[int, ...] = (2,), kind: str = "uint8", **fields: Any) -> Network:
    return Network(name="net", input=TensorType(DType.parse(kind), shape), layers=layers, **fields)


def pool(**fields: Any) -> Pool:
    return Pool(**({"name": "pool", "mode": "sum", "kernel": (2, 2), "stride": (1, 1)} | fields))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: pool(kernel=(2,)), "layer 'pool': kernel must be 2 numbers, not 1"),
        (lambda: pool(kernel=(2.5, 2)), "layer 'pool': kernel must be whole numbers, not (2.5, 2)"),
        (lambda: pool(stride=(1, True)), "layer 'pool': stride must be whole numbers, not (1, True)"),
        (
            lambda: network(pool(kernel=(1 << 40, 1), padding=((1 << 40) - 1, 0, (1 << 40) - 1, 0)), shape=(1, 4, 4)),
            "layer 'pool': its input with padding has the shape (1, 2199023255554, 4): 16,777,216 "
            "elements are the most",
        ),
        (
            lambda: network(pool(), shape=(1, 4, 4), kind="uint63"),
            "layer 'pool': sums up to 36893488147419103228 need more than 64 bits",
        ),
        (
            lambda: network(
                Threshold(name="act", thresholds=[[1]], sign=[1], dtype=DType.parse("uint64"), base=(1 << 64) - 2)
            ),
            "layer 'act': uint64[2] is beyond the signed 64-bit integers that networks compute in",
        ),
        (
            lambda: network(
                Threshold(name="a", thresholds=[[1]], sign=[1], dtype=DType.parse("int2"), base=0), kind="uint64"
            ),
            "network 'net': uint64[2] is beyond the signed 64-bit integers that networks compute in",
        ),
        (
            lambda: Threshold(
                name="act", thresholds=[[1 << 62, -(1 << 62) - 1]], sign=[1], dtype=DType.parse("uint2"), base=0
            ),
            "layer 'act': thresholds must ascend",
        ),
        (
            lambda: network(Affine(name="a", scale=[1, 1], bias=[0, 0]), output_scale=[np.nan]),
            "network 'net': output_scale must be finite",
        ),
        (
            lambda: network(Affine(name="a", scale=[1, 1], bias=[0, 0]), output_shape=(-1, -2)),
            "network 'net': 2 outputs do not fill shape (-1, -2)",
        ),
        (
            lambda: network(Affine(name="a", scale=[1e30, 1], bias=[0, 0])),
            "layer 'a': scale: values must fit int64, got float64 that do not",
        ),
    ],
)
def test_layer_that_cannot_be(make, message):
    with pytest.raises(FewbitError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("code", ["binary", "csd(2,5)", "int(3)"])
def test_many_weights_are_unpacked_block_by_block(code):
    rng, kind = np.random.default_rng(3), Code.parse(code)
    weights = rng.choice(kind.levels, (3, 60_000))
    assert np.array_equal(kind.unpack(kind.pack(weights), weights.shape), weights)


def test_signed_digits_are_cut_block_by_block():
    weights = np.random.default_rng(4).integers(-1000, 1000, (3, 30_000))
    assert np.array_equal(truncate(weights, 1)[2, -7:], truncate(weights[2, -7:], 1))
    layer = Dense(name="d", weights=np.resize([0, 1, 5, 7, 21], (2, 40_000)), code=Code.parse("csd(3,5)"))
    assert layer.digits == 3


# Messages


def test_message_of_a_name_without_end(tmp_path):
    graph = started(4)
    graph.node("Cosh", graph.x, name="\x1b[31m" + "n" * 100_000)
    path = graph.save(tmp_path / "graph.onnx")
    said = command("info", path)
    assert said.startswith(f"fewbit: {path}: node '\\x1b[31mnnn")
    assert said.endswith("nnn' (Cosh): this op is not supported")
    assert len(said) == 500
