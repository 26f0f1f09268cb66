"""Label-free adaptation: weak labels against published ones, limits, rounds, the whole command."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("safetensors", reason="training needs safetensors")
pytest.importorskip("skimage", reason="weak labels need scikit-image")
pytest.importorskip("scipy", reason="weak labels need scipy")

import fastseg  # noqa: E402
from fastseg import ops  # noqa: E402
from fastseg.errors import ImageError, ModelError, ModelFolderError  # noqa: E402
from fastseg.export.folders import Card  # noqa: E402
from fastseg.export.unet import write_unet_folder  # noqa: E402
from fastseg.export.unet_network import UNet  # noqa: E402
from fastseg.testing import tiny_unet_folder  # noqa: E402
from training.echo import (  # noqa: E402
    adapt,
    adaptation,
    bilateral,
    donuts,
    four_chambers,
    labelling,
    own_frames,
    self_learning,
    starting_weights,
    weak_labels,
)
from training.echo.acceptance import CM_PER_PIXEL, refusal  # noqa: E402
from training.echo.heart import CLASSES  # noqa: E402
from training.echo.losses import soft_dice  # noqa: E402
from training.echo.self_learning import Examples, Schedule  # noqa: E402

SIDE = weak_labels.SIDE
ROWS, COLUMNS = np.indices((SIDE, SIDE))


def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return ((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 < 1


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def cleaned(masks: np.ndarray, view: str = "a2c") -> np.ndarray:
    return labelling.clean(masks[None].astype(np.float32), view)[0]


def seen(frame: np.ndarray) -> np.ndarray:
    """Luma as a network sees it."""
    luma: np.ndarray = ops.frame_input(np.ascontiguousarray(frame), (0, 0, SIDE, SIDE), SIDE)[0]
    return luma


def drawn_heart(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Grainy tissue around a dark ventricle above a dark atrium: uint8 frame, (3, h, w) truth."""
    middle = 128 + random.uniform(-15, 15)
    ventricle = ellipse(95 + random.uniform(-5, 5), middle, 36, 20 + random.uniform(-2, 2))
    atrium = ellipse(178 + random.uniform(-5, 5), middle, 26 + random.uniform(-2, 2), 19)
    tissue = ellipse(130, 128, 110, 100)
    luma = np.where(tissue, 120.0, 60.0) + random.normal(0, 3, tissue.shape)
    luma[ventricle | atrium] = 5
    return luma.clip(0, 255).astype(np.uint8), np.stack([ventricle | atrium, atrium, ventricle])


def save_hearts(folder, count: int, patients: int = 5) -> None:
    random = np.random.default_rng(7)
    for number in range(count):
        patient = folder / f"patient{number % patients}"
        patient.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn_heart(random)[0]).save(patient / f"{number}.png")


@pytest.fixture(scope="module")
def two_chamber_examples(echo_examples):
    """Our label and the published one of each example, both cleaned, and its measurements."""
    found = []
    for path in sorted(echo_examples.glob("A2C_EX*.npz")):
        stored = np.load(path)
        ours = cleaned(weak_labels.two_chambers(seen(stored["image"])))
        published = cleaned(stored["watershed"].transpose(2, 0, 1).astype(bool))
        found.append((ours, published, dict(zip(stored["qc_names"], stored["qc"], strict=True))))
    assert len(found) == 10
    return found


@pytest.fixture(scope="module")
def four_chamber_examples(echo_examples):
    """Published labels before and after the stretch, (5, h, w), and measurements of the former."""
    found = []
    for path in sorted(echo_examples.glob("A4C_EX*.npz")):
        stored = np.load(path)
        before, after = (
            np.ascontiguousarray(stored[name].transpose(2, 0, 1).astype(bool))
            for name in ("step1", "step1_stretched")
        )
        found.append((before, after, dict(zip(stored["qc_names"], stored["qc"], strict=True))))
    assert len(found) == 10
    return found


def test_watershed_labels_are_the_published_ones(two_chamber_examples):
    agreement = [
        dice(ours[chamber], published[chamber])
        for ours, published, _ in two_chamber_examples
        for chamber in (1, 2)
    ]
    assert len(agreement) == 20
    assert sum(value >= 0.95 for value in agreement) >= 18, agreement


def test_real_labels_measure_what_was_published_and_are_accepted(
    two_chamber_examples, four_chamber_examples
):
    labels = [("a2c", label, values) for _, label, values in two_chamber_examples]
    labels += [("a4c", label, values) for label, _, values in four_chamber_examples]
    for view, label, published in labels:
        chambers = dict(zip(CLASSES[view], label, strict=True))
        assert refusal(view, chambers) is None
        del chambers["union"]
        shapes = ops.measure_shapes(np.stack(list(chambers.values())), "source")
        for name, area, eccentricity, length in zip(
            chambers, shapes.areas, shapes.eccentricity, shapes.lengths, strict=True
        ):
            assert area * CM_PER_PIXEL**2 == pytest.approx(published[f"{name}_A_seg"])
            assert eccentricity == pytest.approx(published[f"ecc_{name}"])
            assert length * CM_PER_PIXEL == pytest.approx(published[f"{name}_L_seg"])


def test_short_right_ventricles_are_stretched_as_published(four_chamber_examples):
    changed = 0
    for before, after, _ in four_chamber_examples:
        stretched = four_chambers.stretch_right_ventricle(before)
        np.testing.assert_array_equal(stretched[:4], after[:4])
        # A row that falls on a boundary is rounded otherwise in one of the ten.
        assert np.count_nonzero(stretched[4] != after[4]) <= 2
        changed += bool((before[4] != after[4]).any())
    assert changed == 8


def test_real_rings_are_as_thick_as_ours_may_be(echo_examples):
    from scipy import ndimage

    thickness = []
    for path in sorted(echo_examples.glob("SAX_EX*.npz")):
        cavity, ring, _ = np.load(path)["donut"].transpose(2, 0, 1).astype(bool)
        thickness.append(ndimage.distance_transform_edt(~cavity)[ring].max())
    low, high = (donuts.INWARD[end] + donuts.OUTWARD[end] for end in (0, 1))
    assert len(thickness) == 10
    # Steps of a small disk add up to a little more than its radius.
    assert low <= min(thickness)
    assert max(thickness) <= high + 2


@pytest.mark.parametrize("seed", [1, 2])
def test_the_blur_is_what_its_definition_says(seed):
    luma = np.random.default_rng(seed).random((24, 31))
    weights = bilateral.place_weights(2.0)
    padded = np.pad(luma, weights.shape[0] // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape)
    nearness = weights * np.exp(-((windows - luma[..., None, None]) ** 2) / (2 * 0.25**2))
    expected = (nearness * windows).sum(axis=(2, 3)) / nearness.sum(axis=(2, 3))
    blurred = bilateral.blur(luma, brightness=0.25, place=2.0)
    np.testing.assert_allclose(blurred, expected, atol=1e-6)


def test_the_blur_has_the_weights_of_the_published_one():
    restoration = pytest.importorskip("skimage.restoration")
    luma = np.random.default_rng(3).random((40, 40))
    published = restoration.denoise_bilateral(luma, sigma_color=0.25, sigma_spatial=4)
    # Its table of weights has steps; the shear alone would make a difference of 0.2.
    np.testing.assert_allclose(bilateral.blur(luma, brightness=0.25, place=4), published, atol=2e-3)


def test_dark_chambers_of_a_drawn_heart_are_found_and_told_apart():
    frame, truth = drawn_heart(np.random.default_rng(1))
    found = cleaned(weak_labels.two_chambers(seen(frame[..., None])))
    assert dice(found[1], truth[1]) > 0.9
    assert dice(found[2], truth[2]) > 0.9
    np.testing.assert_array_equal(found[0], found[1] | found[2])


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_frame_that_shows_nothing_gets_an_empty_label(level):
    assert not weak_labels.two_chambers(np.full((SIDE, SIDE), level)).any()


def test_sides_of_the_heart_are_told_apart_by_where_they_lie():
    atria = ellipse(190, 90, 20, 18) | ellipse(190, 170, 24, 20) | ellipse(30, 30, 3, 3)
    ventricles = ellipse(110, 95, 30, 15) | ellipse(105, 165, 45, 20)
    four = four_chambers.split_sides(np.stack([atria | ventricles, atria, ventricles]))
    assert dice(four[four_chambers.LA], ellipse(190, 170, 24, 20)) > 0.98
    assert dice(four[four_chambers.RA], ellipse(190, 90, 20, 18)) > 0.98
    assert dice(four[four_chambers.LV], ellipse(105, 165, 45, 20)) > 0.98
    assert dice(four[four_chambers.RV], ellipse(110, 95, 30, 15)) > 0.98
    np.testing.assert_array_equal(four[0], four[1:].any(axis=0))


def test_one_atrium_alone_is_no_four_chamber_label():
    atria = ellipse(190, 170, 24, 20)
    ventricles = ellipse(110, 95, 30, 15) | ellipse(105, 165, 45, 20)
    assert four_chambers.split_sides(np.stack([atria | ventricles, atria, ventricles])) is None


def four(right_ventricle: np.ndarray) -> np.ndarray:
    left = ellipse(105, 165, 45, 20)
    atria = ellipse(200, 165, 20, 20), ellipse(200, 90, 20, 20)
    chambers = [atria[0], left, atria[1], right_ventricle]
    return np.stack([np.logical_or.reduce(chambers), *chambers])


def test_a_short_right_ventricle_grows_towards_the_apex_only():
    short = ellipse(130, 90, 20, 14)
    rows = np.flatnonzero(four_chambers.stretch_right_ventricle(four(short))[4].any(axis=1))
    before = np.flatnonzero(short.any(axis=1))
    assert rows[-1] == before[-1]
    assert len(rows) == pytest.approx(len(before) * (1 + 20 / 45), abs=3)


def test_a_right_ventricle_at_the_upper_border_stays_in_the_frame():
    stretched = four_chambers.stretch_right_ventricle(four(ellipse(20, 90, 20, 14)))
    assert stretched.shape == (5, SIDE, SIDE)
    assert stretched[4, 0].any()
    assert not stretched[4, 40:].any()


def test_a_long_right_ventricle_is_left_alone():
    label = four(ellipse(105, 90, 40, 14))
    np.testing.assert_array_equal(four_chambers.stretch_right_ventricle(label), label)


@pytest.mark.parametrize(
    ("atrium", "ventricle", "reason"),
    [
        (ellipse(190, 130, 22, 22), ellipse(100, 130, 40, 22), "LA: shape out of bounds"),
        (ellipse(190, 130, 26, 20), ellipse(100, 130, 8, 6), "LV: area out of bounds"),
        (ellipse(190, 130, 26, 20), np.zeros((SIDE, SIDE), bool), "LV: not found"),
        (ellipse(190, 130, 26, 20), ellipse(100, 130, 40, 22), None),
    ],
)
def test_a_label_is_refused_for_a_reason_in_words(atrium, ventricle, reason):
    assert refusal("a2c", {"LA": atrium, "LV": ventricle}) == reason


@pytest.mark.parametrize("seed", range(4))
def test_a_donut_is_a_ring_of_allowed_thickness_about_its_cavity(seed):
    found = ellipse(128, 128, 40, 40)
    cavity, ring, disc = donuts.donut(found, np.random.default_rng(seed))
    assert not (cavity & ring).any()
    np.testing.assert_array_equal(cavity | ring, disc)
    radii = [float(np.sqrt(mask.sum() / np.pi)) for mask in (cavity, disc)]
    assert 34 < radii[0] < 38
    assert 45 < radii[1] < 54


class Teacher:
    """Answers every frame with the same probabilities."""

    def __init__(self, *channels: np.ndarray) -> None:
        self.answer = np.stack(channels).astype(np.float32)

    def probabilities(self, paths, *, cm_per_pixel=None):
        return np.stack([self.answer] * len(paths))


def test_a_teacher_labels_every_frame_of_a_folder(tmp_path):
    save_hearts(tmp_path, 3)
    cavity = ellipse(128, 128, 40, 40) * 0.45
    frames = own_frames.find(tmp_path, channels=1)
    labels = labelling.collect(labelling.by_teacher(frames, "sax", Teacher(cavity, cavity, cavity)))
    assert labels.frames == (0, 1, 2)
    atria = ellipse(190, 90, 26, 20) | ellipse(190, 170, 26, 20)
    ventricles = ellipse(110, 95, 30, 15) | ellipse(105, 165, 45, 20)
    both = Teacher(atria | ventricles, atria, ventricles)
    labels = labelling.collect(labelling.by_teacher(frames, "a4c", both))
    assert labels.frames == (0, 1, 2)
    left_only = Teacher(atria | ventricles, atria, ellipse(105, 165, 45, 20))
    labels = labelling.collect(labelling.by_teacher(frames, "a4c", left_only))
    assert labels.refused == {"no atrium and ventricle on both sides": 3}


def test_packed_labels_come_back_as_they_were():
    label = np.random.default_rng(0).random((3, SIDE, SIDE)) < 0.5
    labels = labelling.collect(["LV: not found", label])
    assert labels.frames == (1,)
    assert labels.refused == Counter({"LV: not found": 1})
    np.testing.assert_array_equal(labels[0], label)


def test_a_frame_in_which_the_network_misses_a_chamber_keeps_its_label():
    heart = drawn_heart(np.random.default_rng(0))[1]
    atrium_missed = heart * np.array([1, 0, 1])[:, None, None]
    batches = [np.stack([heart, atrium_missed]), atrium_missed[None]]
    weak = labelling.collect(["LV: not found", np.roll(heart, 9, axis=2), "LV: not found"])
    own = labelling.by_itself((batch.astype(np.float32) for batch in batches), "a2c", weak)
    labels = labelling.collect(own)
    assert labels.frames == (0, 1)
    assert labels.refused == {"LA: not found": 1}
    np.testing.assert_array_equal(labels[0], cleaned(heart))
    np.testing.assert_array_equal(labels[1], weak[0])


def blank_labels(count: int) -> labelling.Labels:
    return labelling.collect(np.zeros((3, SIDE, SIDE), bool) for _ in range(count))


def test_frames_of_a_patient_stay_on_one_side_of_the_split():
    groups = [f"patient{number % 7}" for number in range(70)]
    parts = self_learning.split(blank_labels(70), groups, Schedule(), share=1.0)
    sides = [{groups[place] for place in part} for part in (parts.training, parts.validation)]
    assert not sides[0] & sides[1]
    assert len(parts.training) + len(parts.validation) == 70
    assert 14 <= len(parts.validation) <= 24


def test_the_first_round_sees_a_share_of_the_frames():
    groups = [str(number) for number in range(100)]
    parts = self_learning.split(blank_labels(100), groups, Schedule(), share=0.3)
    assert (len(parts.training), len(parts.validation)) == (24, 6)
    assert self_learning.split(blank_labels(100), groups, Schedule(), share=0.3) == parts


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_labels_are_refused_in_words(count):
    with pytest.raises(ImageError, match="Give more frames"):
        self_learning.split(blank_labels(count), ["one"] * count, Schedule(), share=1.0)


def test_learning_leaves_the_network_of_its_best_epoch(tmp_path):
    save_hearts(tmp_path, 3)
    frames = own_frames.find(tmp_path, channels=3)
    random = np.random.default_rng(7)
    labels = labelling.collect(drawn_heart(random)[1] for _ in range(3))
    torch.manual_seed(0)
    network = UNet(3, 3, width=2)
    # Far too fast, so that the last epoch is not the best.
    schedule = Schedule(batch=1, rate=0.1)
    kept_back = Examples(frames, labels, [2])
    curve = self_learning.learn(network, (Examples(frames, labels, [0, 1]), kept_back), schedule, 4)
    frame, target = kept_back[0]
    with torch.no_grad():
        loss = 1 - float(soft_dice(network(frame[None]).sigmoid(), target[None]).mean())
    assert len(curve) == 4
    assert loss == pytest.approx(min(epoch.validation for epoch in curve), abs=1e-6)


def test_a_folder_is_searched_for_pictures_and_patients(tmp_path):
    save_hearts(tmp_path, 4, patients=2)
    (tmp_path / "notes.txt").write_text("nothing")
    frames = own_frames.find(tmp_path, channels=3)
    assert len(frames) == 4
    assert len(set(frames.groups)) == 2
    assert frames[0].shape == (3, SIDE, SIDE)
    assert len(own_frames.find(tmp_path, channels=3, most=3)) == 3
    assert len(set(own_frames.find(tmp_path / "patient0", channels=1).groups)) == 2


def test_a_damaged_picture_is_named_before_work_begins(tmp_path):
    save_hearts(tmp_path, 1)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        own_frames.find(tmp_path, channels=3)


def test_a_folder_without_pictures_is_refused_in_words(tmp_path):
    with pytest.raises(ImageError, match="holds no picture"):
        own_frames.find(tmp_path, channels=3)
    with pytest.raises(ImageError, match="not a folder"):
        own_frames.find(tmp_path / "nowhere", channels=3)


@pytest.mark.parametrize(("view", "reason"), [("a4c", "takes prompts"), ("sax", "is for a2c")])
def test_a_teacher_for_something_else_is_refused(tmp_path, view, reason):
    save_hearts(tmp_path / "frames", 1)
    teacher = "sam-nano" if view == "a4c" else str(tiny_unet_folder(tmp_path / "teacher"))
    task = adaptation.Task(
        view, tmp_path / "frames", tmp_path / "out", tmp_path / "run", teacher=teacher
    )
    with pytest.raises(ModelError, match=reason):
        adaptation.adapt(task, print)
    assert not (tmp_path / "out").exists()


def test_learning_starts_from_a_model_folder_as_from_its_weights(tmp_path):
    torch.manual_seed(1)
    known = UNet(1, 3, width=8)
    for name, parameter in known.named_parameters():
        if name.startswith("down"):  # the other biases stay zero, which an export leaves out
            parameter.data = parameter.data + 0.01
        parameter.data = parameter.data.half().float()
    torch.save(known.state_dict(), tmp_path / "weights.pt")
    write_unet_folder(known, tmp_path / "model", "sax", Card("model"), store="float16")
    for start in ("weights.pt", "model"):
        found = starting_weights.network(str(tmp_path / start), "sax").state_dict()
        for name, weight in known.state_dict().items():
            assert torch.equal(found[name], weight), name


def test_learning_does_not_start_from_another_view(tmp_path):
    folder = tiny_unet_folder(tmp_path / "model")
    with pytest.raises(ModelFolderError, match="no network for sax"):
        starting_weights.network(str(folder), "sax")
    with pytest.raises(ModelFolderError, match="does not name its weights"):
        starting_weights.network(str(folder), "a2c")


def test_the_command_goes_from_frames_to_a_model_that_runs(tmp_path, capsys):
    save_hearts(tmp_path / "frames", 5)
    out = tmp_path / "mine"
    command = [str(tmp_path / "frames"), "--view", "a2c", "--out", str(out), "--smoke"]
    assert adapt.main(command) == 0
    assert "Research use only" in capsys.readouterr().out
    report = json.loads((tmp_path / "mine-run" / "report.json").read_text())
    assert [done["labelled"] for done in report["rounds"]] == [5, 5]
    for name in ("labels1.png", "labels2.png", "round1.safetensors", "round2.safetensors"):
        assert (tmp_path / "mine-run" / name).exists()
    with fastseg.load(out) as model:
        assert model.view == "a2c"
        assert model.segment(tmp_path / "frames" / "patient0" / "0.png").names == ("LA", "LV")


def test_the_command_tells_why_it_cannot(tmp_path, capsys):
    assert adapt.main([str(tmp_path), "--view", "a2c", "--out", str(tmp_path / "mine")]) == 1
    assert "holds no picture" in capsys.readouterr().err
