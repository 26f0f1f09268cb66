"""Cached scenes that are shown several times, and the batches of a pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from fastseg import contract
from training.sam_nano import batches, cached_scenes, scene_pool
from training.sam_nano.cached_scenes import CachedScene, PromptGroup, PromptRequest
from training.sam_nano.plan import Stage, StagePlan

CPU = torch.device("cpu")
STAGE = Stage(3, 128, 2, 8, (1e-4, 1e-4), new_scenes=1)


def cached_scene(seed: int = 1) -> CachedScene:
    """Draw a scene that fills its square, with the prompts of a pool."""
    while True:
        drawn = cached_scenes.draw_cached_scene(
            np.random.default_rng(seed), STAGE, scene_pool.REQUESTS
        )
        if drawn.fills_square:
            return drawn
        seed += 100


def test_coverage_counts_the_pixels_of_every_mask_pixel() -> None:
    mask = np.random.default_rng(1).random((64, 96)) < 0.4
    expected = mask.reshape(16, 4, 24, 4).sum(axis=(1, 3))
    np.testing.assert_array_equal(cached_scenes.count_covered(mask), expected)
    assert (
        cached_scenes.count_covered(np.ones((4, 4), dtype=bool))[0, 0]
        == cached_scenes.PIXELS_PER_MASK_PIXEL
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prompts_of_a_cached_scene_lie_on_their_targets(seed: int) -> None:
    drawn = cached_scene(seed)
    singles, boxes, points = drawn.prompt_groups
    assert points.coords.shape[1] == 6  # a point, four corrections, padding
    for group in (singles, points):
        x, y = (group.coords[:, 0] / 4).long().T
        assert (drawn.coverage[group.objects, y, x] > 0).all()
    low, high = boxes.coords[:, 0], boxes.coords[:, 1]
    assert (low < high).all()


def collated(scene: CachedScene) -> batches.Batch:
    return batches.collate([scene], 128, (0, 0), None)


def test_a_mirrored_scene_mirrors_image_prompts_and_targets() -> None:
    drawn = cached_scene()
    plain, mirrored = collated(drawn), collated(drawn.mirror())
    torch.testing.assert_close(mirrored.images, plain.images.flip(3))
    right = 127
    for before, after in zip(plain.prompts, mirrored.prompts, strict=True):
        torch.testing.assert_close(after.targets, before.targets.flip(2))
        real = before.labels != contract.LABEL_PADDING
        assert (after.coords[~real] == 0).all()
        torch.testing.assert_close(after.coords[..., 1], before.coords[..., 1])
        x = before.coords[..., 0]
        if before.has_boxes:
            x = x.flip(1)
        torch.testing.assert_close(after.coords[..., 0][real], (right - x)[real])
    alike = [0, 3, *range(5, batches.DENSE_CHANNELS, 2)]  # objects, the way down, affinities down
    torch.testing.assert_close(mirrored.dense[:, alike], plain.dense[:, alike].flip(3))
    torch.testing.assert_close(mirrored.dense[:, 2], -plain.dense[:, 2].flip(2))
    torch.testing.assert_close(drawn.mirror().mirror().image, drawn.image)


def test_relighting_changes_the_image_alone() -> None:
    drawn = cached_scene()
    lit = drawn.relight(gain=0.8, gamma=1.2)
    expected = (drawn.image.double() / 255) ** 1.2 * 0.8 * 255
    assert (lit.image - expected).abs().max() <= 1
    assert lit.image.dtype == torch.uint8
    assert lit.prompt_groups is drawn.prompt_groups
    assert drawn.relight(gain=3.0, gamma=1.0).image.max() == 255


def test_a_pool_gives_as_many_prompts_as_the_stage_wants() -> None:
    filled = scene_pool.ScenePool(CPU)
    filled.add([cached_scene(1), cached_scene(2), cached_scene(3)])
    shapes = set()
    for number in range(12):
        batch = filled.batch(replace(STAGE, boxes=0.5, mask_prompts=0.5), (7, number))
        assert batch.images.shape == (2, 3, 128, 128)
        singles, others = batch.prompts
        assert len(singles.labels) == len(others.labels) == 2 * 4
        assert not singles.has_boxes
        assert singles.mask_prompts is None
        shapes.add((others.has_boxes, others.mask_prompts is not None))
        x, y = (singles.coords[:, 0] / 4).long().T
        assert (singles.targets[torch.arange(8), y, x] > 0).all()
        if not others.has_boxes:
            assert (others.labels[:, -1] == contract.LABEL_PADDING).all()
            assert (others.labels[:, 0] == contract.LABEL_FOREGROUND).all()
    assert len(shapes) == 4  # boxes and points, with and without a mask prompt


def test_a_pool_is_reproducible_and_augments_its_scenes() -> None:
    filled = scene_pool.ScenePool(CPU)
    filled.add([cached_scene()])
    one, two, other = (filled.batch(STAGE, (7, number)) for number in (1, 1, 2))
    torch.testing.assert_close(one.images, two.images, rtol=0, atol=0)
    torch.testing.assert_close(one.prompts[1].coords, two.prompts[1].coords, rtol=0, atol=0)
    assert (one.images - other.images).abs().max() > 0.01


def test_the_oldest_scenes_make_room() -> None:
    filled, old = scene_pool.ScenePool(CPU), cached_scene()
    filled.add([old] * scene_pool.CAPACITY)
    dark = replace(old, image=torch.zeros_like(old.image))
    filled.add([dark] * scene_pool.CAPACITY)
    batch = filled.batch(STAGE, (1,))
    black = -batches.PIXEL_MEAN / batches.PIXEL_DEVIATION
    expected = torch.from_numpy(black)[:, None, None].expand(3, 128, 128)
    torch.testing.assert_close(batch.images[0], expected)


def test_a_plan_may_change_from_new_scenes_to_a_pool() -> None:
    plan = StagePlan(
        (replace(STAGE, steps=2, new_scenes=0), replace(STAGE, steps=2, new_scenes=2)), seed=5
    )
    fed = list(scene_pool.plan_batches(plan, 1, 0, CPU))
    assert len(fed) == 3
    torch.testing.assert_close(
        fed[0].images, batches.make_batch(plan.stages[0], (5, 1)).images, rtol=0, atol=0
    )
    again = list(scene_pool.plan_batches(plan, 1, 0, CPU))
    torch.testing.assert_close(fed[2].images, again[2].images, rtol=0, atol=0)


def test_mask_prompts_resemble_their_targets() -> None:
    targets = torch.zeros(3, 64, 64)
    targets[:, 20:44, 12:50] = 1
    prompts = batches.draw_mask_prompts(targets, torch.Generator().manual_seed(1))
    assert prompts.shape == (3, 1, 64, 64)
    drawn = prompts[:, 0] > 0
    overlap = (drawn & (targets > 0)).sum(dim=(1, 2)) / (drawn | (targets > 0)).sum(dim=(1, 2))
    assert (overlap > 0.7).all()
    assert (overlap < 1).any()


def test_selected_prompts_keep_their_objects() -> None:
    group = PromptGroup(
        torch.arange(12.0).reshape(3, 2, 2), torch.arange(6).reshape(3, 2), torch.arange(3)
    )
    some = group.select(torch.tensor([2, 0]), [1])
    assert some.labels.tolist() == [[5], [1]]
    assert some.objects.tolist() == [2, 0]
    assert some.coords.tolist() == [[[10, 11]], [[2, 3]]]


def test_some_points_lie_on_the_background() -> None:
    random = np.random.default_rng(4)
    drawn = [
        cached_scenes.draw_cached_scene(random, STAGE, [PromptRequest("point", 60, 0)])
        for _ in range(6)
    ]
    count = 0
    for some in drawn:
        background = (some.owners == 0).float().mean()
        for index in some.prompt_groups[0].objects.tolist():
            coverage = some.coverage[index]
            covered = some.owners[coverage == cached_scenes.PIXELS_PER_MASK_PIXEL]
            count += bool(background > 0.1 and (covered <= 0).all())
    assert 3 <= count <= 60
