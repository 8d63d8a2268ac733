"""The native file: what is saved is loaded, and what is not whole is refused in one line that names the file."""

from __future__ import annotations

import json
import re
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_design, random_threshold
from safetensors.numpy import save_file

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.file import load, save
from fewbit.golden.network import Affine, ArgMax, Dense, Flatten, InputQuantizer, Network, TensorType


def small(code: str = "ternary") -> Network:
    rng, kind = np.random.default_rng(1), Code.parse(code)
    return Network(
        name="small",
        input=TensorType(DType.parse("uint2"), (2, 3)),
        layers=(
            Flatten(name="flatten"),
            Dense(name="dense", weights=rng.choice(kind.levels, (5, 6)), code=kind),
            random_threshold(rng, "threshold", DType.parse("int2"), 5, -9, 9),
            ArgMax(name="argmax"),
        ),
        input_quantizer=InputQuantizer(thresholds=np.array([0.1, 0.5, 0.9], np.float32), sign=1, base=0),
    )


def described(path) -> dict:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def with_description(path, text: str) -> None:
    """The file again with another description, its tensors untouched."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = described(path)
    header["__metadata__"]["fewbit"] = text
    fresh = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(fresh)) + fresh + content[8 + length :])


def refused(path, message: str):
    return pytest.raises(FewbitError, match=f"^{re.escape(str(path))}: {message}$")


@pytest.fixture
def path(tmp_path):
    save(small(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("code", ["binary", "ternary", "quinary", "shift3", "shift3(2)", "csd(2,5)", "int(4)"])
def test_load_gives_what_save_took(code, tmp_path):
    save(small(code), tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors") == small(code)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 32))
def test_random_networks_come_back(tmp_path, seed):
    network, _ = random_design(np.random.default_rng(seed))
    save(network, tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors") == network


def test_output_scale_bias_and_shape_come_back(tmp_path):
    network = Network(
        name="größe",
        input=TensorType(DType.parse("bipolar"), (3,)),
        layers=(Dense(name="d", weights=np.ones((4, 3)), code=Code.parse("binary")),),
        output_scale=[0.1, -0.2, 1e-300, np.pi],
        output_bias=[0.25],
        output_shape=(2, 2),
    )
    save(network, str(tmp_path / "net.safetensors"))
    assert load(str(tmp_path / "net.safetensors")) == network


def test_weights_take_the_bits_of_their_code(path):
    assert described(path)["layers.1.weights"]["shape"] == [-(-5 * 6 * 2 // 8)]


@pytest.mark.parametrize(
    "values, kind",
    [([0, 255], "U8"), ([-1, 127], "I8"), ([-1, 128], "I16"), ([0, 256], "U16"), ([-1, 1 << 16], "I32"),
     ([0, 1 << 31], "U32"), ([-1, 1 << 31], "I64"), ([-(1 << 62), 1 << 62], "I64")],
)  # fmt: skip
def test_integers_take_the_fewest_bytes_that_hold_them(tmp_path, values, kind):
    network = Network(
        name="affine",
        input=TensorType(DType.parse("uint1"), (2,)),
        layers=(Affine(name="affine", scale=[1, 1], bias=values),),
    )
    save(network, tmp_path / "net.safetensors")
    assert described(tmp_path / "net.safetensors")["layers.0.bias"]["dtype"] == kind
    assert load(tmp_path / "net.safetensors") == network


def test_saving_leaves_nothing_beside_the_file(path):
    save(small("binary"), path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert load(path) == small("binary")


def test_truncated_anywhere(path):
    content = path.read_bytes()
    for length in [*range(64), *range(64, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with refused(path, r"not a whole \.safetensors file \(.*\)"):
            load(path)


def test_no_file_and_a_folder(tmp_path):
    with refused(tmp_path / "absent", "no such file"):
        load(tmp_path / "absent")
    with refused(tmp_path, r".+"):
        load(tmp_path)


def test_a_foreign_file(path):
    save_file({"a": np.ones(3, np.float32)}, path)
    with refused(path, r"a \.safetensors file without a fewbit network in it"):
        load(path)
    path.write_bytes(b"PK\x03\x04" * 100)
    with refused(path, r"not a whole \.safetensors file \(.*\)"):
        load(path)


def test_a_newer_version(path):
    text = described(path)["__metadata__"]["fewbit"]
    with_description(path, text.replace('"version": 1', '"version": 3'))
    with refused(path, "written in version 3 of the format, this reads 1 to 2"):
        load(path)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[:-5], r"the network description is damaged \(JSONDecodeError: .*\)"),
        (lambda text: "[]", r"the network description is damaged \(TypeError: .*\)"),
        (
            lambda text: text.replace('"layers"', '"leyers"'),
            r"the network description is damaged \(KeyError: 'layers'\)",
        ),
        (
            lambda text: text.replace('"shape": [5, 6]', '"shape": [5, 7]'),
            r"\(5, 7\) ternary weights take 9 bytes, not 8",
        ),
        (
            lambda text: text.replace('"shape": [5, 6]', '"shape": "5"'),
            "layer 'dense': shape must be a list of whole numbers, not '5'",
        ),
        (
            lambda text: text.replace('"code": "ternary"', '"code": "quaternary"'),
            r"weight code must be .*, not 'quaternary'",
        ),
        (
            lambda text: text.replace('"kind": "argmax"', '"kind": "softmax"'),
            "layer 'argmax' is of the unknown kind 'softmax'",
        ),
        (
            lambda text: text.replace('"base": -2', '"base": 2'),
            "layer 'threshold': levels 2 to 5 do not fit int2",
        ),
        (lambda text: text.replace('"uint2"', '"uint99"'), "a number kind has 1 to 64 bits, not 99"),
        (
            lambda text: text.replace('"name": "dense"', '"nome": "dense"'),
            r"the network description is damaged \(TypeError: .*\)",
        ),
        (
            lambda text: text.replace('"shape": [2, 3]', '"shape": ["2", 3]'),
            r"network: the shape of its input must be a list of whole numbers, not \['2', 3\]",
        ),
        (
            lambda text: text.replace('"shape": [2, 3]', '"shape": [2.5, 4]'),
            r"network: the shape of its input must be a list of whole numbers, not \[2\.5, 4\]",
        ),
        (
            lambda text: text.replace('"base": -2', '"base": -2.5'),
            "layer 'threshold': base must be a whole number of 64 bits, not -2.5",
        ),
        (
            lambda text: text.replace('"across": false', '"across": "no"'),
            "layer 'dense': across must be true or false, not 'no'",
        ),
        (lambda text: text.replace('"name": "small"', '"name": 1'), "network: name must be a string, not 1"),
        (
            lambda text: text.replace('"shape": [2, 3]', f'"shape": {[1] * 30 + [2, 3]}'),
            "a frame has 32 axes, 31 are the most",
        ),
        (
            lambda text: text.replace('"shape": [2, 3]', f'"shape": {[1 << 40, 1 << 40]}'),
            r"a frame has the shape \(1099511627776, 1099511627776\): 16,777,216 elements are the most",
        ),
        (
            lambda text: text.replace('"shape": [5, 6]', f'"shape": {[1 << 33, 1 << 33]}'),
            r"layer 'dense': the array of its weights has the shape \(8589934592, 8589934592\): .*",
        ),
        (
            lambda text: text.replace('"layers": [', '"layers": ' + "[" * 100_000),
            "the network description is damaged: its lists nest too deep",
        ),
        (
            lambda text: text.replace('"output_shape": null', f'"output_shape": {[1] * 32}'),
            "network 'small': its output_shape has 32 axes, 31 are the most",
        ),
    ],
)
def test_a_damaged_description(path, damage, message):
    text = described(path)["__metadata__"]["fewbit"]
    assert damage(text) != text
    with_description(path, damage(text))
    with refused(path, message):
        load(path)


def test_tensors_that_are_missing(path):
    save_file({"a": np.ones(3)}, path, described(path)["__metadata__"])
    with refused(path, r"the network description is damaged \(KeyError: 'weights'\)"):
        load(path)


def test_the_same_network_gives_the_same_bytes(path, tmp_path):
    for name in ("one", "two"):
        save(small(), tmp_path / name)
        assert (tmp_path / name).read_bytes() == path.read_bytes()


def test_an_unwritable_place(tmp_path):
    with pytest.raises(FewbitError, match=r"^cannot write .*/absent/net: no such file or directory$"):
        save(small(), tmp_path / "absent" / "net")
    (tmp_path / "file").write_text("")
    with pytest.raises(FewbitError, match=r"^cannot write .*/file/net: not a directory$"):
        save(small(), tmp_path / "file" / "net")
