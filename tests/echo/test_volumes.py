"""Promises of ``fastseg.echo.volumes``: bodies of known volume, and formulas by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastseg.echo import volumes
from fastseg.errors import MeasurementError
from fastseg.measure import DISKS, measure
from tests.helpers.chamber_bodies import CM_PER_PIXEL, Body, chamber, draw, ellipse, truncated

TILTS = (0.0, 0.2, -0.5, 0.65, 1.0, -1.3)
LENGTH = 8.4  # cm, of a left ventricle: a pixel is 1 % of it
NAN = math.nan


def measured(*bodies: Body, tilt: float = 0.0):
    masks = np.stack([draw(body, tilt=tilt) for body in bodies])
    return measure(masks, cm_per_pixel=CM_PER_PIXEL)


@pytest.mark.parametrize("tilt", TILTS)
def test_an_ellipsoid_has_its_volume_by_every_method(tilt: float) -> None:
    two, four = measured(ellipse(4.3, 2.4), ellipse(4.3, 2.1), tilt=tilt)
    expected = 4 / 3 * math.pi * 4.3 * 2.4 * 2.1
    assert volumes.biplane_volume_ml(two, four) == pytest.approx(expected, rel=0.01)
    assert volumes.area_length_volume_ml(two, four) == pytest.approx(expected, rel=0.01)
    round_body = 4 / 3 * math.pi * 4.3 * 2.4**2
    assert volumes.single_plane_volume_ml(two) == pytest.approx(round_body, rel=0.01)
    assert volumes.area_length_volume_ml(two) == pytest.approx(round_body, rel=0.01)


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("cut", [0.0, 0.25, 0.5])
def test_a_truncated_ellipsoid_has_its_volume(cut: float, tilt: float) -> None:
    half = LENGTH / (1 + cut)
    two, four = measured(truncated(half, 2.5, cut), truncated(half, 2.2, cut), tilt=tilt)
    height = 2 / 3 + cut - cut**3 / 3  # of an ellipsoid with half axes of 1, over pi
    expected = math.pi * height * half * 2.5 * 2.2
    assert volumes.biplane_volume_ml(two, four) == pytest.approx(expected, rel=0.01)


def test_the_mass_of_half_an_ellipsoid_is_that_of_its_wall() -> None:
    # The formula takes A * 5/6 for the volume over the length; for half an ellipsoid, 2/3 of its
    # base, it is exact with a slice of 4/5 of the base.
    slices = math.sqrt(4 / 5)
    inner_base, outer_base, length = 2.4, 3.3, LENGTH
    disc, cavity, long_axis = measured(
        ellipse(outer_base * slices, outer_base * slices),
        ellipse(inner_base * slices, inner_base * slices),
        truncated(length, inner_base, 0.0),
    )
    outer_length = length + (outer_base - inner_base) * slices
    wall = 2 / 3 * math.pi * (outer_base**2 * outer_length - inner_base**2 * length)
    found = volumes.mass_g(
        outer_area_cm2=disc.area_cm2,
        inner_area_cm2=cavity.area_cm2,
        length_cm=long_axis.length_cm,
    )
    assert found == pytest.approx(1.05 * wall, rel=0.01)


def test_the_mass_of_a_capped_cylinder_is_exact() -> None:
    inner, outer, length = 2.4, 3.3, LENGTH
    bullet = 5 / 6 * math.pi * (outer**2 * (length + outer - inner) - inner**2 * length)
    found = volumes.mass_g(
        outer_area_cm2=math.pi * outer**2, inner_area_cm2=math.pi * inner**2, length_cm=length
    )
    assert found == pytest.approx(1.05 * bullet)


def test_disks_are_as_thick_as_the_longer_axis_says() -> None:
    two = chamber(length_cm=6.3, diameters_cm=(2.0,) * DISKS)
    four = chamber(length_cm=8.4, diameters_cm=(3.0,) * DISKS)
    expected = math.pi / 4 * 8.4 * 2.0 * 3.0
    assert volumes.biplane_volume_ml(two, four) == pytest.approx(expected)
    assert volumes.biplane_volume_ml(four, two) == pytest.approx(expected)


def test_as_published_a_skipped_station_shifts_the_pairs() -> None:
    first = tuple(float(k) for k in range(1, DISKS + 1))
    second = (NAN, *first[1:])
    two = chamber(mode="source", length_cm=8.4, diameters_cm=first)
    four = chamber(mode="source", length_cm=6.3, diameters_cm=second)
    pairs = zip(range(1, DISKS), range(2, DISKS + 1), strict=True)
    expected = math.pi / 4 * (8.4 / 21) * sum(a * b for a, b in pairs)
    assert volumes.biplane_volume_ml(two, four) == pytest.approx(expected)
    squares = sum(k**2 for k in range(2, DISKS + 1))
    assert volumes.single_plane_volume_ml(four) == pytest.approx(math.pi / 4 * 6.3 / 21 * squares)


def test_exact_volumes_with_a_missing_station_are_nan() -> None:
    whole = chamber()
    holed = chamber(diameters_cm=(NAN, *(4.0,) * (DISKS - 1)))
    assert math.isnan(volumes.biplane_volume_ml(whole, holed))
    assert math.isnan(volumes.single_plane_volume_ml(holed))


def test_two_modes_do_not_mix() -> None:
    with pytest.raises(MeasurementError, match="one mode"):
        volumes.biplane_volume_ml(chamber(), chamber(mode="source"))


def test_a_missing_length_gives_nan_by_every_method() -> None:
    whole, lost = chamber(), chamber(length_cm=NAN)
    for pair in ((whole, lost), (lost, whole)):
        assert math.isnan(volumes.biplane_volume_ml(*pair))
        assert math.isnan(volumes.area_length_volume_ml(*pair))
        assert math.isnan(volumes.longer_axis_cm(*pair))
    assert math.isnan(volumes.area_length_volume_ml(chamber(length_cm=0.0)))


def test_area_length_takes_the_shorter_axis() -> None:
    two, four = chamber(length_cm=8.0, area_cm2=20.0), chamber(length_cm=6.0, area_cm2=15.0)
    expected = 8 / (3 * math.pi) * 20.0 * 15.0 / 6.0
    assert volumes.area_length_volume_ml(two, four) == pytest.approx(expected)
    assert volumes.area_length_volume_ml(four, two) == pytest.approx(expected)


def test_a_wall_thinner_than_nothing_has_no_mass() -> None:
    assert math.isnan(volumes.mass_g(outer_area_cm2=10.0, inner_area_cm2=12.0, length_cm=8.0))
    assert math.isnan(volumes.mass_g(outer_area_cm2=10.0, inner_area_cm2=NAN, length_cm=8.0))
    assert volumes.mass_g(outer_area_cm2=10.0, inner_area_cm2=10.0, length_cm=8.0) == 0


def test_shares_are_in_percent_of_the_largest() -> None:
    assert volumes.ejection_fraction_percent(120.0, 48.0) == pytest.approx(60.0)
    assert volumes.fractional_area_change_percent(20.0, 12.0) == pytest.approx(40.0)
    assert math.isnan(volumes.ejection_fraction_percent(0.0, 0.0))
    assert math.isnan(volumes.ejection_fraction_percent(NAN, 40.0))
    assert math.isnan(volumes.fractional_area_change_percent(20.0, NAN))


def test_an_index_is_for_each_square_metre() -> None:
    assert volumes.indexed(120.0, 1.6) == pytest.approx(75.0)
    assert math.isnan(volumes.indexed(NAN, 1.6))
    for surface in (0.0, -1.0, NAN, math.inf):
        with pytest.raises(MeasurementError, match="body surface"):
            volumes.indexed(120.0, surface)
