"""Images are resized as the libraries do that networks were trained with."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.artifacts.preprocessing import LONGEST_SIDE_AREA, MIN_MAX, Preprocessing
from fastseg.sam.preprocessing import encoder_input
from fastseg.sam.resizing import resize_area, stretch_bilinear, stretch_spline

SIZES = [(30, 20), (97, 131), (64, 64), (1, 5), (33, 1), (150, 40)]


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def steps(size: tuple[int, int]) -> np.ndarray:
    """Flat areas, where exact values are integers."""
    ramp = np.add.outer(np.arange(size[0]), np.arange(size[1])) // 9 * 40
    return np.repeat((ramp % 256).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("size", SIZES)
def test_the_cubic_spline_is_that_of_scikit_image(size):
    transform = pytest.importorskip("skimage.transform", reason="the reference is scikit-image")
    wanted = transform.resize(
        noise(size), (64, 64), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    np.testing.assert_array_equal(stretch_spline(noise(size), 64), wanted)


def test_the_cubic_spline_of_flat_areas_differs_by_the_truncation_of_rounding_alone():
    transform = pytest.importorskip("skimage.transform", reason="the reference is scikit-image")
    image = steps((97, 131))
    values = transform.resize(image, (64, 64), order=3, preserve_range=True, anti_aliasing=True)
    found = stretch_spline(image, 64)
    differs = found != values.astype(np.uint8)
    assert (np.abs(values[differs] - found[differs]) < 1e-6).all()
    assert np.abs(found - values).max() < 1


@pytest.mark.parametrize("size", SIZES)
def test_the_bilinear_filter_is_that_of_torch(size):
    torch = pytest.importorskip("torch", reason="the reference is torch")
    planes = torch.from_numpy(noise(size)).permute(2, 0, 1)[None].float()
    wanted = torch.nn.functional.interpolate(planes, (64, 64), mode="bilinear", antialias=True)
    found = stretch_bilinear(noise(size), 64)
    assert np.abs(found - wanted[0].permute(1, 2, 0).numpy()).max() <= 255 * 1e-6


@pytest.mark.parametrize("drawn", [noise, steps])
@pytest.mark.parametrize("size", [*SIZES, (128, 96), (192, 128), (64, 60), (500, 77)])
def test_areas_are_those_of_opencv(size, drawn):
    cv2 = pytest.importorskip("cv2", reason="the reference is OpenCV")
    scale = 64 / max(size)
    into = max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))
    wanted = cv2.resize(drawn(size), into[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(resize_area(drawn(size), into), wanted)


def test_the_padding_is_zero_behind_the_normalisation():
    preprocessing = Preprocessing(64, (0, 0, 0), (1, 1, 1), LONGEST_SIDE_AREA, MIN_MAX, patch=4)
    image = np.clip(noise((40, 80)), 50, 200)
    square = encoder_input(image, preprocessing.frame((40, 80)), preprocessing)
    assert square.shape == (1, 3, 64, 64)
    assert square[0, :, :32].min() == 0
    assert square[0, :, :32].max() == 1
    assert not square[0, :, 32:].any()


def test_a_constant_image_becomes_zeros():
    preprocessing = Preprocessing(64, (0, 0, 0), (1, 1, 1), LONGEST_SIDE_AREA, MIN_MAX)
    flat = np.full((20, 20, 3), 7, np.uint8)
    assert not encoder_input(flat, preprocessing.frame((20, 20)), preprocessing).any()
