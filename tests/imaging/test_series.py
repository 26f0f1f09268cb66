"""Series of slices: sorted by their place, and refused where they are no even stack."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg.errors import ImageError
from fastseg.imaging import MedicalImage, read
from tests.helpers.dicom_files import dataset, save, slices, write

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")

VOLUME = np.random.default_rng(0).integers(0, 2000, (6, 7, 9)).astype(np.int16)


def check_volume(image: MedicalImage) -> None:
    np.testing.assert_array_equal(image.values, VOLUME - 1024)
    assert image.spacing == (0.8, 0.5)
    assert image.slice_spacing == pytest.approx(2.5)
    assert image.voxel_ml == pytest.approx(0.8 * 0.5 * 2.5 / 1000)
    assert image.affine is not None
    np.testing.assert_allclose(image.affine @ (2, 3, 4, 1), [12.0, -17.6, 10.0, 1])


def test_a_folder_is_read_in_the_order_of_its_slices(tmp_path: Path) -> None:
    slices(tmp_path / "a", VOLUME)
    (tmp_path / "a" / "notes.txt").write_text("nothing")
    check_volume(read(tmp_path / "a"))


def test_an_archive_is_read_like_a_folder(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a", VOLUME)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"exam/{path.name}")
        archive.writestr("exam/notes.txt", "nothing")
    check_volume(read(tmp_path / "a.zip"))


def test_frames_keep_their_place_when_they_are_taken_out(tmp_path: Path) -> None:
    slices(tmp_path / "a", VOLUME)
    image = read(tmp_path / "a", window="soft-tissue")
    assert image.affine is not None
    part = image[2:4]
    assert part.affine is not None
    np.testing.assert_allclose(part.affine @ (0, 3, 4, 1), image.affine @ (2, 3, 4, 1))
    np.testing.assert_array_equal(part.values, image.values[2:4])
    np.testing.assert_array_equal(image[-1].view, image.view[-1])
    assert [frame.shape for frame in image] == [(7, 9, 1)] * 6
    with pytest.raises(ImageError, match="step of 1"):
        _ = image[::2]


def test_tilted_stacks_keep_their_shear(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    slices(folder, VOLUME)
    for path in folder.glob("*.dcm"):
        made = pydicom.dcmread(path)
        place = made.ImagePositionPatient
        made.ImagePositionPatient = [place[0], place[1] + 0.3 * (place[2] - 5), place[2]]
        made.save_as(path)
    image = read(folder)
    assert image.affine is not None
    np.testing.assert_allclose(image.affine[:3, 0], [0, 0.75, 2.5])
    assert image.slice_spacing == pytest.approx(2.5)


def changed(folder: Path, which: int, **more: Any) -> Path:
    """Change the header of one slice, in the order of places."""
    path = folder / f"{(which * 7) % 97:02}.dcm"
    made = pydicom.dcmread(path)
    for name, value in more.items():
        setattr(made, name, value)
    made.save_as(path)
    return folder


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ImagePositionPatient": [10, -20, 7.5]}, "several slices in one place"),
        ({"ImagePositionPatient": [10, -20, 13.4]}, "one is missing, or the spacing changes"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "several directions"),
        ({"PixelSpacing": [0.8, 0.6]}, "0.6"),
        ({"ImagePositionPatient": None}, "do not state where they are"),
        ({"SeriesInstanceUID": "9.9"}, "2 series"),
        ({"BitsStored": 99}, "contradict"),
    ],
)
def test_a_series_that_is_no_stack_is_refused(tmp_path: Path, more, words: str) -> None:
    slices(tmp_path / "a", VOLUME)
    with pytest.raises(ImageError, match=words):
        read(changed(tmp_path / "a", 3, **more))


def test_a_missing_slice_is_told_with_its_place(tmp_path: Path) -> None:
    slices(tmp_path / "a", VOLUME)[3].unlink()
    with pytest.raises(ImageError, match=r"5\.00 mm after slice 3 of 5"):
        read(tmp_path / "a")


def test_slices_of_several_sizes_are_refused(tmp_path: Path) -> None:
    slices(tmp_path / "a", VOLUME)
    write(tmp_path / "a" / "other.dcm", VOLUME[:1, :5])
    with pytest.raises(ImageError, match="9 x 5"):
        read(tmp_path / "a")
    write(tmp_path / "a" / "other.dcm", VOLUME)
    with pytest.raises(ImageError, match="files of many frames"):
        read(tmp_path / "a")


def test_one_of_two_series_is_chosen(tmp_path: Path) -> None:
    slices(tmp_path / "a", VOLUME)
    slices(tmp_path / "b", VOLUME[:4] + 1, SeriesInstanceUID="1.2.3.5")
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / f"second-{path.name}")
    with pytest.raises(ImageError, match=r"2 series.*6 images CT 9 x 7: 1\.2\.3\.4"):
        read(tmp_path / "a")
    assert len(read(tmp_path / "a", series="3.5")) == 4
    check_volume(read(tmp_path / "a", series="1.2.3.4"))
    with pytest.raises(ImageError, match="of that series"):
        read(tmp_path / "a", series="7")


def test_files_without_places_go_by_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number, name in ((2, "a"), (1, "b"), (3, "c")):
        pixels = np.full((1, 4, 4), number, np.uint8)
        write(folder / f"{name}.dcm", pixels, InstanceNumber=number)
    np.testing.assert_array_equal(read(folder).values[:, 0, 0], [1, 2, 3])
    write(folder / "d.dcm", pixels, InstanceNumber=3)
    with pytest.raises(ImageError, match="order is not known"):
        read(folder)


def test_a_folder_of_one_file_is_that_file(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    write(folder / "a.dcm", VOLUME)
    assert len(read(folder)) == 6


def test_frames_of_an_enhanced_file_have_their_own_scale_and_place(tmp_path: Path) -> None:
    from pydicom import Dataset

    def item(**fields: Any) -> Dataset:
        made = Dataset()
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3.0 * number])],
            PixelValueTransformationSequence=[
                item(RescaleSlope=number + 1, RescaleIntercept=-5 * number)
            ],
        )
        for number in range(6)
    ]
    made = dataset(VOLUME)
    made.PerFrameFunctionalGroupsSequence = frames
    made.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.7, 0.6], SliceThickness=3)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            FrameVOILUTSequence=[item(WindowCenter=50, WindowWidth=100)],
        )
    ]
    image = read(save(made, tmp_path / "a.dcm"))
    number = np.arange(6)[:, None, None]
    np.testing.assert_array_equal(image.values, VOLUME.astype(int) * (number + 1) - 5 * number)
    assert (image.spacing, image.slice_spacing) == ((0.7, 0.6), pytest.approx(3))
    assert image.window is not None
    assert (image.window.centre, image.window.width) == (50, 100)
