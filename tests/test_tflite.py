"""TensorFlow Lite models: the integers of LiteRT's reference kernels, in every tensor."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tflite_files import TfliteBuilder
from tflite_reference import interpreter_of
from tiers import slow_but

from fewbit.engines import run_golden, run_rtl
from fewbit.generator import design
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add
from fewbit.golden.run import run
from fewbit.hw.planner.constraints import Constraints
from fewbit.importers.lowering.sums import integer_gains
from fewbit.importers.obstacles import Obstacles
from fewbit.readers import load

MODELS = Path(__file__).parent / "tflite"
SAME, VALID = 0, 1
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3


def reference(path: Path, x: np.ndarray) -> dict[int, np.ndarray]:
    """Every int8 tensor of the reference kernels, less its zero point, channels first: (N, ...) int64 by its number."""
    interpreter = interpreter_of(path)
    details = {one["index"]: one for one in interpreter.get_tensor_details()}
    source = interpreter.get_input_details()[0]["index"]
    written = {one for operator in interpreter._get_ops_details() for one in operator["outputs"]}
    tensors: dict[int, list[np.ndarray]] = {number: [] for number in written}
    for frame in x:
        interpreter.set_tensor(source, frame[None])
        interpreter.invoke()
        for number, values in tensors.items():
            values.append(np.array(interpreter.get_tensor(number)))
    result = {}
    for number, values in tensors.items():
        zero = details[number]["quantization_parameters"]["zero_points"]
        whole = np.concatenate(values).astype(np.int64) - (int(zero[0]) if len(zero) else 0)
        result[number] = whole.transpose(0, 3, 1, 2) if whole.ndim == 4 else whole
    return result


def frames_of(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def agrees(path: Path, x: np.ndarray, skip: tuple[int, ...] = ()):
    """The network of a file, whose layers give every tensor of the reference but those to ``skip``."""
    network = load(path)
    result = run(network, frames_of(x).astype(np.int64))
    values = [result.of(layer) for layer in network.layers]
    for number, wanted in reference(path, x).items():
        if number in skip:
            continue
        alike = [given for given in values if given.shape == wanted.shape]
        assert alike, f"no layer gives tensor {number} of shape {wanted.shape}"
        differ = min(int((given != wanted).sum()) for given in alike)
        assert not differ, f"tensor {number}: {differ} of {wanted.size} integers differ"
    return network


def inputs(shape: tuple[int, ...], count: int = 20, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (count, *shape)).astype(np.int8)
    x[0], x[1] = -128, 127
    return x


@pytest.mark.parametrize(
    "name, softmax", slow_but([("ad01_int8", ())], [("ad01_int8", ()), ("pretrainedResnet_quant", (37,))])
)
def test_mlperf_tiny_in_every_tensor(name, softmax):
    path = MODELS / f"{name}.tflite"
    shape = (640,) if name == "ad01_int8" else (32, 32, 3)
    network = agrees(path, inputs(shape, 200), softmax)
    assert sum(isinstance(layer, Add) for layer in network.layers) == (0 if name == "ad01_int8" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("name, cells", [("ad01_int8", 8000), ("pretrainedResnet_quant", 9000)])
def test_mlperf_tiny_in_hardware(name, cells):
    """RTL on 20 inputs, to the cycle."""
    planned = design(load(MODELS / f"{name}.tflite"), "ecp5-85k", Constraints(max_cells=cells))
    frames = inputs(planned.network.input.shape).astype(np.int64)
    rtl = run_rtl(planned, frames)
    np.testing.assert_array_equal(rtl.scores, run_golden(planned.network, frames).scores)
    assert rtl.cycles == planned.plan.latency + 19 * planned.plan.cycles_per_frame


def weights(rng, shape, outputs: int, axis: int = 0):
    """int8 weights with a scale an output, or one."""
    scale = rng.uniform(0.001, 0.02, outputs)
    return rng.integers(-127, 128, shape).astype(np.int8), scale, axis


@pytest.mark.parametrize("seed", range(12))
def test_convolutions(seed, tmp_path):
    rng = np.random.default_rng(seed)
    b = TfliteBuilder()
    channels, outputs = (int(one) for one in rng.choice([1, 2, 3, 5], 2))
    height, width, kernel = int(rng.integers(4, 9)), int(rng.integers(4, 9)), rng.integers(1, 4, 2)
    zero = int(rng.choice([-128, 0, 17]))
    source = b.tensor((1, height, width, channels), scale=0.05, zero=zero)
    stride, padding = (int(one) for one in rng.integers(1, 3, 2)), int(rng.choice([SAME, VALID]))
    stride_h, stride_w = stride
    depthwise = bool(rng.random() < 0.5)
    if depthwise:
        outputs = channels * int(rng.integers(1, 3))
        values, scale, axis = weights(rng, (1, *kernel, outputs), outputs, 3)
    else:
        values, scale, axis = weights(rng, (outputs, *kernel, channels), outputs)
    bias = rng.integers(-3000, 3000, outputs).astype(np.int32)
    size = [
        -(-extent // step) if padding == SAME else (extent - int(k)) // step + 1
        for extent, step, k in zip((height, width), (stride_h, stride_w), kernel)
    ]
    out = b.tensor((1, *size, outputs), scale=float(rng.uniform(0.02, 0.2)), zero=int(rng.choice([-128, 3])))
    options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    fields = {"DepthMultiplier": outputs // channels} if depthwise else {}
    b.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [source, b.constant(values, scale, axis),
        b.constant(bias, scale * 0.05)], out, options, Padding=padding, StrideH=stride_h, StrideW=stride_w,
        DilationHFactor=1, DilationWFactor=1, FusedActivationFunction=int(rng.choice([0, RELU, RELU6])), **fields,
    )  # fmt: skip
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), inputs((height, width, channels)))


@pytest.mark.parametrize("seed", range(12))
def test_dense_layers(seed, tmp_path):
    rng = np.random.default_rng(seed)
    b, size, outputs = TfliteBuilder(), int(rng.integers(2, 60)), int(rng.integers(1, 9))
    unit = float(rng.uniform(0.01, 0.5))
    source = b.tensor((1, size), scale=unit, zero=int(rng.integers(-128, 128)))
    values, scale, _ = weights(rng, (outputs, size), 1)
    out = b.tensor((1, outputs), scale=float(rng.uniform(0.01, 0.5)), zero=int(rng.integers(-128, 128)))
    inner = [source, b.constant(values, scale)]
    if rng.random() < 0.8:
        inner.append(b.constant(rng.integers(-9000, 9000, outputs).astype(np.int32), unit * scale))
    else:
        inner.append(-1)
    b.operator("FULLY_CONNECTED", inner, out, "FullyConnectedOptions",
               FusedActivationFunction=int(rng.choice([0, RELU, RELU_N1_TO_1])))  # fmt: skip
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), inputs((size,)))


@pytest.mark.parametrize("seed", range(20))
def test_sums_of_branches(seed, tmp_path):
    """Two activations that come from one input by different scales."""
    rng = np.random.default_rng(seed)
    b = TfliteBuilder()
    source = b.tensor((1, 40), scale=0.03, zero=-5)
    branches = []
    for _ in range(2):
        branch = b.tensor((1, 40), scale=float(rng.uniform(0.01, 0.2)), zero=int(rng.integers(-128, 128)))
        branches.append(b.operator("QUANTIZE", [source], branch))
    out = b.tensor((1, 40), scale=float(rng.uniform(0.01, 0.3)), zero=int(rng.integers(-128, 128)))
    b.operator("ADD", branches, out, "AddOptions", FusedActivationFunction=int(rng.choice([0, RELU])))
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), inputs((40,), 60))


@pytest.mark.parametrize("name", ["RELU", "RELU6", "QUANTIZE", "MEAN", "FULLY_CONNECTED", "CONV_2D"])
@pytest.mark.parametrize("ratio", [1.5, 2.5, 0.5, 0.75])
def test_quotients_of_scales_near_ties(name, ratio, tmp_path):
    """Where the quotient of two scales is a tie in float32 and none in float64: each kernel has its own."""
    for unit in (0.03, 0.07, 0.013, 0.11):
        b = TfliteBuilder()
        scale = float(np.float32(unit)), float(np.float32(unit * ratio))
        maps = name in ("MEAN", "CONV_2D")
        source = b.tensor((1, 1, 1, 40) if maps else (1, 40), scale=scale[1], zero=3)
        out = b.tensor((1, 1, 1, 40) if name == "CONV_2D" else (1, 40), scale=scale[0], zero=-7)
        if name == "MEAN":
            b.operator(name, [source, b.constant(np.array([1, 2], np.int32))], out, "ReducerOptions", KeepDims=False)
        elif name == "FULLY_CONNECTED":
            b.operator(name, [source, b.constant(np.eye(40, dtype=np.int8), 1.0)], out, "FullyConnectedOptions")
        elif name == "CONV_2D":
            weights = np.eye(40, dtype=np.int8).reshape(40, 1, 1, 40)
            bias = b.constant(np.zeros(40, np.int32))
            b.operator(name, [source, b.constant(weights, 1.0), bias], out, "Conv2DOptions", Padding=VALID, StrideH=1,
                       StrideW=1, DilationHFactor=1, DilationWFactor=1)  # fmt: skip
        else:
            b.operator(name, [source], out)
        x = np.resize(np.arange(-128, 128), (7, 40)).astype(np.int8)
        agrees(b.save(tmp_path / "m.tflite", [source], [out]), x[:, None, None] if maps else x)


@pytest.mark.parametrize("activation", [RELU_N1_TO_1, RELU6])
def test_limits_of_activations_near_ties(activation, tmp_path):
    """The kernels divide the limit by the scale in float32."""
    for level in (40.5, 60.5, 90.5):
        b = TfliteBuilder()
        limit = 6 if activation == RELU6 else 1
        scale = np.float32(limit / level)
        for step in range(-3, 4):
            one = float(scale + step * np.spacing(scale))
            source, out = b.tensor((1, 40), scale=one), b.tensor((1, 40), scale=one)
            b.operator("FULLY_CONNECTED", [source, b.constant(np.eye(40, dtype=np.int8), 1.0)], out,
                       "FullyConnectedOptions", FusedActivationFunction=activation)  # fmt: skip
            x = np.resize(np.arange(-128, 128), (7, 40)).astype(np.int8)
            agrees(b.save(tmp_path / "m.tflite", [source], [out]), x)
            b = TfliteBuilder()


@pytest.mark.parametrize("name", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
@pytest.mark.parametrize("zero", [-128, 7])
def test_pools(name, zero, tmp_path):
    b = TfliteBuilder()
    source, out = (b.tensor((1, size, size, 3), scale=0.1, zero=zero) for size in (7, 3))
    b.operator(name, [source], out, "Pool2DOptions", Padding=VALID, StrideH=2, StrideW=2, FilterHeight=3, FilterWidth=3,
               FusedActivationFunction=0)  # fmt: skip
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), inputs((7, 7, 3)))


@pytest.mark.parametrize("seed", range(6))
def test_means_over_a_map(seed, tmp_path):
    rng = np.random.default_rng(seed)
    b = TfliteBuilder()
    height, width = (int(one) for one in rng.integers(1, 9, 2))
    source = b.tensor((1, height, width, 3), scale=0.1, zero=int(rng.integers(-128, 128)))
    out = b.tensor((1, 3), scale=float(rng.uniform(0.05, 0.2)), zero=int(rng.integers(-128, 128)))
    b.operator("MEAN", [source, b.constant(np.array([1, 2], np.int32))], out, "ReducerOptions", KeepDims=False)
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), inputs((height, width, 3), 60))


@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("scale, zero", [(0.05, 0), (0.01, -20), (0.2, 100)])
def test_curves_as_tables(name, scale, zero, tmp_path):
    b = TfliteBuilder()
    source = b.tensor((1, 256), scale=scale, zero=zero)
    limits = (1 / 256, -128) if name == "LOGISTIC" else (1 / 128, 0)
    out = b.tensor((1, 256), scale=limits[0], zero=limits[1])
    b.operator(name, [source], out)
    x = np.arange(-128, 128).astype(np.int8)[None]
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), x)


def test_concatenation_reshape_and_relu6(tmp_path):
    b = TfliteBuilder()
    source = b.tensor((1, 4, 4, 2), scale=0.1, zero=-3)
    pooled = b.tensor((1, 4, 4, 2), scale=0.1, zero=-3)
    b.operator("MAX_POOL_2D", [source], pooled, "Pool2DOptions", Padding=SAME, StrideH=1, StrideW=1, FilterHeight=2,
               FilterWidth=2, FusedActivationFunction=0)  # fmt: skip
    joined = b.tensor((1, 4, 4, 4), scale=0.1, zero=-3)
    b.operator("CONCATENATION", [pooled, source], joined, "ConcatenationOptions", Axis=3)
    flat = b.tensor((1, 64), scale=0.1, zero=-3)
    b.operator("RESHAPE", [joined, b.constant(np.array([1, 64], np.int32))], flat, "ReshapeOptions")
    out = b.tensor((1, 64), scale=0.05, zero=-128)
    b.operator("RELU6", [flat], out)
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), inputs((4, 4, 2)))


def test_gains_that_give_every_level_of_a_sum():
    x = np.arange(-128, 128)
    levels = np.searchsorted([-5000, 1, 7001], 3000 * x[:, None] + 1000 * x, side="right")
    gains, thresholds = integer_gains(x, x, levels, 3, Fraction(3))
    assert gains == (3, 1)
    assert thresholds.tolist() == [-5, 1, 8]
    assert integer_gains(x, x, (x[:, None] ** 2 + x > 4).astype(int), 1, Fraction(1)) is None  # no straight line


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: b"\xff" * 4 + content[4:], "the file is damaged"),
        (lambda content: content[: len(content) // 2], "the file is damaged|tensor .*"),
        (lambda content: b"", "not a TensorFlow Lite file"),
        (lambda content: b"PK" + content[2:8], "the file is damaged|not a TensorFlow Lite file"),
    ],
)
def test_a_damaged_file_gets_one_line(change, message, tmp_path):
    b = TfliteBuilder()
    source = b.tensor((1, 4), scale=0.1)
    path = b.save(tmp_path / "m.tflite", [source], [b.operator("RELU", [source], b.tensor((1, 4), scale=0.1))])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(FewbitError, match=rf"^{re.escape(str(path))}: ({message})"):
        load(path)


def test_every_operator_that_is_not_supported_is_named_at_once(tmp_path):
    b = TfliteBuilder()
    here = source = b.tensor((1, 4), scale=0.1)
    for name in ("EXP", "RELU", "COS"):
        here = b.operator(name, [here], b.tensor((1, 4), scale=0.1))
    path = b.save(tmp_path / "m.tflite", [source], [here])
    with pytest.raises(Obstacles) as error:
        load(path)
    why = "this operator is not supported"
    assert error.value.lines == (
        f"{path}: 2 obstacles:", f"operator 0 EXP ('t1'): {why}", f"operator 2 COS ('t3'): {why}",
    )  # fmt: skip


def _convolution(b: TfliteBuilder, record: str = "Conv2DOptions", filters: int = 3, bias: str = "int32", **options):
    source = b.tensor((1, 4, 4, 2), scale=0.1)
    weights = b.constant(np.ones((filters, 3, 3, 2), np.int8), 0.01)
    out = b.tensor((1, 4, 4, 3), scale=0.1)
    known = {"Padding": SAME, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    fields = {"Conv2DOptions": known | options}.get(record, options)
    return source, b.operator("CONV_2D", [source, weights, b.constant(np.zeros(3, bias))], out, record, **fields)


def _one(b: TfliteBuilder, name: str, given: dict, made: dict, record: str = "", inputs: int = 1, **options):
    source = b.tensor(**({"shape": (1, 4), "scale": 0.1} | given))
    out = b.tensor(**({"shape": (1, 4), "scale": 0.1} | made))
    return source, b.operator(name, [source] * inputs, out, record, **options)


def _reshaped(b: TfliteBuilder, shape: tuple[int, ...], stated: tuple[int, ...], **more):
    source, out = b.tensor((1, 3, 2, 2), scale=0.1), b.tensor(shape, **({"scale": 0.1} | more))
    return source, b.operator("RESHAPE", [source, b.constant(np.array(stated, np.int32))], out, "ReshapeOptions")


def _written_twice(b: TfliteBuilder):
    source, out = (b.tensor((1, 4), scale=0.1) for _ in range(2))
    b.operator("RELU", [source], out)
    return source, b.operator("RELU6", [source], out)


REFUSED = {
    "options of another operator": (
        lambda b: _convolution(b, "Pool2DOptions"),
        "operator 0 CONV_2D ('t2'): its options are Pool2DOptions, those of another operator",
    ),
    "no options": (lambda b: _convolution(b, ""), "operator 0 CONV_2D ('t2'): lacks its options"),
    "no stride": (
        lambda b: _convolution(b, StrideH=0),
        "operator 0 CONV_2D ('t2'): its options StrideH and StrideW must be 1 or more, not 0 and 1",
    ),
    "a negative dilation": (
        lambda b: _convolution(b, DilationWFactor=-2),
        "operator 0 CONV_2D ('t2'): its options DilationHFactor and DilationWFactor must be 1 or more, not 1 and -2",
    ),
    "a vast dilation": (
        lambda b: _convolution(b, DilationWFactor=1 << 30),
        "operator 0 CONV_2D ('t2'): its dilated kernel has the shape (3, 2, 3, 2147483649): 16,777,216 elements are "
        "the most",
    ),
    "another padding": (
        lambda b: _convolution(b, Padding=2),
        "operator 0 CONV_2D ('t2'): its padding 2 is not supported; SAME and VALID are",
    ),
    "a kernel that is too large": (
        lambda b: _convolution(b, Padding=VALID, DilationHFactor=3, DilationWFactor=3),
        "operator 0 CONV_2D ('t2'): its kernel of (7, 7) is larger than a map of (4, 4); use padding SAME",
    ),
    "biases that are floats": (
        lambda b: _convolution(b, bias="float32"),
        "operator 0 CONV_2D ('t2'): its biases must be int32 or int64, not FLOAT32",
    ),
    "an output of another shape": (
        lambda b: _one(b, "RELU", {}, {"shape": (1, 5)}),
        "operator 0 RELU ('t1'): its output 't1' has the shape (1, 5), not (1, 4)",
    ),
    "16-bit activations": (
        lambda b: _one(b, "RELU", {"kind": "int16"}, {"kind": "int16"}),
        "operator 0 RELU ('t1'): its tensor 't0' is INT16; quantize the model with int8 activations",
    ),
    "a zero point beyond its type": (
        lambda b: _one(b, "RELU", {}, {"zero": 128}),
        "operator 0 RELU ('t1'): its tensor 't1' has the zero point 128, which is not INT8",
    ),
    "an output that is not quantized": (
        lambda b: _one(b, "QUANTIZE", {}, {"scale": ()}),
        "operator 0 QUANTIZE ('t1'): its tensor 't1' has 0 scales; activations have one",
    ),
    "integers as the output of DEQUANTIZE": (
        lambda b: _one(b, "DEQUANTIZE", {}, {}),
        "operator 0 DEQUANTIZE ('t1'): its output must be float32, not INT8",
    ),
    "scales too far apart": (
        lambda b: _one(b, "QUANTIZE", {"scale": 1e20}, {"scale": 1e-9}),
        "operator 0 QUANTIZE ('t1'): its integers need more than the 32 bits that TensorFlow Lite computes in",
    ),
    "a sum of scales beyond float32": (
        lambda b: _one(b, "ADD", {"scale": 3e38}, {}, "AddOptions", inputs=2),
        "operator 0 ADD ('t1'): its scales are beyond float32",
    ),
    "too many inputs": (
        lambda b: _one(b, "RELU", {}, {}, inputs=2),
        "operator 0 RELU ('t1'): cannot have 2 inputs and 1 outputs",
    ),
    "no input": (
        lambda b: (b.tensor((1, 4), scale=0.1), b.operator("RELU", [-1], b.tensor((1, 4), scale=0.1))),
        "operator 0 RELU ('t1'): lacks an input",
    ),
    "a softmax of another steepness": (
        lambda b: _one(b, "SOFTMAX", {}, {}, "SoftmaxOptions", Beta=2.0),
        "operator 0 SOFTMAX ('t1'): its beta is 2.0; 1 is supported",
    ),
    "a tensor that is written twice": (
        _written_twice,
        "operator 1 RELU6 ('t1'): writes the tensor 't1', which is a constant, the input or written before",
    ),
    "another scale behind a change of shape": (
        lambda b: _reshaped(b, (1, 12), (1, 12), scale=0.2),
        "operator 0 RESHAPE ('t1'): its input and output have different scales, which its kernel does not convert",
    ),
    "two shapes": (
        lambda b: _reshaped(b, (1, 12), (1, 3, 2, 2)),
        "operator 0 RESHAPE ('t1'): its constant shape and that of its output 't1', (1, 12), differ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what, tmp_path):
    make, message = REFUSED[what]
    b = TfliteBuilder()
    source, out = make(b)
    path = b.save(tmp_path / "m.tflite", [source], [out])
    with pytest.raises(FewbitError, match=f"^{re.escape(f'{path}: {message}')}$"):
        load(path)


@pytest.mark.parametrize("kind, scale, zero", [("uint8", 0.05, 100), ("int16", 3e-4, 0), ("int8", 0.05, 5)])
def test_input_of_another_type(kind, scale, zero, tmp_path):
    b = TfliteBuilder()
    source, out = b.tensor((1, 200), kind, scale=scale, zero=zero), b.tensor((1, 200), scale=0.06, zero=-7)
    b.operator("QUANTIZE", [source], out)
    ends = np.iinfo(kind)
    x = np.random.default_rng(1).integers(ends.min, ends.max, (20, 200), kind, endpoint=True)
    agrees(b.save(tmp_path / "m.tflite", [source], [out]), x)


def test_a_tensor_of_no_number(tmp_path):
    b = TfliteBuilder()
    _, out = _one(b, "RELU", {}, {})
    path = b.save(tmp_path / "m.tflite", [-1], [out])
    with pytest.raises(FewbitError, match="an operator names a tensor that is not there$"):
        load(path)
