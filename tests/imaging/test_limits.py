"""Limits: what a header claims is checked before memory is taken for it."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastseg.errors import ImageError
from fastseg.imaging import read
from tests.helpers.dicom_files import dataset, palette, save, write

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")

GREY = np.zeros((2, 16, 16), np.uint8)
DEFLATED = "1.2.840.10008.1.2.1.99"


def deflated(path: Path, body: bytes, *, zeros: int = 0) -> Path:
    """A deflated file whose data set is ``body`` and megabytes of zeros."""
    uid = DEFLATED.encode() + b"\0" * (len(DEFLATED) % 2)
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(uid)) + uid
    pack = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = pack.compress(body)
    for _ in range(zeros):
        packed += pack.compress(bytes(1 << 20))
    path.write_bytes(bytes(128) + b"DICM" + meta + packed + pack.flush())
    return path


def header_of(path: Path, **more: object) -> bytes:
    """The data set of a small file, without its file header and pixels."""
    content = write(path, GREY, **more).read_bytes()
    return content[content.index(b"\x08\0\x16\0UI") : content.index(b"\xe0\x7f\x10\0")]


def test_a_file_above_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", GREY)
    for limit, words in ((255, "max_pixels=255"), (100, "16 x 16")):
        with pytest.raises(ImageError, match=words):
            read(file, max_pixels=limit)
    many = write(tmp_path / "b.dcm", np.zeros((5, 16, 16), np.uint8))
    with pytest.raises(ImageError, match="5 frames"):
        read(many, max_pixels=256)
    assert len(read(many, max_pixels=None)) == 5


@pytest.mark.parametrize("rows", [30_000, 65_535])
def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path: Path, rows: int) -> None:
    file = write(tmp_path / "a.dcm", GREY, Rows=rows, Columns=100, NumberOfFrames=9)
    with pytest.raises(ImageError, match=r"holds 512 of the"):
        read(file)


def test_an_element_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    content = write(tmp_path / "a.dcm", GREY).read_bytes()
    place = content.index(b"\xe0\x7f\x10\0OB") + 8
    (tmp_path / "a.dcm").write_bytes(content[:place] + b"\0\0\0\xc0" + content[place + 4 :])
    image = read(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.stored, GREY)


def test_a_deflated_file_becomes_no_larger_than_its_header_explains(tmp_path: Path) -> None:
    header = header_of(tmp_path / "a.dcm")
    pixels = b"\xe0\x7f\x10\0OB\0\0" + struct.pack("<L", 80 << 20)
    file = deflated(tmp_path / "bomb.dcm", header + pixels, zeros=80)
    assert file.stat().st_size < 1 << 20
    with pytest.raises(ImageError, match="made to exhaust memory"):
        read(file)


def test_a_deflated_file_whose_header_claims_too_much_is_refused(tmp_path: Path) -> None:
    header = header_of(tmp_path / "a.dcm", Rows=40_000, Columns=40_000)
    file = deflated(tmp_path / "bomb.dcm", header + b"\xe0\x7f\x10\0OB\0\0", zeros=80)
    with pytest.raises(ImageError, match="max_pixels"):
        read(file)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "a.dcm", GREY).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", content + bytes(80 << 20))
    assert (tmp_path / "a.zip").stat().st_size < 1 << 20
    with pytest.raises(ImageError, match="made to exhaust memory"):
        read(tmp_path / "a.zip")


def test_a_packed_volume_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    content = nibabel.Nifti1Image(values, np.eye(4)).to_bytes()
    with gzip.open(tmp_path / "a.nii.gz", "wb") as file:
        file.write(content + bytes(20 << 20))
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz").stored, values.T)


def test_malformed_files_take_little_memory(tmp_path: Path) -> None:
    """Bombs are read in a process of their own, whose peak is printed."""
    header = header_of(tmp_path / "a.dcm")
    deflated(tmp_path / "bomb.dcm", header + b"\xe0\x7f\x10\0OB\0\0", zeros=1500)
    script = (
        "import re, sys; from fastseg.imaging import read\n"
        "from fastseg.errors import ImageError\n"
        "try: read(sys.argv[1])\n"
        "except ImageError:\n"
        "  status = open('/proc/self/status').read()\n"
        "  print(re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.dcm")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(found.stdout) < 400_000, "kB"


@pytest.mark.parametrize("value", ["1A", "", "-3", "2000000"])
def test_numbers_of_frames_that_are_none_are_refused(tmp_path: Path, value: str) -> None:
    content = write(tmp_path / "a.dcm", GREY, NumberOfFrames="77").read_bytes()
    place = content.index(b"\x28\0\x08\0IS")
    field = value.encode().ljust(len(value) + len(value) % 2)
    element = content[place : place + 6] + struct.pack("<H", len(field)) + field
    (tmp_path / "a.dcm").write_bytes(content[:place] + element + content[place + 10 :])
    if value == "":
        assert len(read(tmp_path / "a.dcm")) == 1
        return
    with pytest.raises(ImageError, match=r"frames|NumberOfFrames"):
        read(tmp_path / "a.dcm")


def test_a_rescale_slope_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="slope of 0"):
        read(write(tmp_path / "a.dcm", GREY, RescaleSlope=0))


def test_a_segmented_palette_cannot_grow_beyond_its_descriptor(tmp_path: Path) -> None:
    fields = palette(np.zeros((256, 3), int))
    for name in ("Red", "Green", "Blue"):
        del fields[f"{name}PaletteColorLookupTableData"]
        words = np.array([0, 1, 7, *[1, 65535, 9] * 20_000], "<u2")
        fields[f"Segmented{name}PaletteColorLookupTableData"] = words.tobytes()
    image = read(write(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **fields))
    assert image.values.shape == (2, 16, 16, 3)


def test_reports_and_plans_hold_no_pixels(tmp_path: Path) -> None:
    made = dataset(GREY)
    for name in ("Rows", "Columns", "PixelData", "SamplesPerPixel"):
        delattr(made, name)
    with pytest.raises(ImageError, match="holds no pixels"):
        read(save(made, tmp_path / "a.dcm"))
