"""Mutants of native model files and of arrays, and what is to hold of those that still load."""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
import random
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from networks import random_design

from fewbit import arrays
from fewbit.golden import file as native
from fewbit.golden.network import ArgMax
from fewbit.golden.run import dequantize_output, run

ROOT = Path(__file__).parent.parent
_FILES = (
    "fashion-conv", "lenet5-binary", "lenet5-csd-1-5", "lenet5-int-4", "lenet5-quinary", "lenet5-shift3",
    "lenet5-ternary-two-scales", "lenet5-ternary", "mnist-conv", "mnist-small",
)  # fmt: skip
"""By name, so that a mutant's number means the same when there are more."""
_LEAVES = (
    None, True, False, -1, 0, 1, 2, 3, 7, 16, 31, 1 << 20, 1 << 31, 1 << 63, -(1 << 63), 10**40, 0.5, 1e300,
    float("nan"), "", "x", "uint8", "int4", "uint64", "int64", "bipolar", "csd(2,5)", "csd(8,16)", "int(16)",
    "binary", "max", "sum", [], {}, [1], [1, 1], [2, 2], [0, 0], [1] * 4, [3] * 80, [[1]], "n" * 2000,
    [1 << 20, 1 << 20],
)  # fmt: skip
_TYPES = ("U8", "I8", "I16", "U16", "I32", "I64", "U64", "F16", "BF16", "F32", "F64", "F8_E4M3", "BOOL", "C64", "X")


@cache
def _models() -> list[bytes]:
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        for seed in range(12):
            native.save(random_design(np.random.default_rng(seed))[0], path)
            made.append(path.read_bytes())
    return made * 2 + [(ROOT / f"models/{name}.safetensors").read_bytes() for name in _FILES]


def model_mutant(number: int) -> bytes:
    """A native file of which header, description or bytes are changed."""
    rng = random.Random(f"safetensors {number}")
    content = rng.choice(_models())
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice(_MUTATIONS)(header, data, rng)
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + data
    return _bytes(content, rng) if rng.random() < 0.1 else content


def _description(header: Any, data: bytearray, rng: random.Random) -> None:
    metadata = header.get("__metadata__", {})
    try:
        described = json.loads(metadata["fewbit"])
    except (KeyError, ValueError, RecursionError):  # it has been mutated already
        return
    places = list(_places(described))
    holder, key = rng.choice(places)
    how = rng.randrange(8)
    if isinstance(holder[key], int) and how > 5:
        holder[key] += rng.choice((-2, -1, 1, 2, 100))
    elif how == 0:
        del holder[key]
    elif how == 1:
        other, name = rng.choice(places)
        holder[key] = copy.deepcopy(other[name])
    elif how == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif how == 4 and isinstance(holder[key], list):
        rng.shuffle(holder[key])
    else:
        holder[key] = copy.deepcopy(rng.choice(_LEAVES))
    text = json.dumps(described)
    if rng.random() < 0.02:
        text = text.replace("[", "[" * rng.choice((10, 3000)), 1)
    metadata["fewbit"] = text


def _places(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _tensor_entry(header: Any, data: bytearray, rng: random.Random) -> None:
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return
    name, how = rng.choice(names), rng.randrange(5)
    entry = header[name]
    if how == 0:
        del header[name]
    elif how == 1:
        entry["dtype"] = rng.choice(_TYPES)
    elif how == 2:
        entry["shape"] = rng.choice(([], [0], [1], [1 << 40], [1 << 63], entry["shape"][::-1], [*entry["shape"], 1]))
    elif how == 3:
        entry["data_offsets"] = [rng.choice((0, 1, 8, -1, 1 << 62)), rng.choice((0, 8, 64, 1 << 63))]
    else:
        header[rng.choice((*names, "x"))] = header.pop(name)


def _one_number(header: Any, data: bytearray, rng: random.Random) -> None:
    """A step up or down of one number of a tensor: what it makes is often a network still."""
    names = [name for name in header if name != "__metadata__" and isinstance(header[name].get("data_offsets"), list)]
    if not names:
        return
    start, stop = header[rng.choice(names)]["data_offsets"]
    if 0 <= start < stop <= len(data):
        place = rng.randrange(start, stop)
        data[place] = data[place] + rng.choice((-1, 1)) & 255


def _data(header: Any, data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 16)):
        if data:
            data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def _bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(min(len(changed), rng.choice((4, 16, 64, 1 << 30))))
        changed[place] = rng.choice((0, 1, 255, changed[place] ^ 1 << rng.randrange(8)))
    if rng.random() < 0.3:
        return bytes(changed[: rng.randrange(len(changed))])
    return bytes(changed) + bytes(rng.choice((0, 0, 1, 100)))


def check_model(path: Path) -> str:
    """A network that loads is saved and loaded as itself, and each layer gives what its type says."""
    network = native.load(path)
    again = path.with_name(f"again-{path.name}")
    native.save(network, again)
    assert native.load(again) == network, "is another one when it is saved and loaded"
    if network.input.size > 1 << 16 or any(kind.size > 1 << 18 for kind in network.tensor_types):
        return "loaded"
    rng, kind = np.random.default_rng(1), network.input.dtype
    frames = rng.integers(kind.min, kind.max, (2, *network.input.shape), np.int64, endpoint=True)
    if kind.kind == "bipolar":
        frames = np.where(frames < 0, -1, 1)
    result = run(network, frames)
    for made, of in zip(result.tensors, network.tensor_types):
        assert made.shape[1:] == of.shape, f"makes {made.shape[1:]} of {of}"
        assert of.dtype.contains(made), f"makes {made.min()} to {made.max()} of {of}"
    with np.errstate(over="ignore"):  # a scale beyond float32
        dequantize_output(network, result.tensors[-1])
    assert isinstance(network.layers[-1], ArgMax) or network.output.size >= 1
    return "equal"


_MUTATIONS = (_description, _description, _description, _one_number, _one_number, _data, _tensor_entry)


@cache
def _arrays() -> list[Any]:
    rng = np.random.default_rng(1)
    shapes = ((), (0,), (7,), (3, 4), (2, 3, 4), (1, 1, 1, 5))
    kinds = ("u1", "i1", ">i2", ">i4", ">f4", ">f8")
    return [(rng.standard_normal(shape) * 9).astype(np.int8).astype(kind) for shape in shapes for kind in kinds]


_HEADERS = (
    (b"'shape': (", b"'shape': (-"), (b"'shape': (", b"'shape': (1, "), (b"False", b"True "), (b"False", b"1    "),
    (b"'>f4'", b"'>c8'"), (b"'|u1'", b"'|O8'"), (b"'|u1'", b"'|b1'"), (b"'>i2'", b"'<u2'"), (b"3, 4)", b"4, 3)"),
    (b"(7,)", b"(9*9"), (b"(", b"((((("), (b"'descr'", b"'dosca'"), (b"7", b"7" * 20), (b"'>f8'", b"[('a', '<f8')]"),
)  # fmt: skip


def npy_mutant(number: int) -> bytes:
    rng = random.Random(f"npy {number}")
    file = io.BytesIO()
    array = rng.choice(_arrays())
    np.save(file, np.asfortranarray(array) if rng.random() < 0.3 else array)
    content = file.getvalue()
    if rng.random() < 0.6:
        old, new = rng.choice(_HEADERS)
        content = content.replace(old, new)
    return _bytes(content, rng) if rng.random() < 0.6 else content


def check_npy(path: Path) -> str:
    """What is read is what NumPy reads."""
    found = arrays.read(path)
    content = path.read_bytes()
    if content[:6] != b"\x93NUMPY":
        return "loaded"
    wanted = np.load(io.BytesIO(content), allow_pickle=False)
    assert np.array_equal(found, wanted, equal_nan=found.dtype.kind == "f"), "differs from what NumPy reads"
    assert found.dtype == wanted.dtype.newbyteorder("="), f"is {found.dtype}, not {wanted.dtype}"
    return "equal"


def _idx(array: Any) -> bytes:
    kind = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_mutant(number: int) -> bytes:
    rng = random.Random(f"idx {number}")
    content = bytearray(_idx(rng.choice(_arrays())))
    how = rng.randrange(5)
    if how == 0:
        content[3] = rng.choice((0, 1, 2, 8, 33, 64, 100, 255))
    elif how == 1 and len(content) >= 8:
        content[4:8] = struct.pack(">I", rng.choice((0, 1, 2, 1 << 16, 1 << 31, (1 << 32) - 1)))
    elif how == 2:
        content[2] = rng.randrange(16)
    elif how == 3:
        axes = rng.choice((1, 4, 8, 32, 33, 100))
        sizes = [rng.choice((0, 1, 1, 1, 256, 65536, 1 << 31)) for _ in range(axes)]
        content[3:] = bytes([axes]) + struct.pack(f">{axes}I", *sizes) + bytes(rng.choice((0, 1, 8)))
    return _bytes(bytes(content), rng) if rng.random() < 0.5 else bytes(content)


def check_idx(path: Path) -> str:
    """What is read is what the header says, number by number."""
    found, content = arrays.read(path), path.read_bytes()
    if content[:2] != b"\0\0":
        return "loaded"
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    letter = {8: "B", 9: "b", 11: "h", 12: "i", 13: "f", 14: "d"}[content[2]]
    wanted = struct.unpack_from(f">{math.prod(shape)}{letter}", content, 4 + 4 * len(shape))
    assert found.shape == shape
    assert np.array_equal(found.ravel(), np.array(wanted), equal_nan=True), "differs from its bytes"
    return "equal"


def gz_mutant(number: int) -> bytes:
    rng = random.Random(f"gz {number}")
    content = gzip.compress(idx_mutant(rng.randrange(1 << 30)), mtime=0)
    if rng.random() < 0.2:
        content += content
    return _bytes(content, rng) if rng.random() < 0.7 else content


def check_gz(path: Path) -> str:
    """What is read is what the unpacked file is."""
    found = arrays.read(path)
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return "loaded"
    plain = path.with_name(f"plain-{path.name}")
    plain.write_bytes(gzip.decompress(content))
    assert np.array_equal(found, arrays.read(plain), equal_nan=found.dtype.kind == "f"), "differs from what it holds"
    return "equal"


KINDS: dict[str, tuple[Callable[[int], bytes], Callable[[Path], str], str]] = {
    "safetensors": (model_mutant, check_model, ".safetensors"),
    "npy": (npy_mutant, check_npy, ".npy"),
    "idx": (idx_mutant, check_idx, ""),
    "gz": (gz_mutant, check_gz, ".gz"),
}
"""Of each kind of file: what makes a mutant, what checks it, and the suffix."""
