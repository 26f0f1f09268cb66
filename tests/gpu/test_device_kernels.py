"""The CUDA kernels on a real device give the bits of the CPU's.

Small enough for ``compute-sanitizer --tool memcheck python -m pytest THIS_FILE``, and for its
``racecheck`` and ``synccheck``.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import ops
from fastseg.cuda.arrays import device_array
from fastseg.cuda.kernels import FILL, LABEL, RECORD, Candidates, Gather, MaskFilter
from fastseg.geometry import Frame
from fastseg.sam.prompts import single_points
from tests.cuda.test_kernels import IMAGE_FRAMES, MEAN, STD, discs, drawn_image, random_boxes
from tests.helpers import emulated_memory
from tests.ops.test_binarise import FRAMES, smooth_logits

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("frame", IMAGE_FRAMES, ids=str)
def test_preprocessing_equals_the_cpus(gpu, frame, dtype):
    image = drawn_image(*frame.image)
    out = gpu.empty((3, frame.side, frame.side), dtype)
    scratch = gpu.empty((gpu.kernels.preprocess_workspace(frame),), np.uint8)
    gpu.kernels.preprocess(gpu.up(image), frame, MEAN, STD, out=out, workspace=scratch)
    expected = ops.preprocess(image, frame, MEAN, STD).astype(dtype)
    np.testing.assert_array_equal(gpu.down(out), expected)


@pytest.mark.parametrize("per_side", [1, 2, 32])
def test_the_grid_and_its_clicks_equal_the_cpus(gpu, per_side):
    frame, count = FRAMES[3], per_side**2
    grid = gpu.empty((count, 2), np.float64)
    gpu.kernels.point_grid(per_side, out=grid)
    expected = ops.point_grid(per_side)
    np.testing.assert_array_equal(gpu.down(grid), expected)
    coords, labels = gpu.empty((count, 2, 2), np.float32), gpu.empty((count, 2), np.int32)
    gpu.kernels.point_prompts(grid, frame, coords=coords, labels=labels)
    x0, y0, _, _ = frame.crop_box
    height, width = frame.size
    points = expected * [width, height] + [x0, y0]
    (batch,) = single_points(points).batches(frame, limit=count)
    np.testing.assert_array_equal(gpu.down(coords), batch.point_coords)
    np.testing.assert_array_equal(gpu.down(labels), batch.point_labels)


@pytest.mark.parametrize("count", [1, 256, 257, 1024])
def test_selected_rows_are_gathered_and_labelled(gpu, count):
    rng = np.random.default_rng(count)
    scores = rng.integers(0, 9, (count, 4)).astype(np.float32)
    tokens = rng.random((count, 3, 40), np.float32)
    rows, number = gpu.empty((count,), np.int32), gpu.empty((1,), np.int32)
    given = gpu.up(scores)
    gpu.kernels.select_prompts(given, 6.0, prompts=rows, count=number)
    expected = np.flatnonzero((scores[:, 1:] > 6).any(axis=1))
    found = int(gpu.down(number)[0])
    np.testing.assert_array_equal(gpu.down(rows)[:found], expected)
    out, labels = gpu.empty(tokens.shape, np.float32), gpu.empty((count * 3, 8), np.uint8)
    gather = Gather(rows, number, 0, count)
    gpu.kernels.gather_rows(gpu.up(tokens), gather, out=out)
    np.testing.assert_array_equal(gpu.down(out)[:found], tokens[expected])
    gpu.kernels.label_planes(given, gather, 6.0, first_prompt=5, labels=labels)
    named = gpu.down(labels).reshape(-1).view(LABEL)["prompt"].reshape(count, 3)
    wanted = np.where(scores[expected, 1:] > 6, expected[:, None] + 5, -1)
    np.testing.assert_array_equal(named[:found], wanted)
    assert (named[found:] == -1).all()


def masks_of(gpu, logits, frame, how, threshold):
    """Return the masks that pass both filters, as records and run lengths."""
    count, kernels = len(logits), gpu.kernels
    found, out = gpu.candidates(count, 400_000), gpu.candidates(count, 400_000)
    scratch = gpu.empty((kernels.binarise_workspace(count, logits.shape[1:], frame),), np.uint8)
    labels = emulated_memory.as_bytes(emulated_memory.labels(count))
    kernels.binarise(
        gpu.up(logits), gpu.up(labels), frame, how, candidates=found, workspace=scratch
    )
    kept, number = gpu.empty((count,), np.int32), gpu.empty((1,), np.int32)
    room = gpu.empty((kernels.box_nms_workspace(count),), np.uint8)
    kernels.box_nms(found, threshold, kept=kept, count=number, workspace=room)
    kernels.join_runs(found, kept, number, out=out)
    masks, runs = gpu.down(out.fill).view(FILL)[0]
    records = gpu.down(out.records).reshape(-1).view(RECORD)[:masks]
    counts = gpu.down(out.positions)[:runs]
    return records, ops.Rle(counts, np.append(records["begin"], runs), frame.image)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_masks_equal_the_cpus(gpu, frame, dtype):
    logits = smooth_logits(5, 256).astype(dtype)
    cpu = ops.binarise(logits.astype(np.float32), frame)
    stays = np.flatnonzero(~np.isnan(cpu.stability))[::-1]  # later ones score higher here
    records, runs = masks_of(gpu, logits, frame, MaskFilter(edge_tolerance=-1.0), 2.0)
    np.testing.assert_array_equal(records["prompt"], stays)
    assert runs.lists() == cpu.runs[stays].lists()
    np.testing.assert_array_equal(records["area"], cpu.areas[stays])
    np.testing.assert_array_equal(records["box"], cpu.boxes[stays])
    np.testing.assert_array_equal(records["stability"], cpu.stability[stays])


def test_filters_and_suppression_keep_what_the_cpu_keeps(gpu):
    frame, logits = Frame((200, 300), crop=(50, 40, 250, 160)), discs(150)
    how = MaskFilter(least_stability=0.8, edge_tolerance=5.0)
    records, runs = masks_of(gpu, logits, frame, how, 0.5)
    cpu = ops.binarise(logits, frame)
    stays = (cpu.stability >= np.float32(0.8)) & ~ops.near_crop_edge(cpu.boxes, frame, 5.0)
    places = np.flatnonzero(stays)
    kept = places[ops.box_nms(cpu.boxes[places], places.astype(np.float32), 0.5)]
    np.testing.assert_array_equal(records["prompt"], kept)
    assert runs.lists() == cpu.runs[kept].lists()


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1500])
def test_suppression_keeps_what_the_cpu_keeps(gpu, count):
    boxes = random_boxes(count, 1, extent=200)
    scores = np.random.default_rng(2).integers(0, 50, count).astype(np.float32)
    rows = np.zeros(count + 3, RECORD)
    rows["box"][:count], rows["score"][:count] = boxes, scores
    fill = np.zeros(1, FILL)
    fill["masks"] = count
    found = Candidates(
        gpu.up(emulated_memory.as_bytes(rows)),
        gpu.empty((1,), np.uint32),
        gpu.up(fill.view(np.uint8)),
    )
    kept, number = gpu.empty((count + 3,), np.int32), gpu.empty((1,), np.int32)
    room = gpu.empty((gpu.kernels.box_nms_workspace(count + 3),), np.uint8)
    gpu.kernels.box_nms(found, 0.6, kept=kept, count=number, workspace=room)
    result = gpu.down(kept)[: int(gpu.down(number)[0])]
    np.testing.assert_array_equal(result, ops.box_nms(boxes, scores, 0.6))


def test_arrays_pass_to_torch_and_back_without_a_copy(gpu):
    torch = pytest.importorskip("torch", reason="shares memory with torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    ours = gpu.up(np.arange(12, dtype=np.float32).reshape(3, 4))
    for theirs in (torch.from_dlpack(ours), torch.as_tensor(ours, device=gpu.device.name)):
        assert theirs.data_ptr() == ours.address
        assert theirs.sum().item() == 66
    back = device_array(torch.ones(2, 3, device=gpu.device.name), "x", device=gpu.device.name)
    gpu.device.order(back.stream, gpu.stream.handle)  # torch's ones are made in its own stream
    np.testing.assert_array_equal(gpu.down(back), np.ones((2, 3)))


def test_a_crop_outside_the_image_is_refused_before_a_launch(gpu):
    with pytest.raises(ValueError, match="crop"):
        gpu.kernels.preprocess_workspace(Frame((40, 60), side=64, crop=(0, 0, 61, 40)))
