"""Scenes on disk: written and read alike, collated, trained on, added to by the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("skimage", reason="weak labels need scikit-image")

from tests.helpers import constructed_images
from training.sam_nano import (
    __main__ as command,
)
from training.sam_nano import (
    batches,
    devices,
    held_out,
    losses,
    prompts,
    scene_pool,
    self_training,
    stored_pool,
)
from training.sam_nano.cached_scenes import cache_scene
from training.sam_nano.photographs import regions, sprites
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.plan import SMOKE_STORED, Stage
from training.sam_nano.scenes import Scene

STAGE = Stage(3, 128, 2, 8, (1e-4, 1e-4), stored=True)


@pytest.fixture(autouse=True)
def one_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut all regions out of one crop: finding them takes half a second."""
    monkeypatch.setattr(sprites, "CUTOUT_CROPS", 1)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection(constructed_images.write(tmp_path_factory.mktemp("images")))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, collection: Collection) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    for index in range(3):
        scene = stored_pool.draw(index, STAGE.side, collection)
        stored_pool.pack(scene, folder / str(STAGE.side) / f"{index:06d}.npz")
    return folder


def test_a_scene_is_read_as_it_was_written(tmp_path: Path, collection: Collection) -> None:
    scene = stored_pool.draw(1, 128, collection)
    stored_pool.pack(scene, tmp_path / "one.npz")
    read = stored_pool.unpack(tmp_path / "one.npz")
    for name in ("image", "coverage", "owners"):
        torch.testing.assert_close(getattr(read, name), getattr(scene, name), rtol=0, atol=0)
    for before, after in zip(scene.prompt_groups, read.prompt_groups, strict=True):
        for name in stored_pool.GROUP_FIELDS:
            torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=0)
    again = stored_pool.draw(1, 128, collection)
    torch.testing.assert_close(again.image, scene.image, rtol=0, atol=0)


def test_a_stored_pool_gives_batches_at_places_of_the_square(pool: Path) -> None:
    stored, corners = stored_pool.StoredPool(pool), set()
    for number in range(4):
        batch = stored.batch(STAGE, (7, number))
        assert batch.images.shape == (2, 3, 128, 128)
        singles, others = batch.prompts
        assert len(singles.labels) == len(others.labels) == 2 * 4
        x, y = ((singles.coords[:, 0] - 16 * torch.tensor(batch.corner)) / 4).long().T
        assert (singles.targets[torch.arange(8), y, x] > 0).all()
        corners.add(batch.corner)
        same = stored.batch(STAGE, (7, number))
        torch.testing.assert_close(same.images, batch.images, rtol=0, atol=0)
    assert len(corners) > 1


def test_each_scene_of_a_pool_is_collated_once(pool: Path) -> None:
    stored = stored_pool.StoredPool(pool)
    batches = list(stored.each(STAGE, 7))
    assert len(batches) == len(stored.files(128)) > 1
    assert all(batch.images.shape == (1, 3, 128, 128) for batch in batches)
    for batch, same in zip(batches, stored.each(STAGE, 7), strict=True):
        torch.testing.assert_close(same.images, batch.images, rtol=0, atol=0)
    assert not torch.equal(batches[0].images, batches[1].images)


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no scenes of 128 px"):
        stored_pool.StoredPool(tmp_path).batch(STAGE, (1, 1))


def test_a_plan_that_needs_a_pool_says_so() -> None:
    with pytest.raises(ValueError, match="give --pool"):
        next(scene_pool.plan_batches(SMOKE_STORED, 0, 0, torch.device("cpu")))


def test_the_command_continues_a_pool(
    tmp_path: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(index: int, side: int, _: Collection) -> object:
        drawn.append(index)
        return stored_pool.unpack(ready)

    ready = tmp_path / "ready.npz"
    stored_pool.pack(stored_pool.draw(0, 128, collection), ready)
    monkeypatch.setattr(stored_pool, "draw", draw)
    folder = next(iter(collection.files["photograph"])).parents[2]
    words = [str(tmp_path / "pool"), "--images", str(folder), "--side", "128", "--scenes"]
    assert stored_pool.main([*words, "2"]) == 0
    assert stored_pool.main([*words, "3"]) == 0
    assert drawn == [0, 1, 2]
    assert len(stored_pool.StoredPool(tmp_path / "pool").files(128)) == 3


def nested_scene(*, ground_known: bool) -> Scene:
    labels = np.zeros((128, 128), np.int16)
    labels[16:112, 16:112] = 1
    labels[32:96, 32:96] = 2
    labels[48:80, 48:80] = 3
    image = (60 * labels[..., None] + np.zeros(3)).astype(np.uint8)
    return Scene(image, labels, np.array([0, 1, 1, 2], np.int16), ground_known=ground_known)


def test_targets_of_nested_objects_contain_their_parts() -> None:
    areas = [int(mask.sum()) for mask in prompts.targets(nested_scene(ground_known=True))]
    assert areas == [96**2, 64**2, 32**2]


def test_where_the_ground_is_unknown_dense_targets_are_open_and_no_prompt_lies_on_it() -> None:
    stage = Stage(1, 128, 1, 8, (0.0, 0.0), all_kinds=True)
    random = np.random.default_rng(3)
    for known in (True, False):
        scene = nested_scene(ground_known=known)
        masks = prompts.targets(scene)
        cached = cache_scene(random, scene, masks, stage, scene_pool.REQUESTS)
        dense = batches.dense_targets(cached.owners)
        assert bool(dense.isnan().any()) is not known
        if not known:
            assert dense[:, 2, 2].isnan().all()
            assert not dense[:, 16, 16].isnan().any()
            assert len(cached.coverage) <= len(masks)
            edge = dense[1, 16]  # the smallest regions have the edges that are seen
            assert edge[8] == edge[12] == edge[20] == edge[24] == 1


def test_unknown_pixels_do_not_change_the_auxiliary_loss() -> None:
    random = torch.Generator().manual_seed(1)
    owners = torch.zeros(32, 32, dtype=torch.int16)
    owners[8:20, 8:20] = 1
    dense = batches.dense_targets(owners)[None]
    predicted = torch.randn(dense.shape, generator=random)
    whole = losses.dense_loss(predicted, dense)
    half, other = dense.clone(), predicted.clone()
    half[..., 16:] = float("nan")
    other[..., 16:] = 50.0
    seen = losses.dense_loss(predicted[..., :16], dense[..., :16])
    torch.testing.assert_close(losses.dense_loss(other, half), seen)
    assert whole != seen


def test_products_are_in_bfloat16_only_where_the_processor_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for flags, dtype in (({"avx2"}, torch.float32), ({"avx2", "amx_bf16"}, torch.bfloat16)):
        monkeypatch.setattr(
            devices.environment, "instructions", lambda flags=flags: frozenset(flags)
        )
        devices.row_dtype.cache_clear()
        assert devices.row_dtype(cpu) == dtype
        with devices.autocast_bfloat16(cpu):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    devices.row_dtype.cache_clear()


def test_masks_that_cross_better_ones_are_left_out() -> None:
    masks = np.zeros((5, 64, 64), bool)
    masks[0, 8:40, 8:40] = True
    masks[1, 8:41, 8:40] = True  # the same again
    masks[2, 24:56, 24:56] = True  # crosses the first
    masks[3, 12:24, 12:24] = True  # inside
    masks[4, 44:60, 4:20] = True  # beside
    kept = self_training.without_crossings(masks)
    np.testing.assert_array_equal(kept, masks[[0, 3, 4]])
    assert len(self_training.without_crossings(masks[:0])) == 0


class _Found:
    """Masks as everything mode returns them."""

    def __init__(self, masks: np.ndarray) -> None:
        self.scores = np.linspace(0.9, 0.8, len(masks))
        self._masks = masks

    def array(self) -> np.ndarray:
        return self._masks


class _Model:
    """A network that finds the red disc and the blue bar, and a corner in one view alone."""

    def everything(self, image: np.ndarray, **_: object) -> _Found:
        channels = image.astype(int)
        red = (channels[..., 0] > 150) & (channels[..., 2] < 100)
        blue = (channels[..., 2] > 150) & (channels[..., 0] < 100)
        corner = np.zeros(red.shape, bool)
        corner[:30, :30] = True
        return _Found(np.stack([corner, red, blue]))


def test_the_network_labels_what_it_finds_in_the_mirrored_image_too() -> None:
    image, masks = constructed_images.known_regions()
    agreeing = self_training.agreeing_masks(_Model(), image)
    assert len(agreeing) == 2  # not the corner
    scene = self_training.label(np.random.default_rng(1), _Model(), image)
    assert scene is not None
    levels = regions.levels(regions.Regions(scene.labels, scene.wholes))
    for name in ("disc", "bar"):
        found = [(levels == number).any(axis=0) for number in range(1, len(scene.wholes))]
        best = max((mask & masks[name]).sum() / (mask | masks[name]).sum() for mask in found)
        assert best > 0.9, name
    assert self_training.label(np.random.default_rng(1), _Model(), np.zeros_like(image)) is None


def test_held_out_scenes_of_the_mixture_are_always_the_same(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "SIDE", 128)
    one = list(held_out.mixture_scenes(3, collection))
    assert [held.kind for held in one] == ["collage", "photograph", "medical"]
    for first, second in zip(one, held_out.mixture_scenes(2, collection), strict=False):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.boxes, second.boxes)


@pytest.mark.slow
def test_training_from_a_pool_runs_and_continues(
    pool: Path, tmp_path: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.sam_nano.depthwise.compiled", lambda: None)  # a minute
    scene = stored_pool.draw(9, 256, collection)
    stored_pool.pack(scene, pool / "256" / "000009.npz")
    weights = Path(command.__file__).parents[1] / "weights" / "sam_nano.safetensors"
    words = ["--smoke", "--pool", str(pool), "--out", str(tmp_path / "run"), "--workers", "0"]
    assert command.main([*words, "--start", str(weights)]) == 0
    assert (tmp_path / "run" / "state.pt").exists()
    assert (tmp_path / "run" / "kept" / "000000.safetensors").exists()
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert f'"step": {SMOKE_STORED.steps}' in lines[-1]
    assert command.main(words) == 0  # nothing is left to do
