"""``fewbit quantize`` as its user meets it: on the shipped LeNet-5, on a network in integers, and on mistakes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from onnx_models import GraphBuilder
from tiers import slow_but_at

from fewbit import arrays, models
from fewbit.cli import quantize as cli_quantize
from fewbit.golden import file
from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense, Linear, Network, TensorType
from fewbit.golden.quantizers.rules import RULES
from fewbit.golden.quantizers.weight_vectors import AXES


@pytest.fixture
def labelled(tmp_path):
    """Options that name 500 of the test images and their classes."""
    images, labels = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(images, arrays.read(models.TEST_IMAGES)[:500])
    np.save(labels, arrays.read(models.TEST_LABELS)[:500])
    return "--inputs", images, "--labels", labels


@pytest.fixture
def small(tmp_path):
    """A float network of one dense layer, in a file."""
    graph = GraphBuilder(4)
    graph.node("Gemm", graph.x, graph.constant([[1.0, -0.5], [0.25, 2], [1, 1], [0, -1]]), name="fc")
    return graph.save(tmp_path / "small.onnx")


def accuracies(text):
    return tuple(float(share) for share in re.search(r"([\d.]+) % before, ([\d.]+) % after", text).groups())


@pytest.mark.parametrize(
    "options, loss",
    slow_but_at((0, 4), [
        (("--code", "int(8)"), 0.0),
        (("--code", "shift3", "--vector", 16), 1.0),
        (("--code", "shift3", "--vector", 16, "--rule", "least-squares"), 1.6),
        (("--code", "csd(2,7)", "--layer", "gemm11=int(8)", "--activations", 4), 0.4),
        (("--code", "ternary", "--two-scales", "--axis", "outputs", "--vector", 6), 2.6),
    ]),
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_lenet_keeps_its_accuracy(fewbit, labelled, tmp_path, options, loss):
    out = tmp_path / "o.safetensors"
    status, text, _ = fewbit("quantize", "lenet5", "-o", out, *options, *labelled, "-q")
    assert status == 0
    before, after = accuracies(text)
    assert before - after <= loss
    network = file.load(out)
    assert network.classifies
    assert fewbit("run", out, "--inputs", labelled[1], "--labels", labelled[3])[1].endswith(f"accuracy {after:.2f} %\n")


def test_calibration_is_used(fewbit, labelled, tmp_path):
    out = tmp_path / "o.safetensors"
    _, made_up, _ = fewbit("quantize", "lenet5", "-o", out, "--activations", 2, *labelled)
    status, calibrated, _ = fewbit(
        "quantize", "lenet5", "-o", out, "--activations", 2, "--calibration", labelled[1], *labelled
    )
    assert status == 0
    assert accuracies(made_up)[0] == accuracies(calibrated)[0]
    assert made_up.splitlines()[-3] != calibrated.splitlines()[-3]
    assert accuracies(calibrated)[1] > 95


def test_the_table(fewbit, small, tmp_path):
    out = tmp_path / "o.safetensors"
    status, text, _ = fewbit("quantize", small, "-o", out, "--code", "ternary", "--vector", 2, "--input", "uint8")
    assert status == 0
    lines = text.splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert lines[1].split()[:6] == ["fc", "ternary", "nearest", "inputs(2)", "8", "3"]
    assert lines[1].split()[-2:] == ["8", str(8 * 2 + 4 * 8)]
    assert lines[3:] == [
        "8 weights in 48 bits, 5.33 times fewer than in float32",
        "activations: input uint8, then sums",
        f"wrote {out}",
    ]


def test_a_layer_has_scales_of_its_own(fewbit, tmp_path):
    out = tmp_path / "o.safetensors"
    own = ("conv0=alpha-bits=5", "gemm9=vector=32:alpha-bits=10:ternary:two-scales", "gemm11=int(6):axis=tensor")
    layers = [word for setting in own for word in ("--layer", setting)]
    status, text, _ = fewbit("quantize", "lenet5", "-o", out, "--vector", 16, *layers)
    assert status == 0
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert [name for name in rows if "inputs(32), two signs" in rows[name]] == ["gemm9"]
    linear = {layer.name: layer for layer in file.load(out).layers if isinstance(layer, Linear)}
    assert [str(layer.code) for layer in linear.values()] == ["shift3", "shift3", "shift3", "ternary", "int(6)"]
    bits = {name: layer.scale_kind.bits for name, layer in linear.items() if layer.scales is not None}
    assert bits["gemm9"] > 8 >= bits["gemm7"] > 5 >= bits["conv0"]
    assert {name: layer.vector for name, layer in linear.items() if layer.scales is not None}["gemm9"] == 32


def test_a_network_in_integers(fewbit, tmp_path, labelled):
    out = tmp_path / "o.safetensors"
    status, text, _ = fewbit("quantize", "mnist-small", "-o", out, "--code", "ternary", *labelled)
    assert status == 0
    before, after = accuracies(text)
    assert before == after  # its weights are binary
    assert "activations" not in text


def test_a_qonnx_network(fewbit, tmp_path):
    out = tmp_path / "o.safetensors"
    status, text, _ = fewbit("quantize", "tfc-w2a2", "-o", out, "--code", "shift3")
    assert status == 0
    assert "0.00" in text  # ternary weights are levels of the code
    assert file.load(out).input_quantizer is not None


@pytest.mark.parametrize(
    "options, message",
    [
        (("--code", "csd(9,4)"), "csd takes 1 to 8 terms and 1 to 16 exponents, not 9 and 4"),
        (("--layer", "fc"), "the settings of a layer must be NAME=SETTING or NAME=SETTING:SETTING, not 'fc'"),
        (("--layer", "fc=:x"), "the settings of a layer must be NAME=SETTING or NAME=SETTING:SETTING, not 'fc=:x'"),
        (("--layer", "fc=alpha-bits=many"), "layer 'fc': alpha-bits takes a whole number, not 'many'"),
        (
            ("--layer", "fc=beta=2"),
            "layer 'fc': a setting must be a code, paper, least-squares, nearest, two-scales, alpha-bits=B, "
            "alpha-fraction=F, vector=N or axis=tensor|channel|inputs|outputs, not 'beta=2'",
        ),
        (("--layer", "fc=axis=outputs"), "vectors along outputs have a length of 1 or more, not 0"),
        (("--layer", "fc=vector=2:alpha-bits=1"), "layer 'fc': a scale has 2 to 32 bits, not 1"),
        (("--layer", "fc2=binary"), "there is no layer 'fc2' with weights, only fc"),
        (
            ("--layer", "fc=int(4):worst"),
            "layer 'fc': a setting must be a code, paper, least-squares, nearest, two-scales, alpha-bits=B, "
            "alpha-fraction=F, vector=N or axis=tensor|channel|inputs|outputs, not 'worst'",
        ),
        (
            ("--code", "int(4)", "--rule", "paper"),
            "layer 'fc': the rules paper and least-squares are for binary, ternary, quinary and shift3, not int(4): "
            "use nearest",
        ),
        (
            ("--rule", "paper", "--two-scales"),
            "layer 'fc': the rule paper has one scale a vector; for two scales use least-squares or nearest",
        ),
        (
            ("--vector", "2", "--alpha-fraction", "9"),
            "layer 'fc': a scale of 0.5 overflows 8 bits with 9 after the point, at most 0.248047: "
            "give scales more bits, or fewer after the point",
        ),
        (("--vector", "2", "--alpha-bits", "1"), "layer 'fc': a scale has 2 to 32 bits, not 1"),
        (("--axis", "tensor", "--vector", "2"), "one scale a tensor takes no vector length, not 2"),
        (("--axis", "outputs"), "vectors along outputs have a length of 1 or more, not 0"),
        (("--activations", "9"), "activations must have 1 to 8 bits, not 9"),
        (
            ("--input", "pixels"),
            "input must be uintN or intN of 1 to 16 bits, optionally with /NUMBER or *NUMBER, not 'pixels'",
        ),
        (("--inputs", "x.npy"), "the accuracy needs both --inputs and --labels"),
    ],
)  # fmt: skip
def test_mistakes(refused, small, tmp_path, options, message):
    out = tmp_path / "o.safetensors"
    assert refused("quantize", small, "-o", out, *options) == message
    assert not out.exists()


def test_arrays_that_do_not_fit(refused, small, tmp_path):
    out, x, y = (tmp_path / name for name in ("o.safetensors", "x.npy", "y.npy"))
    np.save(x, np.zeros((3, 5), np.uint8))
    np.save(y, np.zeros(3, np.uint8))
    wanted = "inputs must have shape (N, 4), not (3, 5)"
    assert refused("quantize", small, "-o", out, "--calibration", x) == wanted
    assert refused("quantize", small, "-o", out, "--inputs", x, "--labels", y) == wanted
    np.save(x, np.zeros((2, 4), np.uint8))
    wanted = "labels must be 2 integers on one axis, not uint8 (3,)"
    assert refused("quantize", small, "-o", out, "--inputs", x, "--labels", y) == wanted
    np.save(x, np.full((2, 4), 0.3))
    wanted = "float inputs must be 1/255 times a whole number, and some are not"
    assert refused("quantize", small, "-o", out, "--calibration", x) == wanted
    np.save(x, np.zeros((0, 4), np.uint8))
    assert refused("quantize", small, "-o", out, "--calibration", x) == "calibration needs at least one frame"
    assert not out.exists()


def test_files_that_cannot_be(refused, small, tmp_path):
    out = tmp_path / "o.safetensors"
    wanted = f"{tmp_path / 'o.onnx'}: the output must be a .safetensors file, not .onnx"
    assert refused("quantize", small, "-o", tmp_path / "o.onnx") == wanted
    assert refused("quantize", small, "-o", tmp_path / "none" / "o.safetensors").startswith("cannot write")
    assert refused("quantize", tmp_path / "no.onnx", "-o", out) == f"{tmp_path / 'no.onnx'}: no such file"
    wanted = f"{tmp_path / 'no.h5'}: a network must be a file .safetensors, .onnx or .tflite, not .h5"
    assert refused("quantize", tmp_path / "no.h5", "-o", out) == wanted
    dense = Dense(name="fc", weights=[[1, -1]], code=BINARY)
    native = Network(name="native", input=TensorType(DType("uint", 2), (2,)), layers=(dense,))
    file.save(native, tmp_path / "native.safetensors")
    wanted = "activations is for float networks: 'native' is an integer network"
    assert refused("quantize", tmp_path / "native.safetensors", "-o", out, "--activations", "4") == wanted


def test_choices_are_those_of_the_golden_model():
    """The command has names of its own, which spare ``--help`` the import."""
    assert set(cli_quantize._RULES) == set(RULES)
    assert set(cli_quantize._AXES) == set(AXES)
