"""Protocols prompt, choose and score as their studies say, by hand on scripted models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import MaskError, PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.protocols import Boxes, Centroid, Everything, Modes, Phases, Points
from fastseg.evaluation.protocols.boxes import ELLIPSE, resolve
from tests.fakes.scripted_model import ScriptedModel

SIZE = (20, 30)


def part(x0, y0, x1, y1):
    mask = np.zeros(SIZE, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def example(*truths, spacing=None, labelled=None):
    image = np.zeros((*SIZE, 3), np.uint8)
    named = tuple(
        Truth(f"task {number}", f"object {number}", mask, mask if labelled is None else labelled)
        for number, mask in enumerate(truths)
    )
    return LoadedExample("an image", "", image, spacing, named, ())


def always(*masks, scores=(0.5, 0.9, 0.1)):
    return ScriptedModel(lambda prompt: (np.stack(masks), list(scores)))


def by(rows, **wanted):
    return [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]


# points


TRUTH = part(4, 4, 13, 13)  # 81 pixels, its middle is (8, 8)


def test_each_point_lies_in_the_deepest_error_of_the_mask_before():
    half = part(4, 4, 13, 8)  # 36 pixels; wrong are rows 8 to 12 with the middle row 10
    rows = Points(count=2, slots=("first",)).score(example(TRUTH), always(half, half, half), 0).rows
    (row,) = rows
    assert row.prompt[0] == [8, 8, 1]
    x, y, label = row.prompt[1]
    assert y == 10
    assert 6 <= x <= 10
    assert label == 1
    assert row.scores["iou 1"] == row.scores["iou 2"] == 36 / 81


def test_a_point_outside_of_the_object_is_background():
    whole = np.ones(SIZE, np.bool_)
    (row,) = (
        Points(count=2, slots=("first",)).score(example(TRUTH), always(whole, whole, whole), 0).rows
    )
    x, y, label = row.prompt[1]
    assert not TRUTH[y, x]
    assert label == 0


@pytest.mark.parametrize(("neg_label", "label"), [("raw", 1), ("class", 0)])
def test_a_point_in_another_class_is_labelled_by_the_rule(neg_label, label):
    # The mask is the other class alone, which is the larger error: the point falls into it.
    other = part(14, 2, 29, 19)
    labelled = TRUTH | other
    given = example(TRUTH, labelled=labelled)
    rules = Points(count=2, slots=("first",), neg_label=neg_label)
    (row,) = rules.score(given, always(TRUTH | other, other, other), 0).rows
    x, y, found = row.prompt[1]
    assert other[y, x]
    assert found == label


def test_slots_score_the_first_the_surest_and_the_best_mask():
    masks = part(4, 4, 13, 8), part(0, 0, 2, 2), TRUTH
    rows = Points(count=1).score(example(TRUTH), always(*masks), 0).rows
    assert [row.scores["iou 1"] for row in rows] == [36 / 81, 0, 1]
    assert [row.chosen for row in rows] == [[0], [1], [2]]
    assert [row.predicted for row in rows] == [[0.5], [0.9], [0.1]]


def test_paths_of_slots_differ_from_the_second_point_on():
    masks = part(4, 4, 13, 8), part(4, 4, 8, 13), TRUTH
    rows = Points(count=2).score(example(TRUTH), always(*masks), 0).rows
    first, second = ([row.prompt[step] for row in rows] for step in (0, 1))
    assert first[0] == first[1] == first[2]
    assert second[0] != second[1]


def test_all_objects_of_an_image_are_decoded_together_and_the_image_once():
    model = always(TRUTH, TRUTH, TRUTH)
    Points(count=3, slots=("first",)).score(example(part(0, 0, 5, 5), part(9, 9, 14, 14)), model, 0)
    assert len(model.embedded) == 1
    assert model.calls == [2, 2, 2]


def test_slots_with_equal_points_are_decoded_once():
    model = always(part(4, 4, 13, 8), part(4, 4, 13, 8), part(4, 4, 13, 8))
    Points(count=3).score(example(TRUTH), model, 0)
    assert model.calls == [1, 1, 1]


def test_after_a_perfect_mask_comes_any_point_or_none():
    model = always(TRUTH, TRUTH, TRUTH)
    (row,) = Points(count=3, slots=("first",)).score(example(TRUTH), model, 0).rows
    assert len(row.prompt) == 3
    (row,) = (
        Points(count=3, slots=("first",), empty_error="stop").score(example(TRUTH), model, 0).rows
    )
    assert row.prompt == [[8, 8, 1]]
    assert [row.scores[f"iou {number}"] for number in (1, 2, 3)] == [1, 1, 1]


def test_points_are_counted_to_each_target():
    answers = [part(4, 4, 13, 8), part(4, 4, 13, 12), TRUTH]  # IoU 36/81, 72/81, 1

    def answer(prompt):
        mask = answers[len(prompt["points"]) - 1]
        return np.stack([mask] * 3), [0.5, 0.5, 0.5]

    (row,) = Points(count=3, slots=("first",)).score(example(TRUTH), ScriptedModel(answer), 0).rows
    counted = [row.scores[f"noc{target}"] for target in (80, 85, 90)]
    assert counted == [2, 2, 3]


def test_an_object_that_fills_the_image_is_evaluated():
    whole = np.ones(SIZE, np.bool_)
    half = part(0, 0, 30, 10)
    (row,) = (
        Points(count=2, slots=("first",)).score(example(whole), always(half, half, half), 0).rows
    )
    assert row.scores["iou 1"] == 0.5
    assert row.prompt[1][1:] == [14, 1] or row.prompt[1][1:] == [15, 1]


def test_a_network_that_gives_one_mask_has_it_in_every_slot():
    model = ScriptedModel(lambda prompt: (TRUTH[None], [0.7]))
    rows = Points(count=1).score(example(TRUTH, part(0, 0, 2, 2)), model, 0).rows
    assert [row.chosen for row in rows] == [[0]] * 6
    assert [row.scores["iou 1"] for row in rows[:3]] == [1, 1, 1]


# modes


def test_modes_prompt_the_parts_and_score_the_whole():
    parts = [part(1, 1, 10, 10), part(12, 1, 17, 6), part(20, 1, 23, 4), part(26, 1, 28, 3)]
    whole = np.logical_or.reduce(parts)

    def answer(prompt):
        if "box" in prompt:
            x0, y0, x1, y1 = (int(side) for side in prompt["box"])
            mask = part(x0, y0, x1 + 1, y1 + 1)
        else:
            mask = np.zeros(SIZE, np.bool_)
            for x, y in prompt["points"]:
                mask |= next(one for one in parts if one[int(y), int(x)])
        return np.stack([mask, mask, mask]), [0.9, 0.8, 0.7]

    rows = Modes(slots=("first",)).score(example(whole), ScriptedModel(answer), 0).rows
    total = 81 + 25 + 9 + 4
    expected = [81 / total, 115 / total, 81 / total, 115 / total, total / (27 * 9)]
    assert [row.variant for row in rows] == [f"mode {mode}" for mode in range(1, 6)]
    assert [row.scores["iou"] for row in rows] == pytest.approx(expected)
    assert rows[3].prompt == [[1, 1, 9, 9], [12, 1, 16, 5], [20, 1, 22, 3]]
    assert rows[4].prompt == [[1, 1, 27, 9]]
    assert rows[1].prompt == [[5, 5, 1], [14, 3, 1], [21, 2, 1]]


def test_mode_4_unites_masks_of_one_slot_and_chooses_then():
    left, right = part(1, 1, 10, 10), part(12, 1, 20, 9)

    def answer(prompt):
        own, other = (left, right) if prompt["box"][0] == 1 else (right, left)
        return np.stack([own, other, part(0, 0, 1, 1)]), [0.5, 0.6, 0.1]

    def model(prompt):
        return answer(prompt) if "box" in prompt else (np.stack([left] * 3), [0.1, 0.1, 0.1])

    rows = Modes().score(example(left | right), ScriptedModel(model), 0).rows
    fourth = by(rows, variant="mode 4")
    assert [row.scores["iou"] for row in fourth] == [1, 1, 1]
    assert [row.chosen for row in fourth] == [[0], [1], [0]]


# centroid


def test_the_centroid_is_used_where_it_lies_and_the_surest_mask_is_scored():
    ring = part(4, 4, 13, 13) & ~part(6, 6, 11, 11)
    model = always(part(6, 6, 11, 11), ring, part(0, 0, 1, 1))
    (row,) = Centroid(slots=("argmax",)).score(example(ring), model, 0).rows
    assert row.prompt == [[8, 8, 1]]
    assert not ring[8, 8]
    assert row.scores == {"iou": 1, "dice": 1}


def test_components_may_be_instances_of_their_own():
    two = part(1, 1, 4, 4) | part(10, 10, 12, 12)
    rows = (
        Centroid(slots=("first",), instance="component")
        .score(example(two), always(two, two, two), 0)
        .rows
    )
    assert [row.object for row in rows] == ["object 0 part 1", "object 0 part 2"]
    assert [row.scores["iou"] for row in rows] == [9 / 13, 4 / 13]


# boxes


def test_margins_move_the_box_outwards_and_the_ellipse_needs_no_model():
    model = always(TRUTH, TRUTH, TRUTH)
    rows = Boxes(margins=(0, 3), slots=("first",)).score(example(TRUTH), model, 0).rows
    assert [row.prompt for row in rows] == [[[4, 4, 12, 12]], [[1, 1, 15, 15]], [[4, 4, 12, 12]]]
    assert [row.variant for row in rows] == ["margin 0", "margin 3", ELLIPSE]
    # A disk of diameter 9 has 69 pixels.
    assert rows[2].scores["iou"] == 69 / 81


def test_a_margin_of_the_model_counts_in_its_square():
    model = always(TRUTH, TRUTH, TRUTH)
    model.manifest.square = 60  # twice the longer side
    rows = (
        Boxes(margins=(4,), margin_unit="model", slots=("first",))
        .score(example(TRUTH), model, 0)
        .rows
    )
    assert rows[0].prompt == [[2, 2, 14, 14]]


def test_distances_in_mm_need_the_size_of_a_pixel():
    shifted = part(7, 4, 16, 13)
    rules = Boxes(unit="mm", slots=("first",))
    with pytest.raises(MaskError, match="--spacing"):
        rules.score(example(TRUTH), always(shifted, shifted, shifted), 0)
    given = example(TRUTH, spacing=(1.0, 0.5))
    row = rules.score(given, always(shifted, shifted, shifted), 0).rows[0]
    assert row.scores["hd95 mm"] == 1.5
    assert row.scores["surface dice 2 mm"] == 1


def test_jitter_depends_on_the_seed_alone():
    rules, model = Boxes(jitter=2, slots=("first",)), always(TRUTH, TRUTH, TRUTH)
    boxes = [rules.score(example(TRUTH), model, seed).rows[0].prompt[0] for seed in (1, 1, 2)]
    assert boxes[0] == boxes[1] != boxes[2]
    assert np.abs(np.array(boxes[0]) - (4, 4, 12, 12)).max() <= 2


def test_pixels_that_two_masks_claim_are_shared_out_by_the_rule():
    a, b = part(0, 0, 4, 1), part(2, 0, 6, 1)
    areas = {
        rule: [int(mask.sum()) for mask in resolve([a, b], rule)]
        for rule in ("score", "later", "drop_overlap")
    }
    assert areas == {"score": [4, 4], "later": [2, 4], "drop_overlap": [2, 2]}


# everything


def test_everything_matches_each_object_with_its_best_mask():
    masks = np.stack([part(4, 4, 13, 12), part(20, 0, 24, 4)])
    truths = TRUTH, part(20, 0, 24, 5), part(0, 15, 3, 18)
    scored = Everything().score(example(*truths), ScriptedModel(None, found=masks), 0)
    assert [row.scores["iou"] for row in scored.rows] == [72 / 81, 16 / 20, 0]
    found = [
        [row.scores[f"recall {level}"] for level in ("0.5", "0.75", "0.9")] for row in scored.rows
    ]
    assert found == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert scored.image_scores == {"masks an image": 2}


def test_everything_that_finds_nothing_scores_0():
    nothing = np.zeros((0, *SIZE), np.bool_)
    scored = Everything().score(example(TRUTH), ScriptedModel(None, found=nothing), 0)
    assert scored.rows[0].scores["iou"] == 0
    assert scored.image_scores == {"masks an image": 0}


# phases


def case(*phases):
    made = [example(mask) for mask in phases]
    named = [replace(one, domain=f"phase {n}", name="c") for n, one in enumerate(made)]
    return replace(named[0], phases=tuple(named))


def test_phases_are_aggregated_over_scores_and_over_masks():
    # The image is 20 x 30; at R = 10 a pixel is 2 x 3 of it. The truth is 5 x 5 of 10 x 10.
    truth = part(0, 0, 15, 10)
    answers = iter(
        [np.pad(np.ones((5, 4), np.bool_), ((0, 5), (0, 6))), np.zeros((10, 10), np.bool_)]
    )

    def answer(prompt):
        return np.stack([next(answers)] * 3), [0.9, 0.8, 0.7]

    rules = Phases(points=(1,), resolutions=(10,))
    rows = rules.score(case(truth, truth), ScriptedModel(answer), 0).rows
    scores = {row.variant: row.scores for row in rows}
    first = 2 * 20 / (20 + 25)
    assert scores["P 1, R 10, avg"]["dice"] == pytest.approx(first / 2)
    assert scores["P 1, R 10, max"]["dice"] == pytest.approx(first)
    # Pixel by pixel the mean is 0.5 in the 20 pixels of the first phase, and the union is they.
    assert scores["P 1, R 10, avg"]["dice of masks"] == pytest.approx(first)
    assert scores["P 1, R 10, max"]["dice of masks"] == pytest.approx(first)


def test_fewer_points_are_the_first_of_more_and_are_scaled():
    truth = part(4, 4, 13, 13)
    model = ScriptedModel(lambda prompt: (np.zeros((3, 40, 40), np.bool_), [0.1, 0.2, 0.3]))
    Phases(points=(2, 5), resolutions=(40,)).score(case(truth), model, 0)
    two, five = (one["points"] for one in model.asked)
    assert five[:2] == two
    native = np.array([[(x + 0.5) * 30 / 40 - 0.5, (y + 0.5) * 20 / 40 - 0.5] for x, y in five])
    assert np.allclose(native, np.round(native))
    assert all(truth[round(y), round(x)] for x, y in native)


def test_an_object_that_vanishes_at_a_resolution_has_no_row_there():
    model = ScriptedModel(lambda prompt: (np.zeros((3, 4, 4), np.bool_), [0.1, 0.2, 0.3]))
    rows = Phases(points=(1,), resolutions=(4,)).score(case(part(0, 0, 1, 1)), model, 0).rows
    assert rows == []


# all


@pytest.mark.parametrize(
    ("kind", "switches"),
    [
        (Points, {"slots": ("second",)}),
        (Points, {"distance": "taxicab"}),
        (Points, {"count": 0}),
        (Centroid, {"centroid_round": "up"}),
        (Boxes, {"margins": (-1,)}),
        (Boxes, {"unit": "cm"}),
        (Everything, {"pred_iou_thresh": float("nan")}),
        (Phases, {"points": ()}),
        (Phases, {"resolutions": (9999,)}),
    ],
)
def test_a_switch_that_is_not_known_is_refused(kind, switches):
    with pytest.raises(PromptError):
        kind(**switches)


def test_the_drawn_mask_of_a_row_is_the_scored_one():
    (row,) = (
        Centroid(slots=("first",)).score(example(TRUTH), always(*[part(1, 1, 5, 9)] * 3), 0).rows
    )
    runs = ops.rle_from_strings([row.mask.encode()], SIZE)
    np.testing.assert_array_equal(ops.rle_to_array(runs)[0], part(1, 1, 5, 9))
