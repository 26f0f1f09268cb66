"""Everything that is an image is read as RGB; everything else says why it is not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.errors import ImageError
from fastseg.images import is_stack, read_image
from tests.helpers.fresh_interpreter import loaded_by

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PIL_IMAGE = Image.fromarray(RGB)


@pytest.fixture(autouse=True)
def _no_warnings():
    """Turn warnings into errors: an image that can be read causes none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


class Foreign:
    """An array of another library, as far as NumPy can see."""

    def __init__(self, array: np.ndarray, device: int = 1, refuses: Exception | None = None):
        self.array, self.device, self.refuses = array, device, refuses
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __dlpack__(self, **options):
        if self.refuses is not None:
            raise self.refuses
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


# What is read.


def test_a_file_is_read_from_a_path_a_string_and_its_bytes(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encode(PIL_IMAGE))
    content = path.read_bytes()
    for source in (path, str(path), content, bytearray(content), memoryview(content), PIL_IMAGE):
        read = read_image(source)
        np.testing.assert_array_equal(read, RGB)
        assert read.dtype == np.uint8
        assert read.flags.c_contiguous


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PPM", "TGA", "TIFF", "WEBP", "JPEG", "JPEG2000"])
def test_common_formats_are_read(kind):
    content = encode(PIL_IMAGE, kind)
    with Image.open(io.BytesIO(content)) as same:
        np.testing.assert_array_equal(read_image(content), np.asarray(same.convert("RGB")))


def test_a_fitting_array_is_not_copied():
    assert np.shares_memory(read_image(RGB), RGB)


@pytest.mark.parametrize(
    "array",
    [
        RGB[::-1, ::-1],
        RGB[::2, 1::3],
        np.asfortranarray(RGB),
        np.ascontiguousarray(RGB.transpose(2, 0, 1)).transpose(1, 2, 0),
        RGB.astype(">f8") / 255,
        (RGB / 255).astype(">f4"),
        (RGB / 255).astype("<f4")[::-1],
        (RGB / 255).astype(np.longdouble),
    ],
)
def test_strides_and_byte_order_do_not_matter(array):
    expected = array if array.dtype == np.uint8 else np.rint(array.astype(np.float64) * 255)
    read = read_image(array)
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous


def test_a_read_only_array_is_read_and_left_alone():
    array = RGB.copy()
    array.flags.writeable = False
    np.testing.assert_array_equal(read_image(array), RGB)
    np.testing.assert_array_equal(read_image(array[::-1]), RGB[::-1])


def test_grey_becomes_three_channels_and_alpha_is_dropped():
    grey, alpha = RGB[..., :1], np.zeros((20, 30, 1), np.uint8)
    three = np.repeat(grey, 3, axis=2)
    np.testing.assert_array_equal(read_image(grey), three)
    np.testing.assert_array_equal(read_image(grey[..., 0]), three)
    np.testing.assert_array_equal(read_image(np.concatenate([RGB, alpha], axis=2)), RGB)
    np.testing.assert_array_equal(read_image(Image.fromarray(grey[..., 0])), three)


def test_bgr_is_turned_round_with_and_without_alpha():
    alpha = np.zeros((20, 30, 1), np.uint8)
    bgr = RGB[..., ::-1]
    np.testing.assert_array_equal(read_image(bgr, channels="bgr"), RGB)
    with_alpha = np.concatenate([bgr, alpha], axis=2)
    np.testing.assert_array_equal(read_image(with_alpha, channels="bgr"), RGB)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_byte_survives_the_way_through_floating_point(dtype):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = every.astype(dtype) / dtype(255)
    np.testing.assert_array_equal(read_image(array)[..., 0], every)


def test_floats_are_rounded_half_to_even():
    array = np.array([[0.5, 1.5, 2.5]]) / 255
    np.testing.assert_array_equal(read_image(array)[0, :, 0], [0, 2, 2])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_pillow_mode_of_eight_bits_becomes_rgb(mode):
    image = PIL_IMAGE.convert("RGBA").convert("RGB").convert(mode.replace("PA", "P")).convert(mode)
    np.testing.assert_array_equal(read_image(image), np.asarray(image.convert("RGB")))


def test_a_palette_with_transparency_keeps_its_colours():
    image = PIL_IMAGE.convert("P")
    colours = np.asarray(image.convert("RGB"))
    content = encode(image, transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_image(content), colours)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_file_is_turned_upright(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    upright = read_image(encode(PIL_IMAGE, kind, exif=exif))
    lying = read_image(encode(PIL_IMAGE, kind))
    np.testing.assert_array_equal(upright, np.rot90(lying, -1))


def test_an_image_of_many_rows_is_copied_whole(tmp_path):
    tall = np.random.default_rng(0).integers(0, 256, (613, 3, 3), dtype=np.uint8)
    Image.fromarray(tall).save(tmp_path / "tall.png")
    np.testing.assert_array_equal(read_image(tmp_path / "tall.png"), tall)
    np.testing.assert_array_equal(read_image(Image.fromarray(tall)), tall)


def test_the_previews_in_a_camera_file_are_no_film():
    content = encode(PIL_IMAGE, "MPO", save_all=True, append_images=[PIL_IMAGE.resize((5, 5))])
    assert read_image(content).shape == (20, 30, 3)


def test_an_array_of_another_library_is_read_by_dlpack():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    np.testing.assert_array_equal(read_image(Foreign(RGB)), RGB)
    np.testing.assert_array_equal(read_image(torch.from_numpy(RGB)), RGB)
    np.testing.assert_array_equal(read_image(torch.from_numpy(RGB).flip(0)), RGB[::-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 65535), (65535, 1), (1, 1, 3)])
def test_images_of_one_pixel_width_are_read(shape):
    assert read_image(np.zeros(shape, np.uint8)).shape == (*shape[:2], 3)
    if len(shape) == 2:
        height, width = shape
        assert read_image(encode(Image.new("L", (width, height)))).shape == (*shape, 3)


# What is refused.


@pytest.mark.parametrize("content", [b"", b"nothing", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_what_is_no_image_is_refused(tmp_path, content):
    with pytest.raises(ImageError, match=r"image in .* bytes"):
        read_image(content)
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"scan\.png.*Give a PNG"):
        read_image(path)


def test_a_drawing_is_refused_and_no_outside_program_is_run():
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(ImageError, match="PostScript"):
        read_image(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_truncated_file_is_refused(kind):
    content = encode(PIL_IMAGE, kind)
    with pytest.raises(ImageError, match=r"damaged|cannot be|can be read"):
        read_image(content[: len(content) * 3 // 4])


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="null"):
        read_image("a\0b.png")


@pytest.mark.parametrize("shape", [(0, 0), (0, 5, 3), (5, 0, 3)])
def test_an_empty_image_is_refused(shape):
    with pytest.raises(ImageError, match="not empty"):
        read_image(np.zeros(shape, np.uint8))


def test_an_empty_pil_image_is_refused():
    with pytest.raises(ImageError, match="0 x 0"):
        read_image(Image.new("RGB", (0, 0)))


@pytest.mark.parametrize("count", [(4, 5, 2), (4, 5, 5), (7,), (), (1, 2, 3, 4, 5)])
def test_a_shape_that_is_no_image_is_refused(count):
    with pytest.raises(ImageError, match="not shaped like an image"):
        read_image(np.zeros(count, np.uint8))


def test_a_shape_with_an_obvious_remedy_gets_it():
    with pytest.raises(ImageError, match="transpose"):
        read_image(RGB.transpose(2, 0, 1))
    with pytest.raises(ImageError, match="stack"):
        read_image(RGB[None])


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint16, np.int16, np.int64, np.complex64, object, "U1"]
)
def test_a_dtype_that_could_mean_several_things_is_refused(dtype):
    with pytest.raises(ImageError, match=r"must be uint8 0\.\.255 or floating point 0\.\.1"):
        read_image(np.ones((4, 5, 3)).astype(dtype))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.nan, r"from 0\.5 to 0\.5 and 1 that are not finite"),
        (np.inf, "1 that are not finite"),
        (-np.inf, "1 that are not finite"),
        (1.01, r"from 0\.5 to 1\.01\. "),
        (-0.01, r"from -0\.01 to 0\.5"),
        (255.0, r"to 255\. "),
    ],
)
def test_floats_outside_the_range_are_refused_with_their_range(value, says):
    array = np.full((4, 5, 3), 0.5)
    array[1, 2, 0] = value
    with pytest.raises(ImageError, match=says):
        read_image(array)


def test_an_image_without_any_finite_value_is_refused():
    with pytest.raises(ImageError, match="no finite value"):
        read_image(np.full((4, 5), np.nan))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_refused_with_the_remedy(mode):
    deep = Image.fromarray(RGB[..., 0].astype({"I;16": "<u2", "I": "<i4", "F": "<f4"}[mode]))
    assert deep.mode == mode
    with pytest.raises(ImageError, match=r"more than 8 bits.*window"):
        read_image(deep)
    with pytest.raises(ImageError, match="more than 8 bits"):
        read_image(encode(deep, "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_a_film_is_refused_and_not_cut_to_its_first_frame(kind):
    content = encode(PIL_IMAGE, kind, save_all=True, append_images=[PIL_IMAGE.rotate(90)])
    with pytest.raises(ImageError, match="2 frames"):
        read_image(content)


def test_channels_must_be_known_and_belong_to_an_array():
    with pytest.raises(ImageError, match="channels must be"):
        read_image(RGB, channels="rbg")
    for source in (PIL_IMAGE, encode(PIL_IMAGE)):
        with pytest.raises(ImageError, match="Leave channels out"):
            read_image(source, channels="bgr")


@pytest.mark.parametrize("source", [None, 7, object(), [1, 2, 3]])
def test_what_cannot_be_an_image_is_refused(source):
    with pytest.raises(ImageError, match="is not an image"):
        read_image(source)


def test_memory_that_is_not_here_is_refused():
    with pytest.raises(ImageError, match="Copy it there first"):
        read_image(Foreign(RGB, device=2))
    with pytest.raises(ImageError, match=r"does not hand its memory over: on strike\."):
        read_image(Foreign(RGB, refuses=BufferError("on strike")))


def test_the_name_that_the_caller_gives_is_in_the_error():
    with pytest.raises(ImageError, match="frame 7 of patient 3"):
        read_image(b"", name="frame 7 of patient 3")


# The limit of pixels.


def test_an_image_over_the_limit_is_refused_with_the_remedy():
    for source in (RGB, PIL_IMAGE, encode(PIL_IMAGE)):
        assert read_image(source, max_pixels=600).shape == (20, 30, 3)
        with pytest.raises(ImageError, match=r"= 600 pixels, more than max_pixels=599.*=None"):
            read_image(source, max_pixels=599)


def test_a_huge_file_is_refused_before_it_is_decoded(monkeypatch):
    content = encode(Image.new("1", (20_001, 10_000)))
    assert len(content) < 100_000
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(ImageError, match="200,010,000 pixels"):
        read_image(content)


def test_the_limit_may_exceed_pillows_which_stays_unchanged(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encode(PIL_IMAGE)
    np.testing.assert_array_equal(read_image(content, max_pixels=None), RGB)
    np.testing.assert_array_equal(read_image(content), RGB)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ImageError):
        read_image(b"")
    assert Image.MAX_IMAGE_PIXELS == 100


# One or many.


def test_many_images_are_told_from_one(tmp_path):
    for one in (RGB, RGB[..., 0], PIL_IMAGE, b"", "a.png", Path("a.png"), Foreign(RGB), None, 7):
        assert not is_stack(one)
    for many in (RGB[None], [RGB], (PIL_IMAGE,), iter([RGB]), ["a.png"], [], Foreign(RGB[None])):
        assert is_stack(many)


def test_importing_the_reader_loads_no_heavy_library():
    assert loaded_by("import fastseg.images", ["torch", "onnxruntime", "cv2"]) == []
