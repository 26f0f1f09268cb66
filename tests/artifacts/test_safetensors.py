"""Arrays in a file: what was written is read, and what is damaged is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastseg.artifacts import safetensors
from fastseg.errors import ModelFolderError

ARRAYS = {
    "round": np.arange(12, dtype=np.float32).reshape(3, 4) / 8,
    "fine": np.array([[1 / 3], [1e-9]], np.float32),
    "large": np.array([1e6], np.float32),
    "none": np.zeros((0, 2), np.float32),
    "single": np.array(0.25, np.float32),
}


@pytest.fixture
def path(tmp_path):
    safetensors.write(tmp_path / "arrays.safetensors", ARRAYS, lossless_fp16=True)
    return tmp_path / "arrays.safetensors"


@pytest.mark.parametrize("lossless_fp16", [False, True])
def test_what_was_written_is_read_back_equal(tmp_path, lossless_fp16):
    path = tmp_path / "arrays.safetensors"
    safetensors.write(path, ARRAYS, lossless_fp16=lossless_fp16)
    found = safetensors.read(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


def test_only_what_loses_nothing_is_halved(path, tmp_path):
    whole = tmp_path / "whole.safetensors"
    safetensors.write(whole, ARRAYS)
    header = json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert {name: entry["dtype"] for name, entry in header.items()} == {
        "round": "F16",
        "fine": "F32",
        "large": "F32",
        "none": "F16",
        "single": "F16",
    }
    assert path.stat().st_size == whole.stat().st_size - 2 * (12 + 1)


def test_the_package_of_that_format_reads_the_same(path):
    package = pytest.importorskip("safetensors.numpy", reason="needs the package safetensors")
    found = package.load_file(path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_each_array_begins_at_a_multiple_of_its_own_width(tmp_path):
    path = tmp_path / "arrays.safetensors"
    arrays = {"three halves": np.ones(3, np.float32), "whole": np.full(5, 0.1, np.float32)}
    safetensors.write(path, arrays, lossless_fp16=True)
    for entry in safetensors.entries(path).values():
        assert entry.offset % (entry.bytes // entry.shape[0]) == 0


def test_the_header_tells_shapes_and_places(path):
    content, read = path.read_bytes(), safetensors.read(path)
    for name, entry in safetensors.entries(path).items():
        stored = content[entry.offset : entry.offset + entry.bytes]
        dtype = "<f2" if entry.bytes == 2 * read[name].size else "<f4"
        np.testing.assert_array_equal(np.frombuffer(stored, dtype).reshape(entry.shape), read[name])


def edited(path, change) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize("length", [0, 5, 8, 40, -1])
def test_a_truncated_file_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFolderError, match=r"arrays.safetensors.*export the model again"):
        safetensors.read(path)


@pytest.mark.parametrize("length", [0, 5, 8, 40])
def test_a_truncated_header_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFolderError, match=r"arrays.safetensors.*export the model again"):
        safetensors.entries(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["round"].update(shape=[3, 5]),
        lambda h: h["round"].update(dtype="I64"),
        lambda h: h["round"].update(data_offsets=[-24, 0]),
        lambda h: h["round"].update(data_offsets=[0, 10**12], shape=[10**12 // 2]),
        lambda h: h["round"].update(shape=[3.0, 4]),
        lambda h: h["round"].pop("shape"),
        lambda h: h.update(round=None),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(path, change):
    edited(path, change)
    with pytest.raises(ModelFolderError, match=r"arrays.safetensors holds no arrays"):
        safetensors.read(path)


def test_a_value_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "arrays.safetensors"
    safetensors.write(path, {"bad": np.array([np.nan], np.float32)})
    with pytest.raises(ModelFolderError, match="not finite"):
        safetensors.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFolderError, match=r"nowhere.safetensors cannot be read"):
        safetensors.read(tmp_path / "nowhere.safetensors")
