"""Networks written as QONNX: qonnx gives every integer of the golden model, and reading the file gives the network."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from tiers import each_value, slow_but

import fewbit
from fewbit import models
from fewbit.engines import network_inputs
from fewbit.exporters import qonnx as exporter
from fewbit.golden import run as golden
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    Dense,
    Flatten,
    InputQuantizer,
    Layer,
    Linear,
    Network,
    Pool,
    TensorType,
    Threshold,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("qonnx")

MODELS = Path(__file__).parent.parent / "models"
AROUND = ("", "_1", "/sum", "/scaled", "/shifted")
"""What the tensor that holds a layer's integers is called after the layer."""


def executed(network: Network, frames: Any, path: Path) -> dict[str, Any]:
    """Every tensor of the exported ``network`` for ``frames``, as qonnx executes it."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    fewbit.export(replace(network, input_batch=len(frames)), path)
    onnx.checker.check_model(onnx.load(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ModelWrapper(str(path))
        return execute_onnx(model, {"input": frames.astype(np.float32)}, return_full_exec_context=True)


def agrees(network: Network, frames: Any, path: Path) -> Any:
    """qonnx gives the golden model's integers behind every layer, and its output; ``frames`` are those of the file."""
    tensors = executed(network, frames, path)
    result = golden.run(network, network_inputs(network, frames))
    for layer, wanted in zip(network.layers, result.tensors[1:]):
        found = [tensors[layer.name + end] for end in AROUND if layer.name + end in tensors]
        assert any(one.shape == wanted.shape and np.array_equal(one, wanted) for one in found), layer.name
    output = tensors[onnx.load(path).graph.output[0].name]
    wanted = golden.dequantize_output(network, result.output)
    assert output.shape == wanted.shape
    assert np.allclose(output, wanted, rtol=1e-6, atol=1e-6)
    return wanted


def back(network: Network, path: Path) -> Network:
    fewbit.export(network, path)
    return fewbit.load(path)


def same_layers(one: Network, other: Network, but: tuple[str, ...] = ()) -> bool:
    """Whether the layers are equal but for their names; of layers of kind ``but``, only the kind is compared."""
    if [layer.kind for layer in one.layers] != [layer.kind for layer in other.layers] or one.reads != other.reads:
        return False
    return all(
        left.kind in but
        or all(
            np.array_equal(getattr(left, field.name), getattr(right, field.name))
            for field in fields(left)
            if field.name not in ("name", "inputs")
        )
        for left, right in zip(one.layers, other.layers)
    )


def images(name: str, shape: tuple[int, ...], count: int) -> Any:
    data = "fashion-2k-images-idx3-ubyte.gz" if name.startswith("fashion") else "t10k-images-idx3-ubyte.gz"
    pixels = np.frombuffer(gzip.decompress((MODELS / data).read_bytes()), np.uint8, count * 784, 16)
    return pixels.reshape(count, *shape)


@pytest.mark.parametrize("name", slow_but(["mnist-small", "lenet5-shift3", "fashion-resnet"], sorted(models.shipped())))
def test_shipped_network(name: str, tmp_path: Path) -> None:
    network = fewbit.load(name)
    frames = images(name, network.input.shape, 20)
    frames = frames if network.input_quantizer is None else frames.astype(np.float32) / np.float32(255)
    wanted = agrees(network, frames, tmp_path / "batch.onnx")
    again = back(network, tmp_path / "one.onnx")
    got = golden.run(again, network_inputs(again, frames))
    assert np.array_equal(got.output, golden.run(network, network_inputs(network, frames)).output)
    assert np.allclose(golden.dequantize_output(again, got.output), wanted, rtol=1e-6, atol=1e-6)
    # A reader makes biases comparable in its own way, and flattens where a product needs it.
    if name.startswith("mnist-") and network.layers[0].kind == "flatten":
        again = again.with_layers(networks_with_flatten_first(again))
    assert same_layers(network, again, but=("affine",))


def networks_with_flatten_first(network: Network) -> list[Layer]:
    from fewbit.golden.graph import swapped

    first, second = network.layers[:2]
    return swapped(network.named_layers, first.name, second.name)


DESIGNS: dict[str, Callable[[Any], Any]] = {
    "dense": networks.random_design,
    "conv": networks.random_conv_design,
    "graph": networks.random_graph_design,
}


@pytest.mark.parametrize(
    ("design", "seed"), slow_but([("dense", 0), ("conv", 0), ("graph", 2)], product(DESIGNS, range(20)))
)
def test_random_network(design: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    network, _ = DESIGNS[design](rng)
    frames = networks.random_frames(rng, network.input.dtype, (6, *network.input.shape))
    wanted = agrees(network, frames, tmp_path / "batch.onnx")
    refusal = ""
    try:
        again = back(network, tmp_path / "one.onnx")
    except FewbitError as error:
        refusal = str(error)
    if refusal:  # QONNX has no products of sums: there is a quantizer in front of every product
        assert refusal.endswith("): its activations are not quantized: put a Quant before it")
        assert any(isinstance(layer, Linear) and _reads_sums(network, layer) for layer in network.layers)
        return
    got = golden.dequantize_output(again, golden.run(again, network_inputs(again, frames)).output)
    assert np.allclose(got, wanted, rtol=1e-6)


def _reads_sums(network: Network, layer: Layer) -> bool:
    """Whether an input of ``layer`` comes from anything but thresholds or the input of the network."""
    for before in network.before(layer):
        if before is None or isinstance(before, Threshold):
            continue
        levels = isinstance(before, Flatten | Concat) or (isinstance(before, Pool) and before.mode == "max")
        if not levels or _reads_sums(network, before):
            return True
    return False


def chain(source: TensorType, *layers: Layer, **more: Any) -> Network:
    return Network(name="small", input=source, layers=layers, **more)


def scaled(code: str, **more: Any) -> Dense:
    levels = Code.parse(code).levels
    rng = np.random.default_rng(5)
    return Dense(name="dense", weights=rng.choice(levels, (6, 8)), code=Code.parse(code), **more)


INT4, UINT2 = DType("int", 4), DType("uint", 2)
SCALES = np.arange(1, 13).reshape(6, 2)
CODES = (
    "binary", "ternary", "quinary", "shift3", "csd(1,5)", "csd(2,5)", "int(3)", "int(8)", "codebook(-9,-4,-1,0,1,4,9)",
)  # fmt: skip


STORED: dict[str, dict[str, Any]] = {
    "plain": {},
    "along": {"scales": SCALES, "vector": 4},
    "two scales": {"scales": SCALES, "negative_scales": 2 * SCALES + 1, "vector": 4},
    "across": {"scales": np.arange(1, 17).reshape(2, 8), "vector": 3, "across": True},
}


@pytest.mark.parametrize(("code", "stored"), each_value(CODES, STORED))
def test_weights_of_every_code(code: str, stored: str, tmp_path: Path) -> None:
    network = chain(TensorType(INT4, (8,)), scaled(code, **STORED[stored]))
    frames = np.random.default_rng(1).integers(-8, 8, (20, 8))
    agrees(network, frames, tmp_path / "batch.onnx")
    again = back(network, tmp_path / "one.onnx")
    assert np.array_equal(golden.run(again, frames).output, golden.run(network, frames).output)
    (layer,) = again.layers
    assert isinstance(layer, Dense)
    assert layer.memory_bits(again.input) <= network.layers[0].memory_bits(network.input) or layer.scales is None
    if stored == "plain":
        assert same_layers(network, again)


MAP = TensorType(UINT2, (2, 5, 4))
STEPS: dict[str, tuple[Layer, ...]] = {
    "sum of 6": (Pool(name="p", mode="sum", kernel=(3, 2), stride=(1, 2), padding=(1, 0, 2, 1)),),
    "sum of 4": (Pool(name="p", mode="sum", kernel=(2, 2), stride=(2, 2)),),
    "maximum": (Pool(name="p", mode="max", kernel=(3, 3), stride=(2, 1), padding=(1, 1, 0, 2)),),
    "flatten, channels last": (Flatten(name="f", channels_last=True),),
    "groups": (
        Conv(name="c", weights=np.resize([1, 0, -1], (4, 1, 2, 3)), code=Code.parse("ternary"), groups=2, stride=(2, 1),
             padding=(0, 1, 1, 2)),
    ),
    "falling thresholds": (
        Conv(name="c", weights=np.resize([1, 0, -1, 1, 1], (3, 2, 2, 2)), code=Code.parse("ternary")),
        Threshold(name="t", thresholds=np.array([[-1, 0, 2], [-2, 1, 1], [3, 4, 5]]), sign=np.array([1, -1, -1]),
                  dtype=UINT2, base=0),
    ),
    "gains": (
        Pool(name="p", mode="max", kernel=(2, 2), stride=(1, 1)),
        Affine(name="a", scale=np.array([3, -2]), bias=np.array([0, 7])),
    ),
    "a layer called as others are": (
        Pool(name="input", mode="max", kernel=(1, 2), stride=(1, 1)),
        Flatten(name="input/frame"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_layer(step: str, tmp_path: Path) -> None:
    network = chain(MAP, *STEPS[step])
    frames = np.random.default_rng(1).integers(0, 4, (20, *MAP.shape))
    agrees(network, frames, tmp_path / "batch.onnx")
    again = back(network, tmp_path / "one.onnx")
    got, wanted = (golden.dequantize_output(one, golden.run(one, frames).output) for one in (again, network))
    assert np.array_equal(got, wanted)


def test_joins_with_gains(tmp_path: Path) -> None:
    pool = Pool(name="p", mode="max", kernel=(1, 1), stride=(1, 1))
    network = chain(
        MAP,
        pool,
        Add(name="a", inputs=("p", INPUT, "p"), gains=np.array([3, -4, 1])),
        Concat(name="b", inputs=("a", INPUT)),
    )
    agrees(network, np.random.default_rng(1).integers(0, 4, (20, *MAP.shape)), tmp_path / "batch.onnx")


@pytest.mark.parametrize("function", slow_but([None, "softmax"], [None, "sigmoid", "tanh", "softmax", "log_softmax"]))
def test_both_ends(function: str | None, tmp_path: Path) -> None:
    quantizer = InputQuantizer(thresholds=np.float32([-0.3, 0.1, 0.1, 2]), sign=-1, base=-2)
    network = chain(
        TensorType(INT4, (3, 2, 2)),
        Flatten(name="flatten"),
        Dense(name="dense", weights=np.resize([1, 2, -3, 0, 1], (4, 12)), code=Code.parse("int(3)")),
        input_quantizer=quantizer,
        input_shape=(2, 2, 3),
        input_order=(2, 0, 1),
        output_scale=np.array([0.5, 0.25, 0.1, 0.3]),
        output_bias=np.array([0, 0.5, 1, -1]),
        output_shape=(4,) if function else (2, 2),
        output_function=function,
    )
    frames = np.random.default_rng(1).choice(np.float32([-3, -2, -0.1, 0.3, 0.29, 1]), (20, 2, 2, 3))
    wanted = agrees(network, frames, tmp_path / "batch.onnx")
    again = back(network, tmp_path / "one.onnx")
    assert (again.input_shape, again.input_order) == ((2, 2, 3), (2, 0, 1))
    assert again.input_quantizer is not None
    got = golden.dequantize_output(again, golden.run(again, network_inputs(again, frames)).output)
    assert np.allclose(got, wanted, rtol=1e-6, atol=1e-7)


def test_a_frame_with_rows_of_thresholds_on_two_axes(tmp_path: Path) -> None:
    rows = Threshold(name="t", thresholds=np.array([[0], [2], [3]]), sign=np.array([1, 1, -1]), dtype=UINT2, base=1)
    network = chain(TensorType(INT4, (3, 2)), rows, Flatten(name="f"))
    agrees(network, np.random.default_rng(1).integers(-8, 8, (20, 3, 2)), tmp_path / "batch.onnx")


def test_the_file_says_what_its_tensors_are(tmp_path: Path) -> None:
    from qonnx.core.datatype import DataType
    from qonnx.core.modelwrapper import ModelWrapper

    fewbit.export(fewbit.load("tfc-w1a1"), tmp_path / "one.onnx")
    model = ModelWrapper(str(tmp_path / "one.onnx"))
    kinds = [model.get_tensor_datatype(name) for name in ("dense_1/weights", "dense_1", "threshold_1")]
    assert kinds == [DataType["BIPOLAR"], DataType["INT8"], DataType["BIPOLAR"]]
    assert model.check_all_tensor_shapes_specified()
    assert model.get_metadata_prop("exec_mode") is None


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    network = fewbit.load("mnist-small")
    assert exporter.content(network) == exporter.content(network)


def test_integers_beyond_float32_are_refused(tmp_path: Path) -> None:
    wide = Affine(name="far", scale=np.array([1 << 20] * 2), bias=np.array([0, 1]))
    network = chain(TensorType(DType("uint", 8), (2,)), wide)
    with pytest.raises(FewbitError) as error:
        fewbit.export(network, tmp_path / "one.onnx")
    assert str(error.value) == (
        "layer 'far': its integers reach 268,435,456, and QONNX computes in float32, which counts to 16,777,215: "
        "quantize it with fewer bits or smaller scales, or save the network as .safetensors"
    )
    assert not (tmp_path / "one.onnx").exists()


FAULTS = [
    ("sign = layer.sign.astype(np.int64)", "sign = np.abs(layer.sign.astype(np.int64))", "falling thresholds"),
    ("pads=layer.padding", "pads=layer.padding[::-1]", "groups"),
    ("count_include_pad=1", "count_include_pad=0", "sum of 6"),
    ("strides=layer.stride", "strides=layer.stride[::-1]", "groups"),
]


@pytest.mark.parametrize(("old", "new", "step"), FAULTS, ids=[new for _, new, _ in FAULTS])
def test_a_planted_fault_is_found(
    old: str, new: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faults import mutant

    monkeypatch.setattr(exporter, "content", mutant("exporters.qonnx", old, new).content)
    with pytest.raises(AssertionError):
        test_layer(step, tmp_path)


# the command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fewbit.cli.main import main

    out = tmp_path / "small.onnx"
    with pytest.raises(SystemExit) as ended:
        main(["export", "mnist-small", "-o", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wrote {out}: mnist-small, uint8[28, 28] to uint4[]\n"
    assert fewbit.load(out).output == fewbit.load("mnist-small").output
    native = tmp_path / "native.safetensors"
    with pytest.raises(SystemExit):
        main(["export", str(out), "-o", str(native)])
    assert fewbit.load(native) == fewbit.load(out)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("x.tflite", "x.tflite: the output must be a file .onnx or .safetensors, not .tflite"),
        ("x", "x: the output must be a file .onnx or .safetensors, not one without a suffix"),
        ("nowhere/x.onnx", "cannot write nowhere/x.onnx: no such file or directory"),
    ],
)
def test_command_refuses(
    out: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewbit.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", "mnist-small", "-o", out])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"fewbit: {message}\n"
