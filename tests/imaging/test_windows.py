"""Promises of windows: by name, by numbers, from the file, by percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.errors import ImageError
from fastseg.imaging import WINDOWS, Window, read

RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(1, 64, 64)


def test_the_windows_have_the_published_centres_and_widths() -> None:
    assert {name: (one.centre, one.width) for name, one in WINDOWS.items()} == {
        "soft-tissue": (40, 400),
        "lung": (-600, 1500),
        "bone": (400, 1800),
        "brain": (40, 80),
        "liver": (30, 150),
        "mediastinum": (50, 350),
        "medsam-soft-tissue": (40, 400),
        "medsam-lung": (-160, 1500),
        "medsam-brain": (40, 80),
    }


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_maps_its_ends_to_black_and_white(name: str) -> None:
    centre, width = WINDOWS[name].centre, WINDOWS[name].width
    expected = np.clip((RAMP[0] - (centre - width / 2)) / width * 255, 0, 255)
    for choice in (name, (centre, width), f"{centre},{width}", WINDOWS[name]):
        view = read(RAMP, window=choice).view
        assert view.dtype == np.uint8
        assert np.abs(view - expected).max() <= 0.5 + 1e-9


def test_linear_windows_of_files_follow_the_standard() -> None:
    """PS3.3 C.11.2.1.2.1: of centre 2048 and width 4096, 0 is the lowest and 4095 the highest."""
    values = np.array([[[-1, 0, 1, 2047, 2048, 4094, 4095, 4096]]], np.int16)
    found = Window(2048, 4096, "linear").apply(values)
    expected = np.clip(((values - 2047.5) / 4095 + 0.5) * 255, 0, 255)
    np.testing.assert_array_equal(found, np.rint(expected))
    step = Window(10, 1, "linear").apply(np.array([9, 10, 11]))
    assert (step[0], step[-1]) == (0, 255)


def test_sigmoid_windows_follow_the_standard() -> None:
    values = np.array([-1e9, 20.0, 40.0, 60.0, 1e9])
    expected = 255 / (1 + np.exp(np.clip(-4 * (values - 40) / 80, -700, 700)))
    np.testing.assert_array_equal(Window(40, 80, "sigmoid").apply(values), np.rint(expected))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.int32])
def test_percentiles_are_those_of_numpy(dtype: type) -> None:
    volume = np.random.default_rng(0).integers(0, 3000, (3, 20, 30)).astype(dtype)
    window = read(volume, window="percentile:0.5,99.5").window
    low, high = np.percentile(volume.astype(np.float64), (0.5, 99.5))
    assert window is not None
    assert window.centre - window.width / 2 == pytest.approx(low)
    assert window.centre + window.width / 2 == pytest.approx(high)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.int32])
def test_percentiles_may_leave_zeros_and_less_out(dtype: type) -> None:
    volume = np.random.default_rng(0).integers(0, 120, (3, 20, 30)).astype(dtype)
    volume[:, :10] = 0
    if dtype != np.uint8:
        volume[:, :2] = -50
    image = read(volume, window="nonzero:0.5,99.5")
    low, high = np.percentile(volume[volume > 0].astype(np.float64), (0.5, 99.5))
    assert image.window is not None
    assert image.window.centre == pytest.approx((low + high) / 2)
    assert image.window.width == pytest.approx(high - low)
    assert (image.view[volume <= 0] == 0).all()
    with pytest.raises(ImageError, match="no window"):
        read(np.zeros((1, 4, 4), dtype), window="nonzero:0.5,99.5")


def test_the_scale_decides_what_is_above_zero() -> None:
    from dataclasses import replace

    volume = np.random.default_rng(0).integers(0, 2000, (3, 20, 30)).astype(np.int16)
    image = replace(read(volume), slope=np.full(3, 0.5), intercept=np.full(3, -300.0))
    values = image.values
    low, high = np.percentile(values[values > 0], (1, 99))
    window = image.with_window("nonzero:1,99").window
    assert window is not None
    assert (window.centre, window.width) == pytest.approx(((low + high) / 2, high - low))


def test_medsam_windows_by_modality() -> None:
    from dataclasses import replace

    image = read(np.random.default_rng(0).integers(0, 900, (2, 20, 30)).astype(np.int16))
    ct = replace(image, modality="CT").with_window("medsam")
    assert ct.window == WINDOWS["soft-tissue"]
    mr = replace(image, modality="MR").with_window("medsam")
    assert mr.window == image.with_window("nonzero:0.5,99.5").window


def test_percentiles_leave_values_that_are_not_finite_out() -> None:
    volume = np.linspace(0, 1, 400, dtype=np.float32).reshape(1, 20, 20).copy()
    volume[0, 0, :3] = (np.nan, np.inf, -np.inf)
    image = read(volume, window="percentile:0,100")
    assert image.window is not None
    assert 0 < image.window.centre < 1
    assert image.view[0, 0] == 0, "NaN is black"


@pytest.mark.parametrize(
    "choice",
    ["skin", "percentile:99,1", "percentile:0,101", "40", "40,0", "40,-5", (40, 0), "", 7,
     "a,b", "nan,5", (1, 2, 3), "percentile:"],
)  # fmt: skip
def test_what_is_no_window_is_refused(choice: object) -> None:
    with pytest.raises(ImageError, match="window"):
        read(RAMP, window=choice)  # type: ignore[arg-type]


def test_equal_values_have_no_window_of_percentiles() -> None:
    with pytest.raises(ImageError, match="no window"):
        read(np.zeros((1, 4, 4), np.int16), window="percentile:0.5,99.5")


def test_values_without_a_window_are_not_guessed_at() -> None:
    image = read(RAMP)
    np.testing.assert_array_equal(image.values, RAMP)
    with pytest.raises(ImageError, match="needs a window"):
        _ = image.view
    with pytest.raises(ImageError, match="the file states none"):
        read(RAMP, window="file")
    assert read(RAMP.astype(np.uint8)).view.dtype == np.uint8


def test_colours_have_no_window() -> None:
    with pytest.raises(ImageError, match="colours"):
        read(np.zeros((4, 4, 3), np.uint8), window="lung")
