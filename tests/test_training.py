"""Training: scenes, prompts, losses and the loop that makes sam-nano."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
safetensors = pytest.importorskip("safetensors.torch", reason="training needs safetensors")

from fastseg import contract  # noqa: E402
from fastseg.export import half_weights  # noqa: E402
from fastseg.export.nano_encoder import NanoEncoder  # noqa: E402
from training.sam_nano import (  # noqa: E402
    batches,
    calibration,
    corrections,
    echo_boxes,
    evaluation,
    held_out,
    losses,
    prompts,
    scenes,
    variety,
)
from training.sam_nano.__main__ import main  # noqa: E402
from training.sam_nano.depthwise import depthwise_in_full  # noqa: E402
from training.sam_nano.network import SamNano, compact  # noqa: E402
from training.sam_nano.plan import FULL, SMOKE, THIRD, Plan, Stage  # noqa: E402
from training.sam_nano.trainer import Start, Trainer  # noqa: E402


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


@pytest.mark.parametrize("look", variety.LOOKS)
def test_every_look_shows_objects_and_repeats_itself(look: variety.Look) -> None:
    one, two = (variety.generate(np.random.default_rng(8), (192, 160), look) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.image.shape == (192, 160, 3)
    assert one.image.dtype == np.uint8
    assert one.image.std() > 2
    assert one.labels.max() < len(one.wholes)
    drawn = (variety.generate(np.random.default_rng(seed), (192, 160), look) for seed in range(20))
    assert sum(bool(prompts.targets(scene)) for scene in drawn) >= 10


@pytest.mark.parametrize("look", ["ultrasound", "phantoms"])
def test_medical_looks_are_grey_but_for_a_tint(look: variety.Look) -> None:
    image = variety.generate(np.random.default_rng(5), (128, 128), look).image.astype(float)
    channels = image.reshape(-1, 3).T
    assert np.corrcoef(channels)[0].min() > 0.98


def test_chambers_are_darker_than_what_surrounds_them() -> None:
    darker = 0
    for seed in range(20):
        drawn = variety.generate(np.random.default_rng(seed), (256, 256), "ultrasound")
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
        torch.from_numpy(batches.coarse(mask))[None],
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


def test_depthwise_convolutions_kept_in_full_compute_the_same() -> None:
    encoder, picture = (
        NanoEncoder().eval(),
        torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64),
    )
    with torch.inference_mode():
        before = encoder(picture)
        depthwise_in_full(encoder)
        after = encoder(picture)
    torch.testing.assert_close(after, before)


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
    labels = np.zeros((32, 32), dtype=np.int16)
    labels[8:17, 10:21] = 1
    dense = batches.dense_targets(labels)
    assert dense[0].sum() == 9 * 11
    assert dense[2, 12, 15] == 0
    assert dense[2, 12, 11] == pytest.approx(4 / 16)
    assert dense[3, 8, 15] == pytest.approx(4 / 16)
    assert dense[1, 12, 10] == 1
    assert dense[1, 12, 15] == 0


def test_a_perfect_mask_costs_next_to_nothing_and_its_opposite_a_lot() -> None:
    targets = torch.zeros(1, 16, 16)
    targets[0, 4:12, 4:12] = 1
    logits = (targets * 40 - 20)[:, None]
    assert losses.mask_losses(logits, targets).item() < 0.01
    assert losses.mask_losses(-logits, targets).item() > 5
    assert losses.measured_iou(logits, targets).item() == 1


def test_only_the_best_slot_and_the_leak_learn_the_mask() -> None:
    targets = torch.zeros(1, 16, 16)
    targets[0, 4:12, 4:12] = 1
    logits = torch.zeros(1, 4, 16, 16)
    logits[:, 2] = targets * 2 - 1
    logits.requires_grad_()
    losses.prompt_loss(
        logits, torch.zeros(1, 4), targets, sure=False, style="plain"
    ).total.backward()
    assert logits.grad is not None
    strength = logits.grad.abs().sum(dim=(0, 2, 3))
    assert strength[2] > 5 * strength[1]
    assert strength[2] > 5 * strength[3]


def test_a_prompt_that_nobody_can_answer_pulls_less_where_losses_are_tamed() -> None:
    targets = torch.zeros(2, 16, 16)
    targets[:, 4:12, 4:12] = 1
    pulls = {}
    for style in ("plain", "tamed"):
        logits = ((targets * 2 - 1) * torch.tensor([1.0, -30.0])[:, None, None])[:, None]
        logits = logits.repeat(1, 4, 1, 1).requires_grad_()
        scores = torch.zeros(2, 4)
        losses.prompt_loss(logits, scores, targets, sure=True, style=style).total.backward()
        assert logits.grad is not None
        possible, impossible = logits.grad.abs().sum(dim=(1, 2, 3))
        pulls[style] = impossible / possible
    assert pulls["tamed"] < 0.5 * pulls["plain"]


def test_the_encoder_takes_any_side_that_is_a_multiple_of_16() -> None:
    encoder = NanoEncoder().eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 256, 4, 4)
        assert encoder(torch.zeros(2, 3, 112, 112)).shape == (2, 256, 7, 7)


def test_the_network_has_at_most_12_million_parameters_and_sams_own_decoder() -> None:
    network = SamNano()
    count = {
        part: sum(p.numel() for p in getattr(network, part).parameters())
        for part in ("image_encoder", "prompt_encoder", "mask_decoder")
    }
    assert count["prompt_encoder"] == 6220
    assert count["mask_decoder"] == 4_058_340
    assert sum(count.values()) <= 12_000_000


@pytest.mark.parametrize("plan", [FULL, THIRD])
def test_learning_rates_meet_where_stages_meet(plan: Plan) -> None:
    step = 0
    for stage, following in zip(plan.stages, plan.stages[1:], strict=False):
        step += stage.steps
        assert stage.rate[1] == following.rate[0]
        assert plan.stage(step) is following


def test_the_smoke_run_leaves_weights_and_a_log(tmp_path) -> None:
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    weights = safetensors.load_file(tmp_path / "sam_nano.safetensors")
    SamNano().load_state_dict(weights)
    assert {name.split(".")[0] for name in weights} == {
        "image_encoder",
        "prompt_encoder",
        "mask_decoder",
    }
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["000008.safetensors"]


def uneven_network() -> SamNano:
    """A network whose batch normalisations have seen something."""
    network = SamNano(3)
    network.image_encoder.train()
    with torch.no_grad():
        network.image_encoder(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def test_compact_weights_are_half_precision_and_compute_nearly_the_same() -> None:
    network, picture = uneven_network(), torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        before = network.image_encoder(picture)
    weights = compact(network)
    assert weights["image_encoder.to_middle.0.weight"].dtype == torch.float16
    loaded = SamNano()
    loaded.load_state_dict(weights)
    with torch.inference_mode():
        after = loaded.eval().image_encoder(picture)
    torch.testing.assert_close(after, before, rtol=0, atol=5e-3 * float(before.abs().max()))


def test_exporting_compact_weights_loses_nothing_more() -> None:
    weights = compact(uneven_network())
    loaded = SamNano()
    loaded.load_state_dict(weights)
    half_weights.prepare(loaded.eval().image_encoder)
    exported = dict(loaded.image_encoder.named_parameters())
    for name, weight in exported.items():
        if weight.numel() >= half_weights.LARGE:
            stored = weights[f"image_encoder.{name}"].float()
            torch.testing.assert_close(weight.detach(), stored, rtol=0, atol=0)


def test_calibration_scales_logits_and_moves_scores() -> None:
    network = SamNano(3).eval()
    questions = batches.make_batch(SMOKE.stage(2), (1, 1)).questions[0]
    embedding = torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits, scores = network.answer(embedding, questions, (0, 0))
        calibration.apply(network, calibration.Calibration(steepness=3.0, score_shift=0.1))
        steeper, higher = network.answer(embedding, questions, (0, 0))
    torch.testing.assert_close(steeper, 3 * logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(higher, scores + 0.1)


def test_a_run_goes_on_from_published_weights_as_they_were_before_calibration(tmp_path) -> None:
    trained = uneven_network()
    batch = batches.make_batch(SMOKE.stage(2), (1, 1))
    with torch.inference_mode():
        embedding = trained.eval().image_encoder(batch.images)
        expected, scores = trained.answer(embedding, batch.questions[0], batch.corner)
    applied = calibration.Calibration(steepness=3.0, score_shift=0.1)
    calibration.apply(trained, applied)
    safetensors.save_file(compact(trained), str(tmp_path / "published.safetensors"))
    trainer = Trainer(SMOKE, tmp_path)
    trainer.adopt(Start(tmp_path / "published.safetensors", applied))
    with torch.inference_mode():
        again = trainer.network.eval().image_encoder(batch.images)
        logits, predicted = trainer.network.answer(again, batch.questions[0], batch.corner)
    torch.testing.assert_close(again, embedding, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(predicted, scores, rtol=1e-2, atol=1e-2)
    assert (logits - expected).abs().max() < 0.02 * expected.abs().max()
    lengths = trainer.network.image_encoder.neck[0].weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_first_clicks_lie_deep_inside_as_often_as_they_should() -> None:
    mask = np.zeros((400, 400), dtype=bool)
    mask[40:360, 40:360] = True
    random = np.random.default_rng(1)
    clicks = np.stack([prompts.sample(random, mask, "click", 0).coords[0] for _ in range(200)])
    assert mask[clicks[:, 1].astype(int), clicks[:, 0].astype(int)].all()
    deep = np.abs(clicks - 200).max(axis=1) < 16
    assert deep.mean() == pytest.approx(prompts.MIDDLE_SHARE, abs=0.1)


def test_a_stopped_run_continues_with_the_same_numbers(tmp_path) -> None:
    batch = batches.make_batch(SMOKE.stage(2), (SMOKE.seed, 2))
    trainer = Trainer(SMOKE, tmp_path)
    trainer.step = 2
    trainer.train_step(batch)
    trainer.save()
    resumed = Trainer(SMOKE, tmp_path)
    resumed.resume()
    assert resumed.step == 3
    expected, seen = trainer.train_step(batch), resumed.train_step(batch)
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
