"""The tiny model is a real one: its folder, its contract, and masks that follow the prompts."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import artifacts
from fastseg.backends.selection import open_graph
from fastseg.contract import SAM_GRAPHS, Array
from fastseg.testing import GRID, LOW, RADII, SIDE, tiny_sam_folder
from tests.helpers.fresh_interpreter import loaded_by

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


class Tiny:
    """The tiny model's graphs, run as the pipeline runs them."""

    def __init__(self, folder: artifacts.ModelFolder) -> None:
        self.graphs = {name: open_graph(folder, name, threads=1) for name in SAM_GRAPHS}
        image = np.zeros((1, 3, SIDE, SIDE), np.float32)
        image[..., SIDE // 2 :] = 2.0  # the right half is bright
        embedding = self.graphs["encoder"].run({"image": image})["embedding"]
        assert embedding.shape == (1, 256, GRID, GRID)
        self.state = self.graphs["image_state"].run({"embedding": embedding})

    def draw(self, coords, labels, mask: Array | None = None) -> tuple[Array, Array]:
        """Predicted IoU (n, 4) and low-resolution logits (n, 4, LOW, LOW)."""
        inputs: dict[str, Array] = {
            **self.state,
            "point_coords": np.array(coords, np.float32),
            "point_labels": np.array(labels, np.int32),
        }
        if mask is not None:
            inputs["mask_input"] = mask
        answer = self.graphs["decoder" if mask is None else "decoder_mask"].run(inputs)
        head = {name: answer[name] for name in ("image_tokens", "mask_vectors")}
        return answer["iou_predictions"], self.graphs["mask_head"].run(head)["low_res_logits"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return Tiny(artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")))


CENTRES = (np.arange(LOW) + 0.5) * SIDE / LOW


def distance(x: float, y: float) -> Array:
    return np.hypot(CENTRES[None] - x, CENTRES[:, None] - y)


def test_the_package_for_tests_needs_nothing_of_our_own_tests():
    assert loaded_by("import fastseg.testing", ["tests", "onnx", "pytest"]) == []


def test_the_folder_has_every_graph_and_is_the_same_each_time(tmp_path):
    first, again = (
        artifacts.read(tiny_sam_folder(tmp_path / name)).manifest for name in ("first", "again")
    )
    assert set(first.graphs) == set(SAM_GRAPHS)
    assert first == again


def test_a_point_gives_discs_about_it_of_every_slots_radius(tiny):
    _, logits = tiny.draw([[[40, 60], [0, 0]]], [[1, -1]])
    for slot, radius in enumerate(RADII):
        np.testing.assert_array_equal(logits[0, slot] > 0, distance(40, 60) < radius)


def test_several_points_give_a_disc_about_their_middle(tiny):
    _, logits = tiny.draw([[[30, 60], [50, 64], [0, 0]]], [[1, 1, -1]])
    np.testing.assert_array_equal(logits[0, 0] > 0, distance(40, 62) < RADII[0])


def test_a_box_gives_the_box(tiny):
    _, logits = tiny.draw([[[20, 30], [100, 70]]], [[2, 3]])
    inside = (abs(CENTRES[None] - 60) < 40) & (abs(CENTRES[:, None] - 50) < 20)
    np.testing.assert_array_equal(logits[0, 0] > 0, inside)
    assert (logits[0, 1] > 0).sum() < inside.sum() < (logits[0, 3] > 0).sum()


def test_a_background_point_is_outside_every_mask(tiny):
    _, logits = tiny.draw([[[62, 62], [70, 62], [0, 0]]], [[1, 0, -1]])
    column, row = int(70 * LOW / SIDE), int(62 * LOW / SIDE)
    assert (logits[0, :, row, column] < 0).all()
    assert (logits[0, 0] > 0).any()


def test_a_mask_prompt_alone_gives_a_disc_of_its_place_and_area(tiny):
    mask = np.where(distance(44, 80) < 20, 5, -5)[None, None].astype(np.float32)
    _, logits = tiny.draw(np.zeros((1, 0, 2)), np.zeros((1, 0)), mask)
    found = logits[0, 0] > 0
    assert abs(found.sum() - (mask > 0).sum()) <= 0.1 * found.sum()
    rows, columns = np.nonzero(found)
    np.testing.assert_allclose([CENTRES[columns].mean(), CENTRES[rows].mean()], [44, 80], atol=1)


def test_scores_rise_with_brightness_across_the_usual_threshold(tiny):
    scores, _ = tiny.draw([[[20, 60], [0, 0]], [[110, 60], [0, 0]]], [[1, -1], [1, -1]])
    assert (scores[1] > scores[0]).all()
    assert ((scores > 0) & (scores < 1)).all()
    assert (scores[0] > 0.88).any()
    assert (scores[0] < 0.88).any()


def test_a_prompt_gives_the_same_in_any_batch(tiny):
    coords = np.random.default_rng(0).uniform(0, SIDE, (7, 2, 2))
    labels = [[1, -1]] * 7
    scores, logits = tiny.draw(coords, labels)
    for index in range(7):
        score, logit = tiny.draw(coords[index : index + 1], labels[:1])
        np.testing.assert_array_equal(score[0], scores[index])
        np.testing.assert_array_equal(logit[0], logits[index])
