"""Promises of ``fastseg.echo.files``: views and patients from file names, and frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.echo.dicom import StudyHeader
from fastseg.echo.files import read, recognise
from fastseg.errors import ImageError, MeasurementError


@pytest.mark.parametrize(
    ("name", "view", "patient"),
    [
        ("patient7_A2C_DIA.png", "a2c", "patient7"),
        ("A4C_EX01.npz", "a4c", ""),
        ("study-12.sax.3.tiff", "sax", "study-12"),
        ("p7 a4c.npy", "a4c", "p7"),
        ("p7_a4c_of_a4c.npy", "a4c", "p7"),
    ],
)
def test_view_and_patient_come_from_the_file_name(name: str, view: str, patient: str) -> None:
    found = recognise(Path(name))
    assert (found.view, found.patient) == (view, patient)


def test_options_take_precedence_over_the_file_name() -> None:
    found = recognise(Path("p7_a2c.png"), view="a4c", patient="p8")
    assert (found.view, found.patient) == ("a4c", "p8")
    assert recognise(Path("scan.png"), view="sax").patient == ""


def test_the_default_view_is_for_names_without_a_view_alone() -> None:
    assert recognise(Path("scan.png"), default_view="a2c").view == "a2c"
    assert recognise(Path("p7_a4c.png"), default_view="a2c").view == "a4c"
    with pytest.raises(MeasurementError, match="a2c and sax"):
        recognise(Path("p_a2c_sax.png"), default_view="a2c")


@pytest.mark.parametrize("name", ["scan.png", "a2cx.png", "p_a2c_sax.png"])
def test_a_name_without_one_view_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(MeasurementError, match="--view"):
        recognise(Path(name))


def test_a_view_is_found_in_frames_only_where_nothing_names_it() -> None:
    def found(path: Path) -> str:
        return "a4c"

    def unclear(path: Path) -> str:
        raise MeasurementError("no view clearly fits.")

    def of(name: str, find_view=found, **more) -> tuple[str, str]:
        file = recognise(Path(name), find_view=find_view, **more)
        return file.view, file.view_found_by

    assert of("scan.dcm") == ("a4c", "networks")
    assert of("scan.dcm", header=StudyHeader()) == ("a4c", "networks")
    assert of("p7_a2c.dcm", unclear) == ("a2c", "name")
    assert of("p7_a2c.dcm", unclear, header=StudyHeader("sax")) == ("sax", "header")
    assert of("scan.dcm", unclear, header=StudyHeader("sax"), view="a2c") == ("a2c", "option")
    assert of("scan.dcm", unclear, default_view="sax") == ("sax", "option")
    with pytest.raises(MeasurementError, match=r"no view clearly fits\. Give its view by --view"):
        of("scan.dcm", unclear)
    with pytest.raises(MeasurementError, match="a2c and sax in its name"):
        of("p_a2c_sax.dcm")


def test_single_frames_of_a_view_are_one_clip() -> None:
    first, second = recognise(Path("x/p7_a2c_1.png")), recognise(Path("x/p7_a2c_2.png"))
    assert first.clip(1) == second.clip(1)
    assert first.clip(9) != second.clip(9)
    nobody = recognise(Path("a2c_1.png")), recognise(Path("a2c_2.png"))
    assert nobody[0].clip(1) != nobody[1].clip(1)
    assert nobody[0].study != nobody[1].study


def test_every_page_of_a_tiff_or_gif_is_a_frame(tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    images = [Image.fromarray(page) for page in pages]
    for name in ("clip.tiff", "clip.gif"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
        clip = read(tmp_path / name, channels="ycbcr", max_pixels=None)
        assert clip.channels == "rgb", "an image file knows its own channels"
        assert [clip.stem(index) for index in (0, 2)] == ["clip-0000", "clip-0002"]
        np.testing.assert_array_equal(np.stack(clip.arrays)[..., 0], pages)


def test_the_pixel_limit_holds_for_gifs_with_many_frames(tmp_path: Path) -> None:
    images = [Image.new("L", (50, 40)), Image.new("L", (50, 40), 9)]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:])
    with pytest.raises(ImageError, match="max_pixels"):
        read(tmp_path / "clip.gif", channels="rgb", max_pixels=1000)


def test_a_truncated_gif_is_refused_as_damaged(tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:])
    whole = (tmp_path / "clip.gif").read_bytes()
    (tmp_path / "clip.gif").write_bytes(whole[: len(whole) - len(whole) // 6])
    with pytest.raises(ImageError, match=r"clip.gif"):
        read(tmp_path / "clip.gif", channels="rgb", max_pixels=None)


def test_a_frame_becomes_an_image_in_its_own_colours(tmp_path: Path) -> None:
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[..., 0], colours[..., 1] = 200, 90
    np.save(tmp_path / "one.npy", colours)
    shown = {
        channels: read(tmp_path / "one.npy", channels=channels, max_pixels=None).as_image(0)[0, 0]
        for channels in ("rgb", "bgr", "ycbcr")
    }
    assert shown["rgb"].tolist() == [200, 90, 0]
    assert shown["bgr"].tolist() == [0, 90, 200]
    assert shown["ycbcr"].tolist() == [200, 200, 200]


def test_ycbcr_arrays_are_not_read_as_rgb(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    luma = random.integers(0, 256, (40, 40), dtype=np.uint8)
    chroma = random.integers(120, 136, (40, 40, 2), dtype=np.uint8)
    stored = np.concatenate([luma[..., None], chroma], axis=2)
    grey = luma[..., None].repeat(3, axis=2)
    tinted = np.stack([luma, luma // 2 + 20, luma // 3], axis=2)  # a colour map
    flat = np.full((40, 40, 3), 128, np.uint8)
    for name, frame in (("stored", stored), ("scaled", (stored / 255).astype(np.float32))):
        np.save(tmp_path / f"{name}.npy", frame)
        with pytest.raises(ImageError, match="--channels ycbcr"):
            read(tmp_path / f"{name}.npy", channels=None, max_pixels=None)
        for told in ("ycbcr", "rgb"):
            assert read(tmp_path / f"{name}.npy", channels=told, max_pixels=None).channels == told
    for name, frame in (("grey", grey), ("tinted", tinted), ("flat", flat), ("dark", flat * 0)):
        np.save(tmp_path / f"{name}.npy", frame)
        assert read(tmp_path / f"{name}.npy", channels=None, max_pixels=None).channels == "rgb"


def test_published_ycbcr_frames_are_recognised(echo_examples: Path) -> None:
    for file in sorted(echo_examples.glob("A[24]C_EX*.npz")):
        with pytest.raises(ImageError, match="--channels ycbcr"):
            read(file, channels=None, max_pixels=None)
    for file in sorted(echo_examples.glob("SAX_EX*.npz")):
        with np.load(file) as stored:
            grey = bool((stored["image"] == stored["image"][..., :1]).all())
        if grey:
            assert read(file, channels=None, max_pixels=None).channels == "rgb"
