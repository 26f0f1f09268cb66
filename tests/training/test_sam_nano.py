"""Training of sam-nano: losses, the network and the loop."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
safetensors = pytest.importorskip("safetensors.torch", reason="training needs safetensors")

from fastseg.export.networks.nano_encoder import NanoEncoder
from fastseg.export.onnx import float16_storage
from tests.helpers.gradients import both_gradients
from training.sam_nano import (
    batches,
    calibration,
    losses,
    prompts,
    score_calibration,
    weight_averaging,
)
from training.sam_nano.__main__ import main
from training.sam_nano.depthwise import depthwise_in_float32
from training.sam_nano.network import SamNano, compact
from training.sam_nano.plan import CONTINUED, FULL, SMOKE, StagePlan
from training.sam_nano.trainer import Start, Trainer


def test_depthwise_convolutions_in_float32_compute_the_same() -> None:
    encoder, image = (
        NanoEncoder().eval(),
        torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64),
    )
    with torch.inference_mode():
        before = encoder(image)
        depthwise_in_float32(encoder)
        after = encoder(image)
    torch.testing.assert_close(after, before)


def test_a_perfect_mask_has_a_small_loss_and_its_inverse_a_large() -> None:
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
        logits, torch.zeros(1, 4), targets, unambiguous=False, style="plain"
    ).total.backward()
    assert logits.grad is not None
    strength = logits.grad.abs().sum(dim=(0, 2, 3))
    assert strength[2] > 5 * strength[1]
    assert strength[2] > 5 * strength[3]


def test_unsolvable_prompts_weigh_less_in_the_saturating_loss() -> None:
    targets = torch.zeros(2, 16, 16)
    targets[:, 4:12, 4:12] = 1
    ratios = {}
    for style in ("plain", "saturating"):
        logits = ((targets * 2 - 1) * torch.tensor([1.0, -30.0])[:, None, None])[:, None]
        logits = logits.repeat(1, 4, 1, 1).requires_grad_()
        scores = torch.zeros(2, 4)
        losses.prompt_loss(logits, scores, targets, unambiguous=True, style=style).total.backward()
        assert logits.grad is not None
        possible, impossible = logits.grad.abs().sum(dim=(1, 2, 3))
        ratios[style] = impossible / possible
    assert ratios["saturating"] < 0.5 * ratios["plain"]


def test_the_encoder_takes_any_side_that_is_a_multiple_of_16() -> None:
    encoder = NanoEncoder().eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 256, 4, 4)
        assert encoder(torch.zeros(2, 3, 112, 112)).shape == (2, 256, 7, 7)


def test_the_network_has_sams_decoder_and_12_million_parameters() -> None:
    network = SamNano()
    count = {
        part: sum(p.numel() for p in getattr(network, part).parameters())
        for part in ("image_encoder", "prompt_encoder", "mask_decoder")
    }
    assert count["prompt_encoder"] == 6220
    assert count["mask_decoder"] == 4_058_340
    assert sum(count.values()) <= 12_000_000


@pytest.mark.parametrize("plan", [FULL, CONTINUED])
def test_learning_rates_meet_where_stages_meet(plan: StagePlan) -> None:
    step = 0
    for stage, following in zip(plan.stages, plan.stages[1:], strict=False):
        step += stage.steps
        assert stage.rate[1] == following.rate[0]
        assert plan.stage(step) is following


QUICK = replace(SMOKE, stages=tuple(replace(one, steps=1, side=128) for one in SMOKE.stages))
"""A step of every stage, in small windows."""


@pytest.mark.slow
@both_gradients
def test_the_smoke_run_leaves_weights_and_a_log(gradient, monkeypatch, tmp_path) -> None:
    plan = SMOKE if gradient == "native" else QUICK
    monkeypatch.setattr("training.sam_nano.__main__.SMOKE", plan)
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    weights = safetensors.load_file(tmp_path / "sam_nano.safetensors")
    SamNano().load_state_dict(weights)
    assert {name.split(".")[0] for name in weights} == {
        "image_encoder",
        "prompt_encoder",
        "mask_decoder",
    }
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1
    kept = sorted(int(file.stem) for file in (tmp_path / "kept").iterdir())
    assert kept == list(accumulate(stage.steps for stage in plan.stages))  # where stages end


def uneven_network() -> SamNano:
    """Return a network whose batch normalisations have statistics of data."""
    network = SamNano(3)
    network.image_encoder.train()
    with torch.no_grad():
        network.image_encoder(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def test_compact_weights_are_float16_and_compute_nearly_the_same() -> None:
    network, image = uneven_network(), torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        before = network.image_encoder(image)
    weights = compact(network)
    assert weights["image_encoder.to_middle.0.weight"].dtype == torch.float16
    loaded = SamNano()
    loaded.load_state_dict(weights)
    with torch.inference_mode():
        after = loaded.eval().image_encoder(image)
    torch.testing.assert_close(after, before, rtol=0, atol=5e-3 * float(before.abs().max()))


def test_exporting_compact_weights_loses_nothing_more() -> None:
    weights = compact(uneven_network())
    loaded = SamNano()
    loaded.load_state_dict(weights)
    float16_storage.prepare(loaded.eval().image_encoder)
    exported = dict(loaded.image_encoder.named_parameters())
    for name, weight in exported.items():
        if weight.numel() >= float16_storage.LARGE:
            stored = weights[f"image_encoder.{name}"].float()
            torch.testing.assert_close(weight.detach(), stored, rtol=0, atol=0)


def test_calibration_scales_logits_and_moves_scores() -> None:
    network = SamNano(3).eval()
    prompt_batch = batches.make_batch(SMOKE.stage(2), (1, 1)).prompts[0]
    embedding = torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits, scores = network.predict(embedding, prompt_batch, (0, 0))
        calibration.apply(network, calibration.Calibration(steepness=3.0, score_shift=0.1))
        steeper, higher = network.predict(embedding, prompt_batch, (0, 0))
    torch.testing.assert_close(steeper, 3 * logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(higher, scores + 0.1)


def test_scores_are_fitted_to_the_iou_of_whole_masks() -> None:
    network = SamNano(3).eval()
    batch = batches.make_batch(SMOKE.stage(2), (1, 1))
    examples = score_calibration.score_examples(network, batch)
    with torch.inference_mode():
        embedding = network.image_encoder(batch.images)
        logits, _ = network.predict(embedding, batch.prompts[0], batch.corner)
    truth = losses.measured_iou(logits, batch.prompts[0].targets)
    torch.testing.assert_close(examples.ious[: len(truth)], truth, rtol=0, atol=0.05)
    assert len(examples.tokens) == sum(len(one.targets) for one in batch.prompts)


def test_fitted_scores_are_nearer_on_held_out_rows() -> None:
    random = torch.Generator().manual_seed(1)
    tokens = torch.randn(400, 256, generator=random)
    ious = (tokens[:, :4] * 0.2 + 0.5).clamp(0, 1)
    head = SamNano(3).mask_decoder.iou_prediction_head
    before, after = score_calibration.fit(
        head, score_calibration.ScoreExamples(tokens, ious), rounds=20
    )
    held_out = score_calibration.ScoreExamples(tokens[340:], ious[340:])
    assert after == pytest.approx(float(held_out.error(head).detach()), abs=1e-6)
    assert after < 0.7 * before


def test_a_run_starts_from_published_weights_without_calibration(tmp_path) -> None:
    trained = uneven_network()
    batch = batches.make_batch(SMOKE.stage(2), (1, 1))
    with torch.inference_mode():
        embedding = trained.eval().image_encoder(batch.images)
        expected, scores = trained.predict(embedding, batch.prompts[0], batch.corner)
    applied = calibration.Calibration(steepness=3.0, score_shift=0.1)
    calibration.apply(trained, applied)
    safetensors.save_file(compact(trained), str(tmp_path / "published.safetensors"))
    trainer = Trainer(SMOKE, tmp_path)
    trainer.start_from(Start(tmp_path / "published.safetensors", applied))
    with torch.inference_mode():
        again = trainer.network.eval().image_encoder(batch.images)
        logits, predicted = trainer.network.predict(again, batch.prompts[0], batch.corner)
    torch.testing.assert_close(again, embedding, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(predicted, scores, rtol=1e-2, atol=1e-2)
    assert (logits - expected).abs().max() < 0.02 * expected.abs().max()
    lengths = trainer.network.image_encoder.neck[0].weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_first_points_lie_deep_inside_with_their_probability() -> None:
    mask = np.zeros((400, 400), dtype=bool)
    mask[40:360, 40:360] = True
    random = np.random.default_rng(1)
    points = np.stack([prompts.sample(random, mask, "point", 0).coords[0] for _ in range(200)])
    assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()
    deep = np.abs(points - 200).max(axis=1) < 16
    assert deep.mean() == pytest.approx(prompts.MIDDLE_SHARE, abs=0.1)


@pytest.mark.slow
def test_a_stopped_run_continues_with_the_same_numbers(tmp_path) -> None:
    batch = batches.make_batch(SMOKE.stage(2), (SMOKE.seed, 2))
    trainer = Trainer(SMOKE, tmp_path)
    trainer.step = 2
    trainer.train_step(batch)
    trainer.save()
    resumed = Trainer(SMOKE, tmp_path)
    resumed.resume()
    assert resumed.step == 3
    expected, found = trainer.train_step(batch), resumed.train_step(batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_averaging_takes_means_and_refuses_another_network(tmp_path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file, value in zip(files, (1.0, 4.0), strict=True):
        tensors = {"weight": torch.full((3,), value), "seen": torch.tensor(int(value))}
        safetensors.save_file(tensors, str(file))
    assert (
        weight_averaging.main([*map(str, files), "--out", str(tmp_path / "mean.safetensors")]) == 0
    )
    found = safetensors.load_file(tmp_path / "mean.safetensors")
    torch.testing.assert_close(found["weight"], torch.full((3,), 2.5))
    assert found["seen"] == 4
    safetensors.save_file({"other": torch.ones(3)}, str(files[1]))
    with pytest.raises(KeyError, match="different networks"):
        weight_averaging.average_weights(files)
