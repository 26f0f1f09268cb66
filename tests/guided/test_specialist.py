"""Networks with a box channel draw the masks that their descriptions, written plainly, draw."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="exports need torch")

from torch.nn import functional

import fastseg
from fastseg.artifacts.guidance import TILES, Z_SCORE, BoxPreprocessing
from fastseg.cli.root import run
from fastseg.errors import ImageError, PromptError
from fastseg.evaluation import Boxes, evaluate, read_dataset
from fastseg.guided.box_map import box_map
from fastseg.guided.resizing import resize_bilinear
from fastseg.guided.tiles import average_tiles, tile_starts, tile_weights
from fastseg.sam.resizing import resize_area
from fastseg.testing import tiny_sam_folder
from fastseg.validation.synthetic import scenes
from tests.helpers.medsam_rules import with_medsam_rules
from tests.helpers.tiny_specialist import Filter, write_tiny_specialist

STRETCHED = BoxPreprocessing((48, 48))
TILED = BoxPreprocessing((64, 64), TILES, Z_SCORE, Z_SCORE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("specialists")
    grey = replace(TILED, channels=1)
    return {
        "stretched": write_tiny_specialist(base / "stretched", STRETCHED),
        "tiled": write_tiny_specialist(base / "tiled", TILED),
        "grey": write_tiny_specialist(base / "grey", grey),
    }


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return scenes([11])[0][::4, ::4].copy()  # 120 x 160


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def test_a_stretched_image_gives_the_mask_of_the_plain_steps(folders, image):
    box = np.array([30.0, 20, 110, 90])
    small = resize_area(image, (48, 48)).astype(np.float32)
    small = (small - small.min()) / (small.max() - small.min())
    channel = np.zeros((1, 1, 48, 48), np.float32)
    # 30 * 48 / 160 = 9, 110 * 48 / 160 = 33; 20 * 48 / 120 = 8, 90 * 48 / 120 = 36.
    channel[0, 0, 8:36, 9:33] = 1
    inputs = torch.from_numpy(small).permute(2, 0, 1)[None], torch.from_numpy(channel)
    with torch.inference_mode():
        logits = functional.interpolate(Filter(4)(*inputs), (120, 160), mode="bilinear")[0, 0]
    expected = probabilities(logits.numpy())
    with fastseg.load(folders["stretched"]) as model:
        masks = model.segment(image, boxes=box)
        assert masks.names is None
    assert 0 < masks.areas[0] < expected.size
    assert np.mean(masks.array()[0] != (expected > 0.5)) <= 1e-4
    inside = expected > 0.5
    score = expected[inside].sum() / (inside.sum() + expected[~inside].sum())
    assert masks.scores[0] == pytest.approx(score, abs=1e-4)


def plainly_tiled(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The logits of nnU-Net's steps: crop, z-score, pad, tiles with Gaussian weights, uncrop."""
    x0, y0, x1, y1 = box
    maps = np.zeros((4, *image.shape[:2]))
    maps[:3], maps[3, y0:y1, x0:x1] = np.moveaxis(image, 2, 0), 1
    rows, columns = np.where(maps.any(0))
    cut = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    part = np.stack([one[cut] for one in maps])
    part = np.stack([(one - one.mean()) / max(one.std(), 1e-8) for one in part])
    height, width = part.shape[1:]
    low = [max(64 - height, 0) // 2, max(64 - width, 0) // 2]
    high = [max(64 - height, 0) - low[0], max(64 - width, 0) - low[1]]
    part = np.pad(part, [(0, 0), (low[0], high[0]), (low[1], high[1])])
    total, weight = np.zeros(part.shape[1:]), np.zeros(part.shape[1:])
    place = np.arange(64) - 32
    gaussian = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 8**2))
    starts = []
    for length in part.shape[1:]:
        count = int(np.ceil((length - 64) / 32)) + 1
        starts.append([round(i * (length - 64) / max(count - 1, 1)) for i in range(count)])
    for row in starts[0]:
        for column in starts[1]:
            at = np.s_[row : row + 64, column : column + 64]
            tile = torch.from_numpy(np.stack([one[at] for one in part])[None]).float()
            with torch.inference_mode():
                found = Filter(4)(tile[:, :3], tile[:, 3:])[0, 0].numpy()
            total[at] += gaussian * found
            weight[at] += gaussian
    logits = np.full(image.shape[:2], -80.0)
    logits[cut] = (total / weight)[low[0] : low[0] + height, low[1] : low[1] + width]
    return logits


@pytest.mark.parametrize("border", [0, 10, 48])
def test_tiles_give_the_mask_of_the_plain_steps(folders, image, border):
    seen = image.copy()
    if border:
        seen[:border], seen[-border:] = 0, 0
    box = (30, 50, 110, 70)
    expected = probabilities(plainly_tiled(seen, box)) > 0.5
    with fastseg.load(folders["tiled"]) as model:
        masks = model.segment(seen, boxes=box)
    assert 0 < masks.areas[0] < expected.size
    assert np.mean(masks.array()[0] != expected) <= 1e-4


def test_tiles_start_evenly_and_reach_the_end():
    assert tile_starts(64, 64, 0.5) == [0]
    assert tile_starts(65, 64, 0.5) == [0, 1]
    assert tile_starts(160, 64, 0.5) == [0, 32, 64, 96]
    assert tile_starts(150, 64, 0.5) == [0, 29, 57, 86]


def test_weights_of_a_tile_are_largest_in_its_middle():
    weights = tile_weights(64)
    assert weights.argmax() == 32
    assert weights[32 + 8] == pytest.approx(np.exp(-0.5))
    constant = average_tiles(
        np.ones((1, 100, 70), np.float32), (64, 64), 0.5, lambda tile: 3 * tile[0]
    )
    assert constant == pytest.approx(np.full((100, 70), 3.0), abs=1e-5)


def test_the_box_is_cut_to_pixels_and_never_vanishes():
    box = box_map(np.array([[10.7, 20.2], [30.9, 40]]), (100, 100), (100, 100))
    rows, columns = np.where(box[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 39, 10, 29)
    assert box_map(np.array([[99.2, 5], [99.4, 5.5]]), (100, 100), (10, 10)).sum() == 1
    assert box_map(np.array([[-50.0, -5], [500, 500]]), (100, 100), (10, 10)).all()


@pytest.mark.parametrize("size", [(120, 160), (5, 3), (1, 1)])
def test_resizing_with_edges_on_edges_is_that_of_torch(size):
    plane = np.random.default_rng(0).random((48, 40), np.float32)
    expected = functional.interpolate(torch.from_numpy(plane)[None, None], size, mode="bilinear")
    assert np.abs(resize_bilinear(plane, size) - expected[0, 0].numpy()).max() <= 1e-6


def test_points_are_refused_with_what_the_model_takes(folders, image):
    with fastseg.load(folders["stretched"]) as model:
        for given in ({"points": [[3, 4]]}, {"mask_logits": np.zeros((4, 4))}):
            with pytest.raises(PromptError, match="It takes boxes"):
                model.segment(image, **given)
        with pytest.raises(PromptError, match="not trained for points"):
            model.everything(image)
        with pytest.raises(PromptError, match=r"needs prompts.*takes boxes"):
            model.segment(image)
        assert len(model.segment(image, boxes=[[1, 2, 30, 40], [50, 60, 90, 99]])) == 2


def test_a_grey_model_refuses_colours(folders, image):
    with fastseg.load(folders["grey"]) as model:
        assert len(model.segment(image[..., 0], boxes=[3, 4, 99, 99])) == 1
        with pytest.raises(ImageError, match="trained on grey images"):
            model.segment(image, boxes=[3, 4, 99, 99])


@pytest.fixture
def data(image, tmp_path) -> Path:
    """The image with one object, rows 30 to 79 and columns 40 to 89."""
    folder = tmp_path / "data"
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True)
    truth = np.zeros(image.shape[:2], np.uint8)
    truth[30:80, 40:90] = 1
    Image.fromarray(image).save(folder / "images" / "a.png")
    Image.fromarray(truth).save(folder / "masks" / "a.png")
    return folder


def test_boxes_put_sam_and_specialists_side_by_side(folders, data, tmp_path):
    dataset = read_dataset(data)
    protocol = Boxes(margins=(5.0,), margin_unit="model", slots=("first",))
    boxes = {}
    for path in (tiny_sam_folder(tmp_path / "sam"), folders["stretched"], folders["tiled"]):
        with fastseg.load(path) as model:
            outcome = evaluate(protocol, dataset, model)
        assert not outcome.faults
        boxes[path.name] = outcome.rows[0].prompt[0]
    # 5 pixels of 48 are 160 / 48 * 5 in the image; a model without a square counts in the image's.
    assert boxes["stretched"] == pytest.approx([40 - 50 / 3, 30 - 50 / 3, 89 + 50 / 3, 79 + 50 / 3])
    assert boxes["tiled"] == [35, 25, 94, 84]


def test_one_command_puts_sam_medsam_and_specialists_side_by_side(folders, image, data, tmp_path):
    models = [
        tiny_sam_folder(tmp_path / "sam"),
        with_medsam_rules(tiny_sam_folder(tmp_path / "medsam")),
        folders["stretched"],
        folders["tiled"],
    ]
    out = tmp_path / "out"
    words = [word for model in models for word in ("--model", str(model))]
    told = ["evaluate", "boxes", str(data), *words, "--slot", "first", "--no-page"]
    assert run([*told, "--out", str(out)]) == 0
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "margin 0"]
    truth = np.zeros(image.shape[:2], bool)
    truth[30:80, 40:90] = True
    for path, row in zip(models, rows, strict=True):
        with fastseg.load(path) as model:
            drawn = model.segment(image, boxes=[40, 30, 89, 79], multimask=True).array()[0]
        assert float(row["iou"]) == pytest.approx((drawn & truth).sum() / (drawn | truth).sum())
