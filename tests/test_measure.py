"""Promises of ``fastseg.measure``: masks in, centimetres out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fastseg.errors import MaskError, MeasurementError
from fastseg.measure import DISKS, measure
from fastseg.results import to_json
from tests.helpers.chamber_bodies import CM_PER_PIXEL, draw, ellipse, named, truncated

MODES = ("default", "source")


def one(mask: np.ndarray, **settings):
    (found,) = measure(mask[None], cm_per_pixel=CM_PER_PIXEL, **settings)
    return found


@pytest.mark.parametrize("tilt", [0.0, 0.4, -0.65, 1.1, -1.5])
def test_an_ellipse_has_its_area_length_and_shape(tilt: float) -> None:
    found = one(draw(ellipse(4.3, 2.4), tilt=tilt))
    assert found.area_cm2 == pytest.approx(math.pi * 4.3 * 2.4, rel=0.01)
    assert found.length_cm == pytest.approx(8.6, rel=0.01)
    assert found.eccentricity == pytest.approx(math.sqrt(1 - (2.4 / 4.3) ** 2), abs=0.01)
    assert found.orientation_rad == pytest.approx(tilt, abs=0.02)
    assert 0.97 < found.solidity <= 1
    assert found.reason == ""


def test_diameters_are_those_in_the_middle_of_each_disk() -> None:
    found = one(draw(ellipse(4.3, 2.4), tilt=0.3))
    along = (np.arange(DISKS) + 0.5) / DISKS * 2 - 1
    expected = 2 * 2.4 * np.sqrt(1 - along**2)
    np.testing.assert_allclose(found.diameters_cm, expected, atol=1.5 * CM_PER_PIXEL)


def test_points_are_x_before_y_in_pixels_of_the_frame() -> None:
    found = one(draw(ellipse(4.3, 2.4), centre=(-2.0, 3.0)))
    middle = (256 - 1) / 2
    assert found.centroid_px == pytest.approx(
        (middle + 3.0 / CM_PER_PIXEL, middle - 2.0 / CM_PER_PIXEL), abs=0.5
    )
    (top_x, top_y), (bottom_x, bottom_y) = found.axis_px
    assert top_y < bottom_y
    assert top_x == pytest.approx(bottom_x, abs=1.0)
    assert math.dist(*found.axis_px) * CM_PER_PIXEL == pytest.approx(found.length_cm)
    left, right = found.chords_px[DISKS // 2]
    assert left[0] < right[0]


def test_the_scale_turns_pixels_into_centimetres() -> None:
    mask = draw(truncated(5.0, 2.2, 0.4), tilt=0.2)[None]
    (small,), (large,) = (measure(mask, cm_per_pixel=scale) for scale in (0.05, 0.1))
    assert large.length_cm == pytest.approx(2 * small.length_cm)
    assert large.area_cm2 == pytest.approx(4 * small.area_cm2)
    assert large.diameters_cm == pytest.approx([2 * diameter for diameter in small.diameters_cm])
    assert large.eccentricity == small.eccentricity


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_mask_is_nan_with_its_reason(mode: str) -> None:
    found = one(np.zeros((64, 48), np.bool_), mode=mode, names=["LA"])
    assert math.isnan(found.area_cm2)
    assert math.isnan(found.length_cm)
    assert math.isnan(found.eccentricity)
    assert found.pieces == 0
    assert found.reason == "no LA was found"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pixels", [[(5, 5)], [(0, 0), (47, 63)], [(9, 4), (9, 5), (9, 6)]])
def test_a_mask_of_a_few_pixels_is_measured_without_a_crash(mode: str, pixels) -> None:
    mask = np.zeros((48, 64), np.bool_)
    for row, column in pixels:
        mask[row, column] = True
    found = one(mask, mode=mode)
    assert found.area_cm2 == pytest.approx(len(pixels) * CM_PER_PIXEL**2)
    assert bool(found.reason) == (not found.length_cm > 0)


def test_a_chamber_in_pieces_has_the_axis_of_its_largest_piece() -> None:
    whole = draw(ellipse(4.3, 2.4), centre=(2.0, 0.0))
    crumb = np.zeros_like(whole)
    crumb[:6, :6] = True
    clean, broken = one(whole), one(whole | crumb)
    assert broken.pieces == 2
    assert broken.length_cm == clean.length_cm
    assert broken.area_cm2 == pytest.approx(clean.area_cm2 + 36 * CM_PER_PIXEL**2)
    # As published, the first piece in raster order has the axis, and that is the crumb.
    assert one(whole | crumb, mode="source").length_cm < 1


def test_only_the_published_axis_jumps_in_a_flat_chamber() -> None:
    flat = draw(ellipse(4.3, 2.0), tilt=0.8)
    assert one(flat).length_cm == pytest.approx(8.6, rel=0.01)
    assert one(flat, mode="source").length_cm < 0.95 * 8.6


def test_names_come_from_the_masks_unless_they_are_given() -> None:
    masks = named("a2c", np.stack([draw(ellipse(2, 1)), draw(ellipse(4, 2))]))
    assert [found.name for found in measure(masks, cm_per_pixel=0.1)] == ["LA", "LV"]
    own = measure(masks, cm_per_pixel=0.1, names=["x", "y"])
    assert [found.name for found in own] == ["x", "y"]
    nameless = measure(masks.array(), cm_per_pixel=0.1)
    assert [found.name for found in nameless] == ["mask 1", "mask 2"]


def test_no_masks_give_no_measurements() -> None:
    assert measure(np.zeros((0, 8, 8), np.bool_), cm_per_pixel=0.1) == []


def test_a_measurement_can_be_written_as_json() -> None:
    document = json.loads(to_json(one(np.zeros((8, 8), np.bool_)).as_dict()))
    assert document["length_cm"] is None
    assert document["reason"] == "no mask 1 was found"


@pytest.mark.parametrize("scale", [0.0, -0.1, math.nan, math.inf])
def test_a_scale_that_makes_no_sense_is_refused(scale: float) -> None:
    with pytest.raises(MeasurementError, match="positive"):
        measure(np.ones((1, 8, 8), np.bool_), cm_per_pixel=scale)


def test_a_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MeasurementError, match='"default" or "source"'):
        measure(np.ones((1, 8, 8), np.bool_), cm_per_pixel=0.1, mode="better")


@pytest.mark.parametrize("masks", [np.ones((8, 8), np.bool_), np.ones((1, 8, 8), np.uint8)])
def test_what_is_no_stack_of_masks_is_refused(masks: np.ndarray) -> None:
    with pytest.raises(MaskError, match="bool"):
        measure(masks, cm_per_pixel=0.1)


def test_a_name_for_each_mask_or_none() -> None:
    with pytest.raises(MaskError, match="1 masks and 2 names"):
        measure(np.ones((1, 8, 8), np.bool_), cm_per_pixel=0.1, names=["a", "b"])


def test_source_mode_gives_the_published_measurements(echo_examples: Path) -> None:
    checked = 0
    for file in sorted(echo_examples.glob("A[24]C_EX*.npz")):
        with np.load(file) as stored:
            published = dict(zip(stored["qc_names"], stored["qc"], strict=True))
            labels = stored["watershed" if "watershed" in stored else "step1"].astype(bool)
        names = ("LA", "LV", "RA", "RV")[: labels.shape[2] - 1]
        masks = np.stack([closed(labels[..., place + 1]) for place in range(len(names))])
        for found in measure(masks, cm_per_pixel=CM_PER_PIXEL, mode="source", names=names):
            where = f"{file.name} {found.name}"
            assert found.area_cm2 == published[f"{found.name}_A_seg"], where
            assert found.length_cm == published[f"{found.name}_L_seg"], where
            expected = published[f"ecc_{found.name}"]
            assert found.eccentricity == pytest.approx(expected, rel=1e-12), where
            checked += 1
    assert checked == 60


def closed(mask: np.ndarray) -> np.ndarray:
    """The largest piece, closed by a disk, as the published values were made."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    rows, columns = np.mgrid[-2:3, -2:3]
    disk = rows**2 + columns**2 <= 4
    # The frame's border counts as background when growing, as foreground when shrinking.
    grown = ndimage.binary_dilation(largest, disk)
    return ndimage.binary_erosion(grown, disk, border_value=1)
