"""NIfTI, NRRD, image files of 16 bits, folders of frames and arrays."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.imaging import is_medical, read

nibabel = pytest.importorskip("nibabel", reason="NIfTI files need nibabel")
nrrd = pytest.importorskip("nrrd", reason="NRRD files need pynrrd")

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-500, 2000, (5, 6, 7)).astype(np.int16)  # slices, rows, columns
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_is_read_with_its_geometry(tmp_path: Path, kind: str, suffix: str, order: str):
    image_class = getattr(nibabel, kind)
    header = image_class.header_class(endianness=order)
    image = image_class(VOLUME.T.astype(f"{order}i2"), AFFINE, header)
    nibabel.save(image, tmp_path / f"a{suffix}")
    found = read(tmp_path / f"a{suffix}", window="percentile:1,99")
    np.testing.assert_array_equal(found.values, VOLUME)
    assert found.spacing == pytest.approx((0.8, 0.5))
    assert found.slice_spacing == pytest.approx(2.5)
    assert found.affine is not None
    # Right, front, head become left, back, head.
    expected = np.diag((-1, -1, 1, 1)) @ AFFINE @ (3, 2, 1, 1)
    np.testing.assert_allclose(found.affine @ (1, 2, 3, 1), expected, rtol=1e-5)
    assert is_medical(tmp_path / f"a{suffix}")


def test_scaled_and_floating_nifti_keep_their_values(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME.T, AFFINE)
    image.header.set_slope_inter(0.25, -3)
    content = bytearray(nibabel.Nifti1Image(VOLUME.T, AFFINE).to_bytes())
    content[112:120] = np.array([0.25, -3], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read(tmp_path / "a.nii").values, VOLUME * 0.25 - 3)
    values = RNG.normal(size=(4, 3, 2)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "b.nii")
    np.testing.assert_array_equal(read(tmp_path / "b.nii").values, values.T)


def test_volumes_in_time_are_told_apart(tmp_path: Path) -> None:
    series = RNG.integers(0, 99, (3, 4, 5, 6)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(series.T, AFFINE), tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    assert (image.volumes, len(image)) == (3, 12)
    np.testing.assert_array_equal(image.volume(1).values, series[1])
    with pytest.raises(ImageError, match="3 volumes"):
        image.volume(3)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_numbers_that_are_no_grey_values_are_refused(tmp_path: Path, dtype: Any) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), dtype), AFFINE), tmp_path / "a.nii")
    with pytest.raises(ImageError, match="no grey values"):
        read(tmp_path / "a.nii")


def test_other_files_by_those_names_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(VOLUME.T, AFFINE), tmp_path / "a.img")
    with pytest.raises(ImageError, match="another file"):
        read(tmp_path / "a.hdr")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"nothing" * 99))
    with pytest.raises(ImageError, match="holds no NIfTI"):
        read(tmp_path / "b.nii.gz")
    assert not is_medical(tmp_path / "b.nii.gz")


def test_damaged_nifti_is_refused(tmp_path: Path) -> None:
    content = nibabel.Nifti1Image(VOLUME.T, AFFINE).to_bytes()
    for name, part in (("a.nii", content[:-50]), ("b.nii", content[:349])):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(ImageError, match=name):
            read(tmp_path / name)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(content)[:-200])
    with pytest.raises(ImageError, match=r"c\.nii\.gz"):
        read(tmp_path / "c.nii.gz")
    claims = bytearray(content)
    claims[40:56] = np.array([3, 30_000, 30_000, 2000, 1, 1, 1, 1], "<i2").tobytes()
    (tmp_path / "d.nii").write_bytes(claims)
    with pytest.raises(ImageError, match="max_pixels"):
        read(tmp_path / "d.nii")
    with pytest.raises(ImageError, match="cut off"):
        read(tmp_path / "d.nii", max_pixels=None)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
def test_nrrd_is_read_with_its_geometry(tmp_path: Path, encoding: str, space: str) -> None:
    header = {
        "encoding": encoding,
        "space": space,
        "space directions": np.diag((0.5, 0.8, 2.5)),
        "space origin": [1, 2, 3],
    }
    nrrd.write(str(tmp_path / "a.nrrd"), VOLUME.T, header)
    image = read(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.values, VOLUME)
    assert image.spacing == pytest.approx((0.8, 0.5))
    assert image.slice_spacing == pytest.approx(2.5)
    assert image.affine is not None
    sign = np.array((1, 1, 1, 1) if space.startswith("left") else (-1, -1, 1, 1))
    np.testing.assert_allclose(image.affine @ (1, 2, 3, 1), sign * (2.5, 3.6, 5.5, 1))


def test_wide_integers_do_not_wrap_around() -> None:
    wide = np.array([[[0, 2**32 - 1]]], np.uint32)
    np.testing.assert_array_equal(read(wide).values, wide)
    np.testing.assert_array_equal(read(wide, window=(2**31, 2**32)).view, [[0, 255]])
    bits = np.array([[True, False]])
    np.testing.assert_array_equal(read(bits).values, [[[1, 0]]])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">i2", "<i4", ">f4", "<f8"])
def test_every_type_of_nrrd_keeps_its_values(tmp_path: Path, dtype: str) -> None:
    values = RNG.integers(0, 100, (2, 3, 4)).astype(dtype)
    nrrd.write(str(tmp_path / "a.nrrd"), values.T, {"encoding": "raw"})
    np.testing.assert_array_equal(read(tmp_path / "a.nrrd").stored, values)


def test_damaged_nrrd_is_refused(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), VOLUME.T, {"encoding": "raw"})
    content = (tmp_path / "a.nrrd").read_bytes()
    cases = {
        "short": (content[:-9], "cut off"),
        "detached": (content.replace(b"encoding", b"data file: x.raw\nencoding"), "another file"),
        "type": (content.replace(b"type: int16", b"type: block"), "block"),
        "claims": (content.replace(b"sizes: 7 6 5", b"sizes: 70000 60000 5"), "max_pixels"),
        "encoding": (content.replace(b"encoding: raw", b"encoding: hex"), "hex"),
        "axes": (content.replace(b"dimension: 3", b"dimension: 1").replace(b"7 6 5", b"7"), "axes"),
    }
    for name, (changed, words) in cases.items():
        (tmp_path / f"{name}.nrrd").write_bytes(changed)
        with pytest.raises(ImageError, match=words):
            read(tmp_path / f"{name}.nrrd")
    header, _, body = content.partition(b"\n\n")
    packed = header.replace(b"raw", b"bzip2") + b"\n\n" + bz2.compress(body)[:-30]
    (tmp_path / "packed.nrrd").write_bytes(packed)
    with pytest.raises(ImageError, match="packed"):
        read(tmp_path / "packed.nrrd")


def test_images_of_16_bits_keep_their_depth(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (6, 7)).astype(np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(deep).save(tmp_path / name)
        image = read(tmp_path / name, window=(32768, 65536))
        np.testing.assert_array_equal(image.values[0], deep)
        np.testing.assert_array_equal(image.view, np.rint(deep / 65536 * 255))
        with pytest.raises(ImageError, match="needs a window"):
            _ = read(tmp_path / name).view
    pages = [Image.fromarray(deep + k) for k in range(3)]
    pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
    assert read(tmp_path / "many.tif").values.shape == (3, 6, 7)
    real = RNG.normal(size=(4, 5)).astype(np.float32)
    Image.fromarray(real).save(tmp_path / "real.tif")
    np.testing.assert_array_equal(read(tmp_path / "real.tif").values[0], real)


def test_images_of_8_bits_are_what_they_are(tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (6, 7)).astype(np.uint8)
    colours = RNG.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(colours).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").view, grey)
    np.testing.assert_array_equal(read(tmp_path / "b.png").view, colours)
    assert not is_medical(tmp_path / "a.png")


def test_a_folder_of_frames_is_a_clip_in_the_order_of_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("nothing")
    np.testing.assert_array_equal(read(tmp_path).values[:, 0, 0], [1, 2, 10])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(ImageError, match=r"other\.png"):
        read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="neither DICOM files nor images"):
        read(tmp_path / "empty")


def test_arrays_carry_the_spacing_that_is_given() -> None:
    image = read(VOLUME, spacing=(2.5, 0.8, 0.5))
    assert (image.spacing, image.slice_spacing) == ((0.8, 0.5), 2.5)
    assert read(VOLUME[0], spacing=(0.8, 0.5)).pixel_mm2 == pytest.approx(0.4)
    for spacing in ((1,), (1, 0), (1, np.nan), "12", (1, 2, 3, 4)):
        with pytest.raises(ImageError, match="spacing"):
            read(VOLUME, spacing=spacing)  # type: ignore[arg-type]
    for array in (np.zeros(5), np.zeros((2, 2), complex), np.zeros((0, 4, 4)), np.array([["a"]])):
        with pytest.raises(ImageError, match="no image"):
            read(array)
    with pytest.raises(ImageError, match="no path"):
        read(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a[1].nii", "b c.nii", b"\xff\xfe.nii"])
def test_names_of_any_kind_are_read(tmp_path: Path, name: str | bytes) -> None:
    import os

    path = tmp_path / os.fsdecode(name)
    path.write_bytes(nibabel.Nifti1Image(VOLUME.T, AFFINE).to_bytes())
    assert read(path).values.shape == VOLUME.shape


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert not is_medical(tmp_path / "pipe")
    for name, words in (("pipe", "pipe or a device"), ("missing", "no such file")):
        with pytest.raises(ImageError, match=words):
            read(tmp_path / name)


@pytest.mark.parametrize(("package", "name"), [("nibabel", "a.nii"), ("nrrd", "a.nrrd")])
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch, package, name) -> None:
    import sys

    nrrd.write(str(tmp_path / "a.nrrd"), VOLUME.T)
    nibabel.save(nibabel.Nifti1Image(VOLUME.T, AFFINE), tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendUnavailableError, match="nifti"):
        read(tmp_path / name)
