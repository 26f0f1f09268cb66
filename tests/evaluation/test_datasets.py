"""Datasets of every form become images with binary tasks; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastseg import imaging
from fastseg.errors import ImageError, MaskError
from fastseg.evaluation.dataset import ViewSettings, read_dataset
from fastseg.evaluation.dataset.coco import draw
from fastseg.evaluation.dataset.example import divided_by_maximum
from tests.helpers.dicom_files import slices
from tests.helpers.made_masks import drawn

SIZE = (12, 16)


def labels(**places: tuple[int, int, int, int]) -> np.ndarray:
    """A label map: ``v3=(x0, y0, x1, y1)`` fills a part with the label 3."""
    made = np.zeros(SIZE, np.int32)
    for name, (x0, y0, x1, y1) in places.items():
        made[y0:y1, x0:x1] = int(name[1:])
    return made


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of one image, ``a``, without masks yet."""
    grey = np.arange(12 * 16, dtype=np.uint8).reshape(SIZE)
    save(tmp_path / "data" / "images" / "a.png", grey)
    (tmp_path / "data" / "masks").mkdir()
    return tmp_path / "data"


def only(folder: Path, **view: Any):
    (example,) = read_dataset(folder).examples
    return example.load(ViewSettings(**view))


def tasks(loaded) -> dict[str, int]:
    return {truth.name: int(truth.mask.sum()) for truth in loaded.truths}


def test_a_mask_of_several_labels_becomes_binary_tasks(folder):
    save(folder / "masks" / "a.png", labels(v1=(0, 0, 4, 4), v3=(5, 5, 7, 7)).astype(np.uint8))
    loaded = only(folder)
    assert tasks(loaded) == {"class 1": 16, "class 3": 4}
    assert loaded.image.shape == (12, 16, 3)
    assert all(truth.labelled.sum() == 20 for truth in loaded.truths)


def test_a_mask_of_0_and_255_is_one_class(folder):
    save(folder / "masks" / "a.png", labels(v255=(0, 0, 4, 4)).astype(np.uint8))
    assert tasks(only(folder)) == {"class 1": 16}


def test_declared_classes_have_names_and_absent_ones_are_left_out(folder):
    save(folder / "masks" / "a.png", labels(v1=(0, 0, 4, 4)).astype(np.uint8))
    (folder / "classes.csv").write_text("value,name\n1,liver\n2,spleen\n")
    loaded = only(folder)
    assert tasks(loaded) == {"liver": 16}
    assert loaded.left_out == ("spleen",)


def test_a_label_that_is_not_declared_is_refused(folder):
    save(folder / "masks" / "a.png", labels(v7=(0, 0, 4, 4)).astype(np.uint8))
    (folder / "classes.csv").write_text("value,name\n1,liver\n")
    with pytest.raises(MaskError, match=r"the label 7, and the declared classes are the label 1"):
        only(folder)


def test_labels_of_16_bits_keep_their_numbers(folder):
    save(
        folder / "masks" / "a.png",
        labels(v1000=(0, 0, 4, 4), v40000=(5, 5, 9, 9)).astype(np.uint16),
    )
    assert tasks(only(folder)) == {"class 1000": 16, "class 40000": 16}


def test_a_palette_gives_its_indices_and_not_its_colours(folder):
    image = Image.fromarray(labels(v2=(1, 1, 4, 4)).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 9, 9, 9, 200, 30, 30])
    image.save(folder / "masks" / "a.png")
    assert tasks(only(folder)) == {"class 2": 9}


def test_names_behind_the_name_of_the_image_are_classes(folder):
    for name, box in (("a_liver_000", (0, 0, 4, 4)), ("a_hip_left_001", (5, 5, 6, 6))):
        save(folder / "masks" / f"{name}.png", labels(v255=box).astype(np.uint8))
    save(folder / "masks" / "a_hip_left_002.png", labels(v255=(8, 8, 9, 9)).astype(np.uint8))
    loaded = only(folder)
    assert [truth.task for truth in loaded.truths] == ["hip_left", "hip_left", "liver"]
    assert tasks(loaded) == {"hip_left_001": 1, "hip_left_002": 1, "liver_000": 16}


def test_a_mask_belongs_to_the_longest_name_that_it_begins_with(folder):
    save(folder / "images" / "a_b.png", np.zeros(SIZE, np.uint8))
    save(folder / "masks" / "a_b_liver.png", labels(v1=(0, 0, 2, 2)).astype(np.uint8))
    save(folder / "masks" / "a_liver.png", labels(v1=(0, 0, 3, 3)).astype(np.uint8))
    dataset = read_dataset(folder)
    assert [example.name for example in dataset.examples] == ["a", "a_b"]
    areas = [example.load(ViewSettings()).truths[0].mask.sum() for example in dataset.examples]
    assert areas == [9, 4]


def test_images_without_masks_and_masks_without_images_are_named(folder):
    save(folder / "masks" / "a.png", labels(v1=(0, 0, 4, 4)).astype(np.uint8))
    save(folder / "images" / "lonely.png", np.zeros(SIZE, np.uint8))
    save(folder / "masks" / "other.png", labels(v1=(0, 0, 4, 4)).astype(np.uint8))
    faults = read_dataset(folder).faults
    assert [fault.partition(" ")[2] for fault in faults] == [
        "has no image of its name.",
        "has no mask of its name.",
    ]
    assert "other.png" in faults[0]
    assert "lonely.png" in faults[1]


def test_a_mask_that_was_written_anew_is_read_anew(folder):
    save(folder / "masks" / "a.png", labels(v1=(0, 0, 4, 4)).astype(np.uint8))
    assert tasks(only(folder)) == {"class 1": 16}
    save(folder / "masks" / "a.png", labels(v1=(0, 0, 4, 4), v2=(5, 5, 7, 7)).astype(np.uint8))
    assert tasks(only(folder)) == {"class 1": 16, "class 2": 4}


def test_an_empty_mask_has_no_object(folder):
    save(folder / "masks" / "a.png", np.zeros(SIZE, np.uint8))
    loaded = only(folder)
    assert loaded.truths == ()
    assert loaded.left_out == ("class 1",)


@pytest.mark.parametrize(
    ("name", "pixels", "error", "message"),
    [
        ("a.png", np.ones((4, 4), np.uint8), MaskError, "4 x 4 pixels, and its image 16 x 12"),
        ("a.png", np.dstack([labels(v9=(0, 0, 2, 2))] * 2 + [labels()]), ImageError, "colours"),
        ("a.jpg", labels(v9=(0, 0, 2, 2)), ImageError, "JPEG"),
    ],
)
def test_masks_that_cannot_be_labels_are_refused(folder, name, pixels, error, message):
    save(folder / "masks" / name, pixels.astype(np.uint8))
    with pytest.raises(error, match=message):
        only(folder)


def test_a_photograph_as_a_mask_is_refused(folder):
    noise = np.random.default_rng(0).integers(0, 60000, SIZE).astype(np.uint16)
    big = np.tile(noise, (4, 4)) + np.arange(64, dtype=np.uint16)
    save(folder / "images" / "a.png", np.zeros((48, 64), np.uint8))
    save(folder / "masks" / "a.png", big)
    with pytest.raises(MaskError, match="looks like an image"):
        only(folder)


def test_levels_are_divided_by_the_maximum_and_cut_off():
    image = np.array([[[0, 50, 99]]], np.uint8)
    # 50 / 99 * 255 = 128.8
    assert divided_by_maximum(image).tolist() == [[[0, 128, 255]]]
    assert divided_by_maximum(np.zeros((1, 1, 3), np.uint8)).max() == 0


def test_a_csv_of_pairs_names_classes_values_and_domains(tmp_path):
    save(tmp_path / "a.png", np.zeros(SIZE, np.uint8))
    save(tmp_path / "m.png", labels(v1=(0, 0, 4, 4), v2=(6, 6, 8, 8)).astype(np.uint8))
    rows = [
        "image,mask,class,value,domain",
        "a.png,m.png,cup,1,site 1",
        "a.png,m.png,disc,2,site 1",
    ]
    (tmp_path / "pairs.csv").write_text("\n".join([*rows, "b.png,m.png,cup,1,", ""]))
    dataset = read_dataset(tmp_path / "pairs.csv")
    assert "b.png" in dataset.faults[0]
    (example,) = dataset.examples
    assert example.domain == "site 1"
    loaded = example.load(ViewSettings())
    assert tasks(loaded) == {"cup": 16, "disc": 4}
    assert loaded.truths[0].labelled.sum() == 20


def test_images_of_one_case_are_its_phases(tmp_path):
    lines = ["image,mask,class,case,phase"]
    for name in ("art", "pv"):
        save(tmp_path / f"{name}.png", np.zeros(SIZE, np.uint8))
        save(tmp_path / f"{name}_m.png", labels(v1=(0, 0, 4, 4)).astype(np.uint8))
        lines.append(f"{name}.png,{name}_m.png,tumour,patient 1,{name}")
    (tmp_path / "pairs.csv").write_text("\n".join([*lines, ""]))
    (found,) = read_dataset(tmp_path / "pairs.csv").examples
    loaded = found.load(ViewSettings())
    assert loaded.name == "patient 1"
    assert [phase.domain for phase in loaded.phases] == ["art", "pv"]
    assert [tasks(phase) for phase in loaded.phases] == [{"tumour": 16}] * 2


def test_a_csv_without_its_columns_is_refused(tmp_path):
    (tmp_path / "pairs.csv").write_text("photo,truth\na,b\n")
    with pytest.raises(ImageError, match="no column image"):
        read_dataset(tmp_path / "pairs.csv")


def test_polygons_fill_the_pixels_whose_middles_they_hold():
    mask = draw([[1, 1, 4, 1, 4, 3, 1, 3]], (5, 6))
    expected = np.zeros((5, 6), np.bool_)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(mask, expected)
    # Two rings of one object are united; a part outside of the image is cut off.
    both = draw([[0, 0, 1, 0, 1, 1, 0, 1], [5, 3, 99, 3, 99, 99, 5, 99]], (5, 6))
    assert np.argwhere(both).tolist() == [[0, 0], [3, 5], [4, 5]]


def test_run_lengths_of_coco_equal_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    mask = np.random.default_rng(0).random(SIZE) < 0.4
    code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": list(SIZE), "counts": code["counts"].decode()}
    np.testing.assert_array_equal(draw(text, SIZE), mask)
    flat = mask.ravel(order="F")
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]]).astype(int)))
    counts = np.diff(np.concatenate([[0], bounds])).tolist()
    np.testing.assert_array_equal(draw({"size": list(SIZE), "counts": counts}, SIZE), mask)


def test_a_coco_file_gives_an_object_an_annotation(tmp_path):
    save(tmp_path / "images" / "a.png", np.zeros(SIZE, np.uint8))
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    base = {"image_id": 1, "category_id": 7, "segmentation": square}
    document = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}],
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [{"id": 1, **base}, {"id": 2, **base}, {"id": 3, "iscrowd": 1, **base}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    dataset = read_dataset(tmp_path / "coco.json")
    assert "gone.png" in dataset.faults[0]
    loaded = dataset.examples[0].load(ViewSettings())
    assert [truth.task for truth in loaded.truths] == ["dog", "dog"]
    assert tasks(loaded) == {"annotation 1": 16, "annotation 2": 16}


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd"])
def test_slices_of_a_volume_are_images_of_their_own(tmp_path, suffix):
    pytest.importorskip("nibabel" if suffix == "nii.gz" else "nrrd", reason="needs the extra nifti")
    values = np.random.default_rng(0).integers(-500, 500, (3, *SIZE)).astype(np.int16)
    volume = imaging.read(values, spacing=(2.5, 0.5, 0.7))
    pixels = np.zeros((3, 1, *SIZE), np.bool_)
    pixels[1, 0, 2:5, 3:9] = True
    masks = [drawn(one) for one in pixels]
    (tmp_path / "masks").mkdir()
    (tmp_path / "images").mkdir()
    imaging.save(tmp_path / "masks" / f"v.{suffix}", masks, source=volume)
    _save_volume(tmp_path / "images" / f"v.{suffix}", values)
    examples = read_dataset(tmp_path).examples
    assert [example.name for example in examples] == ["v:0000", "v:0001", "v:0002"]
    loaded = [example.load(ViewSettings(window="0,1000")) for example in examples]
    assert [tasks(one) for one in loaded] == [{}, {"class 1": 18}, {}]
    assert loaded[1].spacing is not None


def _save_volume(path: Path, values: np.ndarray) -> None:
    if path.name.endswith(".nrrd"):
        import nrrd

        nrrd.write(str(path), values.transpose(2, 1, 0), {"spacings": [0.7, 0.5, 2.5]})
    else:
        import nibabel

        affine = np.diag((-0.7, -0.5, 2.5, 1.0))
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), path)


def test_segments_of_dicom_belong_to_the_slices_of_their_series(tmp_path):
    pytest.importorskip("highdicom", reason="needs the extra dicom")
    fields = {
        "StudyInstanceUID": "1.2.3",
        "FrameOfReferenceUID": "1.2.3.9",
        "NumberOfFrames": None,
        "PatientBirthDate": "",
        "PatientSex": "O",
        "StudyDate": "20200101",
        "StudyTime": "10",
        "AccessionNumber": "",
        "StudyID": "1",
        "SliceThickness": 2.5,
    }
    values = np.random.default_rng(0).integers(0, 2000, (3, *SIZE)).astype(np.int16)
    (tmp_path / "images").mkdir()
    slices(tmp_path / "images" / "ct", values, **fields)
    source = imaging.read(tmp_path / "images" / "ct")
    pixels = np.zeros((3, 2, *SIZE), np.bool_)
    pixels[:, 0, 2:5, 3:9] = True
    pixels[2, 1, 7:9, 1:3] = True
    masks = [drawn(one) for one in pixels]
    (tmp_path / "masks").mkdir()
    imaging.save(tmp_path / "masks" / "ct.dcm", masks, source=source)
    examples = read_dataset(tmp_path).examples
    found = [tasks(example.load(ViewSettings(window="1000,2000"))) for example in examples]
    names = list(found[2])
    assert found == [{names[0]: 18}, {names[0]: 18}, {names[0]: 18, names[1]: 4}]


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(ImageError, match="no dataset"):
        read_dataset(tmp_path / "nothing")
    with pytest.raises(ImageError, match="no folder images"):
        read_dataset(tmp_path)
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ImageError, match="no COCO file"):
        read_dataset(tmp_path / "c.json")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(ImageError, match="no image with a mask"):
        read_dataset(tmp_path)
