"""Small forms of what people's float networks contain: read as onnxruntime executes them, and quantized.

``NAME.npz`` has eight inputs and the outputs that onnxruntime gave for them; of the others onnxruntime is asked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.cli.main import main
from fewbit.golden.codes import Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.golden.run import dequantize_output, run
from fewbit.importers.float_onnx import reader
from fewbit.quantization.quantize import quantize
from fewbit.quantization.recipe import Recipe

onnx = pytest.importorskip("onnx")

FOLDER = Path(__file__).parent / "float_cases"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


def frames_and_outputs(name: str) -> tuple[Any, Any]:
    """Inputs that are whole numbers of 1/127, as integers, and what onnxruntime makes of them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    integers = np.random.default_rng(1).integers(-127, 128, (50, *source.shape))
    reals = integers.astype(np.float32) / np.float32(127)
    return integers, np.stack([session.run(None, {source.name: x})[0] for x in reals])


@pytest.mark.parametrize("name", [name for name in NAMES if (FOLDER / f"{name}.npz").exists()])
def test_stored_outputs(name: str) -> None:
    stored = np.load(FOLDER / f"{name}.npz")
    network = reader.load(FOLDER / f"{name}.onnx")
    frames = stored["x"].reshape(-1, *network.shape)
    assert network.outputs(frames) == pytest.approx(stored["y"][:, 0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_quantized_scores_are_near_those_of_the_reference(name: str) -> None:
    integers, wanted = frames_and_outputs(name)
    source = reader.load(FOLDER / f"{name}.onnx")
    frames = integers.reshape(-1, *source.shape)
    assert source.outputs(frames / np.float32(127)) == pytest.approx(wanted[:, 0], rel=1e-4, abs=1e-5)
    recipe = Recipe(code=Code.parse("int(8)"), vectors=WeightVectors("channel"))
    made = quantize(source, recipe, input="int8/127", calibration=integers[:, 0])
    got = dequantize_output(made.network, run(made.network, frames).output)
    assert got.shape == wanted[:, 0].shape
    assert np.abs(got - wanted[:, 0]).max() < 0.03 * np.abs(wanted).max()
    assert np.mean(got.argmax(1) == wanted[:, 0].argmax(1)) >= 0.9


def command(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_calibration_frames_have_the_shape_that_the_file_declares(tmp_path: Path) -> None:
    name = FOLDER / "float_flatten_first"
    options = "--calibration", name.with_suffix(".npy"), "--quiet"
    assert command("quantize", name.with_suffix(".onnx"), "-o", tmp_path / "made.safetensors", *options) == 0


def test_weights_beside_a_model_that_is_named_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER / "external_data")
    for model in ("model.onnx", "./model.onnx", "../external_data/model.onnx"):
        assert command("quantize", model, "-o", tmp_path / "made.safetensors", "--quiet") == 0


REFUSED = "tensor 'w': its external data must be a file in the folder of the model, not "
WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)


def external(folder: Path, location: str) -> Path:
    """A dense float network in ``folder`` whose weights lie at ``location``."""
    weights = onnx.numpy_helper.from_array(WEIGHTS, "w")
    onnx.external_data_helper.set_external_data(weights, location)
    weights.ClearField("raw_data")
    value = onnx.helper.make_tensor_value_info
    source, sink = value("x", onnx.TensorProto.FLOAT, [1, 4]), value("y", onnx.TensorProto.FLOAT, [1, 2])
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "dense")
    graph = onnx.helper.make_graph([node], "g", [source], [sink], [weights])
    path = folder / "model.onnx"
    path.write_bytes(onnx.helper.make_model(graph, ir_version=8).SerializeToString())
    return path


def outside(folder: Path) -> Path:
    """A folder for the model; beside it is a file with weights."""
    inner = folder / "inner"
    (inner / "sub").mkdir(parents=True)
    (folder / "secret").write_bytes(WEIGHTS.tobytes())
    (inner / "sub" / "weights").write_bytes(WEIGHTS.tobytes())
    return inner


@pytest.mark.parametrize("location", ["sub/weights", "./sub/weights", "sub/./weights"])
def test_weights_inside_the_folder_are_read(location: str, tmp_path: Path) -> None:
    (product,) = reader.load(external(outside(tmp_path), location)).products
    assert np.array_equal(product.weights, WEIGHTS.T)


@pytest.mark.parametrize(
    "location",
    ["../secret", "sub/../../secret", "ABSOLUTE", "", ".", "sub", "sub/../../inner/sub/weights", "..\\secret"],
)
def test_no_file_outside_the_folder_is_read(location: str, tmp_path: Path) -> None:
    path = external(outside(tmp_path), location.replace("ABSOLUTE", str(tmp_path / "secret")))
    with pytest.raises(FewbitError, match=REFUSED):
        reader.load(path)


@pytest.mark.parametrize("location", ["link", "folder/secret", "sub/link"])
def test_no_link_leads_outside_the_folder(location: str, tmp_path: Path) -> None:
    inner = outside(tmp_path)
    (inner / "link").symlink_to(tmp_path / "secret")
    (inner / "sub" / "link").symlink_to("../../secret")
    (inner / "folder").symlink_to(tmp_path)
    with pytest.raises(FewbitError, match=REFUSED):
        reader.load(external(inner, location))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FewbitError, match="tensor 'w' cannot be read: its external data, 'sub/none', are missing"):
        reader.load(external(outside(tmp_path), "sub/none"))
