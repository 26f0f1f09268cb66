"""A folder contributes the images in it, by content; what is left out is counted and named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.errors import EmbeddingError, ImageError
from fastseg.imaging.folders import expand_folders

FORMATS = {
    "a.png": "PNG",
    "b.jfif": "JPEG",
    "c.JPE": "JPEG",
    "d.jp2": "JPEG2000",
    "e.tga": "TGA",
    "f.gif": "GIF",
    "g": "PNG",
    "h.txt": "TIFF",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = Image.fromarray(np.full((30, 40, 3), 100, np.uint8))
    for name, form in FORMATS.items():
        image.save(tmp_path / name, form)
    return tmp_path


def test_images_count_by_content_whatever_their_suffix(folder: Path) -> None:
    assert expand_folders([folder]) == ([folder / name for name in FORMATS], [])


def test_what_is_no_image_is_left_out_and_named(folder: Path) -> None:
    (folder / "._a.png").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    (folder / "sub.png").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "damaged.png").write_bytes(b"no image at all")
    os.mkfifo(folder / "pipe.png")
    images, lines = expand_folders([folder])
    assert sorted(path.name for path in images) == sorted([*FORMATS, "damaged.png"])
    (line,) = lines
    assert "4 left out" in line
    assert all(name in line for name in ("._a.png", "notes.txt", "pipe.png", "sub.png"))


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(ImageError, match="no image in it"):
        expand_folders([tmp_path])


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path(os.devnull), Path("/dev/zero")):
        with pytest.raises(ImageError, match=r"pipe or a device|no such file"):
            fastseg.read_image(path)
        with pytest.raises(EmbeddingError):
            fastseg.Embedding.load(path)
