"""Protocol ``adapter``: masks without a prompt, by class, and models that do not fit it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.cli.root import run
from fastseg.errors import MaskError, PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.protocols import Adapter
from fastseg.masks import Masks
from fastseg.testing import tiny_unet_folder

SIZE = (20, 30)


def part(x0, y0, x1, y1, size=SIZE):
    mask = np.zeros(size, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


class Unprompted:
    """A network for frames that draws what a test writes down."""

    def __init__(self, *masks, names=None, side=40):
        self.masks, self.names = masks, names
        self.seen = []
        self.manifest = SimpleNamespace(name="unprompted", side=side)

    def segment(self, image, *, cm_per_pixel=None):
        self.seen.append((image.shape, cm_per_pixel))
        scores = np.linspace(0.5, 0.9, len(self.masks)).astype(np.float32)
        runs = ops.rle_from_array(np.stack(self.masks))
        stability = np.ones(len(self.masks), np.float32)
        return Masks.from_rle(runs, scores=scores, stability=stability, names=self.names)


def example(*truths, spacing=None):
    image = np.zeros((*SIZE, 3), np.uint8)
    named = tuple(
        Truth(task, f"{task} {number}", mask, mask) for number, (task, mask) in enumerate(truths)
    )
    return LoadedExample("an image", "", image, spacing, named, ())


def test_objects_of_a_class_are_one_and_have_the_only_mask():
    left, right = part(2, 2, 6, 6), part(10, 2, 14, 6)
    model = Unprompted(part(2, 2, 14, 6))
    (row,) = Adapter().score(example(("vessel", left), ("vessel", right)), model, 0).rows
    assert (row.task, row.variant, row.slot, row.pixels) == ("vessel", "no prompt", "only", 32)
    assert row.scores == {"iou": 32 / 48, "dice": 64 / 80}
    assert row.prompt == []
    assert row.predicted == [0.5]


def test_masks_with_names_are_scored_by_class():
    la, lv = part(1, 1, 5, 5), part(8, 1, 12, 5)
    model = Unprompted(lv, la, names=("LA", "LV"))  # each in the other's place
    rows = Adapter().score(example(("lv", lv), ("LA", la)), model, 0).rows
    assert [(row.task, row.chosen, row.scores["iou"]) for row in rows] == [
        ("lv", [1], 0.0),
        ("LA", [0], 0.0),
    ]
    only = Adapter(classes=("LA",)).score(example(("lv", lv), ("LA", la)), model, 0).rows
    assert [row.task for row in only] == ["LA"]


def test_a_class_without_a_mask_is_refused_by_name():
    model = Unprompted(part(0, 0, 4, 4), names=("LV",))
    with pytest.raises(MaskError, match=r"draws LV, and the truth is of the class liver.*--class"):
        Adapter().score(example(("liver", part(0, 0, 4, 4))), model, 0)


def test_one_mask_for_two_classes_is_refused_unless_one_is_named():
    given = example(("cup", part(0, 0, 4, 4)), ("disc", part(8, 8, 12, 12)))
    model = Unprompted(part(0, 0, 4, 4))
    with pytest.raises(MaskError, match="2 classes: cup, disc"):
        Adapter().score(given, model, 0)
    (row,) = Adapter(classes=("cup",)).score(given, model, 0).rows
    assert row.scores["iou"] == 1


def test_the_models_square_compares_there_and_reports_in_the_image():
    truth = part(0, 0, 15, 10)  # a quarter of the image, so a quarter of the square
    model = Unprompted(part(0, 0, 20, 20, (40, 40)))
    (row,) = Adapter(resolution="model").score(example(("vessel", truth)), model, 0).rows
    assert model.seen == [((40, 40, 3), None)]
    assert row.scores["iou"] == 1
    drawn = ops.rle_to_array(ops.rle_from_strings([row.mask.encode("ascii")], SIZE))[0]
    assert np.array_equal(drawn, truth)


def test_the_size_of_a_pixel_reaches_a_network_for_frames():
    model = Unprompted(part(0, 0, 4, 4))
    Adapter().score(example(("LV", part(0, 0, 4, 4)), spacing=(0.5, 0.5)), model, 0)
    assert model.seen[0][1] == 0.05


def test_a_model_that_takes_prompts_is_refused():
    with (
        fastseg.load("sam-nano") as model,
        pytest.raises(PromptError, match="evaluate points, centroid or boxes"),
    ):
        Adapter().score(example(("vessel", part(0, 0, 4, 4))), model, 0)


def test_a_word_that_no_switch_has_is_refused():
    with pytest.raises(PromptError, match="resolution must be one of image, model"):
        Adapter(resolution="screen")


def test_a_network_for_frames_is_evaluated_by_the_command(tmp_path, capsys):
    for module in ("jinja2", "matplotlib"):
        pytest.importorskip(module, reason="the page needs the extra report")
    from PIL import Image

    for inside in ("images", "masks"):
        (tmp_path / "data" / inside).mkdir(parents=True)
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "data" / "images" / "a.png")
    for name in ("LA", "LV"):
        mask = Image.fromarray(part(10, 10, 40, 40, (64, 64)).astype(np.uint8) * 255)
        mask.save(tmp_path / "data" / "masks" / f"a_{name}.png")
    folder = tiny_unet_folder(tmp_path / "tiny")
    words = ["evaluate", "adapter", str(tmp_path / "data"), "--model", str(folder)]
    out = tmp_path / "out"
    assert run([*words, "--out", str(out)]) == 0
    assert "classes all; resolution image" in (out / "report.html").read_text()
    printed = capsys.readouterr().out
    assert "no prompt" in printed
    assert "Prompts: none." in printed
    assert run([*words[:3], "--model", "sam-nano"]) == 1
    assert "adapter gives no prompt" in capsys.readouterr().err


def test_a_published_figure_stands_beside_the_dataset_of_its_name():
    from fastseg.evaluation.published import figures

    found = {(one.task, one.score): one.value for one in figures("adapter")}
    assert found["DRIVE", "dice"] == 0.7733
    assert found["STARE", "iou"] == 0.6252
    assert len(found) == 8
