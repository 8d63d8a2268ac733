import gzip
import io

import numpy as np
import pytest

from fewbit.arrays import read, write
from fewbit.golden.errors import FewbitError


def idx(array, kind):
    return bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.mark.parametrize("kind, dtype", [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_of_every_type(tmp_path, kind, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for name, content in (("raw", idx(array, kind)), ("x.gz", gzip.compress(idx(array, kind), mtime=0))):
        (tmp_path / name).write_bytes(content)
        found = read(tmp_path / name)
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, array)


def test_written_is_read(tmp_path):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    write(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(read(tmp_path / "x.npy"), array)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


WHOLE = npy(np.arange(100))
GZIP = gzip.compress(idx(np.zeros((4, 4), np.uint8), 8), mtime=0)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds no array; pass a .npy file or an idx file (MNIST's format), raw or .gz"),
        (b"hello world", "holds no array; pass a .npy file or an idx file (MNIST's format), raw or .gz"),
        (idx(np.zeros((3, 3), np.uint8), 8)[:-1], "not a complete idx file"),
        (idx(np.zeros((3, 3), np.uint8), 8)[:7], "not a complete idx file"),
        (idx(np.zeros((3, 3), np.uint8), 8) + b"x", "not a complete idx file"),
        (GZIP[:-9], "not a complete gzip file"),
        (GZIP[:5], "not a complete gzip file"),
        (b"\x1f\x8bxxxxxxxxxxxxxxxxxxx", "not a complete gzip file"),
    ],
)
def test_not_a_whole_array(tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(FewbitError) as error:
        read(path)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize("content", [WHOLE[:7], WHOLE[:60], WHOLE[:-1], npy(np.array([{"a": 1}], object))])
def test_not_a_whole_npy(tmp_path, content):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(FewbitError, match=r"x\.npy: not a complete \.npy file of numbers"):
        read(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FewbitError) as error:
        read(tmp_path / "absent.npy")
    assert str(error.value) == f"{tmp_path / 'absent.npy'}: no such file or directory"


def test_unwritable(tmp_path):
    with pytest.raises(FewbitError) as error:
        write(tmp_path / "absent" / "x.npy", np.zeros(3))
    assert str(error.value) == f"cannot write {tmp_path / 'absent' / 'x.npy'}: no such file or directory"
