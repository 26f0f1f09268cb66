"""Sizes that an engine takes, and how a call is cut to them."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.backends.tensorrt.optimization_profiles import (
    batch_dimension,
    choose_profile,
    profiles_of,
    shapes,
    sizes_of,
)
from fastseg.contract import GraphSpec, TensorSpec, guided_network, unet_network
from fastseg.errors import BackendError, EngineError

NANO = {
    stored.graph.name: stored.graph
    for stored in artifacts.read(registry.find("sam-nano"), verify=False).manifest.graphs.values()
}
DECODER = NANO["decoder"]


def test_the_decoder_takes_one_to_a_thousand_prompts():
    few, grid = profiles_of(DECODER)
    coords = DECODER.inputs[0]
    assert shapes(coords, few) == ((1, 1, 2), (4, 2, 2), (32, 64, 2))
    assert shapes(coords, grid) == ((1, 2, 2), (256, 2, 2), (1024, 2, 2))


def test_fixed_inputs_keep_their_shape_under_every_profile():
    shared = next(one for one in DECODER.inputs if one.name == "shared_image")
    for profile in profiles_of(DECODER):
        assert shapes(shared, profile) == (shared.shape,) * 3


@pytest.mark.parametrize(
    ("graph", "dimension"),
    [
        (NANO["encoder"], "images"),
        (NANO["image_state"], None),
        (DECODER, "prompts"),
        (NANO["decoder_mask"], "prompts"),
        (NANO["mask_head"], "survivors"),
        (unet_network(256, 3, 5), "batch"),
        (guided_network(3), "batch"),
    ],
)
def test_calls_are_split_along_the_outputs_first_dimension(graph, dimension):
    assert batch_dimension(graph) == dimension
    for profile in profiles_of(graph):
        assert profile[dimension].least == 1
    assert bool(profiles_of(graph)) == (dimension is not None)


@pytest.mark.parametrize(
    ("prompts", "points", "chosen"),
    [
        (1, 2, (0, 32)),
        (32, 2, (0, 32)),
        (33, 2, (1, 1024)),
        (1024, 2, (1, 1024)),
        (5000, 2, (1, 1024)),
        (100, 3, (0, 32)),
        (1, 64, (0, 32)),
    ],
)
def test_the_profile_is_the_first_that_takes_the_call_whole(prompts, points, chosen):
    sizes = {"prompts": prompts, "points": points}
    assert choose_profile(DECODER, profiles_of(DECODER), sizes) == chosen


def test_more_points_than_any_profile_has_are_refused_in_numbers():
    with pytest.raises(BackendError, match=r"65 points.*1 to 64 points or 2 to 2 points.*onnxrunt"):
        choose_profile(DECODER, profiles_of(DECODER), {"prompts": 1, "points": 65})


def test_a_graph_of_fixed_sizes_has_no_profile_and_runs_whole():
    graph = NANO["image_state"]
    assert profiles_of(graph) == ()
    assert choose_profile(graph, (), {}) == (0, 1)


def test_a_dimension_that_nobody_knows_is_named():
    x = TensorSpec("x", "float32", ("frames", 4))
    with pytest.raises(EngineError, match="sizes frames open"):
        profiles_of(GraphSpec("strange", (x,), (x,)))


def test_a_dimension_must_be_first_everywhere_to_be_split():
    rows, columns = (
        TensorSpec("x", "float32", ("batch", 4)),
        TensorSpec("y", "float32", (4, "batch")),
    )
    out = TensorSpec("z", "float32", ("batch", 4))
    assert batch_dimension(GraphSpec("both", (rows, columns), (out,))) is None


def test_sizes_are_read_from_the_inputs():
    inputs = {
        "image_tokens": np.zeros((5, 1, 4096, 256), np.float32),
        "mask_vectors": np.zeros((5, 3, 32), np.float32),
    }
    assert sizes_of(NANO["mask_head"], inputs) == {"survivors": 5, "masks": 3}


def test_images_of_their_own_size_go_through_two_at_a_time():
    (profile,) = profiles_of(guided_network(3))
    assert (profile["batch"].most, profile["height"].usual) == (2, 400)
    assert 1536 in profile["width"]
    assert 1537 not in profile["width"]
