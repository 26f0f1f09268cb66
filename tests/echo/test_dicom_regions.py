"""Ultrasound regions, palettes and times of DICOM clips, as ``fastseg.echo.dicom`` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastseg.cli.root import run
from fastseg.echo.dicom import read_dicom
from fastseg.errors import ImageError
from fastseg.testing import tiny_unet_folder
from tests.helpers.dicom_files import palette
from tests.helpers.ultrasound_files import region, tissue, write_dicom

pytest.importorskip("pydicom", reason="DICOM files need pydicom")

GREY = tissue()
GREY_PALETTE = palette(np.repeat(np.arange(256)[:, None] * 257, 3, axis=1))


def test_a_palette_gives_colours_that_are_rgb(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **GREY_PALETTE)
    clip = read_dicom(file)
    assert clip.channels == "rgb"
    np.testing.assert_array_equal(clip.frames, np.repeat(GREY[..., None], 3, axis=3))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"])
def test_a_compressed_palette_gives_the_same_frames(tmp_path: Path, syntax: str) -> None:
    import pydicom

    plain = write_dicom(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **GREY_PALETTE)
    made = pydicom.dcmread(plain)
    made.compress(syntax)
    made.save_as(tmp_path / "b.dcm")
    found = read_dicom(tmp_path / "b.dcm")
    np.testing.assert_array_equal(found.frames, read_dicom(plain).frames)


def test_low_values_of_monochrome1_are_bright(tmp_path: Path) -> None:
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, "MONOCHROME1"))
    np.testing.assert_array_equal(clip.frames, 255 - GREY)


def test_spectra_and_curves_are_no_tissue(tmp_path: Path) -> None:
    regions = [
        region((0, 0, 63, 10), RegionSpatialFormat=3, RegionDataType=3),
        region((0, 0, 20, 10), RegionSpatialFormat=2),
        region((10, 12, 49, 40)),
        region((12, 14, 30, 30), RegionDataType=2),
    ]
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, regions=regions))
    np.testing.assert_array_equal(clip.frames, GREY[:, 12:41, 10:50])


def test_colour_flow_alone_is_read_with_a_caution(tmp_path: Path) -> None:
    flow = region((10, 12, 49, 40), RegionDataType=2, PhysicalDeltaX=0.2, PhysicalDeltaY=0.2)
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, regions=[flow]))
    assert clip.frames.shape == (3, 29, 40)
    assert any("colour flow" in caution for caution in clip.cautions)


def test_the_whole_frame_is_taken_if_it_is_asked_for(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "a.dcm", GREY, regions=[region((10, 12, 49, 40))])
    clip = read_dicom(file, whole_frame=True)
    np.testing.assert_array_equal(clip.frames, GREY)
    assert clip.cm_per_pixel == pytest.approx(0.05)


def test_a_region_of_the_screen_is_reduced_with_its_frames(tmp_path: Path) -> None:
    frames = tissue(1, 240, 320)
    stated = region((84, 31, 595, 414), PhysicalDeltaX=0.02, PhysicalDeltaY=0.02)
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", frames, regions=[stated]))
    np.testing.assert_array_equal(clip.frames, frames[:, 16:207, 42:298])
    assert clip.cm_per_pixel == pytest.approx(0.04)
    assert any("reduced 2 times" in caution for caution in clip.cautions)


@pytest.mark.parametrize("corners", [(0, 0, 900, 400), (0, 0, 400, 700)])
def test_a_region_that_fits_no_screen_is_refused(tmp_path: Path, corners) -> None:
    file = write_dicom(tmp_path / "a.dcm", tissue(1, 233, 320), regions=[region(corners)])
    with pytest.raises(ImageError, match="outside its frames"):
        read_dicom(file)


def test_a_depth_that_no_heart_has_is_cautioned(tmp_path: Path) -> None:
    for side, words in ((0.05, "deep"), (0.9, "deep"), (0.3, None)):
        stated = region(PhysicalDeltaX=side, PhysicalDeltaY=side)
        clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, regions=[stated]))
        assert bool(clip.cautions) == (words is not None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"FrameTime": "33.3"}, 33.3),
        ({"FrameTimeVector": ["0", "30", "50"]}, 40.0),
        ({"CineRate": "50"}, 20.0),
        ({"FrameTime": "0", "CineRate": "25"}, 40.0),
        ({}, None),
    ],
)
def test_the_time_between_frames_is_read(tmp_path: Path, fields, expected) -> None:
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, **fields))
    assert clip.timing.frame_ms == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("rate", "expected"), [("61", 61), ("0", None)])
def test_the_heart_rate_is_read_and_0_is_none(tmp_path: Path, rate: str, expected) -> None:
    more = {"HeartRate": rate, "RWaveTimeVector": [12.0, 900.0]}
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, **more))
    assert clip.timing.heart_rate == expected
    assert clip.timing.r_wave_ms == (12, 900)


def test_cautions_reach_the_terminal_and_the_document(tmp_path: Path, capsys) -> None:
    model = tiny_unet_folder(tmp_path / "tiny")
    file = write_dicom(tmp_path / "p_a2c.dcm", GREY)
    run(["echo", str(file), "--model", str(model), "--json"])
    found = capsys.readouterr()
    (row,) = json.loads(found.out)["files"]
    assert "deep" in row["cautions"][0]
    assert "caution, " in found.err


def test_the_clip_of_pydicom_is_read() -> None:
    from pydicom.data import get_testdata_file

    clip = read_dicom(str(get_testdata_file("examples_ybr_color.dcm")))
    assert clip.frames.shape == (30, 191, 256, 3)
    assert clip.channels == "ycbcr"
