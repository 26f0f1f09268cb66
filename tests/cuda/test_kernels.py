"""The bodies of the CUDA kernels, run in plain loops, give the bits of the CPU's kernels.

Each test takes the emulated device both ways: blocks and threads from the first to the last, and
from the last to the first. What depends on that would be a race on a real device.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.cuda.kernels import Gather, MaskFilter
from fastseg.errors import DeviceArrayError
from fastseg.geometry import Frame
from fastseg.sam.prompts import single_points
from tests.helpers import emulated_memory as memory
from tests.helpers import reference
from tests.ops.test_binarise import FRAMES, smooth_logits

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

IMAGE_FRAMES = [
    Frame((40, 60), side=64),
    Frame((60, 40), side=64, crop=(7, 5, 31, 59)),
    Frame((1, 500), side=64),
    Frame((64, 64), side=64),
    Frame((200, 333), side=96, crop=(100, 0, 333, 200)),
    Frame((900, 20), side=128),
    Frame((1, 1), side=16),
]


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def kernels(request):
    return memory.both_ways()[request.param]


def drawn_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def preprocessed(kernels, image, frame, dtype=np.float32):
    out = np.full((3, frame.side, frame.side), np.nan, dtype)
    need = kernels.preprocess_workspace(frame)
    kernels.preprocess(image, frame, MEAN, STD, out=out, workspace=memory.scratch(need))
    return out


@pytest.mark.parametrize("frame", IMAGE_FRAMES, ids=str)
def test_preprocessing_equals_the_cpus_and_the_reference(kernels, frame):
    image = drawn_image(*frame.image)
    out = preprocessed(kernels, image, frame)
    np.testing.assert_array_equal(out, ops.preprocess(image, frame, MEAN, STD))
    np.testing.assert_array_equal(out, reference.preprocess(image, frame, MEAN, STD))


def test_preprocessing_of_a_photograph_equals_the_cpus(kernels):
    image, frame = drawn_image(1080, 1920), Frame((1080, 1920))
    out = preprocessed(kernels, image, frame)
    np.testing.assert_array_equal(out, ops.preprocess(image, frame, MEAN, STD))


def test_half_precision_is_the_single_one_rounded_to_the_nearest(kernels):
    image, frame = drawn_image(40, 60), IMAGE_FRAMES[0]
    expected = ops.preprocess(image, frame, MEAN, STD).astype(np.float16)
    np.testing.assert_array_equal(preprocessed(kernels, image, frame, np.float16), expected)


@pytest.mark.parametrize("per_side", [1, 2, 3, 32, 33])
def test_the_grid_equals_the_cpus(kernels, per_side):
    out = np.empty((per_side**2, 2))
    kernels.point_grid(per_side, out=out)
    np.testing.assert_array_equal(out, ops.point_grid(per_side))


@pytest.mark.parametrize("frame", [*FRAMES, Frame((70, 333), side=128)], ids=str)
def test_points_equal_the_batches_of_prompts(kernels, frame):
    grid = np.random.default_rng(0).random((300, 2))
    coords, labels = np.empty((300, 2, 2), np.float32), np.empty((300, 2), np.int32)
    kernels.point_prompts(grid, frame, coords=coords, labels=labels)
    x0, y0, _, _ = frame.crop_box
    height, width = frame.size
    points = grid * [width, height] + [x0, y0]
    (batch,) = single_points(points).batches(frame, limit=300)
    np.testing.assert_array_equal(coords, batch.point_coords)
    np.testing.assert_array_equal(labels, batch.point_labels)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 700])
def test_prompts_with_a_score_above_are_listed_in_order(kernels, count):
    # Few distinct scores, so that some equal the threshold; slot 0 is no alternative.
    scores = np.random.default_rng(count).integers(0, 9, (count, 4)).astype(np.float32)
    scores[1::7] = np.nan
    prompts, number = np.full(count, -1, np.int32), np.zeros(1, np.int32)
    kernels.select_prompts(scores, 6.0, prompts=prompts, count=number)
    expected = np.flatnonzero((scores[:, 1:] > 6).any(axis=1))
    np.testing.assert_array_equal(prompts[: number[0]], expected)


@pytest.mark.parametrize("width", [1, 5, 8, 5000])
def test_rows_are_gathered_as_far_as_there_are_any(kernels, width):
    source = np.random.default_rng(0).random((9, 4, width), np.float32)
    rows, count = np.array([8, 0, 3, 3, 7, 1, 5], np.int32), np.array([5], np.int32)
    out = np.full((3, 4, width), -1, np.float32)
    kernels.gather_rows(source, Gather(rows, count, 3, 3), out=out)
    np.testing.assert_array_equal(out[:2], source[[3, 7]])
    assert (out[2] == -1).all()


def test_slots_of_rows_are_gathered(kernels):
    source = np.random.default_rng(0).random((9, 4, 32), np.float32)
    rows, count = np.array([8, 0, 3], np.int32), np.array([3], np.int32)
    out = np.empty((3, 3, 32), np.float32)
    kernels.gather_rows(source, Gather(rows, count, 0, 3), out=out, slots=slice(1, 4))
    np.testing.assert_array_equal(out, source[[8, 0, 3], 1:4])


def test_planes_know_their_prompt_and_score(kernels):
    scores = np.array([[9, 1, 2, 3], [9, 4, 5, 6], [9, 7, 8, 0]], np.float32)
    rows, count = np.array([0, 2, 1], np.int32), np.array([2], np.int32)
    labels = memory.labels(6)
    kernels.label_planes(
        scores, Gather(rows, count, 1, 2), 6.5, first_prompt=100, labels=memory.as_bytes(labels)
    )
    np.testing.assert_array_equal(labels["prompt"], [102, 102, -1, -1, -1, -1])
    np.testing.assert_array_equal(labels["score"][:3], [7, 8, 0])


def assert_equals_cpu(kernels, logits, frame, **how):
    """All masks, also empty ones, with everything that is measured of them."""
    expected = ops.binarise(logits.astype(np.float32), frame, **how)
    found = memory.candidates(len(logits), len(expected.runs.counts))
    mask_filter = MaskFilter(edge_tolerance=-1.0, **how)
    memory.add_masks(kernels, logits, frame, found, mask_filter=mask_filter)
    stays = np.ones(len(expected.areas), np.bool_)
    records, runs = memory.keep(kernels, found, np.arange(stays.sum()))
    assert runs.lists() == expected.runs[stays].lists()
    np.testing.assert_array_equal(records["prompt"], np.flatnonzero(stays))
    np.testing.assert_array_equal(records["area"], expected.areas[stays])
    np.testing.assert_array_equal(records["box"], expected.boxes[stays])
    np.testing.assert_array_equal(records["stability"], expected.stability[stays])


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_masks_equal_the_cpus(kernels, frame):
    assert_equals_cpu(kernels, smooth_logits(3, 256), frame)


@pytest.mark.parametrize("frame", [Frame((1, 65535)), Frame((65535, 1)), Frame((1080, 1920))])
def test_masks_of_large_images_equal_the_cpus(kernels, frame):
    assert_equals_cpu(kernels, smooth_logits(1, 256), frame)


def test_masks_equal_the_dense_reference(kernels):
    logits, frame = smooth_logits(2, 64), Frame((200, 150), side=256, crop=(20, 0, 150, 200))
    masks, _, _, _ = reference.binarise(logits, frame)
    found = memory.candidates(2, 10**5)
    memory.add_masks(kernels, logits, frame, found)
    _, runs = memory.keep(kernels, found, [0, 1])
    assert runs.lists() == [reference.run_lengths(mask) for mask in masks]


@given(
    st.tuples(st.integers(1, 120), st.integers(1, 300)),
    st.sampled_from([(16, 64), (4, 16), (1, 4), (2, 2), (13, 50)]),
    st.integers(0, 999),
    st.floats(-3, 3, width=16),
    st.sampled_from([0.0, 0.25, 1.0, 7.0]),
    st.data(),
)
@settings(deadline=None, max_examples=100)
def test_any_image_crop_and_threshold_gives_the_cpus_masks(
    size, low_side, seed, threshold, offset, data
):
    (height, width), (low, side) = size, low_side
    x0 = data.draw(st.integers(0, width - 1))
    y0 = data.draw(st.integers(0, height - 1))
    x1 = data.draw(st.integers(x0 + 1, width))
    y1 = data.draw(st.integers(y0 + 1, height))
    # Quarters make values that equal the thresholds common.
    noise = np.random.default_rng(seed).normal(0, 3, (3, low, low))
    logits = (np.round(noise * 4) / 4).astype(np.float32)
    frame = Frame(size, side=side, crop=(x0, y0, x1, y1))
    for kernels in memory.both_ways():
        assert_equals_cpu(kernels, logits, frame, threshold=threshold, stability_offset=offset)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.0000001, 0.99999994])
def test_flat_logits_at_a_threshold_equal_the_cpus(kernels, value):
    assert_equals_cpu(kernels, np.full((1, 16, 16), value, np.float32), Frame((37, 50), side=64))


def test_logits_that_are_no_numbers_equal_the_cpus(kernels):
    logits = smooth_logits(4, 16)
    logits[0, 4:9, 3:7] = np.nan
    logits[1, 2, 2], logits[1, 10, :] = np.inf, -np.inf
    logits[2], logits[3] = np.nan, 5.0
    assert_equals_cpu(kernels, logits, Frame((90, 70), side=64))


def test_half_precision_logits_give_the_masks_of_their_values(kernels):
    logits = smooth_logits(4, 64).astype(np.float16)
    logits[0, 3:5, 3] = [6e-8, -6e-8]  # subnormal
    logits[1, 3:6, 3] = [np.inf, -np.inf, np.nan]
    assert_equals_cpu(kernels, logits, Frame((123, 150), side=256))


def test_every_half_number_is_read_and_written_exactly(kernels):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    usable = every[np.isfinite(every)].reshape(-1, 1, 1)
    # A plane of one value is that value everywhere: its sign is the mask.
    found = memory.candidates(len(usable), 2 * len(usable))
    how = MaskFilter(edge_tolerance=-1.0, stability_offset=1e6)
    memory.add_masks(kernels, usable, Frame((1, 1), side=4), found, mask_filter=how)
    records = memory.records_of(found, len(usable))
    values = usable.reshape(-1)[records["prompt"]].astype(np.float32)
    np.testing.assert_array_equal(records["area"], values > 0)


def discs(count):
    """Logits of discs anywhere, some of them cut by the edge, with outlines sharp and dull."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    centres, radii = rng.uniform(20, 236, (count, 2, 1, 1)), rng.uniform(5, 40, (count, 1, 1))
    away = np.hypot(x - centres[:, 0], y - 0.6 * centres[:, 1])
    return ((radii - away) * rng.uniform(0.1, 2, (count, 1, 1))).astype(np.float32)


def test_promptless_planes_and_filtered_masks_stay_out(kernels):
    frame = Frame((200, 300), crop=(50, 40, 250, 160))
    logits = discs(40)
    rows = memory.labels(40)
    rows["prompt"][::3] = -1
    how = MaskFilter(least_stability=0.8, edge_tolerance=5.0)
    found = memory.candidates(40, 10**6)
    memory.add_masks(kernels, logits, frame, found, rows=rows, mask_filter=how)
    cpu = ops.binarise(logits, frame)
    stays = (rows["prompt"] >= 0) & (cpu.stability >= np.float32(0.8))
    stays &= ~ops.near_crop_edge(cpu.boxes, frame, 5.0)
    assert 0 < stays.sum() < (rows["prompt"] >= 0).sum()
    assert memory.fill_of(found) == (stays.sum(), np.diff(cpu.runs.offsets)[stays].sum())
    records, runs = memory.keep(kernels, found, np.arange(stays.sum()))
    np.testing.assert_array_equal(records["prompt"], np.flatnonzero(stays))
    assert runs.lists() == cpu.runs[stays].lists()


def test_masks_of_several_calls_follow_each_other(kernels):
    frame, logits = Frame((90, 70), side=64), smooth_logits(300, 16)
    whole = ops.binarise(logits, frame)
    found = memory.candidates(300, len(whole.runs.counts))
    for first, end in ((0, 1), (1, 280), (280, 300)):
        rows = memory.labels(300)[first:end]
        memory.add_masks(kernels, logits[first:end], frame, found, rows=rows)
    records, runs = memory.keep(kernels, found, np.arange(300))
    assert runs.lists() == whole.runs.lists()
    np.testing.assert_array_equal(records["prompt"], np.arange(300))


def test_what_finds_no_room_is_counted_and_not_written(kernels):
    frame, logits = Frame((90, 70), side=64), smooth_logits(20, 16)
    whole = ops.binarise(logits, frame)
    lengths = np.diff(whole.runs.offsets)
    room = int(lengths[:9].sum()) + 1
    found = memory.candidates(20, room)
    behind = np.full(100, 7, np.uint32)
    found = found._replace(positions=np.concatenate([found.positions, behind])[:room])
    memory.add_masks(kernels, logits, frame, found)
    assert memory.fill_of(found) == (20, lengths.sum())
    records, runs = memory.keep(kernels, found, np.arange(20))
    assert runs[np.arange(9)].lists() == whole.runs[np.arange(9)].lists()
    assert records["length"][9:].sum() <= 1


def boxed(kernels, boxes, scores):
    """Candidates with these boxes."""
    found = memory.candidates(len(boxes) + 3, 1)
    records = memory.records_of(found, len(boxes))
    records["box"], records["score"] = boxes, scores
    found.fill.view(np.int64)[:] = [len(boxes), 0]
    return found


def random_boxes(count, seed, extent):
    corners = np.random.default_rng(seed).integers(0, extent, (count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.int32)


@given(st.integers(0, 200), st.integers(0, 999), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0, -1.0]))
@settings(deadline=None)
def test_suppression_keeps_what_the_cpu_keeps(count, seed, threshold):
    boxes = random_boxes(count, seed, extent=12)
    # Few distinct scores, so that ties are common.
    scores = np.random.default_rng(seed).integers(0, 9, count).astype(np.float32)
    scores[::11] = np.nan
    for kernels in memory.both_ways():
        kept = memory.suppress(kernels, boxed(kernels, boxes, scores), threshold)
        np.testing.assert_array_equal(kept, ops.box_nms(boxes, scores, threshold))


@pytest.mark.parametrize("count", [63, 64, 65, 128, 1500])
def test_suppression_of_many_boxes_keeps_what_the_cpu_keeps(kernels, count):
    boxes = random_boxes(count, 1, extent=200)
    scores = np.random.default_rng(2).random(count).astype(np.float32)
    kept = memory.suppress(kernels, boxed(kernels, boxes, scores), 0.6)
    np.testing.assert_array_equal(kept, ops.box_nms(boxes, scores, 0.6))


@pytest.mark.parametrize("threshold", [0.7, 0.6999999, 0.49, 0.5, float("nan"), 1e300])
def test_the_threshold_is_compared_in_double_precision(kernels, threshold):
    # 0.7 as a float32 is a little less than 0.7: the overlap of two of these is exactly that.
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5]], np.int32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    kept = memory.suppress(kernels, boxed(kernels, boxes, scores), threshold)
    np.testing.assert_array_equal(kept, ops.box_nms(boxes, scores, threshold))


def test_kept_masks_come_in_the_order_asked_for(kernels):
    frame, logits = Frame((90, 70), side=64), smooth_logits(300, 16) + np.float32(1)
    whole = ops.binarise(logits, frame)
    found = memory.candidates(300, len(whole.runs.counts))
    memory.add_masks(kernels, logits, frame, found)
    order = np.random.default_rng(0).permutation(300)[:270]
    records, runs = memory.keep(kernels, found, order)
    assert runs.lists() == whole.runs[order].lists()
    np.testing.assert_array_equal(records["prompt"], order)


def test_no_masks_are_fine(kernels):
    found = memory.candidates(4, 10)
    memory.add_masks(kernels, np.zeros((0, 16, 16), np.float32), Frame((9, 9), side=64), found)
    assert memory.suppress(kernels, found, 0.5).shape == (0,)
    records, runs = memory.keep(kernels, found, [])
    assert len(records) == len(runs) == 0


def test_arrays_that_do_not_fit_are_refused_by_name(kernels):
    frame = IMAGE_FRAMES[0]
    image, out = drawn_image(40, 60), np.empty((3, 64, 64), np.float32)
    need = kernels.preprocess_workspace(frame)
    room = memory.scratch(need)
    for name, arguments in {
        "image": (image[:, ::2], out, room),
        "out": (image, out.astype(np.float64), room),
        "workspace": (image, out, room[: need - 1]),
    }.items():
        given, target, scratch = arguments
        with pytest.raises(DeviceArrayError, match=name):
            kernels.preprocess(given, frame, MEAN, STD, out=target, workspace=scratch)


def test_an_image_of_another_size_or_a_crop_outside_is_refused(kernels):
    out, room = np.empty((3, 64, 64), np.float32), memory.scratch(10**5)
    with pytest.raises(DeviceArrayError, match="shape"):
        kernels.preprocess(drawn_image(41, 60), IMAGE_FRAMES[0], MEAN, STD, out=out, workspace=room)
    with pytest.raises(ValueError, match="crop"):
        kernels.preprocess_workspace(Frame((40, 60), side=64, crop=(0, 0, 61, 40)))
