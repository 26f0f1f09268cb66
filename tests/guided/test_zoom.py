"""Point maps, regions and resizing have the values that one computes by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.artifacts.guidance import ZoomRules
from fastseg.guided.point_maps import point_maps
from fastseg.guided.resizing import resize_corners
from fastseg.guided.zoom import Region, choose_region, region_of

RULES = ZoomRules()


def of_points(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64).reshape(-1, 2)


def test_a_disk_of_radius_5_inside_the_map_has_81_pixels():
    maps = point_maps(of_points((20, 12)), np.array([1], np.int32), (30, 40), 5.0)
    assert maps.sum() == maps[0].sum() == 81
    assert maps[0, 12, 20:28].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert maps[0, 12 + 3, 20 + 4] == 1  # a distance of 5 exactly
    assert maps[0, 12 + 4, 20 + 4] == 0


def test_background_points_have_a_map_of_their_own_and_disks_end_at_the_edge():
    points, labels = of_points((0, 0), (39, 29), (25, 10)), np.array([0, 1, 1], np.int32)
    maps = point_maps(points, labels, (30, 40), 5.0)
    # A quarter of a disk with its two half axes: (81 - 21) / 4 + 2 * 5 + 1.
    assert maps[1].sum() == 26
    assert maps[0].sum() == 81 + 26
    assert point_maps(of_points((-20, 50)), np.array([1], np.int32), (30, 40), 5.0).sum() == 0


def test_a_point_between_pixels_covers_those_within_the_radius():
    maps = point_maps(of_points((10.5, 8)), np.array([1], np.int32), (20, 20), 1.0)
    assert np.argwhere(maps[0]).tolist() == [[8, 10], [8, 11]]


def test_overlapping_disks_stay_ones():
    maps = point_maps(of_points((10, 10), (12, 10)), np.array([1, 1], np.int32), (20, 20), 3.0)
    assert set(np.unique(maps)) == {0.0, 1.0}


@pytest.fixture
def mask() -> np.ndarray:
    """Rows 400 to 599 and columns 500 to 799 of 1000 x 1200."""
    mask = np.zeros((1000, 1200), np.bool_)
    mask[400:600, 500:800] = True
    return mask


def test_the_region_is_the_box_expanded_about_its_middle(mask):
    # 200 rows x 1.4 = 280 about 499.5, and 300 columns x 1.4 = 420 about 649.5.
    assert region_of(mask, of_points(), RULES) == Region(360, 640, 440, 860)


def test_foreground_points_are_inside_and_the_image_clamps(mask):
    # Columns 500 to 1199: 700 x 1.4 = 980 about 849.5, up to the last column.
    assert region_of(mask, of_points((1199.5, 450)), RULES) == Region(360, 640, 360, 1199)


def test_a_small_object_gets_the_least_side():
    mask = np.zeros((1000, 1000), np.bool_)
    mask[500, 100] = True
    assert region_of(mask, of_points(), RULES) == Region(400, 600, 0, 200)


def test_the_longest_side_is_resized_and_points_follow():
    region = Region(360, 640, 440, 860)  # 281 x 421
    size = region.resized(400)
    assert size == (267, 400)
    found = region.to_input(of_points((440, 360), (650.5, 500.5)), size)
    assert found == pytest.approx(np.array([[0, 0], [210.5 * 400 / 421, 140.5 * 267 / 281]]))


def test_the_first_point_and_an_empty_mask_see_the_whole_image(mask):
    probabilities, two = mask.astype(np.float32), of_points((600, 500), (700, 500))
    labels = np.array([1, 1], np.int32)
    assert choose_region(probabilities, two[:1], labels[:1], None, RULES) is None
    assert choose_region(None, two, labels, None, RULES) is None
    assert choose_region(0.5 * probabilities, two, labels, None, RULES) is None
    assert choose_region(probabilities, two, labels, None, RULES) == (360, 640, 440, 860)


def test_a_region_is_kept_until_the_mask_outgrows_it(mask):
    labels, points = np.array([1, 0], np.int32), of_points((600, 500), (10, 10))
    close, far = Region(300, 640, 440, 860), Region(0, 640, 440, 860)
    # The rows 360 to 640 are 281 of 341, then 281 of 641; background points may lie outside.
    assert close.overlap(Region(360, 640, 440, 860)) == pytest.approx(281 / 341)
    probabilities = mask.astype(np.float32)
    assert choose_region(probabilities, points, labels, close, RULES) == close
    assert choose_region(probabilities, points, labels, far, RULES) == (360, 640, 440, 860)


def test_a_region_moves_when_a_foreground_point_leaves_it(mask):
    labels, before = np.array([1, 1], np.int32), Region(360, 640, 440, 860)
    inside, outside = of_points((600, 500), (859, 500)), of_points((600, 500), (860, 500))
    probabilities = mask.astype(np.float32)
    assert choose_region(probabilities, inside, labels, before, RULES) == before
    # Columns 500 to 860: 361 x 1.4 = 505.4 about 680.
    wanted = Region(360, 640, 427, 933)
    assert choose_region(probabilities, outside, labels, before, RULES) == wanted


def test_regions_apart_do_not_overlap():
    assert Region(0, 9, 0, 9).overlap(Region(20, 29, 0, 9)) == 0
    assert Region(0, 9, 0, 9).overlap(Region(0, 9, 0, 9)) == 1


def test_a_pasted_part_is_zero_around_its_region():
    region = Region(1, 2, 3, 5)
    whole = region.paste(np.array([[1, 3]], np.float32), (4, 7))
    assert whole.tolist() == [[0] * 7, [0, 0, 0, 1, 2, 3, 0], [0, 0, 0, 1, 2, 3, 0], [0] * 7]


@pytest.mark.parametrize("size", [(9, 4), (3, 20), (1, 1), (7, 5), (1, 11)])
def test_resizing_with_corners_on_corners_is_that_of_torch(size):
    torch = pytest.importorskip("torch", reason="torch is the reference")
    maps = np.random.default_rng(0).random((2, 7, 5), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], size, mode="bilinear", align_corners=True
    )
    assert np.abs(resize_corners(maps, size) - expected[0].numpy()).max() <= 1e-6
