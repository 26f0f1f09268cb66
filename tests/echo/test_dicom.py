"""Promises of ``fastseg.echo.dicom``, on files that the tests write themselves."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fastseg.cli.root import run
from fastseg.echo.dicom import is_dicom, read_dicom
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.testing import tiny_unet_folder
from tests.helpers.chamber_bodies import draw, ellipse
from tests.helpers.fresh_interpreter import loaded_by

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")

COLOURS = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)


def region(*, corners=(10, 5, 49, 34), delta=(0.05, 0.05), units=3, form=1, tissue=1):
    made = pydicom.Dataset()
    made.RegionSpatialFormat, made.RegionDataType = form, tissue
    made.RegionLocationMinX0, made.RegionLocationMinY0 = corners[:2]
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = corners[2:]
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = delta
    return made


def write(path: Path, frames: np.ndarray, photometric: str = "YBR_FULL", regions=(), bits=8):
    """Write frames (n, h, w) or (n, h, w, 3) as an uncompressed ultrasound clip."""
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = UltrasoundMultiFrameImageStorage, generate_uid()
    file.PatientName = "Somebody^Known"
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape[:3]
    file.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    if frames.ndim == 4:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit, file.PixelRepresentation = bits - 1, 0
    file.SequenceOfUltrasoundRegions = list(regions)
    file.PixelData = frames.astype(f"u{bits // 8}").tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


def test_the_region_is_cut_out_and_colours_stay_as_stored(tmp_path: Path) -> None:
    clip = read_dicom(write(tmp_path / "a.dcm", COLOURS, regions=[region()]))
    np.testing.assert_array_equal(clip.frames, COLOURS[:, 5:35, 10:50])
    assert clip.channels == "ycbcr"
    assert clip.cm_per_pixel == pytest.approx(0.05)


def test_rgb_and_grey_are_told_from_luma_and_chroma(tmp_path: Path) -> None:
    rgb = read_dicom(write(tmp_path / "rgb.dcm", COLOURS, "RGB", [region()]))
    assert rgb.channels == "rgb"
    grey = read_dicom(write(tmp_path / "grey.dcm", COLOURS[..., 0], "MONOCHROME2", [region()]))
    np.testing.assert_array_equal(grey.frames, COLOURS[:, 5:35, 10:50, 0])


@pytest.mark.parametrize("frames", [COLOURS[:1], COLOURS[:1, ..., 0]])
def test_a_single_frame_is_a_clip_of_one(tmp_path: Path, frames: np.ndarray) -> None:
    photometric = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    clip = read_dicom(write(tmp_path / "a.dcm", frames, photometric, [region()]))
    np.testing.assert_array_equal(clip.frames, frames[:, 5:35, 10:50])


def test_of_tissue_flow_and_curve_the_tissue_is_taken(tmp_path: Path) -> None:
    regions = [
        region(corners=(0, 0, 59, 3), form=4),
        region(corners=(20, 10, 29, 19), tissue=2),
        region(corners=(10, 5, 49, 34)),
    ]
    clip = read_dicom(write(tmp_path / "a.dcm", COLOURS, regions=regions))
    assert clip.frames.shape[1:3] == (30, 40)


@pytest.mark.parametrize(
    ("regions", "reason"),
    [
        ([], "cm_per_pixel"),
        ([region(form=4)], "cm_per_pixel"),
        ([region(units=0)], "cm_per_pixel"),
        ([region(delta=(0.05, 0.08))], "not square"),
        ([region(), region(corners=(0, 0, 9, 9))], "2 two-dimensional regions"),
        ([region(corners=(10, 5, 61, 34))], "damaged"),
    ],
)
def test_a_file_that_does_not_say_what_is_where_is_refused(tmp_path, regions, reason) -> None:
    with pytest.raises(ImageError, match=reason):
        read_dicom(write(tmp_path / "a.dcm", COLOURS, regions=regions))


def test_a_scale_that_is_given_goes_before_the_files(tmp_path: Path) -> None:
    whole = read_dicom(write(tmp_path / "a.dcm", COLOURS), cm_per_pixel=0.07)
    np.testing.assert_array_equal(whole.frames, COLOURS)
    assert whole.cm_per_pixel == 0.07
    cut = read_dicom(write(tmp_path / "b.dcm", COLOURS, regions=[region()]), cm_per_pixel=0.07)
    assert cut.frames.shape[1:3] == (30, 40)
    assert cut.cm_per_pixel == 0.07


def test_more_than_eight_bits_and_other_colours_are_refused(tmp_path: Path) -> None:
    deep = write(tmp_path / "a.dcm", COLOURS[..., 0], "MONOCHROME2", [region()], bits=16)
    with pytest.raises(ImageError, match="MONOCHROME2 in 16 bits"):
        read_dicom(deep)
    with pytest.raises(ImageError, match="PALETTE"):
        read_dicom(write(tmp_path / "b.dcm", COLOURS[..., 0], "PALETTE COLOR", [region()]))


def test_what_is_damaged_or_no_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("not a heart")
    whole = write(tmp_path / "whole.dcm", COLOURS, regions=[region()])
    (tmp_path / "short.dcm").write_bytes(whole.read_bytes()[:-5000])
    for name in ("text.dcm", "short.dcm", "missing.dcm"):
        with pytest.raises(ImageError, match=name):
            read_dicom(tmp_path / name)
    assert is_dicom(whole)
    assert not is_dicom(tmp_path / "text.dcm")
    assert not is_dicom(tmp_path / "missing.dcm")


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", COLOURS, regions=[region()])
    with pytest.raises(ImageError, match="max_pixels"):
        read_dicom(file, max_pixels=1000)


def test_without_pydicom_the_remedy_is_named(tmp_path: Path, monkeypatch) -> None:
    file = write(tmp_path / "a.dcm", COLOURS, regions=[region()])
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("pydicom"):
            raise ModuleNotFoundError("No module named 'pydicom'", name="pydicom")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendUnavailableError, match=re.escape(install_hint("dicom"))):
        read_dicom(file)


def test_pydicom_is_loaded_only_when_a_file_is_read() -> None:
    assert loaded_by("import fastseg.echo.dicom, fastseg.cli.echo", ["pydicom"]) == []


def test_echo_measures_a_dicom_file_at_its_own_scale(tmp_path: Path, capsys) -> None:
    luma = np.zeros((256, 256), np.uint8)
    luma[draw(ellipse(4.2, 2.2), centre=(-3, 0))] = round(0.9 * 255)
    luma[0, 0] = 255
    frame = np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 128)], axis=2)
    heart = region(corners=(0, 0, 255, 255), delta=(0.04, 0.04))
    file = write(tmp_path / "p7_a2c", frame[None], regions=[heart])
    tiny = tiny_unet_folder(tmp_path / "tiny")
    code = run(["echo", str(file), "--model", str(tiny), "--json"])
    text = capsys.readouterr().out
    assert code == 0
    document = json.loads(text)
    assert document["files"][0]["cm_per_pixel"] == pytest.approx(0.04)
    (found,) = (one for one in document["studies"][0]["findings"] if one["name"] == "LV")
    # Drawn as 8.4 x 4.4 cm at 20 cm / 256 pixels, and each pixel is 0.04 cm now.
    expected = np.pi * 4.2 * 2.2 * (0.04 / (20 / 256)) ** 2
    assert found["area_cm2"] == pytest.approx(expected, rel=0.1)
    assert "Known" not in text
