"""Headers are held against the pixels; a contradiction is never read as a number."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastseg.cli.root import run
from fastseg.echo.dicom import read_dicom
from fastseg.echo.files import read
from fastseg.echo.frames import choose_view
from fastseg.errors import ImageError
from fastseg.images import read_image, read_pages
from fastseg.images.headers import bits_per_channel
from fastseg.testing import tiny_unet_folder
from tests.helpers.ultrasound_files import as_ycbcr, coloured, region, tissue, write_dicom

GREY = tissue()
RGB = coloured(GREY)
YCBCR = as_ycbcr(RGB)
DEEP = (np.arange(20 * 30 * 4, dtype=np.uint16).reshape(20, 30, 4) % 4096).astype(">u2")


def png(colour_type: int, channels: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.tobytes() for row in DEEP[..., :channels])
    header = struct.pack(">LLBBBBB", 30, 20, 16, colour_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(*, planar: int = 1, compression: int = 1) -> bytes:
    """RGB in 16 bits; Pillow itself writes none."""
    colours = DEEP[..., :3]
    data = (colours if planar == 1 else colours.transpose(2, 0, 1)).astype("<u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    plane = len(data) // 3
    strips = [(8, len(data))] if planar == 1 else [(8 + k * plane, plane) for k in range(3)]
    after = 8 + len(data)
    bits, offsets, counts = after, after + 6, after + 18
    many = planar == 2
    tags = [
        (256, 4, 1, 30), (257, 4, 1, 20), (258, 3, 3, bits), (259, 3, 1, compression),
        (262, 3, 1, 2), (273, 4, len(strips), offsets if many else 8), (277, 3, 1, 3),
        (278, 4, 1, 20), (279, 4, len(strips), counts if many else len(data)), (284, 3, 1, planar),
    ]  # fmt: skip
    extra = struct.pack("<3H", 16, 16, 16)
    extra += struct.pack(
        "<6L", *(([a for a, _ in strips] + [b for _, b in strips]) if many else [0] * 6)
    )
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return struct.pack("<2sHL", b"II", 42, after + len(extra)) + data + extra + directory


def jpeg2000() -> bytes:
    """RGB in 8 bits whose header is changed to say 12."""
    stream = io.BytesIO()
    Image.fromarray(RGB[0]).save(stream, "JPEG2000")
    content = bytearray(stream.getvalue())
    depths = content.index(b"\xff\x4f\xff\x51") + 4 + 36 + 2
    content[depths : depths + 9 : 3] = bytes([11]) * 3
    return bytes(content)


DEEP_FILES = {
    "png-rgb": png(2, 3),
    "png-rgba": png(6, 4),
    "png-grey": png(0, 1),
    "png-grey-alpha": png(4, 2),
    "tiff": tiff(),
    "tiff-deflate": tiff(compression=8),
    "tiff-planes": tiff(planar=2),
    "ppm": b"P6 30 20 65535\n" + DEEP[..., :3].tobytes(),
    "ppm-12": b"P6 30 20 4095\n" + DEEP[..., :3].tobytes(),
    "pgm": b"P5 30 20 65535\n" + DEEP[..., 0].tobytes(),
    "ppm-text": b"P3 1 1 4095\n1 2 3\n",
    "sgi": struct.pack(">HBBHHHHLLL492x", 474, 0, 2, 3, 30, 20, 3, 0, 65535, 0)
    + DEEP[..., :3].transpose(2, 0, 1).tobytes(),
    "jpeg2000": jpeg2000(),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_more_than_eight_bits_are_refused_in_every_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than 8 bits"):
        read_image(DEEP_FILES[name])
    (tmp_path / "deep").write_bytes(DEEP_FILES[name])
    with pytest.raises(ImageError, match="more than 8 bits"):
        read_pages(tmp_path / "deep")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PPM", "SGI", "TGA", "TIFF", "WEBP", "JPEG2000"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_eight_bits_are_eight_bits_in_every_format(kind: str, mode: str) -> None:
    stream = io.BytesIO()
    try:
        Image.fromarray(RGB[0]).convert(mode).save(stream, kind)
    except (OSError, ValueError):  # the format has no such mode
        return
    with Image.open(stream) as image:
        assert bits_per_channel(image) <= 8
    assert read_image(stream.getvalue()).shape == RGB[0].shape


# Scales of pages and pixels.


def save_pages(path: Path, sizes: list[tuple[int, int]]) -> Path:
    pages = [Image.fromarray(GREY[0]).resize(size) for size in sizes]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def echo(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    run(["echo", *map(str, words), "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_every_page_has_the_scale_of_its_own_size(tmp_path: Path, capsys) -> None:
    model = tiny_unet_folder(tmp_path / "tiny")
    both = save_pages(tmp_path / "p_a2c.tif", [(64, 48), (128, 96)])
    document = echo(capsys, both, "--model", model)
    (row,) = document["files"]
    assert (row["width"], row["height"], row["cm_per_pixel"]) == (None, None, None)
    alone = save_pages(tmp_path / "q_a2c.tif", [(128, 96)])
    second = echo(capsys, alone, "--model", model)["studies"][0]["findings"]
    found = document["studies"][0]["findings"][len(second) :]
    assert [one["area_cm2"] for one in found] == [one["area_cm2"] for one in second]
    (refused,) = echo(capsys, both, "--model", model, "--cm-per-pixel", 0.1)["files"]
    assert "one scale does not hold" in refused["error"]["message"]


def aspect_files(tmp_path: Path) -> list[Path]:
    image = Image.fromarray(RGB[0])
    files = []
    for name in ("a.png", "a.tif", "a.bmp", "a.jpg"):
        files.append(tmp_path / name)
        image.save(files[-1], dpi=(72, 144))
    gif = io.BytesIO()
    image.save(gif, "GIF")
    files.append(tmp_path / "a.gif")
    files[-1].write_bytes(gif.getvalue()[:12] + bytes([64]) + gif.getvalue()[13:])
    return files


def test_pixels_that_are_not_square_are_refused_for_measurements(tmp_path: Path) -> None:
    for file in aspect_files(tmp_path):
        with pytest.raises(ImageError, match="square pixels"):
            read(file, channels=None, max_pixels=None)
        assert read_image(file).shape == RGB[0].shape, "masks alone need no scale"
    image = Image.fromarray(RGB[0])
    image.save(tmp_path / "b.png", dpi=(96, 96))
    assert len(read(tmp_path / "b.png", channels=None, max_pixels=None).arrays) == 1


def test_pages_are_turned_upright_as_single_images_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(GREY[0])
    image.save(tmp_path / "one.tif", exif=exif)
    image.save(tmp_path / "two.tif", save_all=True, append_images=[image], exif=exif)
    (one,) = read_pages(tmp_path / "one.tif")
    assert one.shape == (64, 48, 3)
    np.testing.assert_array_equal(read_pages(tmp_path / "two.tif")[0], one)


@pytest.mark.parametrize(
    ("size", "scale"), [((480, 640), 0.3125), ((240, 320), 0.5), ((64, 64), 2)]
)
def test_a_frame_of_metres_is_refused(size: tuple[int, int], scale: float) -> None:
    with pytest.raises(ImageError, match="cm_per_pixel"):
        choose_view(size, cm_per_pixel=scale)


def test_a_luma_and_chroma_frame_after_black_ones_is_recognised(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.concatenate([np.zeros_like(YCBCR[:2]), YCBCR]))
    with pytest.raises(ImageError, match="--channels ycbcr"):
        read(tmp_path / "a.npy", channels=None, max_pixels=None)


# DICOM.


def test_jpeg_colours_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    wrong = write_dicom(tmp_path / "a.dcm", RGB, "RGB", jpeg={})
    with pytest.raises(ImageError, match=r"luma and chroma.*--channels"):
        read_dicom(wrong)
    right = read_dicom(write_dicom(tmp_path / "b.dcm", RGB, "YBR_FULL_422", jpeg={}))
    told = read_dicom(wrong, channels="ycbcr")
    assert (right.channels, told.channels) == ("ycbcr", "ycbcr")
    np.testing.assert_array_equal(told.frames, right.frames)
    stored = write_dicom(tmp_path / "c.dcm", RGB, "YBR_FULL", jpeg={"keep_rgb": True})
    with pytest.raises(ImageError, match="its pixels are RGB"):
        read_dicom(stored)


def test_jpeg_that_pillow_turns_into_rgb_is_called_rgb(tmp_path: Path, monkeypatch) -> None:
    from tests.helpers import ultrasound_files

    plain = ultrasound_files._jpeg
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
    monkeypatch.setattr(
        ultrasound_files, "_jpeg", lambda frame, **_: b"\xff\xd8" + marker + plain(frame)[20:]
    )
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", RGB, "YBR_FULL_422", jpeg={}))
    assert clip.channels == "rgb"
    assert np.abs(clip.frames.astype(int) - RGB).mean() < 6


def test_uncompressed_colours_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    for frames, stated in ((YCBCR, "RGB"), (RGB, "YBR_FULL")):
        file = write_dicom(tmp_path / f"{stated}.dcm", frames, stated)
        with pytest.raises(ImageError, match="one of them is wrong"):
            read_dicom(file)
        for told in ("rgb", "ycbcr"):
            assert read_dicom(file, channels=told).channels == told
    for frames, stated, order in ((RGB, "RGB", "rgb"), (YCBCR, "YBR_FULL", "ycbcr")):
        clip = read_dicom(write_dicom(tmp_path / "right.dcm", frames, stated), channels="bgr")
        assert clip.channels == order, "the header decides where nothing contradicts it"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"PixelAspectRatio": ["1", "2"]}, "not square"),
        ({"PixelSpacing": ["0.5", "0.8"]}, "not square"),
        ({"BitsStored": 7, "HighBit": 6}, "7 bits of 8"),
        ({"PixelRepresentation": 1}, "signed"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "3 channels"),
        ({"regions": [region(PhysicalDeltaY=0.08)]}, "not square"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_with_any_scale(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    file = write_dicom(tmp_path / "a.dcm", GREY, **more)
    for scale in (None, 0.05):
        with pytest.raises(ImageError, match=reason):
            read_dicom(file, cm_per_pixel=scale)


def test_two_scales_in_one_file_are_refused_unless_one_is_given(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "a.dcm", GREY, PixelSpacing=["0.7", "0.7"])
    with pytest.raises(ImageError, match=r"0\.05 cm .* 0\.07 cm"):
        read_dicom(file)
    assert read_dicom(file, cm_per_pixel=0.05).cm_per_pixel == 0.05
    same = write_dicom(tmp_path / "b.dcm", GREY, PixelSpacing=["0.5", "0.5"])
    assert read_dicom(same).cm_per_pixel == pytest.approx(0.05)


@pytest.mark.parametrize("delta", [None, 0, float("nan"), float("inf")])
def test_a_region_without_a_scale_is_refused_with_the_remedy(tmp_path: Path, delta) -> None:
    file = write_dicom(tmp_path / "a.dcm", GREY, regions=[region(PhysicalDeltaX=delta)])
    with pytest.raises(ImageError, match=r"--cm-per-pixel"):
        read_dicom(file)


def test_a_region_of_metres_is_refused_with_its_file(tmp_path: Path) -> None:
    wide = [region(PhysicalDeltaX=2.0, PhysicalDeltaY=2.0)]
    with pytest.raises(ImageError, match=r"a\.dcm .* cm long"):
        read_dicom(write_dicom(tmp_path / "a.dcm", GREY, regions=wide))


def test_frames_of_another_size_than_stated_are_refused(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "a.dcm", RGB, "YBR_FULL", jpeg={}, Rows=64, Columns=48)
    with pytest.raises(ImageError, match="48 x 64 pixels, and frame 0 is 64 x 48"):
        read_dicom(file, cm_per_pixel=0.05)
