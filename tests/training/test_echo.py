"""Training of the echo networks: phantoms, batches, and the loop from first step to weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
safetensors = pytest.importorskip("safetensors.torch", reason="training needs safetensors")

from fastseg.export.networks.unet import UNet
from training.echo import evaluation, losses, network, plan, widening
from training.echo.__main__ import main
from training.echo.batches import make_batch
from training.echo.heart import CHANNELS, CLASSES, VIEWS
from training.echo.phantom import draw_masks, generate
from training.echo.sector import BEAMS, RANGES, SIDE, Sector
from training.echo.trainer import Trainer


def phantom(view, seed=1):
    return generate(np.random.default_rng(seed), view)


@pytest.mark.parametrize("view", VIEWS)
def test_a_seed_gives_the_same_phantom_again(view) -> None:
    one, two = phantom(view), phantom(view)
    np.testing.assert_array_equal(one.frame, two.frame)
    np.testing.assert_array_equal(one.masks, two.masks)
    assert not np.array_equal(one.frame, phantom(view, seed=2).frame)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", range(4))
def test_a_phantom_has_the_shapes_of_its_view_s_network(view, seed) -> None:
    drawn = phantom(view, seed)
    assert drawn.frame.shape == (CHANNELS[view], SIDE, SIDE)
    assert drawn.frame.dtype == np.float32
    assert (drawn.frame.min(), drawn.frame.max()) == (0, 1)
    assert drawn.masks.shape == (len(CLASSES[view]), SIDE, SIDE)
    assert drawn.masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize("seed", range(8))
def test_left_heart_at_image_right_and_atria_below_ventricles(seed) -> None:
    masks = draw_masks(np.random.default_rng(seed), "a4c")
    rows, columns = np.array([np.argwhere(mask).mean(axis=0) for mask in masks]).T
    index = {name: k for k, name in enumerate(CLASSES["a4c"])}
    for side in "LR":
        assert rows[index[f"{side}A"]] > rows[index[f"{side}V"]]
    for kind in "AV":
        assert columns[index[f"L{kind}"]] > columns[index[f"R{kind}"]]


@pytest.mark.parametrize("view", ["a2c", "a4c"])
def test_the_union_holds_every_chamber_and_nothing_else(view) -> None:
    masks = draw_masks(np.random.default_rng(3), view)
    np.testing.assert_array_equal(masks[0], masks[1:].any(axis=0))


def test_cavity_and_ring_make_up_the_disc_without_overlap() -> None:
    cavity, ring, disc = draw_masks(np.random.default_rng(3), "sax")
    np.testing.assert_array_equal(disc, cavity | ring)
    assert not (cavity & ring).any()


def test_blood_is_darker_than_muscle_on_most_phantoms() -> None:
    darker = 0
    for seed in range(20):
        drawn = phantom("sax", seed)
        cavity, ring, _ = drawn.masks
        darker += bool(drawn.frame[0][cavity].mean() < drawn.frame[0][ring].mean())
    assert darker >= 16


def test_masks_alone_are_those_of_the_whole_phantom() -> None:
    np.testing.assert_array_equal(
        draw_masks(np.random.default_rng(4), "a4c"), phantom("a4c", 4).masks
    )


def test_scan_conversion_inverts_the_polar_mapping() -> None:
    sector = Sector((120.0, 10.0), 220.0, 0.7, 0.0)
    plane = torch.zeros(RANGES, BEAMS)
    point = np.array([[150.5, 130.5]])
    beam, distance = sector.to_polar(point)[0]
    plane[int(distance) - 2 : int(distance) + 3, int(beam) - 2 : int(beam) + 3] = 1
    image, inside = sector.scan_convert(plane)
    assert image[130, 150] == pytest.approx(1)
    assert inside[130, 150]
    assert not inside[130, 2]


def test_batches_are_the_same_for_the_same_step_and_no_other() -> None:
    task = plan.plan(4, smoke=True).together[0]
    one, two, other = (make_batch(task, 7, step) for step in (3, 3, 4))
    torch.testing.assert_close(one.frames, two.frames, rtol=0, atol=0)
    torch.testing.assert_close(one.masks[1], two.masks[1], rtol=0, atol=0)
    assert not torch.equal(one.frames, other.frames)
    assert one.frames.shape == (3, 3, *task.window)
    assert [masks.shape[1] for masks in one.masks] == [3, 5, 3]


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_s_network_computes_as_the_joint_one_did(view) -> None:
    torch.manual_seed(0)
    joint = network.joint_network(4)
    alone = network.view_network(joint, view, 4)
    frames = torch.rand(2, 3, 64, 64)
    frames[:, CHANNELS[view] :] = 0
    expected = joint(frames)[:, network.output_channels(view)]
    torch.testing.assert_close(alone(frames[:, : CHANNELS[view]]), expected)


def test_perfect_masks_have_a_small_loss_and_inverses_a_large() -> None:
    masks = torch.zeros(2, 3, 16, 16)
    masks[:, :, 4:12, 4:12] = 1
    right, dice = losses.chamber_loss(masks * 40 - 20, masks)
    wrong, _ = losses.chamber_loss(20 - masks * 40, masks)
    assert right.item() < 0.01
    assert dice == pytest.approx(1, abs=1e-3)
    assert wrong.item() > 5


def test_the_smoke_run_leaves_weights_for_every_view_and_a_log(tmp_path) -> None:
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    run = tmp_path / "width-4"
    for view in VIEWS:
        weights = safetensors.load_file(run / f"echo-{view}.safetensors")
        UNet(CHANNELS[view], len(CLASSES[view]), 4).load_state_dict(weights)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["task"] for line in lines] == ["windows", "joint", *VIEWS]


def test_a_stopped_task_continues_with_the_same_numbers(tmp_path) -> None:
    torch.manual_seed(0)
    task = plan.plan(4, smoke=True).together[0]
    trainer = Trainer(network.joint_network(4), task, tmp_path, seed=7)
    trainer.train_step(make_batch(task, 7, 0))
    trainer.save()
    resumed = Trainer(network.joint_network(4), task, tmp_path, seed=7)
    resumed.resume()
    assert resumed.step == 1
    batch = make_batch(task, 7, 1)
    expected, seen = trainer.train_step(batch), resumed.train_step(batch)
    assert seen == pytest.approx(expected, rel=1e-4)


def test_dice_is_twice_the_overlap_over_the_areas() -> None:
    one, other = np.zeros((2, 8, 8), dtype=bool)
    assert evaluation.dice(one, other) == 1
    one[:4], other[2:6] = True, True
    assert evaluation.dice(one, other) == pytest.approx(0.5)


def test_mean_masks_are_frequencies_of_the_compared_masks() -> None:
    means = evaluation.mean_masks("a4c", count=5)
    assert list(means) == ["LA", "LV", "RA", "RV"]
    shares = np.unique(np.stack(list(means.values())))
    assert set(np.round(shares * 5, 6)) <= {0, 1, 2, 3, 4, 5}


def test_a_widened_network_computes_as_the_narrow_one_did() -> None:
    torch.manual_seed(0)
    narrow = network.joint_network(4)
    wide = widening.widen(narrow, seed=1)
    assert wide.width == 8
    frames = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(wide(frames), narrow(frames), rtol=1e-4, atol=1e-6)


def test_copies_in_a_widened_network_have_different_gradients() -> None:
    torch.manual_seed(0)
    wide = widening.widen(network.joint_network(4), seed=1)
    frames = torch.rand(1, 3, 64, 64)
    wide(frames).square().sum().backward()
    gradient = wide.down[1][0].weight.grad
    assert not torch.allclose(gradient[:, 0::2], gradient[:, 1::2]) or not torch.allclose(
        gradient[0::2], gradient[1::2]
    )
