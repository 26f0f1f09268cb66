"""Passes and pieces fit into the memory that they are given, and come in as few as possible."""

from __future__ import annotations

import pytest

from fastseg.contract import GraphSpec, TensorSpec
from fastseg.errors import DeviceMemoryError, PromptError
from fastseg.sam.gpu.memory_budget import PROMPTS_PER_PIECE, MemoryPlan, plan_memory

MB = 2**20

# SAM's graphs in single precision: 4 MB of image tokens a prompt, 0.75 MB of logits.
DECODER = GraphSpec(
    "decoder",
    (),
    (
        TensorSpec("iou_predictions", "float32", ("prompts", 4)),
        TensorSpec("mask_vectors", "float32", ("prompts", 4, 32)),
        TensorSpec("image_tokens", "float32", ("prompts", 4096, 256)),
    ),
)
MASK_HEAD = GraphSpec(
    "mask_head", (), (TensorSpec("low_res_logits", "float32", ("survivors", "masks", 256, 256)),)
)


def plan(prompts=1024, most_bytes=None):
    return plan_memory(DECODER, MASK_HEAD, prompts=prompts, most_bytes=most_bytes)


def test_the_whole_grid_goes_in_one_pass_where_memory_allows():
    assert plan(most_bytes=64 * 2**30).passes(1024) == [(0, 1024)]


@pytest.mark.parametrize("most_bytes", [None, 100 * MB, 500 * MB, 2**30, 2**33, 2**34])
@pytest.mark.parametrize("prompts", [1, 7, 64, 1000, 1024])
def test_what_is_planned_fits_and_covers_every_prompt(prompts, most_bytes):
    made = plan(prompts, most_bytes)
    assert made.bytes <= (most_bytes or 2**31)
    assert made.bytes >= made.prompts_per_pass * 3 * 4 * MB
    passes = made.passes(prompts)
    assert [prompt for first, end in passes for prompt in range(first, end)] == list(range(prompts))
    lengths = [end - first for first, end in passes]
    # As equal as they can be, and no fewer passes would fit.
    assert max(lengths) - min(lengths[:-1], default=0) in (0, max(lengths))
    assert max(lengths) == made.prompts_per_pass


def test_more_memory_never_means_more_passes():
    counts = [len(plan(most_bytes=size * MB).passes(1024)) for size in range(128, 40000, 500)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 1


@pytest.mark.parametrize("survivors", [0, 1, 16, 17, 63, 64, 65, 1000])
def test_pieces_cover_the_survivors_and_come_in_few_sizes(survivors):
    made = MemoryPlan(1024, PROMPTS_PER_PIECE, 0)
    pieces = made.pieces(survivors)
    assert sum(size for _, size in pieces) >= survivors
    assert sum(size for _, size in pieces) < survivors + 16
    assert all(size % 16 == 0 and size <= PROMPTS_PER_PIECE for _, size in pieces)
    assert [first for first, _ in pieces] == list(range(0, survivors, PROMPTS_PER_PIECE))


def test_halving_ends_at_one_prompt_with_a_typed_error():
    made, sizes = plan(), []
    while made.prompts_per_pass > 1:
        sizes.append(made.prompts_per_pass)
        made = made.halved()
        assert made.prompts_per_pass == sizes[-1] // 2
        assert made.prompts_per_piece >= 1
    with pytest.raises(DeviceMemoryError, match="single prompt"):
        made.halved()


def test_too_little_for_one_prompt_says_how_much_it_takes():
    with pytest.raises(DeviceMemoryError, match=r"A prompt takes about \d+ MiB .* is 8 MiB"):
        plan(most_bytes=8 * MB)


@pytest.mark.parametrize("most_bytes", [0, -1])
def test_a_limit_that_is_none_is_refused(most_bytes):
    with pytest.raises(PromptError, match="max_device_memory"):
        plan(most_bytes=most_bytes)
