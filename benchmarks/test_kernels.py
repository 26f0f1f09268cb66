"""Speed of the native kernels beside the usual alternatives, on the same cores in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray
from PIL import Image

from fastseg import ops
from fastseg.benchmarking.repetition import Measurement, StoppingRule, repeat
from fastseg.geometry import Frame

torch = pytest.importorskip("torch")
amg: Any = pytest.importorskip("tests.helpers.reference_package").segment_anything().utils.amg

Logits = NDArray[np.float32]
Table = Callable[[str, list[tuple[str, ...]]], None]

MASKS = 192  # a batch of SAM's mask generator: 64 points, 3 masks each
FRAME = Frame((768, 1024))
RULE = StoppingRule(warm_up=1, min_rounds=7, max_rounds=50, max_seconds=5.0)
SLOW = StoppingRule(warm_up=1, min_rounds=3, max_rounds=3)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def blobs() -> Logits:
    """Draw logits like a decoder's: one object a mask, a few logits steep, rough outlines."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    masks = []
    for _ in range(MASKS):
        (cx, cy), radius, stretch = rng.uniform(20, 236, 2), rng.uniform(8, 70), rng.uniform(0.5, 2)
        distance = np.hypot((x - cx) / stretch, (y - cy) * stretch)
        masks.append(np.clip(1.2 * (radius - distance), -14, 12))
    return (np.stack(masks) + noise(2, 0.4)).astype(np.float32)


def smooth() -> Logits:
    """Draw the worst case: outlines everywhere."""
    return noise(6, 4.0).astype(np.float32)


def noise(width: float, deviation: float) -> NDArray[np.float64]:
    values = np.random.default_rng(1).standard_normal((MASKS, 256, 256))
    blurred = scipy.ndimage.gaussian_filter(values, (0, width, width))
    return np.asarray(blurred * (deviation / blurred.std()))


def reference_postprocessing(logits: Any) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Postprocess a batch like SAM's mask generator: stability, boxes and RLE."""
    height, width = FRAME.resized
    square = enlarge(logits[:, None], (FRAME.side, FRAME.side))[..., :height, :width]
    full = enlarge(square, FRAME.size)[:, 0]
    stability = amg.calculate_stability_score(full, 0.0, 1.0)
    masks = full > 0.0
    return stability, amg.batched_mask_to_box(masks), amg.mask_to_rle_pytorch(masks)


def enlarge(values: Any, size: tuple[int, int]) -> Any:
    return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("draw", [blobs, smooth])
def test_postprocessing(draw: Callable[[], Logits], table: Table) -> None:
    logits = draw()
    tensor = torch.from_numpy(logits)
    ours = ops.binarise(logits, FRAME)
    _, boxes, rles = reference_postprocessing(tensor)
    differing = sum(
        int((mask != amg.rle_to_mask(rle)).sum())
        for mask, rle in zip(ops.rle_to_array(ours.runs), rles, strict=True)
    )
    calls = {
        "segment_anything, torch": lambda: reference_postprocessing(tensor),
        "fastseg, 1 thread": lambda: ops.binarise(logits, FRAME, threads=1),
        "fastseg, all cores": lambda: ops.binarise(logits, FRAME),
    }
    height, width = FRAME.image
    table(
        f"logits -> stability, boxes, RLE: {MASKS} masks ({draw.__name__}), {width} x {height}, "
        f"{len(ours.runs.counts) // MASKS} runs a mask, torch threads {torch.get_num_threads()}; "
        f"target 20x; {differing} pixels differ",
        rows(calls, slow=("segment_anything, torch",)),
    )
    assert boxes.shape == ours.boxes.shape


def test_preprocessing(table: Table) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    frame = Frame((3000, 4000))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def reference() -> Any:
        height, width = frame.resized
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.as_tensor(np.asarray(resized)).permute(2, 0, 1).contiguous()
        padding = (0, frame.side - width, 0, frame.side - height)
        return torch.nn.functional.pad((pixels - mean) / std, padding)

    np.testing.assert_array_equal(ops.preprocess(image, frame, MEAN, STD), reference().numpy())
    table(
        "preprocessing an image of 4000 x 3000 for a square of 1024, equal bit for bit",
        rows(
            {
                "Pillow and torch": reference,
                "fastseg, 1 thread": lambda: ops.preprocess(image, frame, MEAN, STD, threads=1),
                "fastseg, all cores": lambda: ops.preprocess(image, frame, MEAN, STD),
            }
        ),
    )


def test_run_lengths(table: Table) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools")
    runs = ops.binarise(blobs(), FRAME).runs
    masks = ops.rle_to_array(runs)
    codes = [{"size": list(FRAME.image), "counts": text} for text in ops.rle_to_strings(runs)]
    planes = np.asfortranarray(masks.view(np.uint8).transpose(1, 2, 0))
    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "masks -> runs": (lambda: coco.encode(planes), lambda: ops.rle_from_array(masks)),
        "runs -> masks": (lambda: coco.decode(codes), lambda: ops.rle_to_array(runs)),
        "runs -> boxes": (lambda: coco.toBbox(codes), lambda: ops.rle_boxes(runs)),
        "IoU of all pairs": (
            lambda: coco.iou(codes, codes, [0] * MASKS),
            lambda: ops.rle_iou(runs, runs),
        ),
    }
    for name, (reference, ours) in pairs.items():
        table(
            f"{name}: {MASKS} masks (blobs), {FRAME.image[1]} x {FRAME.image[0]}",
            rows({"pycocotools": reference, "fastseg, all cores": ours}),
        )


def test_small_regions(table: Table) -> None:
    runs = ops.binarise(blobs(), FRAME).runs
    masks = ops.rle_to_array(runs)
    corners = np.ones((3, 3))

    def reference() -> None:
        for mask in masks:
            labels, count = scipy.ndimage.label(mask, corners)
            np.isin(labels, np.flatnonzero(np.bincount(labels.ravel(), minlength=count) >= 100))

    table(
        f"drop islands below 100 pixels: {MASKS} masks (blobs), 1024 x 768",
        rows(
            {
                "scipy.ndimage.label": reference,
                "fastseg, all cores": lambda: ops.rle_remove_small_regions(runs, 100, "islands"),
            },
            slow=("scipy.ndimage.label",),
        ),
    )


def test_chambers(table: Table) -> None:
    chambers = pytest.importorskip(
        "tests.helpers.reference_chambers", reason="compares with scikit-image"
    )
    probabilities = hearts()
    masks = ops.clean_chambers(probabilities, exclusive=False)
    np.testing.assert_array_equal(
        masks, chambers.clean_chambers(probabilities, exclusive=False), strict=True
    )
    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "probabilities -> clean masks": (
            lambda: chambers.clean_chambers(probabilities, exclusive=False),
            lambda: ops.clean_chambers(probabilities, exclusive=False, threads=1),
        ),
        "expected IoU and stability": (
            lambda: chambers.chamber_scores(probabilities, masks),
            lambda: ops.chamber_scores(probabilities, masks, threads=1),
        ),
    }
    for name, (reference, ours) in pairs.items():
        table(
            f"{name}: {len(masks) * masks.shape[1]} masks, 256 x 256",
            rows(
                {"scipy, scikit-image, NumPy": reference, "fastseg, 1 thread": ours},
                slow=("scipy, scikit-image, NumPy",),
            ),
        )


def test_axis_and_disks(table: Table) -> None:
    shapes = pytest.importorskip(
        "tests.helpers.reference_shapes", reason="compares with scikit-image"
    )
    from skimage.measure import label, regionprops

    masks = ops.clean_chambers(hearts(), exclusive=False).reshape(-1, 256, 256)

    def reference() -> list[float]:
        lengths = []
        for mask in masks:
            body = regionprops(label(mask, connectivity=2))[0]
            assert body.area_convex >= body.area
            ellipse = body.centroid, body.axis_major_length, body.orientation
            axis, _ = shapes.source_disks(mask, *ellipse, 21)
            lengths.append(axis[2])
        return lengths

    np.testing.assert_array_equal(ops.measure_shapes(masks, "source").lengths, reference())
    table(
        f"area, hull, axis and 21 disks: {len(masks)} masks, 256 x 256",
        rows(
            {
                "scikit-image, as published": reference,
                "fastseg, as published, 1 thread": lambda: ops.measure_shapes(
                    masks, "source", threads=1
                ),
                "fastseg, exactly, 1 thread": lambda: ops.measure_shapes(masks, threads=1),
            },
            slow=("scikit-image, as published",),
        ),
    )


def hearts() -> NDArray[np.float32]:
    """Draw probabilities like an echo network's: four chambers a frame, soft rough outlines."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    planes = []
    for _ in range(40):
        (cx, cy), (a, b) = rng.uniform(60, 196, 2), rng.uniform(20, 50, 2)
        planes.append(8 * (1 - np.hypot((x - cx) / a, (y - cy) / b)))
    logits = np.stack(planes) + noise(3, 1.0)[:40]
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32).reshape(10, 4, 256, 256)


@pytest.mark.parametrize("size", [(600, 800), (708, 1016)])
def test_frames(size: tuple[int, int], table: Table) -> None:
    cv2 = pytest.importorskip("cv2", reason="compares with OpenCV")
    (height, width), rng = size, np.random.default_rng(0)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    above = (width - height) // 2
    window = (0, -above, width, width - above)
    masks = ops.clean_chambers(hearts(), exclusive=False).reshape(-1, 256, 256)

    def reference() -> NDArray[np.float32]:
        below = width - height - above
        square = np.pad(frame, ((above, below), (0, 0), (0, 0)))
        middle = cv2.resize(square, (400, 400), interpolation=cv2.INTER_AREA)
        values = cv2.resize(middle, (256, 256), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        return np.asarray((values - values.min()) / (values.max() - values.min())).transpose(
            2, 0, 1
        )

    def enlarged() -> list[Any]:
        return [
            cv2.resize(mask.astype(np.float32), (width, width))[above : above + height] >= 0.5
            for mask in masks
        ]

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        table(
            f"a frame of {width} x {height} -> input of 256 x 256, 1 thread",
            rows(
                {
                    "NumPy, OpenCV": reference,
                    "fastseg": lambda: ops.frame_input(frame, window, 256, threads=1),
                }
            ),
        )
        table(
            f"{len(masks)} masks of 256 x 256 -> a frame of {width} x {height}, 1 thread",
            rows(
                {
                    "OpenCV": enlarged,
                    "fastseg": lambda: ops.masks_to_frame(masks, window, size, threads=1),
                }
            ),
        )
    finally:
        cv2.setNumThreads(threads)


def rows(
    calls: Mapping[str, Callable[[], Any]], slow: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    """Measure calls one after another; the first one is the base of the ratios."""
    measured = {
        name: repeat(name, timed(call), SLOW if name in slow else RULE)
        for name, call in calls.items()
    }
    first = median(next(iter(measured.values())))
    lines: list[tuple[str, ...]] = [("", "ms (median)", "p90", "rounds", "ratio")]
    for name, one in measured.items():
        total = one.stages["total"]
        spread = f"{total.percentile(90):.2f}", str(len(total.rounds))
        lines.append((name, f"{median(one):.2f}", *spread, f"{first / median(one):.1f}x"))
    return lines


def timed(call: Callable[[], Any]) -> Callable[[], dict[str, float]]:
    def stages() -> dict[str, float]:
        start = perf_counter()
        call()
        return {"call": 1e3 * (perf_counter() - start)}

    return stages


def median(measurement: Measurement) -> float:
    return measurement.stages["total"].percentile(50)
