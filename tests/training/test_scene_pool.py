"""Pages of scenes that are shown several times, and what a pool makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from fastseg import contract
from training.sam_nano import batches, cached_scenes, scene_pool
from training.sam_nano.cached_scenes import Asked, Asking, Page
from training.sam_nano.plan import Plan, Stage

CPU = torch.device("cpu")
STAGE = Stage(3, 128, 2, 8, (1e-4, 1e-4), fresh=1)


def page(seed: int = 1) -> Page:
    """A page that fills its square, with the prompts that a pool asks for."""
    while True:
        drawn = cached_scenes.draw_page(np.random.default_rng(seed), STAGE, scene_pool.ASKED)
        if drawn.fills_square:
            return drawn
        seed += 100


def test_a_cover_counts_the_pixels_under_every_mask_pixel() -> None:
    mask = np.random.default_rng(1).random((64, 96)) < 0.4
    expected = mask.reshape(16, 4, 24, 4).sum(axis=(1, 3))
    np.testing.assert_array_equal(cached_scenes.cover(mask), expected)
    assert cached_scenes.cover(np.ones((4, 4), dtype=bool))[0, 0] == cached_scenes.SIXTEENTHS


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prompts_of_a_page_lie_on_what_they_ask_for(seed: int) -> None:
    drawn = page(seed)
    clicks, boxes, points = drawn.asked
    assert points.coords.shape[1] == 6  # a click, four corrections, and what stands for no box
    for asked in (clicks, points):
        x, y = (asked.coords[:, 0] / 4).long().T
        assert (drawn.covers[asked.objects, y, x] > 0).all()
    low, high = boxes.coords[:, 0], boxes.coords[:, 1]
    assert (low < high).all()


def bound(some: Page) -> batches.Batch:
    return batches.bind([some], 128, (0, 0), None)


def test_a_mirrored_page_is_the_mirror_image_of_everything() -> None:
    drawn = page()
    plain, turned = bound(drawn), bound(drawn.mirrored())
    torch.testing.assert_close(turned.images, plain.images.flip(3))
    right = 127
    for before, after in zip(plain.questions, turned.questions, strict=True):
        torch.testing.assert_close(after.targets, before.targets.flip(2))
        real = before.labels != contract.LABEL_PADDING
        assert (after.coords[~real] == 0).all()
        torch.testing.assert_close(after.coords[..., 1], before.coords[..., 1])
        mirrored = before.coords[..., 0]
        if before.boxed:
            mirrored = mirrored.flip(1)
        torch.testing.assert_close(after.coords[..., 0][real], (right - mirrored)[real])
    alike = [0, 3, *range(5, batches.DENSE_CHANNELS, 2)]  # objects, the way down, affinities down
    torch.testing.assert_close(turned.dense[:, alike], plain.dense[:, alike].flip(3))
    torch.testing.assert_close(turned.dense[:, 2], -plain.dense[:, 2].flip(2))
    torch.testing.assert_close(drawn.mirrored().mirrored().image, drawn.image)


def test_light_changes_a_picture_and_nothing_else() -> None:
    drawn = page()
    lit = drawn.relit(gain=0.8, gamma=1.2)
    expected = (drawn.image.double() / 255) ** 1.2 * 0.8 * 255
    assert (lit.image - expected).abs().max() <= 1
    assert lit.image.dtype == torch.uint8
    assert lit.asked is drawn.asked
    assert drawn.relit(gain=3.0, gamma=1.0).image.max() == 255


def test_a_pool_shows_pages_with_as_many_prompts_as_the_stage_asks() -> None:
    filled = scene_pool.Pool(CPU)
    filled.add([page(1), page(2), page(3)])
    shapes = set()
    for number in range(12):
        batch = filled.batch(replace(STAGE, boxes=0.5, rough=0.5), (7, number))
        assert batch.images.shape == (2, 3, 128, 128)
        clicks, more = batch.questions
        assert len(clicks.labels) == len(more.labels) == 2 * 4
        assert not clicks.boxed
        assert clicks.rough is None
        shapes.add((more.boxed, more.rough is not None))
        x, y = (clicks.coords[:, 0] / 4).long().T
        assert (clicks.targets[torch.arange(8), y, x] > 0).all()
        if not more.boxed:
            assert (more.labels[:, -1] == contract.LABEL_PADDING).all()
            assert (more.labels[:, 0] == contract.LABEL_FOREGROUND).all()
    assert len(shapes) == 4  # boxes and points, with and without a rough mask


def test_a_pool_repeats_itself_and_shows_a_page_in_different_ways() -> None:
    filled = scene_pool.Pool(CPU)
    filled.add([page()])
    one, two, other = (filled.batch(STAGE, (7, number)) for number in (1, 1, 2))
    torch.testing.assert_close(one.images, two.images, rtol=0, atol=0)
    torch.testing.assert_close(one.questions[1].coords, two.questions[1].coords, rtol=0, atol=0)
    assert (one.images - other.images).abs().max() > 0.01


def test_the_oldest_pages_make_room() -> None:
    filled, old = scene_pool.Pool(CPU), page()
    filled.add([old] * scene_pool.CAPACITY)
    dark = replace(old, image=torch.zeros_like(old.image))
    filled.add([dark] * scene_pool.CAPACITY)
    batch = filled.batch(STAGE, (1,))
    black = -batches.PIXEL_MEAN / batches.PIXEL_DEVIATION
    expected = torch.from_numpy(black)[:, None, None].expand(3, 128, 128)
    torch.testing.assert_close(batch.images[0], expected)


def test_a_plan_may_change_from_new_scenes_to_a_pool() -> None:
    plan = Plan((replace(STAGE, steps=2, fresh=0), replace(STAGE, steps=2, fresh=2)), seed=5)
    fed = list(scene_pool.feed(plan, 1, 0, CPU))
    assert len(fed) == 3
    torch.testing.assert_close(
        fed[0].images, batches.make_batch(plan.stages[0], (5, 1)).images, rtol=0, atol=0
    )
    again = list(scene_pool.feed(plan, 1, 0, CPU))
    torch.testing.assert_close(fed[2].images, again[2].images, rtol=0, atol=0)


def test_rough_masks_resemble_their_answers() -> None:
    targets = torch.zeros(3, 64, 64)
    targets[:, 20:44, 12:50] = 1
    rough = batches.rough_masks(targets, torch.Generator().manual_seed(1))
    assert rough.shape == (3, 1, 64, 64)
    drawn = rough[:, 0] > 0
    overlap = (drawn & (targets > 0)).sum(dim=(1, 2)) / (drawn | (targets > 0)).sum(dim=(1, 2))
    assert (overlap > 0.7).all()
    assert (overlap < 1).any()


def test_part_of_the_prompts_keeps_their_objects() -> None:
    asked = Asked(
        torch.arange(12.0).reshape(3, 2, 2), torch.arange(6).reshape(3, 2), torch.arange(3)
    )
    some = asked.part(torch.tensor([2, 0]), [1])
    assert some.labels.tolist() == [[5], [1]]
    assert some.objects.tolist() == [2, 0]
    assert some.coords.tolist() == [[[10, 11]], [[2, 3]]]


def test_the_ground_is_asked_for_now_and_then() -> None:
    random = np.random.default_rng(4)
    drawn = [cached_scenes.draw_page(random, STAGE, [Asking("click", 60, 0)]) for _ in range(6)]
    grounds = 0
    for some in drawn:
        ground = (some.owners == 0).float().mean()
        for index in some.asked[0].objects.tolist():
            cover = some.covers[index]
            grounds += bool(
                ground > 0.1 and (some.owners[cover == cached_scenes.SIXTEENTHS] <= 0).all()
            )
    assert 3 <= grounds <= 60
