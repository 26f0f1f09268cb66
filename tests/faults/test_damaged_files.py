"""A damaged file is one typed error that names it, and the other files of a batch are done."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastseg.cli.root import run
from fastseg.echo import files as echo_files
from fastseg.errors import ImageError
from fastseg.images import read_image, read_pages
from fastseg.testing import tiny_unet_folder
from tests.helpers.ultrasound_files import coloured, tissue, write_dicom

GREY = tissue()


def film(kind: str, **options: Any) -> bytes:
    images, stream = [Image.fromarray(frame) for frame in GREY], io.BytesIO()
    images[0].save(stream, kind, save_all=True, append_images=images[1:], **options)
    return stream.getvalue()


def dicom(**options: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        colours = "jpeg" in options
        frames = coloured(GREY) if colours else GREY
        photometric = "YBR_FULL_422" if colours else "MONOCHROME2"
        return write_dicom(Path(folder, "a"), frames, photometric, **options).read_bytes()


def array(*, packed: bool) -> bytes:
    stream = io.BytesIO()
    if packed:
        np.savez_compressed(stream, image=GREY)
    else:
        np.save(stream, GREY)
    return stream.getvalue()


SEEDS = {
    "film.tif": film("TIFF"),
    "packed.tif": film("TIFF", compression="tiff_lzw"),
    "film.gif": film("GIF"),
    "film.webp": film("WEBP", lossless=True),
    "film.png": film("PNG"),
    "plain.dcm": dicom(),
    "jpeg.dcm": dicom(jpeg={}),
    "film.npy": array(packed=False),
    "film.npz": array(packed=True),
}

CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)))


def damaged(content: bytes, changes: list[tuple[float, bytes]], kept: float) -> bytes:
    """The content with bytes replaced, mostly in its header, and its end cut off."""
    made = bytearray(content)
    for place, new in changes:
        start = int(place**3 * len(made))
        made[start : start + len(new)] = new
    return bytes(made[: int(kept * len(made))])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES, kept=st.sampled_from([1.0, 1.0, 0.9, 0.4, 0.01]))
def test_damage_is_an_image_error(
    name: str, changes: list[tuple[float, bytes]], kept: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(damaged(SEEDS[name], changes, kept))
        told = str(path)
        try:
            assert echo_files.read(path, channels="rgb", max_pixels=10_000_000).arrays
        except ImageError as error:
            told = str(error)
        assert str(path) in told


FAULTS = (TypeError, IndexError, SyntaxError, AttributeError, RecursionError, MemoryError, KeyError)


@pytest.mark.parametrize("fault", [*(kind("x") for kind in FAULTS), OSError(5, "I/O")], ids=repr)
@pytest.mark.parametrize("reader", [read_image, read_pages])
def test_whatever_a_reader_raises_names_the_file(
    fault: Exception, reader: Callable[[Path], Any], tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "a.tif").write_bytes(SEEDS["film.tif"])

    def broken(*_: object) -> int:
        raise fault

    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.n_frames", property(broken))
    with pytest.raises(ImageError, match=r"a\.tif") as caught:
        reader(tmp_path / "a.tif")
    assert caught.value.__cause__ is fault


@pytest.mark.parametrize("name", SEEDS)
def test_the_others_of_a_batch_are_done(name: str, tmp_path: Path, capsys) -> None:
    model = tiny_unet_folder(tmp_path / "tiny")
    Image.fromarray(GREY[0]).save(tmp_path / "good_a2c.png")
    bad = tmp_path / f"bad_a2c_{name}"
    bad.write_bytes(SEEDS[name][: len(SEEDS[name]) // 3])
    files = [str(bad), str(tmp_path / "good_a2c.png")]
    assert run(["echo", *files, "--model", str(model), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [one["patient"] for one in document["studies"]] == ["good"]
    assert document["files"][0]["error"]["type"] == "ImageError"
    assert str(bad) in document["files"][0]["error"]["message"]
