"""Weak labels against published ones and on drawn hearts; limits, rings, sides of the heart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("skimage", reason="weak labels need scikit-image")
pytest.importorskip("scipy", reason="weak labels need scipy")

from fastseg import ops
from tests.helpers.synthetic_hearts import SIDE, dice, drawn_heart, ellipse, save_hearts, seen
from training.echo import (
    bilateral,
    four_chambers,
    labelling,
    own_frames,
    ring_labels,
    weak_labels,
)
from training.echo.acceptance import CM_PER_PIXEL, refusal_reason
from training.echo.heart import CLASSES


def cleaned(masks: np.ndarray, view: str = "a2c") -> np.ndarray:
    return labelling.clean(masks[None].astype(np.float32), view)[0]


@pytest.fixture(scope="module")
def two_chamber_examples(echo_examples):
    """Return our label and the published one of each example, cleaned, and its measurements."""
    found = []
    for path in sorted(echo_examples.glob("A2C_EX*.npz")):
        stored = np.load(path)
        ours = cleaned(weak_labels.two_chambers(seen(stored["image"])))
        published = cleaned(stored["watershed"].transpose(2, 0, 1).astype(bool))
        found.append((ours, published, dict(zip(stored["qc_names"], stored["qc"], strict=True))))
    assert len(found) == 10
    return found


@pytest.fixture(scope="module")
def four_chamber_examples(echo_examples):
    """Return published labels before and after the stretch, (5, h, w), and measurements."""
    found = []
    for path in sorted(echo_examples.glob("A4C_EX*.npz")):
        stored = np.load(path)
        before, after = (
            np.ascontiguousarray(stored[name].transpose(2, 0, 1).astype(bool))
            for name in ("step1", "step1_stretched")
        )
        found.append((before, after, dict(zip(stored["qc_names"], stored["qc"], strict=True))))
    assert len(found) == 10
    return found


def test_watershed_labels_are_the_published_ones(two_chamber_examples):
    agreement = [
        dice(ours[chamber], published[chamber])
        for ours, published, _ in two_chamber_examples
        for chamber in (1, 2)
    ]
    assert len(agreement) == 20
    assert sum(value >= 0.95 for value in agreement) >= 18, agreement


def test_real_labels_measure_what_was_published_and_are_accepted(
    two_chamber_examples, four_chamber_examples
):
    labels = [("a2c", label, values) for _, label, values in two_chamber_examples]
    labels += [("a4c", label, values) for label, _, values in four_chamber_examples]
    for view, label, published in labels:
        chambers = dict(zip(CLASSES[view], label, strict=True))
        assert refusal_reason(view, chambers) is None
        del chambers["union"]
        shapes = ops.measure_shapes(np.stack(list(chambers.values())), "source")
        for name, area, eccentricity, length in zip(
            chambers, shapes.areas, shapes.eccentricity, shapes.lengths, strict=True
        ):
            assert area * CM_PER_PIXEL**2 == pytest.approx(published[f"{name}_A_seg"])
            assert eccentricity == pytest.approx(published[f"ecc_{name}"])
            assert length * CM_PER_PIXEL == pytest.approx(published[f"{name}_L_seg"])


def test_short_right_ventricles_are_stretched_as_published(four_chamber_examples):
    changed = 0
    for before, after, _ in four_chamber_examples:
        stretched = four_chambers.stretch_right_ventricle(before)
        np.testing.assert_array_equal(stretched[:4], after[:4])
        # A row that falls on a boundary is rounded otherwise in one of the ten.
        assert np.count_nonzero(stretched[4] != after[4]) <= 2
        changed += bool((before[4] != after[4]).any())
    assert changed == 8


def test_real_rings_are_as_thick_as_ours_may_be(echo_examples):
    from scipy import ndimage

    thickness = []
    for path in sorted(echo_examples.glob("SAX_EX*.npz")):
        cavity, ring, _ = np.load(path)["donut"].transpose(2, 0, 1).astype(bool)
        thickness.append(ndimage.distance_transform_edt(~cavity)[ring].max())
    low, high = (ring_labels.INWARD[end] + ring_labels.OUTWARD[end] for end in (0, 1))
    assert len(thickness) == 10
    # Steps of a small disk add up to a little more than its radius.
    assert low <= min(thickness)
    assert max(thickness) <= high + 2


@pytest.mark.parametrize("seed", [1, 2])
def test_the_blur_follows_its_definition(seed):
    luma = np.random.default_rng(seed).random((24, 31))
    weights = bilateral.spatial_weights(2.0)
    padded = np.pad(luma, weights.shape[0] // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape)
    nearness = weights * np.exp(-((windows - luma[..., None, None]) ** 2) / (2 * 0.25**2))
    expected = (nearness * windows).sum(axis=(2, 3)) / nearness.sum(axis=(2, 3))
    blurred = bilateral.blur(luma, brightness=0.25, spatial=2.0)
    np.testing.assert_allclose(blurred, expected, atol=1e-6)


def test_the_blur_has_the_weights_of_the_published_one():
    restoration = pytest.importorskip("skimage.restoration")
    luma = np.random.default_rng(3).random((40, 40))
    published = restoration.denoise_bilateral(luma, sigma_color=0.25, sigma_spatial=4)
    # Its table of weights has steps; the shear alone would make a difference of 0.2.
    np.testing.assert_allclose(
        bilateral.blur(luma, brightness=0.25, spatial=4), published, atol=2e-3
    )


def test_dark_chambers_of_a_drawn_heart_are_found_and_told_apart():
    frame, truth = drawn_heart(np.random.default_rng(1))
    found = cleaned(weak_labels.two_chambers(seen(frame[..., None])))
    assert dice(found[1], truth[1]) > 0.9
    assert dice(found[2], truth[2]) > 0.9
    np.testing.assert_array_equal(found[0], found[1] | found[2])


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_frame_that_shows_nothing_gets_an_empty_label(level):
    assert not weak_labels.two_chambers(np.full((SIDE, SIDE), level)).any()


def test_sides_of_the_heart_are_told_apart_by_position():
    atria = ellipse(190, 90, 20, 18) | ellipse(190, 170, 24, 20) | ellipse(30, 30, 3, 3)
    ventricles = ellipse(110, 95, 30, 15) | ellipse(105, 165, 45, 20)
    four = four_chambers.split_sides(np.stack([atria | ventricles, atria, ventricles]))
    assert dice(four[four_chambers.LA], ellipse(190, 170, 24, 20)) > 0.98
    assert dice(four[four_chambers.RA], ellipse(190, 90, 20, 18)) > 0.98
    assert dice(four[four_chambers.LV], ellipse(105, 165, 45, 20)) > 0.98
    assert dice(four[four_chambers.RV], ellipse(110, 95, 30, 15)) > 0.98
    np.testing.assert_array_equal(four[0], four[1:].any(axis=0))


def test_one_atrium_alone_is_no_four_chamber_label():
    atria = ellipse(190, 170, 24, 20)
    ventricles = ellipse(110, 95, 30, 15) | ellipse(105, 165, 45, 20)
    assert four_chambers.split_sides(np.stack([atria | ventricles, atria, ventricles])) is None


def four(right_ventricle: np.ndarray) -> np.ndarray:
    left = ellipse(105, 165, 45, 20)
    atria = ellipse(200, 165, 20, 20), ellipse(200, 90, 20, 20)
    chambers = [atria[0], left, atria[1], right_ventricle]
    return np.stack([np.logical_or.reduce(chambers), *chambers])


def test_a_short_right_ventricle_grows_towards_the_apex_only():
    short = ellipse(130, 90, 20, 14)
    rows = np.flatnonzero(four_chambers.stretch_right_ventricle(four(short))[4].any(axis=1))
    before = np.flatnonzero(short.any(axis=1))
    assert rows[-1] == before[-1]
    assert len(rows) == pytest.approx(len(before) * (1 + 20 / 45), abs=3)


def test_a_right_ventricle_at_the_border_stays_in_the_frame():
    stretched = four_chambers.stretch_right_ventricle(four(ellipse(20, 90, 20, 14)))
    assert stretched.shape == (5, SIDE, SIDE)
    assert stretched[4, 0].any()
    assert not stretched[4, 40:].any()


def test_a_long_right_ventricle_is_left_alone():
    label = four(ellipse(105, 90, 40, 14))
    np.testing.assert_array_equal(four_chambers.stretch_right_ventricle(label), label)


@pytest.mark.parametrize(
    ("atrium", "ventricle", "reason"),
    [
        (ellipse(190, 130, 22, 22), ellipse(100, 130, 40, 22), "LA: shape out of bounds"),
        (ellipse(190, 130, 26, 20), ellipse(100, 130, 8, 6), "LV: area out of bounds"),
        (ellipse(190, 130, 26, 20), np.zeros((SIDE, SIDE), bool), "LV: not found"),
        (ellipse(190, 130, 26, 20), ellipse(100, 130, 40, 22), None),
    ],
)
def test_a_label_is_refused_for_a_reason_in_words(atrium, ventricle, reason):
    assert refusal_reason("a2c", {"LA": atrium, "LV": ventricle}) == reason


@pytest.mark.parametrize("seed", range(4))
def test_a_ring_has_an_allowed_thickness_about_its_cavity(seed):
    found = ellipse(128, 128, 40, 40)
    cavity, ring, disc = ring_labels.add_ring(found, np.random.default_rng(seed))
    assert not (cavity & ring).any()
    np.testing.assert_array_equal(cavity | ring, disc)
    radii = [float(np.sqrt(mask.sum() / np.pi)) for mask in (cavity, disc)]
    assert 34 < radii[0] < 38
    assert 45 < radii[1] < 54


class Teacher:
    """A network that returns the same probabilities for every frame."""

    def __init__(self, *channels: np.ndarray) -> None:
        self.output = np.stack(channels).astype(np.float32)

    def probabilities(self, paths, *, cm_per_pixel=None):
        return np.stack([self.output] * len(paths))


def test_a_teacher_labels_every_frame_of_a_folder(tmp_path):
    save_hearts(tmp_path, 3)
    cavity = ellipse(128, 128, 40, 40) * 0.45
    frames = own_frames.find(tmp_path, channels=1)
    labels = labelling.collect(labelling.by_teacher(frames, "sax", Teacher(cavity, cavity, cavity)))
    assert labels.frames == (0, 1, 2)
    atria = ellipse(190, 90, 26, 20) | ellipse(190, 170, 26, 20)
    ventricles = ellipse(110, 95, 30, 15) | ellipse(105, 165, 45, 20)
    both = Teacher(atria | ventricles, atria, ventricles)
    labels = labelling.collect(labelling.by_teacher(frames, "a4c", both))
    assert labels.frames == (0, 1, 2)
    left_only = Teacher(atria | ventricles, atria, ellipse(105, 165, 45, 20))
    labels = labelling.collect(labelling.by_teacher(frames, "a4c", left_only))
    assert labels.refused == {"no atrium and ventricle on both sides": 3}


def test_packed_labels_come_back_as_they_were():
    label = np.random.default_rng(0).random((3, SIDE, SIDE)) < 0.5
    labels = labelling.collect(["LV: not found", label])
    assert labels.frames == (1,)
    assert labels.refused == Counter({"LV: not found": 1})
    np.testing.assert_array_equal(labels[0], label)


def test_a_frame_with_a_missed_chamber_keeps_its_label():
    heart = drawn_heart(np.random.default_rng(0))[1]
    atrium_missed = heart * np.array([1, 0, 1])[:, None, None]
    batches = [np.stack([heart, atrium_missed]), atrium_missed[None]]
    weak = labelling.collect(["LV: not found", np.roll(heart, 9, axis=2), "LV: not found"])
    own = labelling.by_itself((batch.astype(np.float32) for batch in batches), "a2c", weak)
    labels = labelling.collect(own)
    assert labels.frames == (0, 1)
    assert labels.refused == {"LA: not found": 1}
    np.testing.assert_array_equal(labels[0], cleaned(heart))
    np.testing.assert_array_equal(labels[1], weak[0])
