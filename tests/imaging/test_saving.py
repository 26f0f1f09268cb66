"""Masks as NIfTI, NRRD and DICOM SEG with the geometry of their source."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg import imaging
from fastseg.errors import BackendUnavailableError, MaskError, OutputError
from fastseg.imaging.saving import label_map
from fastseg.masks import Masks
from tests.helpers.dicom_files import slices, write
from tests.helpers.made_masks import drawn

pytest.importorskip("pydicom", reason="DICOM files need pydicom")
nibabel = pytest.importorskip("nibabel", reason="NIfTI files need nibabel")
pytest.importorskip("nrrd", reason="NRRD files need pynrrd")

VOLUME = np.random.default_rng(0).integers(0, 2000, (4, 16, 20)).astype(np.int16)
FIELDS: dict[str, Any] = {
    "StudyInstanceUID": "1.2.3",
    "FrameOfReferenceUID": "1.2.3.9",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "StudyDate": "20200101",
    "StudyTime": "101010",
    "AccessionNumber": "A77",
    "StudyID": "S88",
    "SliceThickness": 2.5,
    "NumberOfFrames": None,
}


def masks(count: int = 4) -> list[Masks]:
    """Two structures in each frame, which grow from frame to frame."""
    found = []
    for number in range(count):
        pixels = np.zeros((2, 16, 20), np.bool_)
        pixels[0, 2 : 5 + number, 3:9] = True
        pixels[1, 10:12, 4 : 8 + number] = True
        found.append(drawn(pixels))
    return found


@pytest.fixture
def volume(tmp_path: Path) -> imaging.MedicalImage:
    slices(tmp_path / "series", VOLUME, **FIELDS)
    return imaging.read(tmp_path / "series")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_a_label_map_has_the_geometry_of_its_source(tmp_path: Path, volume, suffix: str) -> None:
    path = imaging.save(tmp_path / f"out{suffix}", masks(), source=volume)
    found = imaging.read(path)
    expected = sum((k + 1) * np.stack([one.array()[k] for one in masks()]) for k in range(2))
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-4)
    assert found.spacing == pytest.approx(volume.spacing)
    assert found.slice_spacing == pytest.approx(volume.slice_spacing)


def test_a_label_map_without_source_has_no_place(tmp_path: Path) -> None:
    path = masks(1)[0].save(tmp_path / "out.nii.gz")
    header = nibabel.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert header.get_xyzt_units()[0] == "unknown"


def test_names_make_structures(tmp_path: Path) -> None:
    import nrrd

    pixels = masks(1)[0].array()
    first = Masks.from_rle(
        drawn(pixels).runs,
        scores=np.ones(2, np.float32),
        stability=np.ones(2, np.float32),
        names=("liver", "spleen"),
    )
    path = imaging.save(tmp_path / "out.nrrd", [first, first["spleen"]])
    header = nrrd.read_header(str(path))
    assert (header["Segment1_Name"], header["Segment1_LabelValue"]) == ("spleen", "2")
    values = imaging.read(path).values
    assert (set(np.unique(values[0])), set(np.unique(values[1]))) == ({0, 1, 2}, {0, 2})
    with pytest.raises(MaskError, match="others have none"):
        imaging.save(tmp_path / "b.nrrd", [first, masks(1)[0]])


def test_masks_that_overlap_are_refused_in_a_label_map(tmp_path: Path) -> None:
    pixels = np.zeros((2, 8, 8), np.bool_)
    pixels[0, :4], pixels[1, 3:] = True, True
    with pytest.raises(MaskError, match="shares 8 pixels of frame 0"):
        drawn(pixels).save(tmp_path / "out.nii")
    assert not list(tmp_path.iterdir())
    assert label_map([drawn(pixels[:1])]).sum() == 32


def test_masks_that_do_not_fit_their_source_are_refused(tmp_path: Path, volume) -> None:
    for given in (masks(3), [drawn(np.zeros((1, 9, 9), np.bool_))] * 4):
        with pytest.raises(MaskError, match="Give the image that they were made of"):
            imaging.save(tmp_path / "out.nii", given, source=volume)
    with pytest.raises(MaskError, match="of one size"):
        imaging.save(tmp_path / "out.nii", [])
    with pytest.raises(OutputError, match=r"\.nii\.gz"):
        imaging.save(tmp_path / "out.xyz", masks())
    with pytest.raises(MaskError, match="DICOM files of its image"):
        imaging.save(tmp_path / "out.dcm", masks())


@pytest.mark.parametrize(("package", "name"), [("nibabel", "a.nii"), ("nrrd", "a.nrrd")])
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch, package, name) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendUnavailableError, match="nifti"):
        imaging.save(tmp_path / name, masks())


def test_a_dicom_seg_reads_back_with_equal_masks(tmp_path: Path, volume) -> None:
    highdicom = pytest.importorskip("highdicom")
    path = imaging.save(tmp_path / "out.dcm", masks(), source=volume)
    found = highdicom.seg.segread(path)
    uids = [
        item.ReferencedSOPInstanceUID
        for item in found.ReferencedSeriesSequence[0]["ReferencedInstanceSequence"].value
    ]
    assert len(uids) == 4
    back = found.get_volume(combine_segments=False)
    array = back.array
    # In the order of the volume's own axes.
    if np.dot(back.affine[:3, 0], [0, 0, 1]) < 0:
        array = array[::-1]
    expected = np.stack([one.array() for one in masks()]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(array.astype(bool), expected)
    assert [one.segment_label for one in found.SegmentSequence] == ["mask 1", "mask 2"]


def test_segments_may_overlap_and_frames_may_be_a_part(tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    fields = FIELDS | {
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
    }
    image = imaging.read(write(tmp_path / "a.dcm", VOLUME[:1], **fields))
    pixels = np.zeros((2, 16, 20), np.bool_)
    pixels[0, :9], pixels[1, 5:] = True, True
    path = drawn(pixels).save(tmp_path / "out.dcm", source=image)
    found = highdicom.seg.segread(path).pixel_array.astype(bool)
    np.testing.assert_array_equal(found, pixels)


def test_the_patient_is_written_only_if_it_is_asked_for(tmp_path: Path, volume) -> None:
    pytest.importorskip("highdicom")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = imaging.save(tmp_path / "a.dcm", masks(), source=volume).read_bytes()
        kept = imaging.save(
            tmp_path / "b.dcm", masks(), source=volume, keep_patient=True
        ).read_bytes()
    for text in (b"Known", b"PX4711Q", b"19700101", b"20200101", b"A77", b"S88"):
        assert text not in plain
    for text in (b"Somebody^Known", b"PX4711Q", b"19700101"):
        assert text in kept


def test_a_source_that_lacks_its_study_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    image = imaging.read(write(tmp_path / "a.dcm", VOLUME[:1]))
    with pytest.raises(MaskError, match="no DICOM SEG can be made"):
        masks(1)[0].save(tmp_path / "out.dcm", source=image)
    assert not (tmp_path / "out.dcm").exists()
