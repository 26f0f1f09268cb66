"""The reference package segment_anything, importable where torchvision has no build.

Substitutes stand for the four functions of torchvision that it uses, with the same semantics.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image


def to_pil_image(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image)


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Greedy suppression within each class, best first; equal scores keep their order."""
    areas = box_area(boxes)
    waiting = torch.argsort(scores, descending=True, stable=True)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[waiting, :2])
        high = torch.minimum(boxes[best, 2:], boxes[waiting, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        iou = shared / (areas[best] + areas[waiting] - shared)
        # A float32 against a double, as torchvision's kernel for CPUs compares: 0.6 exceeds 0.6.
        suppressed = (iou.double() > iou_threshold) & (idxs[best] == idxs[waiting])
        waiting = waiting[~suppressed]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64)


def segment_anything() -> ModuleType:
    """Import the reference package, with the substitutes unless torchvision is installed.

    They leave ``sys.modules`` again: other packages ask there whether torchvision is installed.
    """
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("the reference, segment-anything, is not installed")
    if "segment_anything" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("segment_anything")
    functions: dict[str, dict[str, Any]] = {
        "torchvision": {},
        "torchvision.transforms": {},
        "torchvision.transforms.functional": {"resize": resize, "to_pil_image": to_pil_image},
        "torchvision.ops": {},
        "torchvision.ops.boxes": {"batched_nms": batched_nms, "box_area": box_area},
    }
    for name, members in functions.items():
        module = ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    try:
        return importlib.import_module("segment_anything")
    finally:
        for name in functions:
            del sys.modules[name]
