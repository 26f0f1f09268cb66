"""Arrays in a file: what was written is read, and what is damaged is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastseg.artifacts import safetensors as tensor_file
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
    tensor_file.write(tmp_path / "arrays.safetensors", ARRAYS, halve=True)
    return tmp_path / "arrays.safetensors"


@pytest.mark.parametrize("halve", [False, True])
def test_what_was_written_is_read_back_equal(tmp_path, halve):
    path = tmp_path / "arrays.safetensors"
    tensor_file.write(path, ARRAYS, halve=halve)
    found = tensor_file.read(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


def test_only_what_loses_nothing_is_halved(path, tmp_path):
    whole = tmp_path / "whole.safetensors"
    tensor_file.write(whole, ARRAYS)
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
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs the package safetensors")
    found = safetensors.load_file(path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


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
        tensor_file.read(path)


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
        tensor_file.read(path)


def test_a_value_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "arrays.safetensors"
    tensor_file.write(path, {"bad": np.array([np.nan], np.float32)})
    with pytest.raises(ModelFolderError, match="not finite"):
        tensor_file.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFolderError, match=r"nowhere.safetensors cannot be read"):
        tensor_file.read(tmp_path / "nowhere.safetensors")
