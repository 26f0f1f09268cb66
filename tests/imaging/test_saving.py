"""Masks as NIfTI, NRRD and DICOM SEG with the geometry of their source."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg import imaging
from fastseg.errors import BackendUnavailableError, MaskError, OutputError
from fastseg.imaging.label_maps import label_map
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


def named(pixels: np.ndarray, *names: str) -> Masks:
    return Masks.from_rle(
        drawn(pixels).runs,
        scores=np.linspace(0.9, 0.8, len(pixels), dtype=np.float32),
        stability=np.ones(len(pixels), np.float32),
        names=names,
    )


def test_a_png_has_numbers_colours_and_names(tmp_path: Path) -> None:
    import json

    from PIL import Image

    found = named(masks(1)[0].array(), "liver", "spleen")
    image = imaging.read(np.zeros((16, 20), np.uint8), spacing=(0.5, 0.25))
    with Image.open(found.save(tmp_path / "a.png", source=image)) as png:
        np.testing.assert_array_equal(np.array(png), label_map([found])[0])
        assert png.mode == "P"
        assert png.getpalette()[:3] == [0, 0, 0]
        assert len({tuple(png.getpalette()[k : k + 3]) for k in (0, 3, 6)}) == 3
        assert json.loads(png.info["labels"]) == {"1": "liver", "2": "spleen"}
        assert png.info["dpi"] == pytest.approx((101.6, 50.8), abs=0.01)
    with pytest.raises(MaskError, match="one frame"):
        imaging.save(tmp_path / "b.png", [found, found])


def test_a_tiff_has_a_page_for_each_frame(tmp_path: Path) -> None:
    from PIL import Image, ImageSequence

    path = imaging.save(tmp_path / "a.tiff", masks())
    with Image.open(path) as tiff:
        pages = np.stack([np.array(page) for page in ImageSequence.Iterator(tiff)])
    np.testing.assert_array_equal(pages, label_map(masks()))
    many = np.zeros((300, 16, 20), np.bool_)
    many[np.arange(300), np.arange(300) // 20, np.arange(300) % 20] = True
    with Image.open(drawn(many).save(tmp_path / "b.tif")) as tiff:
        np.testing.assert_array_equal(np.array(tiff), label_map([drawn(many)])[0])
    with pytest.raises(MaskError, match="255 masks"):
        drawn(many).save(tmp_path / "b.png")


def test_label_maps_of_volumes_have_names_and_colours(tmp_path: Path) -> None:
    import nrrd

    found = named(masks(1)[0].array(), "liver", 'a "b"')
    (table,) = nibabel.load(found.save(tmp_path / "a.nii.gz")).header.extensions
    lines = table.get_content().decode().rstrip("\0").splitlines()
    assert [line.partition('"')[2] for line in lines] == ['outside"', 'liver"', "a 'b'\""]
    assert lines[1].split()[0] == "1"
    np.testing.assert_array_equal(
        imaging.read(tmp_path / "a.nii.gz").values[0], label_map([found])[0]
    )
    header = nrrd.read_header(str(found.save(tmp_path / "a.nrrd")))
    assert len(header["Segment1_Color"].split()) == 3


def test_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    import json

    coco = pytest.importorskip("pycocotools.coco")
    image = imaging.read(np.zeros((2, 16, 20), np.uint8), spacing=(3, 0.5, 0.5))
    frames = [named(one.array(), "liver", "spleen") for one in masks(2)]
    path = imaging.save(tmp_path / "a.json", frames, source=image)
    read = coco.COCO(str(path))
    for frame, one in enumerate(frames):
        rows = read.loadAnns(read.getAnnIds(imgIds=[frame + 1]))
        for row, mask in zip(rows, one.array(), strict=True):
            np.testing.assert_array_equal(read.annToMask(row).astype(bool), mask)
            assert row["area_mm2"] == mask.sum() * 0.25
    content = json.loads(path.read_text())
    assert [one["name"] for one in content["categories"]] == ["liver", "spleen"]
    plain = json.loads(masks(1)[0].save(tmp_path / "b.json").read_text())
    assert [one["category_id"] for one in plain["annotations"]] == [1, 1]
    assert "area_mm2" not in plain["annotations"][0]


def test_geojson_has_every_ring_with_its_holes(tmp_path: Path) -> None:
    import json

    from PIL import Image, ImageDraw

    pixels = np.zeros((2, 30, 40), np.bool_)
    pixels[0, 2:25, 3:30] = True
    pixels[0, 5:20, 5:20] = False
    pixels[0, 8:12, 8:12] = True
    pixels[0, 9:11, 9:11] = False
    pixels[0, 22:24, 25:28] = False
    path = named(pixels, "ring", "nothing").save(tmp_path / "a.geojson")
    (feature,) = json.loads(path.read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "ring"
    assert feature["properties"]["area"] == pixels[0].sum()
    polygons = feature["geometry"]["coordinates"]
    assert sorted(len(polygon) for polygon in polygons) == [2, 3]
    canvas = np.zeros((120, 160), np.int64)
    for polygon in polygons:
        for number, ring in enumerate(polygon):
            assert ring[0] == ring[-1]
            drawing = Image.new("1", (160, 120))
            # Four times the size, so that the middle of a pixel is far from every edge.
            ImageDraw.Draw(drawing).polygon([(4 * x, 4 * y) for x, y in ring], fill=1)
            canvas += (1 if number == 0 else -1) * np.array(drawing)
    np.testing.assert_array_equal(canvas[2::4, 2::4] > 0, pixels[0])


def test_a_table_has_areas_and_volumes(tmp_path: Path) -> None:
    import csv

    image = imaging.read(np.zeros((4, 16, 20), np.uint8), spacing=(10, 2, 3))
    path = imaging.save(tmp_path / "a.csv", masks(), source=image)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    first = rows[0]
    assert (first["frame"], first["structure"], first["pixels"]) == ("0", "mask 1", "18")
    assert float(first["area_mm2"]) == 18 * 6
    assert [first[name] for name in ("x0", "y0", "x1", "y1")] == ["3", "2", "8", "4"]
    total = [row for row in rows if row["frame"] == "all"]
    pixels = sum(int(one.areas[0]) for one in masks())
    assert total[0]["pixels"] == str(pixels)
    assert float(total[0]["volume_ml"]) == pytest.approx(pixels * 0.06)
    bare = list(csv.DictReader(masks(1)[0].save(tmp_path / "b.csv").read_text().splitlines()))
    assert (len(bare), bare[0]["area_mm2"]) == (2, "")


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_a_clip_without_place_is_referred_to_by_its_frames(tmp_path: Path, kind: str) -> None:
    highdicom = pytest.importorskip("highdicom")
    import pydicom

    us = "1.2.840.10008.5.1.4.1.1.3.1"
    fields = FIELDS | {"FrameOfReferenceUID": "", "Modality": "US", "FrameTime": "33"}
    fields |= {"NumberOfFrames": 4, "SOPClassUID": us}
    path = write(tmp_path / "a.dcm", VOLUME.astype(np.uint8), **fields)
    header = pydicom.dcmread(path)
    del header.FrameOfReferenceUID
    header.save_as(path)
    image = imaging.read(path)
    frames = masks()
    frames[2] = drawn(np.zeros((2, 16, 20), np.bool_))
    made = imaging.save(tmp_path / "seg.dcm", frames, source=image, segmentation=kind)
    found = highdicom.seg.segread(made)
    back = found.get_pixels_by_source_frame(
        header.SOPInstanceUID, [1, 2, 3, 4], assert_missing_frames_are_empty=True
    )
    expected = np.stack([one.array() for one in frames]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(back, expected)
    plain = pydicom.dcmread(made)
    assert len(plain.pixel_array) == (3 if kind == "labelmap" else 6)
    assert "FrameOfReferenceUID" not in plain
    assert plain.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0][0x00081150].value == us


@pytest.mark.parametrize("kind", ["fractional", "labelmap"])
def test_a_series_may_be_saved_in_other_types(tmp_path: Path, volume, kind: str) -> None:
    highdicom = pytest.importorskip("highdicom")
    path = imaging.save(tmp_path / "out.dcm", masks(), source=volume, segmentation=kind)
    found = highdicom.seg.segread(path)
    assert found.SegmentationType == kind.upper()
    array = found.get_volume(combine_segments=False).array
    expected = np.stack([one.array() for one in masks()]).transpose(0, 2, 3, 1)
    if not np.array_equal(array.astype(bool), expected):
        array = array[::-1]
    np.testing.assert_array_equal(array, expected)
    with pytest.raises(MaskError, match="segmentation must be"):
        imaging.save(tmp_path / "b.dcm", masks(), source=volume, segmentation="soft")


def test_probabilities_lie_on_the_side_of_their_mask(tmp_path: Path, tiny_model) -> None:
    from fastseg.imaging.mask_probabilities import probabilities

    image = np.random.default_rng(0).integers(0, 255, (40, 64), np.uint8)
    found = tiny_model.segment(image, boxes=[4, 5, 50, 30])
    chances = probabilities(found)
    np.testing.assert_array_equal(chances > 0.5, found.array())
    assert len(np.unique(chances)) > 20
    np.testing.assert_array_equal(np.rint(chances * 255) >= 128, found.array())


@pytest.mark.parametrize("suffix", [s for s in imaging.saving.SUFFIXES if s != ".png"])
def test_names_of_any_letters_are_written(tmp_path: Path, volume, suffix: str) -> None:
    names = ("Leber \u00e4 \u809d", "b\udce9", 'a\nb"c:=\\')
    pixels = np.zeros((3, 16, 20), np.bool_)
    pixels[[0, 1, 2], [2, 8, 12]] = True
    frames = [named(pixels, *names)] * 4
    path = imaging.save(tmp_path / f"a{suffix}", frames, source=volume)
    content = path.read_bytes()
    if suffix == ".csv":
        assert "Leber \u00e4 \u809d" in content.decode()
    if suffix == ".dcm":
        import pydicom

        labels = [one.SegmentLabel for one in pydicom.dcmread(path).SegmentSequence]
        assert labels[:2] == ["Leber \u00e4 \u809d", "b/xe9"]
    if suffix in (".nii", ".nrrd"):
        np.testing.assert_array_equal(imaging.read(path).values, label_map(frames))
