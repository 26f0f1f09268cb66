"""Resizing equals Pillow's, preprocessing equals SAM's, bit for bit."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastseg import ops
from fastseg.errors import ImageError, PromptError
from fastseg.geometry import Frame
from tests.helpers import reference

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PILLOW = int(PIL.__version__.split(".")[0])
lengths = st.integers(1, 90)


def drawn_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(image, size):
    if PILLOW >= 13:
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    # Earlier versions always resize horizontally first: make them keep the order of version 13.
    for axis in reference.axes_in_order(image.shape, size):
        step = (size[0], image.shape[1]) if axis == 0 else (image.shape[0], size[1])
        image = np.asarray(Image.fromarray(image).resize(step[::-1], Image.Resampling.BILINEAR))
    return image


@given(lengths, lengths, lengths, lengths, st.integers(0, 99))
@example(1, 1, 1, 1, 0)
@example(1, 1, 64, 64, 0)
@example(90, 1, 1, 90, 0)
@settings(deadline=None)
def test_resizing_equals_pillow_and_the_reference_for_any_sizes(h, w, new_h, new_w, seed):
    image = drawn_image(h, w, seed)
    resized = ops.resize_bilinear(image, (new_h, new_w))
    np.testing.assert_array_equal(resized, pillow(image, (new_h, new_w)))
    np.testing.assert_array_equal(resized, reference.resize_bilinear(image, (new_h, new_w)))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1200, 1800), (683, 1024)),
        ((1, 65535), (1, 1024)),
        ((3000, 11), (1024, 4)),
        ((2500, 900), (1024, 369)),
    ],
)
def test_resizing_equals_pillow_at_the_sizes_of_real_images(shape, size):
    image = drawn_image(*shape)
    np.testing.assert_array_equal(ops.resize_bilinear(image, size), pillow(image, size))


@pytest.mark.parametrize("value", [0, 255])
def test_resizing_keeps_black_and_white(value):
    image = np.full((37, 53, 3), value, np.uint8)
    assert (ops.resize_bilinear(image, (19, 88)) == value).all()


FRAMES = [
    Frame((40, 60), side=64),
    Frame((60, 40), side=64, crop=(7, 5, 31, 59)),
    Frame((1, 500), side=64),
    Frame((64, 64), side=64),
    Frame((200, 333), side=96, crop=(100, 0, 333, 200)),
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_preprocessing_equals_the_reference(frame):
    image = drawn_image(*frame.image)
    np.testing.assert_array_equal(
        ops.preprocess(image, frame, MEAN, STD), reference.preprocess(image, frame, MEAN, STD)
    )


def test_preprocessing_normalises_as_torch_does():
    torch = pytest.importorskip("torch", reason="compares with torch's own arithmetic")
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    expected = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    frame = Frame((16, 16), side=16)
    np.testing.assert_array_equal(ops.preprocess(image, frame, MEAN, STD), expected.numpy())


def test_preprocessing_does_not_depend_on_the_number_of_threads():
    image, frame = drawn_image(900, 1200), Frame((900, 1200), side=1024)
    one = ops.preprocess(image, frame, MEAN, STD, threads=1)
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(ops.preprocess(image, frame, MEAN, STD, threads=threads), one)


def test_images_in_any_memory_order_work():
    image = drawn_image(20, 30)
    expected = ops.resize_bilinear(image, (7, 9))
    for same in (np.asfortranarray(image), np.ascontiguousarray(image[::-1])[::-1]):
        np.testing.assert_array_equal(ops.resize_bilinear(same, (7, 9)), expected)
    image.flags.writeable = False
    np.testing.assert_array_equal(ops.resize_bilinear(image, (7, 9)), expected)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused_by_its_shape(image):
    with pytest.raises(ImageError, match=r"\(height, width, 3\) uint8"):
        ops.resize_bilinear(image, (2, 2))


def test_an_empty_result_is_refused():
    with pytest.raises(ImageError, match="0 x 5"):
        ops.resize_bilinear(drawn_image(4, 4), (0, 5))


def test_a_frame_of_another_image_is_refused():
    with pytest.raises(ImageError, match=r"\(5, 4\)"):
        ops.preprocess(drawn_image(4, 4), Frame((5, 4), side=16), MEAN, STD)


@pytest.mark.parametrize("crop", [(0, 0, 5, 4), (2, 0, 2, 4), (-1, 0, 2, 2), (3, 3, 1, 1)])
def test_a_crop_outside_the_image_is_refused(crop):
    with pytest.raises(ImageError, match="crop"):
        ops.preprocess(drawn_image(4, 4), Frame((4, 4), side=16, crop=crop), MEAN, STD)


def test_statistics_of_the_wrong_length_are_refused():
    with pytest.raises(ImageError, match="three numbers"):
        ops.preprocess(drawn_image(4, 4), Frame((4, 4), side=16), (0.0,), STD)


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(PromptError, match="threads"):
        ops.resize_bilinear(drawn_image(4, 4), (2, 2), threads=-1)
