"""A small file that unpacks to much memory is refused by its header, over all its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.echo.files import read
from fastseg.errors import ImageError
from tests.helpers.ultrasound_files import coloured, write_dicom

FRAMES = np.zeros((9, 48, 64), np.uint8)
FRAMES[::2, 5:9] = 200
FRAMES[:, 0, 0] = np.arange(9)
LIMIT = 48 * 64 * 2


def clips(folder: Path) -> list[Path]:
    images = [Image.fromarray(frame) for frame in FRAMES]
    files = []
    for name in ("a.gif", "a.tif", "a.webp"):
        files.append(folder / name)
        images[0].save(files[-1], save_all=True, append_images=images[1:])
    np.savez_compressed(folder / "a.npz", image=np.stack([FRAMES] * 3, axis=3).repeat(2, axis=0))
    colours = coloured(FRAMES)
    packed = write_dicom(folder / "b.dcm", colours, "YBR_FULL_422", jpeg={})
    return [*files, folder / "a.npz", write_dicom(folder / "a.dcm", FRAMES), packed]


def test_the_limit_holds_over_all_frames_and_before_decoding(tmp_path: Path, monkeypatch) -> None:
    files = clips(tmp_path)
    for file in files:
        assert len(read(file, channels="rgb", max_pixels=None).arrays) >= len(FRAMES)
        assert len(read(file, channels="rgb", max_pixels=5 * LIMIT).arrays) >= len(FRAMES)

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("pydicom.pixels.pixel_array", decoded)
    monkeypatch.setattr("numpy.lib.npyio.NpzFile.__getitem__", decoded)
    for file in files:
        with pytest.raises(ImageError, match="max_pixels") as caught:
            read(file, channels="rgb", max_pixels=LIMIT)
        assert str(file) in str(caught.value)
