"""Sound files are read whatever else they carry; others are named for what they are."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from fastseg.errors import ImageError
from fastseg.images import read_image, read_pages

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(40) * 3, np.arange(60) * 2).astype(np.uint8)


def encode(array: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def tiff_with_pages(kinds: list[int], *, tag: int = 254) -> bytes:
    """A TIFF whose pages have these kinds; those that are not 0 are a quarter of the size."""
    pages = [Image.fromarray(RGB if kind == 0 else RGB[::4, ::4].copy()) for kind in kinds]
    stream = io.BytesIO()
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {"tiffinfo": {tag: kind}}
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], **pages[0].encoderinfo)
    return stream.getvalue()


@pytest.mark.parametrize("kinds", [[0, 1], [0, 1, 1], [0, 4], [0, 5], [1, 0], [4, 0, 1]])
def test_reduced_pages_and_masks_are_no_scenes(kinds: list[int], tmp_path: Path) -> None:
    content = tiff_with_pages(kinds)
    np.testing.assert_array_equal(read_image(content), RGB)
    (tmp_path / "a.tif").write_bytes(content)
    (only,) = read_pages(tmp_path / "a.tif")
    np.testing.assert_array_equal(only, RGB)


def test_the_former_tag_of_reduced_pages_counts_too() -> None:
    np.testing.assert_array_equal(read_image(tiff_with_pages([0, 2], tag=255)), RGB)


def test_pages_of_a_film_are_still_refused_where_one_image_is_wanted() -> None:
    with pytest.raises(ImageError, match="2 frames"):
        read_image(tiff_with_pages([0, 0, 1]))


def test_an_image_of_the_caller_stays_at_its_page() -> None:
    with Image.open(io.BytesIO(tiff_with_pages([0, 0]))) as image:
        image.seek(1)
        with pytest.raises(ImageError, match="2 frames"):
            read_image(image)
        assert image.tell() == 1


# PNG.


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


LARGE = bytes(2_000_000)
PNG = encode(RGB, "PNG")


@pytest.mark.parametrize(
    "texts",
    [
        [chunk(b"tEXt", b"workflow\0" + b"x" * 2_000_000)],
        [chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LARGE))],
        [chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LARGE))],
        [chunk(b"iCCP", b"icc\0\0" + zlib.compress(LARGE))],
        [chunk(b"iCCP", b"icc\0\0" + b"no stream")],
        [chunk(b"zTXt", b"part\0\0" + zlib.compress(bytes(1_000_000)))] * 70,
    ],
    ids=["text", "compressed", "international", "profile", "damaged-profile", "many"],
)
@pytest.mark.parametrize("at", [33, -12], ids=["before", "after"])
def test_a_png_is_read_whatever_texts_it_carries(texts: list[bytes], at: int) -> None:
    content = PNG[:at] + b"".join(texts) + PNG[at:]
    np.testing.assert_array_equal(read_image(content), RGB)


def test_a_png_with_damaged_pixels_is_refused_all_the_same() -> None:
    text = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LARGE))
    with pytest.raises(ImageError, match="damaged"):
        read_image(PNG[:33] + text + PNG[33:-200])


# JPEG.


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("array", [RGB, SMOOTH], ids=["noise", "grey"])
def test_a_jpeg_without_its_end_marker_is_read(array: np.ndarray, options: dict[str, int]) -> None:
    content = encode(array, "JPEG", quality=95, **options)
    whole = read_image(content)
    for end in (content[:-2], content[:-1], content[:-2] + b"\0\0"):
        np.testing.assert_array_equal(read_image(end), whole)


@given(st.integers(min_value=12, max_value=3000))
def test_a_jpeg_that_lacks_pixels_is_refused(missing: int) -> None:
    content = encode(RGB, "JPEG", quality=95)
    with pytest.raises(ImageError):
        read_image(content[:-missing])


def test_a_progressive_jpeg_may_lack_a_scan_and_is_refused() -> None:
    content = encode(RGB, "JPEG", progressive=True)
    with pytest.raises(ImageError, match="damaged"):
        read_image(content[:-2])


# What files are.


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read() -> None:
    assert np.abs(read_image(encode(RGB * 0 + 90, "AVIF")).astype(int) - 90).max() <= 3


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"RIFF\x24\0\0\0AVI LIST", "video"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b"\0\0\0\x14ftypqt  ", "video"),
        (b"\x1a\x45\xdf\xa3\x01", "video"),
        (b"\0\0\x01\xba\x44", "video"),
        (b"\0\0\0\x18ftypheic", "HEIF"),
        (b"\0" * 128 + b"DICM", "read_dicom"),
        (b"\x93NUMPY\x01\0", "array"),
        (b"PK\x03\x04\x14\0", "archive"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"<!DOCTYPE html>", "web page"),
    ],
)
def test_a_file_that_is_no_image_is_named(start: bytes, name: str, tmp_path: Path) -> None:
    content = start + bytes(200)
    with pytest.raises(ImageError, match=name):
        read_image(content)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=name):
        read_pages(tmp_path / "a.png")
