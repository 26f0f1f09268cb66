"""Objects followed through volumes: rules, stops, corrections, axes, cancelling and resuming."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastseg
from fastseg import imaging, ops
from fastseg.errors import ImageError, MaskError, PromptError
from fastseg.images import read_image
from fastseg.masks import Masks
from fastseg.sam.volume_model import VolumeModel
from fastseg.timings import Timings


@dataclass(eq=False)
class Encoded:
    """A slice as the stand-in encodes it."""

    pixels: np.ndarray
    timings: Timings


class BrightPixels(VolumeModel):
    """A stand-in whose mask is every bright pixel in the box, scored by their share of all."""

    encoder_sha256 = "0" * 64
    mask_side = 256
    runs: Mapping[str, str] = {"encoder": "fake"}

    def __init__(self) -> None:
        self.embedded = 0
        self.boxes: list[np.ndarray] = []

    def embed(self, image: Any) -> Any:
        pixels = read_image(image)[..., 0]
        self.embedded += 1
        return Encoded(pixels, Timings(encode=1))

    def segment(self, image: Any, *, multimask: bool = True, boxes: Any) -> Masks:
        image = image.pixels
        boxes = np.atleast_2d(np.asarray(boxes, float))
        self.boxes.append(boxes)
        found = np.zeros((len(boxes), *image.shape), np.bool_)
        for mask, (x0, y0, x1, y1) in zip(found, np.rint(boxes).astype(int), strict=True):
            mask[y0:y1, x0:x1] = image[y0:y1, x0:x1] > 128
        scores = found.sum((1, 2)) / max(1, (image > 128).sum())
        return Masks.from_rle(
            ops.rle_from_array(found),
            scores=scores.astype(np.float32),
            stability=np.ones(len(boxes), np.float32),
        )


def ball(frames: int = 9, drift: int = 1) -> np.ndarray:
    """A bright square of 8 pixels that moves to the right, in frames 1 to the last but one."""
    volume = np.zeros((frames, 40, 60), np.uint8)
    for number in range(1, frames - 1):
        left = 10 + drift * number
        volume[number, 10:18, left : left + 8] = 200
    return volume


def tight(volume: np.ndarray, number: int) -> list[int]:
    rows, columns = np.nonzero(volume[number])
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_an_object_that_moves_is_followed_to_both_sides() -> None:
    volume = ball(drift=2)
    asked: dict[str, Any] = {"start": 4, "boxes": tight(volume, 4), "margin": 3 / 60}
    found = BrightPixels().propagate(volume, **asked, rule="box")
    np.testing.assert_array_equal(found.array()[0], volume > 128)
    assert [(one.step, one.last, one.reason) for one in found.stops] == [
        (1, 7, "empty"),
        (-1, 1, "empty"),
    ]
    assert (found.objects, len(found), found.is_complete) == (1, 9, True)
    assert found.voxels.tolist() == [7 * 64]
    assert found.millilitres is None
    assert np.isnan(found.scores[0, [0, 8]]).all()


def test_the_given_box_is_left_where_the_last_mask_scores_much_better() -> None:
    volume = ball(frames=11, drift=2)
    model = BrightPixels()
    found = model.propagate(volume, start=5, boxes=tight(volume, 5), margin=6 / 60)
    # Of the given box 6 of 8 columns are left in the next slice, then 4, which is much less.
    assert found.areas[0].tolist() == [0, 64, 64, 64, 48, 64, 48, 64, 64, 64, 0]


def test_every_slice_is_encoded_once_for_all_objects() -> None:
    volume = ball()
    volume[:, 25:33, 40:48] = 200
    model = BrightPixels()
    found = model.propagate(volume, start=4, boxes=[tight(ball(), 4), [40, 25, 48, 33]])
    assert model.embedded == found.embedded == found.timings.encode == 9
    assert found.areas[1].tolist() == [64] * 9
    assert {one.reason for one in found.stops if one.object == 1} == {"end of the volume"}


def test_one_embedding_is_held_at_a_time() -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Watched(BrightPixels):
        def embed(self, image: Any) -> Any:
            nonlocal most
            made = super().embed(image)
            alive.add(made)
            most = max(most, len(alive))
            return made

    volume = ball(frames=30, drift=0)
    found = Watched().propagate(volume, start=10, boxes=tight(volume, 10))
    assert found.embedded == 30
    assert most == 1


def test_the_rules_prompt_as_they_say() -> None:
    volume = ball(drift=3)
    box = tight(volume, 4)
    model = BrightPixels()
    model.propagate(volume, start=4, boxes=box, rule="repeat")
    assert all((one == box).all() for one in model.boxes)
    model = BrightPixels()
    found = model.propagate(volume, start=4, boxes=box, rule="box", margin=0.05)
    np.testing.assert_array_equal(model.boxes[1], [[19, 7, 33, 21]])
    assert found[5].areas[0] == 64


def test_an_area_that_jumps_ends_an_object() -> None:
    volume = ball(drift=0)
    volume[6, 8:20, 5:60] = 200
    volume[2, 10:18, 11:60] = 0
    found = BrightPixels().propagate(
        volume, start=4, boxes=tight(volume, 4), margin=0.5, rule="box", min_score=0
    )
    assert [one.reason for one in found.stops] == ["explosion", "collapse"]
    assert [one.last for one in found.stops] == [5, 3]
    assert found.stops[0].area == 12 * (48 - 5)
    assert found.stops[0].as_dict()["reason"] == "explosion"


def test_a_low_score_ends_an_object() -> None:
    volume = ball(drift=0)
    volume[6, 30:, :40] = 200
    found = BrightPixels().propagate(volume, start=4, boxes=tight(volume, 4), min_score=0.5)
    assert (found.stops[0].reason, found.stops[0].last) == ("score", 5)
    assert found.stops[0].score == pytest.approx(64 / 464)


def test_objects_may_have_names(tmp_path: Path) -> None:
    volume = ball()
    volume[:, 25:33, 40:48] = 200
    boxes = [tight(ball(), 4), [40, 25, 48, 33]]
    names = ["ball", "rod"]
    found = BrightPixels().propagate(volume, start=4, boxes=boxes, names=names)
    assert {one.names for one in found} == {("ball", "rod")}
    rows = found.save(tmp_path / "a.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[-2:]] == [["all", "ball"], ["all", "rod"]]
    with pytest.raises(PromptError, match="2 objects need as many names"):
        BrightPixels().propagate(volume, start=4, boxes=boxes, names="ball")


def test_another_brightness_ends_an_object() -> None:
    volume = ball(drift=0)
    volume[6:, 10:18, 10:18] = 175
    asked: dict[str, Any] = {"start": 4, "boxes": tight(volume, 4)}
    found = BrightPixels().propagate(volume, **asked)
    assert next((one.reason, one.last) for one in found.stops) == ("brightness", 5)
    assert BrightPixels().propagate(volume, **asked, max_shift=3).stops[0].last == 8


def test_a_correction_takes_over_half_of_the_way() -> None:
    volume = ball(frames=11, drift=0)
    volume[6:10, 25:33, 40:48] = 200
    found = BrightPixels().propagate(
        volume,
        start=3,
        boxes=tight(ball(11, 0), 3),
        corrections={8: {"boxes": [40, 25, 48, 33]}},
        rule="repeat",
    )
    rows = [one.boxes[0, 1] for one in found]
    assert rows[1:10] == [10, 10, 10, 10, 10, 25, 25, 25, 25]
    assert [one.reason for one in found.stops].count("next prompt") == 2


def test_an_object_may_begin_on_another_slice() -> None:
    volume = ball(drift=0)
    volume[6:8, 25:33, 40:48] = 200
    found = BrightPixels().propagate(
        volume,
        start=2,
        boxes=tight(volume, 2),
        corrections={6: {"boxes": [[40, 25, 48, 33]], "objects": [1]}},
    )
    assert found.areas[1].tolist() == [0] * 6 + [64, 64, 0]
    assert found.objects == 2


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_may_be_cut_across_another_axis(axis: int) -> None:
    volume = ball(drift=0)
    turned = np.moveaxis(volume, axis, 0)
    start = 14
    rows, columns = np.nonzero(turned[start])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    found = BrightPixels().propagate(volume, start=start, boxes=box, axis=axis)
    np.testing.assert_array_equal(found.array()[0], volume > 128)
    frames = found.frames()
    assert len(frames) == 9
    np.testing.assert_array_equal(frames[4].array()[0], volume[4] > 128)


def test_slices_across_rows_keep_the_scale_of_each_frame(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="DICOM files need pydicom")
    from dataclasses import replace

    image = imaging.read(ball().astype(np.int16), window=(100, 200))
    image = replace(image, slope=np.arange(1.0, 10.0))
    from fastseg.sam.volume_slices import VolumeSlices

    found = VolumeSlices.of(image, 1)[12]
    np.testing.assert_array_equal(found.values[0], image.values[:, 12])


def test_a_call_may_be_cancelled_and_continued(tmp_path: Path) -> None:
    volume, place = ball(), tmp_path / "state.npz"
    asked: dict[str, Any] = {"start": 4, "boxes": tight(volume, 4), "checkpoint": place}
    asked["rule"] = "box"
    whole = BrightPixels().propagate(volume, start=4, boxes=asked["boxes"], rule="box")
    told: list[tuple[int, int]] = []

    def three(done: int, total: int) -> bool:
        told.append((done, total))
        return done < 3

    part = BrightPixels().propagate(volume, **asked, progress=three)
    assert told == [(2, 9), (3, 9)]
    assert not part.is_complete
    assert [one.reason for one in part.stops] == ["cancelled", "cancelled"]
    assert part.voxels[0] == 3 * 64
    model = BrightPixels()
    rest = model.propagate(volume, **asked)
    assert model.embedded == whole.embedded - 3
    np.testing.assert_array_equal(rest.array(), whole.array())
    np.testing.assert_array_equal(rest.scores, whole.scores)
    assert rest.stops == whole.stops
    assert not place.exists()


def test_an_error_keeps_the_state(tmp_path: Path) -> None:
    volume, place = ball(), tmp_path / "state.npz"

    def fails(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    asked: dict[str, Any] = {"start": 4, "boxes": tight(volume, 4), "checkpoint": place}
    with pytest.raises(KeyboardInterrupt):
        BrightPixels().propagate(volume, **asked, progress=fails)
    assert place.exists()
    with pytest.raises(MaskError, match="another volume, model, prompt or setting"):
        BrightPixels().propagate(volume, **asked, margin=0.5)
    place.write_bytes(place.read_bytes()[:-50])
    with pytest.raises(MaskError, match="damaged"):
        BrightPixels().propagate(volume, **asked)


def test_the_volume_has_millilitres(tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="NIfTI files need nibabel")
    image = imaging.read(ball(), spacing=(5, 2, 1))
    found = BrightPixels().propagate(image, start=4, boxes=tight(ball(), 4), rule="box")
    assert found.millilitres == pytest.approx([7 * 64 * 0.01])
    path = found.save(tmp_path / "a.nii.gz", source=image)
    np.testing.assert_array_equal(imaging.read(path).values, ball() > 128)


def test_bad_calls_are_refused_before_any_work() -> None:
    volume = ball()
    box = tight(volume, 4)
    model = BrightPixels()
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "needs points or boxes"),
        ({"boxes": [4, 5, 4, 9]}, "reversed or empty"),
        ({"boxes": box, "corrections": {2: {"boxes": [400, 5, 440, 9]}}}, "outside the image"),
        ({"boxes": box, "start": 9}, "no slice 9"),
        ({"boxes": box, "start": -1}, "start must be"),
        ({"boxes": box, "margin": 2}, "margin"),
        ({"boxes": box, "max_change": 1}, "max_change"),
        ({"boxes": box, "max_shift": 0}, "max_shift"),
        ({"boxes": box, "rule": "guess"}, "rule"),
        ({"boxes": box, "min_score": np.nan}, "min_score"),
        ({"boxes": box, "corrections": {4: {"boxes": box}}, "start": 4}, "has prompts already"),
        ({"boxes": box, "corrections": {2: {}}}, "no prompt"),
        ({"boxes": box, "corrections": {2: {"box": box}}}, "dictionary"),
        ({"boxes": box, "corrections": {2: {"boxes": [box, box]}}}, "2 prompts for the objects"),
        ({"boxes": box, "corrections": {2: {"boxes": box, "objects": [2]}}}, "without gaps"),
    ]
    for asked, told in refused:
        with pytest.raises(PromptError, match=told):
            model.propagate(volume, **asked)
    for source, more, told in (
        (volume, {"axis": 3}, "axis"),
        (5, {}, "path or an array"),
        (volume.astype(np.int16), {}, "needs a window"),
    ):
        with pytest.raises(ImageError, match=told):
            model.propagate(source, boxes=box, **more)
    assert model.embedded == 0


def test_several_volumes_in_time_are_refused() -> None:
    from dataclasses import replace

    image = replace(imaging.read(ball(8)), volumes=2)
    with pytest.raises(ImageError, match=r"image\.volume\(0\)"):
        BrightPixels().propagate(image, boxes=[1, 1, 5, 5])
    BrightPixels().propagate(image.volume(0), boxes=[10, 5, 30, 20])


def test_a_loaded_model_gives_the_masks_of_its_own_calls(tiny_model: fastseg.Sam) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (5, 24, 32)).astype(np.uint8)
    boxes = [[4, 5, 20, 18], [1, 1, 9, 9]]
    points = [[[10, 10], [12, 12]], [[4, 4], [5, 5]]]
    for rule in ("best", "box", "logits", "repeat"):
        found = tiny_model.propagate(
            volume, start=2, boxes=boxes, points=points, rule=rule, min_score=-1e9, max_change=1e9
        )
        first = tiny_model.segment(volume[2], boxes=boxes, points=points).best()
        np.testing.assert_array_equal(found[2].array(), first.array())
        assert found.timings.encode > 0
    cache = fastseg.EmbeddingCache()
    asked: dict[str, Any] = {"boxes": boxes, "min_score": -1e9, "max_change": 1e9, "cache": cache}
    one, two = (tiny_model.propagate(volume, **asked) for _ in range(2))
    np.testing.assert_array_equal(one.array(), two.array())
    assert cache.statistics.hits > 0
