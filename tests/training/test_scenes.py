"""Scenes, prompts, corrections and batches that sam-nano is trained and measured on."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
safetensors = pytest.importorskip("safetensors.torch", reason="training needs safetensors")

from fastseg import contract
from training.sam_nano import (
    batches,
    cached_scenes,
    corrections,
    echo_boxes,
    evaluation,
    held_out,
    prompts,
    scene_kinds,
    scenes,
)
from training.sam_nano.plan import Stage


def scene(seed: int = 1, size: tuple[int, int] = (128, 160)) -> scenes.Scene:
    return scenes.generate(np.random.default_rng(seed), size)


def test_a_seed_gives_the_same_scene_again() -> None:
    one, two = scene(), scene()
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert not np.array_equal(one.image, scene(seed=2).image)


def test_scenes_are_8_bit_colour_with_a_label_a_pixel() -> None:
    drawn = scene()
    assert drawn.image.shape == (128, 160, 3)
    assert drawn.image.dtype == np.uint8
    assert drawn.labels.shape == (128, 160)
    assert drawn.labels.max() < len(drawn.wholes)


@pytest.mark.parametrize("kind", scene_kinds.SCENE_KINDS)
def test_every_kind_has_objects_and_is_reproducible(kind: scene_kinds.SceneKind) -> None:
    one, two = (scene_kinds.generate(np.random.default_rng(8), (192, 160), kind) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.image.shape == (192, 160, 3)
    assert one.image.dtype == np.uint8
    assert one.image.std() > 2
    assert one.labels.max() < len(one.wholes)
    drawn = (
        scene_kinds.generate(np.random.default_rng(seed), (192, 160), kind) for seed in range(20)
    )
    assert sum(bool(prompts.targets(scene)) for scene in drawn) >= 10


@pytest.mark.parametrize("kind", ["ultrasound", "phantoms"])
def test_medical_kinds_are_grey_but_for_a_tint(kind: scene_kinds.SceneKind) -> None:
    image = scene_kinds.generate(np.random.default_rng(5), (128, 128), kind).image.astype(float)
    channels = image.reshape(-1, 3).T
    assert np.corrcoef(channels)[0].min() > 0.98


def test_chambers_are_darker_than_what_surrounds_them() -> None:
    darker = 0
    for seed in range(20):
        drawn = scene_kinds.generate(np.random.default_rng(seed), (256, 256), "ultrasound")
        inside, seen = drawn.labels > 0, drawn.image[..., 0] > 0
        if inside.any():
            darker += drawn.image[inside].mean() <= drawn.image[~inside & seen].mean()
    assert darker >= 12


def test_a_part_belongs_to_a_whole_that_contains_it() -> None:
    drawn = next(
        candidate
        for candidate in (scene(seed, (256, 256)) for seed in range(100))
        if (candidate.wholes != np.arange(len(candidate.wholes))).any()
    )
    part = int(np.flatnonzero(drawn.wholes != np.arange(len(drawn.wholes)))[0])
    assert drawn.wholes[drawn.wholes[part]] == drawn.wholes[part]
    assert drawn.wholes[part] < part


@pytest.mark.parametrize("seed", range(5))
def test_first_points_lie_on_the_object_and_corrections_near_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((64, 80), dtype=bool)
    mask[20:40, 30:60] = True
    prompt = prompts.sample(random, mask, "points", extra=4)
    assert prompt.labels[0] == contract.LABEL_FOREGROUND
    assert prompt.labels[-1] == contract.LABEL_PADDING
    for (x, y), label in zip(prompt.coords.astype(int)[:-1], prompt.labels[:-1], strict=True):
        assert mask[y, x] == (label == contract.LABEL_FOREGROUND)


def test_a_box_prompt_is_near_the_object_and_inside_the_image() -> None:
    mask = np.zeros((64, 80), dtype=bool)
    mask[0:40, 30:60] = True
    prompt = prompts.sample(np.random.default_rng(3), mask, "box", extra=0)
    assert prompt.labels.tolist() == [2, 3]
    np.testing.assert_allclose(prompt.coords, [[30, 0], [59, 39]], atol=10)
    assert (prompt.coords >= 0).all()


def test_a_box_without_slack_is_tight() -> None:
    mask = np.zeros((640, 800), dtype=bool)
    mask[100:500, 200:700] = True
    prompt = prompts.sample(np.random.default_rng(3), mask, "box", extra=0, slack=0.0)
    np.testing.assert_allclose(prompt.coords, [[200, 100], [699, 499]], atol=4)


def prompted_square(kind: prompts.PromptKind) -> tuple[batches.PromptBatch, corrections.Prediction]:
    """Prompt a square of 8 x 8 mask pixels; the prediction misses its right half."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 16:48] = True
    prompt = prompts.sample(np.random.default_rng(0), mask, kind, extra=0)
    coverage = torch.from_numpy(cached_scenes.count_covered(mask))[None]
    logits = torch.full((1, 4, 16, 16), -5.0)
    logits[0, 2, 4:12, 4:8] = 5.0
    prompt_batch = batches.PromptBatch(
        torch.from_numpy(prompt.coords)[None],
        torch.from_numpy(prompt.labels)[None],
        None,
        coverage / cached_scenes.PIXELS_PER_MASK_PIXEL,
    )
    return prompt_batch, corrections.Prediction(logits, torch.tensor([[0.9, 0.1, 0.8, 0.2]]))


@pytest.mark.parametrize("seed", range(5))
def test_a_correction_points_at_missed_pixels_and_adds_the_mask(seed: int) -> None:
    prompt_batch, prediction = prompted_square("point")
    again = corrections.add_correction(prompt_batch, prediction, (2, 3), seed)
    assert again.labels.tolist() == [[1, 1, contract.LABEL_PADDING]]
    x, y = (again.coords[0, 1] - torch.tensor([32.0, 48.0])).tolist()
    assert 32 <= x < 48
    assert 16 <= y < 48
    assert again.mask_prompts is not None
    torch.testing.assert_close(again.mask_prompts[0, 0] > 0, prediction.logits[0, 2] > 0)


def test_a_correction_of_a_box_stands_before_its_corners() -> None:
    prompt_batch, prediction = prompted_square("box")
    again = corrections.add_correction(prompt_batch, prediction, (0, 0), 1)
    assert again.labels.tolist() == [[1, 2, 3]]
    torch.testing.assert_close(again.coords[:, 1:], prompt_batch.coords)


def test_false_positives_are_corrected_by_a_background_point() -> None:
    prompt_batch, prediction = prompted_square("point")
    prediction.logits[0, 2] = -5.0
    prediction.logits[0, 2, 4:12, 4:15] = 5.0
    again = corrections.add_correction(prompt_batch, prediction, (0, 0), 1)
    assert again.labels.tolist() == [[1, 0, contract.LABEL_PADDING]]
    assert again.coords[0, 1, 0] >= 48


def test_held_out_prompts_lie_in_and_around_their_objects() -> None:
    held = next(held_out.scenes(1))
    assert held.image.shape == (1024, 1024, 3)
    for mask, (x, y), (x0, y0, x1, y1) in zip(held.masks, held.points, held.boxes, strict=True):
        assert mask[int(y), int(x)]
        assert mask[int(y0) : int(y1), int(x0) : int(x1)].sum() == mask.sum()


def test_the_deepest_point_is_in_the_middle_even_of_thin_masks() -> None:
    y, x = np.mgrid[:128, :128]
    away = np.hypot(x - 64, y - 64)
    point = held_out.deepest_point((away > 30) & (away < 50))
    assert abs(np.hypot(*(point - 64)) - 40) < 6
    hair = np.zeros((128, 128), dtype=bool)
    hair[60, 10:50] = True
    x_of_hair, y_of_hair = held_out.deepest_point(hair)
    assert hair[int(y_of_hair), int(x_of_hair)]


def test_quality_is_the_mean_over_objects() -> None:
    result = held_out.SceneResult(
        np.array([[0.2, 0.8, 0.5]]),
        np.array([[0.1, 0.4, 0.6]]),
        np.array([[1.0]]),
        np.array([[0.8]]),
    )
    quality = held_out.summarise([result, result])
    assert quality.point_best == pytest.approx(0.8)
    assert quality.point_chosen == pytest.approx(0.5)
    assert quality.box == 1
    assert quality.score_error == pytest.approx((0.1 + 0.4 + 0.1 + 0.2) / 4)


def test_the_ellipse_in_a_box_has_its_extent_and_its_area() -> None:
    drawn = echo_boxes.ellipse((60, 80), np.array([10.0, 20.0, 50.0, 44.0]))
    np.testing.assert_array_equal(evaluation.edges(drawn[None]), [[10, 20, 50, 44]])
    assert drawn.sum() == pytest.approx(np.pi * 20 * 12, rel=0.02)
    assert echo_boxes.dice(drawn, drawn) == 1


def test_window_and_prompts_lie_in_the_same_part_of_the_square() -> None:
    stage = Stage(1, 128, 2, 4, (1e-3, 1e-3))
    batch = batches.make_batch(stage, (5, 0))
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.dense.shape == (2, batches.DENSE_CHANNELS, 32, 32)
    low = 16 * np.array(batch.corner)
    for prompt_batch in batch.prompts:
        assert prompt_batch.targets.shape == (4, 32, 32)
        real = prompt_batch.coords[prompt_batch.labels != contract.LABEL_PADDING].numpy()
        assert (real >= low).all()
        assert (real < low + 128).all()


def test_batches_are_the_same_for_the_same_seed() -> None:
    stage = Stage(1, 128, 1, 4, (1e-3, 1e-3))
    one, two = (batches.make_batch(stage, (5, 7)) for _ in range(2))
    torch.testing.assert_close(one.images, two.images, rtol=0, atol=0)
    torch.testing.assert_close(one.prompts[0].targets, two.prompts[0].targets, rtol=0, atol=0)


def test_dense_targets_point_to_the_centre_and_mark_the_edge() -> None:
    labels = torch.zeros(32, 32, dtype=torch.int16)
    labels[8:17, 10:21] = 1
    dense = batches.dense_targets(labels)
    assert dense[0].sum() == 9 * 11
    assert dense[2, 12, 15] == 0
    assert dense[2, 12, 11] == pytest.approx(4 / 16)
    assert dense[3, 8, 15] == pytest.approx(4 / 16)
    assert dense[1, 12, 10] == 1
    assert dense[1, 12, 15] == 0
