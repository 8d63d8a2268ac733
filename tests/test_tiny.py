"""The benchmark of MLPerf Tiny's networks, and the images of its image classification."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from benchmarks import tiny
from benchmarks.boards import Case
from benchmarks.cifar10 import CLASSES, load_test_images
from fewbit.golden.codes import integer
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Dense, Flatten, Network, TensorType

RNG = np.random.default_rng(3)


def binary_file(path, images, labels):
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(images), -1)], 1)
    records.astype(np.uint8).tofile(path)
    return path


def test_a_case_has_every_constraint():
    case = Case.parse("net.tflite@ulx3s-85f:clock=52:fps=9:max-lut=24000")
    assert (case.network, case.board) == ("net.tflite", "ulx3s-85f")
    assert case.constraints == "--clock 52 --fps 9 --max-lut 24000"
    assert (case.limits.clock_hz, case.limits.fps, case.limits.max_cells) == (52e6, 9, 24000)


def test_a_row_of_the_table():
    case = Case.parse("mnist-small@icebreaker")
    row = dict(zip(tiny.HEAD, tiny.row(case, build=False, cifar10=None)))
    plan = case.plan()
    assert list(row) == list(tiny.HEAD)
    assert (row["network"], row["device"]) == ("`mnist-small`", "Lattice iCE40UP5K")
    assert row["inferences/s"] == f"{plan.frames_per_second:,.0f}"
    assert row["LUT4"] == f"{plan.cost.cells:,}"
    assert plan.bottleneck.layer.name in row["limited by"]


def test_images_of_a_binary_file(tmp_path):
    images, labels = RNG.integers(0, 256, (30, 32, 32, 3)), np.arange(30) % 10
    read, classes = load_test_images(binary_file(tmp_path / "test_batch.bin", images, labels), None)
    np.testing.assert_array_equal(read, images)
    np.testing.assert_array_equal(classes, labels)
    read, classes = load_test_images(tmp_path / "test_batch.bin", 2)
    assert classes.tolist() == sorted([*range(10)] * 2)
    np.testing.assert_array_equal(read[:2], images[[0, 10]])


def test_a_file_that_is_none_gets_one_line(tmp_path):
    (tmp_path / "short.bin").write_bytes(bytes(3072))
    with pytest.raises(FewbitError, match=r"is not a binary file of CIFAR-10, of 3,073 bytes an image"):
        load_test_images(tmp_path / "short.bin", None)
    with pytest.raises(FewbitError, match=r"no\.tar"):
        load_test_images(tmp_path / "no.tar", None)
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("test/whale/0.jpg"), io.BytesIO())
    with pytest.raises(FewbitError, match="has no files test/CLASS"):
        load_test_images(tmp_path / "other.tar", None)


@pytest.mark.parametrize("kind", [DType("int", 8), DType("uint", 8)])
def test_accuracy_is_the_share_of_right_classes(kind, tmp_path):
    """A network whose class is that of the brightest of its first pixels, on images that show their class, but for
    some."""
    images, labels = np.zeros((20, 32, 32, 3), np.int64), np.arange(20) % len(CLASSES)
    shown = np.where(np.arange(20) < 5, (labels + 1) % 10, labels)
    images[np.arange(20), 0, shown, 0] = 255
    network = brightest(kind)
    path = binary_file(tmp_path / "test_batch.bin", images, labels)
    assert tiny.quality(network, path) == "75.00 % of 20 images"
    assert tiny.quality(network, None) == "not measured"


def brightest(kind: DType) -> Network:
    """Scores: the first channel of the first ten pixels."""
    return Network(
        name="brightest",
        input=TensorType(kind, (3, 32, 32)),
        layers=(
            Flatten(name="flatten"),
            Dense(name="first", weights=np.eye(10, 3 * 32 * 32, dtype=np.int64), code=integer(2)),
            ArgMax(name="argmax"),
        ),
    )
