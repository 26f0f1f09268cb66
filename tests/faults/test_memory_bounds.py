"""Small files that ask for much memory are refused by what they say of themselves."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg.artifacts.registry import find
from fastseg.errors import EmbeddingError, ModelFolderError, PromptError
from fastseg.geometry import Frame
from fastseg.sam.embedding import Embedding
from fastseg.testing import tiny_sam_folder
from tests.helpers.processes import finish

PACKED_EMBEDDING = """
import resource, sys
from fastseg import FastsegError
from fastseg.sam.embedding import Embedding
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Embedding.load(sys.argv[1])
except FastsegError as error:
    print(type(error).__name__)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
MEGABYTE_KIB = 1024


def written(folder: Path, family: str, side: object) -> Path:
    """Write a model folder whose ``model.json`` says another side than its graph."""
    if family == "sam":
        tiny_sam_folder(folder)
    else:
        shutil.copytree(find("echo-a4c"), folder)
    manifest = folder / "model.json"
    document = json.loads(manifest.read_text())
    document["preprocessing"]["side"] = side
    manifest.write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("family", ["sam", "unet"])
@pytest.mark.parametrize("side", [-16, 0, 15, 144, 2048, 4112, 2**24, 2**40, 10**400])
def test_a_side_that_its_graph_does_not_take_is_refused_at_load(tmp_path, family, side):
    folder = written(tmp_path / "model", family, side)
    with pytest.raises(ModelFolderError, match=r"side|pixels"):
        fastseg.load(folder)


def test_a_packed_embedding_is_refused_before_it_is_unpacked(tmp_path):
    file = tmp_path / "embedding.npz"
    side = 16 * 1600
    with file.open("wb") as opened:
        np.savez_compressed(
            opened,
            format=np.int64(1),
            features=np.zeros((256, 512, 512), np.float32),
            frame=np.array([10, 10, side], np.int64),
            model=np.array("x" * 64),
        )
    assert file.stat().st_size < 2**20
    done = finish([sys.executable, "-c", PACKED_EMBEDDING, file])
    assert done.returncode == 0, done.stderr
    kind, grown = done.stdout.split()
    assert kind == "EmbeddingError"
    assert int(grown) < 64 * MEGABYTE_KIB


def test_an_embedding_that_announces_more_than_it_holds_is_refused(tmp_path):
    file = tmp_path / "embedding.npz"
    Embedding(np.zeros((256, 4, 4), np.float32), Frame((10, 10), 64), "x" * 64).save(file)
    assert Embedding.load(file).frame.side == 64
    stored = file.read_bytes()
    header = b"(256, 4, 4), }"
    assert stored.count(header) == 1
    file.write_bytes(stored.replace(header, b"(256,999999,99)"[: len(header)]))
    with pytest.raises(EmbeddingError):
        Embedding.load(file)


@pytest.mark.parametrize("layers", [3, 5])
def test_crops_without_a_pixel_name_the_setting(tmp_path, layers):
    with (
        fastseg.load(tiny_sam_folder(tmp_path / "tiny")) as model,
        pytest.raises(PromptError, match=f"crop_n_layers={layers}"),
    ):
        model.everything(np.zeros((20, 20, 3), np.uint8), points_per_side=1, crop_n_layers=layers)
