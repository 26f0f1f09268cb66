"""Prompts from truth lie where the studies put them."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.evaluation.prompts import (
    centroid,
    components,
    deepest_point,
    ellipse_in,
    random_points,
    seeded,
    tight_box,
)


def drawn(*rows):
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize("metric", ["exact", "chamfer"])
def test_the_deepest_point_is_the_middle_of_a_square(metric):
    mask = np.zeros((9, 9), np.bool_)
    mask[1:8, 2:9] = True
    # Its right side is the edge of the image, which is outside too.
    assert deepest_point(mask, seeded(0), metric=metric) == (5, 4)


def test_of_equally_deep_points_the_seed_draws_one():
    mask = np.zeros((5, 9), np.bool_)
    mask[1:4, 1:8] = True
    drawn_points = {deepest_point(mask, seeded(seed, "a")) for seed in range(40)}
    assert drawn_points == {(x, 2) for x in range(2, 7)}
    assert deepest_point(mask, seeded(3, "a")) == deepest_point(mask, seeded(3, "a"))


def test_the_deepest_point_of_the_largest_disk_wins():
    mask = np.zeros((20, 40), np.bool_)
    mask[2:6, 2:38] = True
    mask[8:19, 20:31] = True
    assert deepest_point(mask, seeded(0)) == (25, 13)


def test_a_mask_without_pixels_is_equally_deep_everywhere():
    points = {deepest_point(np.zeros((2, 3), np.bool_), seeded(seed)) for seed in range(60)}
    assert points == {(x, y) for x in range(3) for y in range(2)}


def test_a_tight_box_names_the_outermost_pixels():
    mask = drawn("......", "..##..", "...#..", "......")
    assert tight_box(mask) == (2, 1, 3, 2)
    assert tight_box(mask, 1) == (1, 0, 4, 3)
    assert tight_box(mask, 9) == (0, 0, 5, 3)


def test_the_ellipse_in_a_square_box_is_a_disk():
    disk = ellipse_in((1, 1, 5, 5), (7, 7))
    expected = drawn(".......", "..###..", ".#####.", ".#####.", ".#####.", "..###..", ".......")
    np.testing.assert_array_equal(disk, expected)


def test_a_centroid_may_lie_outside_and_is_rounded_as_asked():
    ring = drawn("####", "#..#", "#..#", "####")
    assert centroid(ring, rounding="float") == (1.5, 1.5)
    assert centroid(ring) == (2, 2)
    assert centroid(ring, rounding="floor") == (1, 1)
    assert not ring[1, 1]


def test_components_come_by_size_and_then_from_above():
    mask = drawn("##..#", "...#.", ".....", "###..", "#....")
    parts = components(mask)
    assert [part.sum() for part in parts] == [4, 2, 2]
    assert parts[1][0, 0]
    assert parts[2][0, 4]
    assert parts[2][1, 3]


def test_fewer_random_points_are_the_first_of_more():
    mask = drawn("##...", "###..", ".....")
    few, many = (random_points(mask, count, seeded(7)) for count in (2, 4))
    assert many[:2] == few
    assert len(set(random_points(mask, 99, seeded(7)))) == 5
    assert all(mask[y, x] for x, y in many)
