"""A model.json that nobody wrote by fastseg is a typed error, whatever it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import fastseg
from fastseg.errors import ModelFolderError
from fastseg.testing import tiny_sam_folder, tiny_unet_folder

pytest.importorskip("onnx", reason="graphs are written with onnx")


@pytest.mark.parametrize("write", [tiny_sam_folder, tiny_unet_folder])
def test_a_model_without_graphs_is_refused(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    file = write(tmp_path / "model") / "model.json"
    document = json.loads(file.read_text())
    document["graphs"] = {}
    file.write_text(json.dumps(document))
    with pytest.raises(ModelFolderError, match="no graph"):
        fastseg.load(file.parent)


@pytest.mark.parametrize("value", [10**400, 1e400, None, True, "1", [1]])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_number_that_no_float_holds_is_refused(tmp_path: Path, name: str, value: object) -> None:
    file = tiny_sam_folder(tmp_path / "model") / "model.json"
    document = json.loads(file.read_text())
    document["preprocessing"][name][1] = value
    file.write_text(json.dumps(document))
    with pytest.raises(ModelFolderError, match=name):
        fastseg.load(file.parent)
