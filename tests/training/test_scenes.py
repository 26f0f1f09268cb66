"""What sam-nano learns from and is judged on: scenes, prompts, corrections and batches."""

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


@pytest.mark.parametrize("look", scene_kinds.LOOKS)
def test_every_look_shows_objects_and_repeats_itself(look: scene_kinds.Look) -> None:
    one, two = (scene_kinds.generate(np.random.default_rng(8), (192, 160), look) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.image.shape == (192, 160, 3)
    assert one.image.dtype == np.uint8
    assert one.image.std() > 2
    assert one.labels.max() < len(one.wholes)
    drawn = (
        scene_kinds.generate(np.random.default_rng(seed), (192, 160), look) for seed in range(20)
    )
    assert sum(bool(prompts.targets(scene)) for scene in drawn) >= 10


@pytest.mark.parametrize("look", ["ultrasound", "phantoms"])
def test_medical_looks_are_grey_but_for_a_tint(look: scene_kinds.Look) -> None:
    image = scene_kinds.generate(np.random.default_rng(5), (128, 128), look).image.astype(float)
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
def test_first_click_lies_on_the_object_and_corrections_near_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((64, 80), dtype=bool)
    mask[20:40, 30:60] = True
    asked = prompts.sample(random, mask, "points", extra=4)
    assert asked.labels[0] == contract.LABEL_FOREGROUND
    assert asked.labels[-1] == contract.LABEL_PADDING
    for (x, y), label in zip(asked.coords.astype(int)[:-1], asked.labels[:-1], strict=True):
        assert mask[y, x] == (label == contract.LABEL_FOREGROUND)


def test_a_box_prompt_stays_close_to_the_object_and_inside_the_picture() -> None:
    mask = np.zeros((64, 80), dtype=bool)
    mask[0:40, 30:60] = True
    asked = prompts.sample(np.random.default_rng(3), mask, "box", extra=0)
    assert asked.labels.tolist() == [2, 3]
    np.testing.assert_allclose(asked.coords, [[30, 0], [59, 39]], atol=10)
    assert (asked.coords >= 0).all()


def test_a_box_without_slack_is_tight() -> None:
    mask = np.zeros((640, 800), dtype=bool)
    mask[100:500, 200:700] = True
    asked = prompts.sample(np.random.default_rng(3), mask, "box", extra=0, slack=0.0)
    np.testing.assert_allclose(asked.coords, [[200, 100], [699, 499]], atol=4)


def asked_about_a_square(kind: prompts.Kind) -> tuple[batches.Questions, corrections.Answer]:
    """A square of 8 x 8 mask pixels; the answer misses its right half."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 16:48] = True
    prompt = prompts.sample(np.random.default_rng(0), mask, kind, extra=0)
    logits = torch.full((1, 4, 16, 16), -5.0)
    logits[0, 2, 4:12, 4:8] = 5.0
    questions = batches.Questions(
        torch.from_numpy(prompt.coords)[None],
        torch.from_numpy(prompt.labels)[None],
        None,
        torch.from_numpy(cached_scenes.cover(mask))[None] / cached_scenes.SIXTEENTHS,
    )
    return questions, corrections.Answer(logits, torch.tensor([[0.9, 0.1, 0.8, 0.2]]))


@pytest.mark.parametrize("seed", range(5))
def test_a_correction_clicks_what_was_missed_and_brings_the_last_mask(seed: int) -> None:
    questions, answer = asked_about_a_square("click")
    again = corrections.corrected(questions, answer, (2, 3), seed)
    assert again.labels.tolist() == [[1, 1, contract.LABEL_PADDING]]
    x, y = (again.coords[0, 1] - torch.tensor([32.0, 48.0])).tolist()
    assert 32 <= x < 48
    assert 16 <= y < 48
    assert again.rough is not None
    torch.testing.assert_close(again.rough[0, 0] > 0, answer.logits[0, 2] > 0)


def test_a_correction_of_a_box_stands_before_its_corners() -> None:
    questions, answer = asked_about_a_square("box")
    again = corrections.corrected(questions, answer, (0, 0), 1)
    assert again.labels.tolist() == [[1, 2, 3]]
    torch.testing.assert_close(again.coords[:, 1:], questions.coords)


def test_what_was_drawn_too_much_is_clicked_away() -> None:
    questions, answer = asked_about_a_square("click")
    answer.logits[0, 2] = -5.0
    answer.logits[0, 2, 4:12, 4:15] = 5.0
    again = corrections.corrected(questions, answer, (0, 0), 1)
    assert again.labels.tolist() == [[1, 0, contract.LABEL_PADDING]]
    assert again.coords[0, 1, 0] >= 48


def test_held_out_scenes_ask_inside_their_objects_and_around_them() -> None:
    held = next(held_out.scenes(1))
    assert held.image.shape == (1024, 1024, 3)
    for mask, (x, y), (x0, y0, x1, y1) in zip(held.masks, held.points, held.boxes, strict=True):
        assert mask[int(y), int(x)]
        assert mask[int(y0) : int(y1), int(x0) : int(x1)].sum() == mask.sum()


def test_the_deepest_place_of_a_ring_is_in_its_middle_and_a_hair_has_one() -> None:
    y, x = np.mgrid[:128, :128]
    away = np.hypot(x - 64, y - 64)
    place = held_out.deepest((away > 30) & (away < 50))
    assert abs(np.hypot(*(place - 64)) - 40) < 6
    hair = np.zeros((128, 128), dtype=bool)
    hair[60, 10:50] = True
    x_of_hair, y_of_hair = held_out.deepest(hair)
    assert hair[int(y_of_hair), int(x_of_hair)]


def test_quality_is_the_mean_over_objects() -> None:
    said = held_out.Said(
        np.array([[0.2, 0.8, 0.5]]),
        np.array([[0.1, 0.4, 0.6]]),
        np.array([[1.0]]),
        np.array([[0.8]]),
    )
    quality = held_out.summary([said, said])
    assert quality.click_best == pytest.approx(0.8)
    assert quality.click_chosen == pytest.approx(0.5)
    assert quality.box == 1
    assert quality.score_error == pytest.approx((0.1 + 0.4 + 0.1 + 0.2) / 4)


def test_the_ellipse_that_fills_a_box_has_its_extent_and_its_area() -> None:
    drawn = echo_boxes.ellipse((60, 80), np.array([10.0, 20.0, 50.0, 44.0]))
    np.testing.assert_array_equal(evaluation.edges(drawn[None]), [[10, 20, 50, 44]])
    assert drawn.sum() == pytest.approx(np.pi * 20 * 12, rel=0.02)
    assert echo_boxes.dice(drawn, drawn) == 1


def test_batches_place_their_window_and_prompts_in_the_same_part_of_the_square() -> None:
    stage = Stage(1, 128, 2, 4, (1e-3, 1e-3))
    batch = batches.make_batch(stage, (5, 0))
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.dense.shape == (2, batches.DENSE_CHANNELS, 32, 32)
    low = 16 * np.array(batch.corner)
    for questions in batch.questions:
        assert questions.targets.shape == (4, 32, 32)
        real = questions.coords[questions.labels != contract.LABEL_PADDING].numpy()
        assert (real >= low).all()
        assert (real < low + 128).all()


def test_batches_are_the_same_for_the_same_seed() -> None:
    stage = Stage(1, 128, 1, 4, (1e-3, 1e-3))
    one, two = (batches.make_batch(stage, (5, 7)) for _ in range(2))
    torch.testing.assert_close(one.images, two.images, rtol=0, atol=0)
    torch.testing.assert_close(one.questions[0].targets, two.questions[0].targets, rtol=0, atol=0)


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
