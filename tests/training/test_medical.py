"""Phantoms of medical images: every modality, its structures and its noise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from training.sam_nano import medical, prompts
from training.sam_nano.medical import anatomy, tomograms

SIZE = (224, 256)


@pytest.mark.parametrize("modality", medical.MODALITIES)
def test_every_modality_is_reproducible_and_has_structures(modality: medical.Modality) -> None:
    one, two = (medical.generate(np.random.default_rng(3), SIZE, modality) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.image.shape == (*SIZE, 3)
    assert one.image.dtype == np.uint8
    assert one.image.std() > 5
    assert one.labels.max() < len(one.wholes)
    found = [
        len(prompts.targets(medical.generate(np.random.default_rng(seed), SIZE, modality)))
        for seed in range(6)
    ]
    assert sum(count > 0 for count in found) >= 5


@pytest.mark.parametrize("modality", ["tomogram", "radiograph"])
def test_grey_modalities_are_grey(modality: medical.Modality) -> None:
    image = medical.generate(np.random.default_rng(5), SIZE, modality).image
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_structures_of_a_slice_touch_and_some_are_hardly_brighter_than_their_neighbours() -> None:
    touching, alike = 0, 0
    for seed in range(12):
        scene = medical.generate(np.random.default_rng(seed), SIZE, "tomogram")
        owners = scene.wholes[scene.labels]
        one, other = owners[:, 1:], owners[:, :-1]
        for a, b in {
            tuple(sorted(p)) for p in zip(one[one != other], other[one != other], strict=True)
        }:
            if a and b:
                touching += 1
                means = [scene.image[owners == number].mean() for number in (a, b)]
                alike += abs(means[0] - means[1]) < 15
    assert touching >= 12
    assert alike >= 2


def test_parts_of_structures_lie_inside_them() -> None:
    scene = medical.generate(np.random.default_rng(1), SIZE, "fundus")
    (cup,) = (k for k in range(1, len(scene.wholes)) if scene.wholes[k] != k)
    disc = scene.wholes[scene.labels] == scene.wholes[cup]
    rows, columns = np.nonzero(scene.labels == cup)
    assert disc[rows, columns].all()
    assert (scene.labels == cup).sum() < disc.sum()


def test_outside_of_the_field_of_view_nothing_is_labelled() -> None:
    scene = medical.generate(np.random.default_rng(7), SIZE, "fundus")
    black = scene.image.max(axis=2) < 3
    assert black.mean() < 0.9
    for mask in prompts.targets(scene):
        assert (mask & black).sum() < 0.05 * mask.sum()


def test_windows_show_what_lies_in_them() -> None:
    level, width = tomograms.WINDOWS[0]
    assert level - width / 2 < tomograms.FAT < tomograms.MUSCLE < level + width / 2
    assert level - width / 2 > tomograms.AIR
    assert level + width / 2 < tomograms.BONE


def test_small_structures_get_no_number() -> None:
    drawn = anatomy.Anatomy((64, 64))
    assert drawn.add(anatomy.ellipse((64, 64), (20, 20), (4, 4))) == 0
    assert drawn.add(anatomy.ellipse((64, 64), (20, 20), (12, 8))) == 1
    assert drawn.labels[20, 20] == 1
    assert drawn.labels[20, 40] == 0


def test_blurring_keeps_the_mean_and_softens_edges() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[:, 32:] = 1.0
    soft = anatomy.blur(plane, 3.0)
    assert soft.mean() == pytest.approx(0.5, abs=0.01)
    assert 0.2 < soft[32, 31] < 0.8
    assert np.abs(np.diff(soft[32])).max() < 0.2
