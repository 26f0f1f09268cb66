"""Promises of ``fastseg.echo.measure_masks`` and ``fastseg measure``: masks in, numbers out."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastseg import imaging
from fastseg.cli.root import run
from fastseg.echo import MaskSource, measure_masks
from fastseg.echo.tracings import read_tracings
from fastseg.errors import ImageError, MaskError, MeasurementError
from fastseg.provenance import NOTICE
from tests.helpers.chamber_bodies import CM_PER_PIXEL, draw, ellipse
from tests.helpers.dicom_files import slices
from tests.helpers.made_masks import drawn

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
"""The elements of a CT that a SEG refers to."""

LV, LA = draw(ellipse(4.2, 2.2), centre=(-3, 0)), draw(ellipse(2.3, 2.0), centre=(5, 0))
AREA = math.pi * 4.2 * 2.2
VOLUME = 4 / 3 * math.pi * 4.2 * 2.2**2


def label_map(size: float = 1.0) -> np.ndarray:
    small = draw(ellipse(4.2 * size, 2.2), centre=(-3, 0))
    return LA.astype(np.uint8) + 2 * small.astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_a_png_of_one_mask_is_measured_in_pixels_and_with_a_scale_in_cm(tmp_path: Path) -> None:
    file = save(tmp_path / "mask.png", LV.astype(np.uint8) * 255)
    (plain,) = measure_masks([file]).masks
    assert (plain.label, plain.area_px) == ("mask", LV.sum())
    assert plain.length_px == pytest.approx(8.4 / CM_PER_PIXEL, rel=0.01)
    assert math.isnan(plain.area_cm2)
    assert math.isnan(plain.length_cm)
    (known,) = measure_masks([file], cm_per_pixel=CM_PER_PIXEL).masks
    assert known.area_cm2 == pytest.approx(AREA, rel=0.01)
    assert known.length_cm == pytest.approx(8.4, rel=0.01)
    with pytest.raises(MeasurementError, match=r"mask\.png does not say how large its pixels are"):
        measure_masks([file], need_cm=True)


@pytest.mark.parametrize("kind", ["grey", "palette", "sixteen"])
def test_a_label_map_has_a_structure_for_each_value(tmp_path: Path, kind: str) -> None:
    pixels = label_map()
    image = Image.fromarray(pixels if kind != "sixteen" else pixels.astype(np.uint16))
    if kind == "palette":
        image.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9])
    image.save(tmp_path / "map.png")
    found = measure_masks([tmp_path / "map.png"], labels={"label 2": "LV", "label 1": "LA"})
    assert {one.label: one.area_px for one in found.masks} == {"LA": LA.sum(), "LV": LV.sum()}


def test_chambers_get_the_volume_of_their_disks(tmp_path: Path) -> None:
    file = save(tmp_path / "map.png", label_map())
    labels = {"label 1": "LA", "label 2": "LV"}
    found = measure_masks([file], labels=labels, cm_per_pixel=CM_PER_PIXEL)
    volumes = {one.label: one.disk_volume_ml for one in found.masks}
    assert volumes["LV"] == pytest.approx(VOLUME, rel=0.02)
    nameless = measure_masks([file], cm_per_pixel=CM_PER_PIXEL)
    assert all(math.isnan(one.disk_volume_ml) for one in nameless.masks)


def ball(radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    shape = [round(2.6 * radius_mm / side) for side in spacing]
    grid = np.indices(shape).astype(float)
    places = [(one - (n - 1) / 2) * s for one, n, s in zip(grid, shape, spacing, strict=True)]
    return sum(place**2 for place in places) <= radius_mm**2


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_volume_has_its_millilitres_by_the_spacing_of_its_file(tmp_path, suffix) -> None:
    pytest.importorskip("nibabel", reason="NIfTI and NRRD need the extra 'nifti'")
    voxels = ball(20.0, (2.0, 1.0, 1.0))
    source = imaging.read(voxels.astype(np.uint8), spacing=(2.0, 1.0, 1.0))
    file = tmp_path / f"ball{suffix}"
    imaging.save(file, [drawn(frame[None]) for frame in voxels], source=source)
    found = measure_masks([file])
    (volume,) = found.volumes
    assert volume.voxels == voxels.sum()
    assert volume.volume_ml == pytest.approx(4 / 3 * math.pi * 8, rel=0.02)
    middle = max(found.masks, key=lambda one: one.area_px)
    assert middle.area_cm2 == pytest.approx(math.pi * 4, rel=0.03)


def test_pixels_that_are_not_square_have_an_area_and_no_axis(tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="NIfTI needs the extra 'nifti'")
    voxels = ball(20.0, (2.0, 1.0, 0.5))
    source = imaging.read(voxels.astype(np.uint8), spacing=(2.0, 1.0, 0.5))
    file = tmp_path / "ball.nii"
    imaging.save(file, [drawn(frame[None]) for frame in voxels], source=source)
    middle = max(measure_masks([file]).masks, key=lambda one: one.area_px)
    assert middle.area_cm2 == pytest.approx(math.pi * 4, rel=0.03)
    assert math.isnan(middle.length_cm)
    assert "not square" in middle.caution


def test_dicom_seg_is_measured_by_its_own_spacing(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="DICOM SEG needs the extra 'dicom'")
    folder = tmp_path / "series"
    square = {"PixelSpacing": [0.5, 0.5]}
    slices(folder, np.zeros((3, 16, 16), np.int16), **FIELDS, **square)
    source = imaging.read(folder, window="40,400")
    height, width = source.size
    pixels = np.zeros((2, height, width), np.bool_)
    pixels[0, 2:6, 3:9] = pixels[1, 4:8, 5:9] = True
    masks = [drawn(pixels)] * 3
    imaging.save(tmp_path / "seg.dcm", masks, source=source)
    found = measure_masks([tmp_path / "seg.dcm"])
    side = source.spacing[0] / 10
    assert [one.area_px for one in found.masks] == [24, 16] * 3
    assert found.masks[0].area_cm2 == pytest.approx(24 * side**2)
    assert [one.voxels for one in found.volumes] == [72, 48]
    assert found.volumes[0].volume_ml == pytest.approx(72 * source.voxel_ml)


def coco(path: Path, segmentation: Any) -> Path:
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation}
    content = {
        "images": [{"id": 7, "file_name": "heart.png", "height": 256, "width": 256}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "LV"}],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_coco_is_measured_in_every_form(tmp_path: Path) -> None:
    masks = drawn(LV[None])
    (text,), (counts,) = masks.coco(), masks.rle()
    rings = [ring.ravel().tolist() for ring in masks.polygons()[0]]
    areas = []
    for number, form in enumerate((text, counts, rings)):
        (one,) = measure_masks([coco(tmp_path / f"{number}.json", form)]).masks
        assert (one.file, one.label) == ("heart.png", "LV")
        areas.append(one.area_px)
    assert areas == [LV.sum()] * 3


def tracing(frame: int, half_length: float, half_width: float, name: str = "heart.avi") -> list:
    """The lines of an upright ellipse of pixels as EchoNet-Dynamic writes them."""
    lines = [[name, 50, 60 - half_length, 50, 60 + half_length, frame]]
    for place in (np.arange(20) + 0.5) / 10 - 1:
        across = half_width * math.sqrt(1 - place**2)
        y = 60 + place * half_length
        lines.append([name, 50 - across, y, 50 + across, y, frame])
    return lines


def write_tracings(path: Path, lines: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["FileName", "X1", "Y1", "X2", "Y2", "Frame"])
        writer.writerows(lines)
    return path


def test_tracings_give_volumes_and_an_ejection_fraction_without_a_scale(tmp_path: Path) -> None:
    lines = [*tracing(46, 40, 20), *tracing(61, 32, 15)]
    file = write_tracings(tmp_path / "VolumeTracings.csv", lines)
    found = measure_masks([file])
    (beat,) = found.volumes
    assert beat.ef_percent == pytest.approx(100 * (1 - 32 * 15**2 / (40 * 20**2)), abs=0.01)
    assert math.isnan(beat.edv_ml)
    assert [one.frame for one in found.masks] == [46, 61]
    assert found.masks[0].area_px == pytest.approx(math.pi * 40 * 20, rel=0.02)
    assert found.masks[0].length_px == pytest.approx(80)
    (known,) = measure_masks([file], cm_per_pixel=0.1).volumes
    assert known.edv_ml == pytest.approx(4 / 3 * math.pi * 4 * 2**2, rel=0.01)
    with pytest.raises(MeasurementError, match="tracings in pixels and no scale"):
        measure_masks([file], need_cm=True)


def test_a_tracing_does_not_depend_on_the_order_of_its_disks_and_ends(tmp_path: Path) -> None:
    first, *disks = tracing(46, 40, 20)
    turned = [[name, x2, y2, x1, y1, frame] for name, x1, y1, x2, y2, frame in disks[::-1]]
    (one,) = read_tracings(write_tracings(tmp_path / "a.csv", [first, *disks]))
    (other,) = read_tracings(write_tracings(tmp_path / "b.csv", [first, *turned]))
    assert other.area_px == pytest.approx(one.area_px)
    assert other.volume_px3 == pytest.approx(one.volume_px3)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("FileName,X1\n", MaskError, "Tracings have FileName, X1"),
        ("FileName,X1,Y1,X2,Y2,Frame\n", MaskError, "heads and no lines"),
        ("FileName,X1,Y1,X2,Y2,Frame\na,1,2,3,x,4\n", ImageError, "no tracings that can be read"),
        ("FileName,X1,Y1,X2,Y2,Frame\na,1,2,3,nan,4\n", ImageError, "no number"),
        ("FileName,X1,Y1,X2,Y2,Frame\na,1,2,3,4,4\n", MaskError, "has 1 lines"),
    ],
)
def test_tracings_that_are_none_are_refused(tmp_path, content, error, words) -> None:
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    with pytest.raises(error, match=words):
        measure_masks([tmp_path / "t.csv"])


def test_masks_of_a_named_view_give_the_report_of_a_heart(tmp_path: Path) -> None:
    files = [
        save(tmp_path / "p7_a2c_1.png", label_map()),
        save(tmp_path / "p7_a2c_2.png", label_map(0.75)),
    ]
    sources = [MaskSource(file, "a2c", "p7") for file in files]
    labels = {"label 1": "LA", "label 2": "LV"}
    (study,) = measure_masks(sources, labels=labels, cm_per_pixel=CM_PER_PIXEL, bsa_m2=2.0).studies
    assert study["lv_edv_a2c_ml"].value == pytest.approx(VOLUME, rel=0.02)
    assert study["lv_ef_a2c_percent"].value == pytest.approx(25.0, abs=1)
    with pytest.raises(MeasurementError, match="report of a heart needs"):
        measure_masks(sources, labels=labels)
    with pytest.raises(MaskError, match="label 1, label 2, and the view a2c shows LA, LV"):
        measure_masks(sources, cm_per_pixel=0.1)
    other = MaskSource(save(tmp_path / "small.png", label_map()[:200]), "a2c", "p7")
    with pytest.raises(MaskError, match="they are not one clip"):
        measure_masks([*sources, other], labels=labels, cm_per_pixel=0.1)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((64, 64), np.uint8), "holds no mask: every pixel is 0"),
        (np.arange(65536, dtype=np.uint16).reshape(256, 256), "65535 different values"),
        (np.random.default_rng(0).integers(0, 99, (64, 64, 3), np.uint8), "is in colours"),
    ],
)
def test_files_without_masks_are_refused(tmp_path, pixels, words) -> None:
    with pytest.raises(MaskError, match=words):
        measure_masks([save(tmp_path / "mask.png", pixels)])


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("[]", ImageError, "no COCO JSON"),
        ('{"images": [], "annotations": []}', MaskError, "no annotations"),
        ("no json", ImageError, "no COCO JSON"),
    ],
)
def test_json_that_is_no_coco_is_refused(tmp_path, content, error, words) -> None:
    (tmp_path / "m.json").write_text(content, encoding="utf-8")
    with pytest.raises(error, match=words):
        measure_masks([tmp_path / "m.json"])
    wrong = coco(tmp_path / "size.json", {"size": [2, 2], "counts": [4]})
    with pytest.raises(MaskError, match="contradict"):
        measure_masks([wrong])


def answer(capsys, *words: object) -> tuple[int, dict[str, Any]]:
    code = run([str(word) for word in ("measure", *words)] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_measures_what_the_library_does(tmp_path: Path, capsys) -> None:
    files = [
        save(tmp_path / "p7_a2c_1.png", label_map()),
        save(tmp_path / "p7_a2c_2.png", label_map(0.75)),
    ]
    call = (*files, "--scale", CM_PER_PIXEL, "--label", "label 1=LA", "--label", "label 2=LV")
    code, document = answer(capsys, *call, "--out", tmp_path / "m.csv")
    assert code == 0
    expected = measure_masks(
        files, labels={"label 1": "LA", "label 2": "LV"}, cm_per_pixel=CM_PER_PIXEL
    )
    assert [one["area_cm2"] for one in document["masks"]] == [
        one.area_cm2 for one in expected.masks
    ]
    assert document["studies"][0]["patient"] == "p7"
    assert document["studies"][0]["rows"]["lv_ef_a2c_percent"]["value"] == pytest.approx(25, abs=1)
    assert document["notice"] == NOTICE
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["area_cm2"]) for line in lines] == [one.area_cm2 for one in expected.masks]
    assert {line["notice"] for line in lines} == {NOTICE}


def test_a_file_that_fails_does_not_stop_the_others(tmp_path: Path, capsys) -> None:
    good = save(tmp_path / "good.png", label_map())
    empty = save(tmp_path / "empty.png", np.zeros((64, 64), np.uint8))
    code = run(["measure", str(empty), str(good), str(tmp_path / "missing.nii"), "--json"])
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert code == document["exit_code"] == 1
    assert "empty.png holds no mask" in told.err
    assert [row.get("error", {}).get("type") for row in document["files"]] == [
        "MaskError",
        None,
        "ImageError",
    ]
    assert len(document["masks"]) == 2


def test_cm_that_are_asked_for_need_a_scale(tmp_path: Path, capsys) -> None:
    file = save(tmp_path / "good.png", label_map())
    code, document = answer(capsys, file, "--unit", "cm")
    assert code == 1
    assert "--cm-per-pixel" in document["files"][0]["error"]["message"]
    code, document = answer(capsys, file, "--label", "nothing")
    assert code == 2


def test_a_person_gets_a_table(tmp_path: Path, capsys) -> None:
    lines = [*tracing(46, 40, 20), *tracing(61, 32, 15)]
    file = write_tracings(tmp_path / "VolumeTracings.csv", lines)
    save(tmp_path / "mask.png", label_map())
    assert run(["measure", str(file), str(tmp_path / "mask.png")]) == 0
    text = capsys.readouterr().out
    for words in ("heart.avi", "label 2", "EF %", "55.0", NOTICE):
        assert words in text
