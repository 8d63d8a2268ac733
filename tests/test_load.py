"""Files of every kind, whole and damaged: a network, or one line that says what is wrong."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import GraphBuilder, onnx

from fewbit.golden import file
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.readers import load


def onnx_file(path: Path) -> Path:
    graph = GraphBuilder(4)
    graph.quant(0.5)
    x, w = graph.x, graph.constant(np.random.default_rng(1).normal(size=(4, 3)))
    graph.node("MatMul", x, graph.bipolar(x=w))
    graph.batch_norm([1, 2, 3], [0, 1, 2], [0, 0, 1], [1, 2, 3])
    graph.bipolar()
    return graph.save(path)


def message(path: Path, **options: Any) -> str:
    """What loading ``path`` says after the path, which is one line."""
    with pytest.raises(FewbitError) as refusal:
        load(path, **options)
    text = str(refusal.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return load(onnx_file(tmp_path / "model.onnx"))


def test_both_kinds_of_file_give_the_same_network(network: Network, tmp_path: Path) -> None:
    file.save(network, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors") == network
    assert network.name == "model"


def test_a_path_may_be_a_string_and_its_suffix_upper_case(network: Network, tmp_path: Path) -> None:
    assert load(str(onnx_file(tmp_path / "MODEL.ONNX"))).layers == network.layers


def test_a_missing_file(tmp_path: Path) -> None:
    assert message(tmp_path / "no.onnx") == "no such file"
    assert message(tmp_path / "no.safetensors") == "no such file"


def test_a_directory(tmp_path: Path) -> None:
    for suffix in ("onnx", "safetensors"):
        (tmp_path / f"folder.{suffix}").mkdir()
        assert message(tmp_path / f"folder.{suffix}") == "is a directory"


def test_an_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    known = "a network must be a file .safetensors, .onnx or .tflite"
    assert message(tmp_path / "model.json") == f"{known}, not .json"
    assert message(tmp_path / "model") == f"{known}, not one without a suffix"


def test_an_input_option_is_for_onnx(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    file.save(network, path)
    assert message(path, input="uint8") == "input='uint8' is for ONNX files; this file defines its own input"


def test_an_onnx_file_cut_anywhere(tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "model.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    model = onnx.load_model_from_string(whole)
    versions = list(accumulate((2 + entry.ByteSize() for entry in reversed(model.opset_import)), initial=0))
    ends = {len(whole) - length for length in versions}
    for length in [*range(0, len(whole), 7), *range(len(whole) - 40, len(whole))]:
        path.write_bytes(whole[:length])
        if length in ends:  # only the list of operator versions, which comes last, is cut
            assert load(path).layers == load(tmp_path / "model.onnx").layers
        else:
            assert "not a whole ONNX file" in message(path), length


def test_a_native_file_cut_anywhere(network: Network, tmp_path: Path) -> None:
    file.save(network, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in [0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert message(path).startswith("not a whole .safetensors file"), length


@pytest.mark.parametrize("content", [b"", b"{}", b'{"layers": []}', b"\0" * 100, b"PK\x03\x04", bytes(range(256))])
@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_foreign_file(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"foreign.{suffix}"
    path.write_bytes(content)
    assert "not a whole" in message(path)


def test_random_bytes(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(4), tmp_path / "random.onnx"
    for length in range(1, 300):
        path.write_bytes(rng.bytes(length))
        assert message(path) == "not a whole ONNX file"


def test_each_kind_of_file_under_the_name_of_the_other(network: Network, tmp_path: Path) -> None:
    file.save(network, tmp_path / "native.safetensors")
    (tmp_path / "native.onnx").write_bytes((tmp_path / "native.safetensors").read_bytes())
    (tmp_path / "foreign.safetensors").write_bytes((tmp_path / "model.onnx").read_bytes())
    assert message(tmp_path / "native.onnx") == "not a whole ONNX file"
    assert message(tmp_path / "foreign.safetensors").startswith("not a whole .safetensors file")


def test_a_damaged_file_is_refused_or_read_but_never_a_fault(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(5), tmp_path / "damaged.onnx"
    whole = onnx_file(tmp_path / "model.onnx").read_bytes()
    refused = 0
    for _ in range(500):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=2):
            content[place] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            load(path)
        except FewbitError as error:
            refused += 1
            first, *obstacles = str(error).split("\n")
            assert not obstacles or first.endswith(f": {len(obstacles)} obstacles:")
    assert refused > 200


def test_external_data(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(onnx_file(tmp_path / "model.onnx"))
    whole = load(tmp_path / "model.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert load(tmp_path / "model.onnx") == whole
    (tmp_path / "weights.bin").unlink()
    assert "cannot be read" in message(tmp_path / "model.onnx")
