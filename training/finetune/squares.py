"""Images and masks in a network's square, and prompts as its decoder takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.evaluation.prompts import deepest_point, seeded, tight_box
from fastseg.export.checkpoints.preparations import Preparation
from fastseg.geometry import Frame
from fastseg.sam.preprocessing import prepare
from fastseg.sam.prompts import PromptRequest
from training.finetune.pairs import Pair
from training.finetune.settings import PromptKind

BOX_SHIFT = 20
"""Most pixels of 1024 that a side of a box moves outwards in training, as for MedSAM."""


@dataclass(frozen=True, slots=True, eq=False)
class Square:
    """A pair as a network sees it."""

    pixels: Tensor
    """float32 (1, 3, side, side)."""

    targets: Tensor
    """float32 (objects, h, w) share of each low-resolution pixel that an object covers."""

    valid: Tensor
    """float32 (h, w): 1 on the image, 0 on padding."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Prompts of one image: points and corners in pixels of the square."""

    coords: Tensor
    """float32 (prompts, points, 2)."""

    labels: Tensor
    """int32 (prompts, points)."""


def make_square(pair: Pair, preprocessing: Preprocessing) -> Square:
    """Prepare the image as inference does, and bring the masks to the logits' resolution."""
    prepared = prepare(
        pair.image, preprocessing, channels="rgb", crop=None, max_pixels=None, threads=0
    )
    everywhere = np.ones((1, *pair.masks.shape[1:]), np.bool_)
    masks = np.concatenate([pair.masks, everywhere])
    covered = torch.stack([_covered(mask, prepared.frame, preprocessing) for mask in masks])
    return Square(torch.from_numpy(prepared.pixels), covered[:-1], (covered[-1] >= 0.5).float())


def _covered(mask: NDArray[np.bool_], frame: Frame, preprocessing: Preprocessing) -> Tensor:
    height, width = frame.resized
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    square = np.zeros((frame.side, frame.side), np.float32)
    square[:height, :width] = resized / np.float32(255)
    side = preprocessing.mask_side
    block = frame.side // side
    return torch.from_numpy(square.reshape(side, block, side, block).mean(axis=(1, 3)))


def training_prompts(
    pair: Pair, objects: Sequence[int], prompt: PromptKind, place: Preparation, seed: Sequence[int]
) -> Points | None:
    """Draw prompts for some objects: a pixel of each, or a box that is up to 20 pixels too wide."""
    random = seeded(0, *seed, pair.name)
    if prompt == "none":
        return None
    frame = place.preprocessing.frame(pair.image.shape[:2])
    if prompt == "point":
        points = []
        for number in objects:
            rows, columns = np.nonzero(pair.masks[number])
            at = int(random.integers(len(rows)))
            points.append([[columns[at], rows[at]]])
        return _checked(PromptRequest(points=points), frame, place)
    reach = BOX_SHIFT / 1024 * max(pair.image.shape[:2])
    height, width = pair.image.shape[:2]
    boxes = []
    for number in objects:
        x0, y0, x1, y1 = _box(pair.masks[number])
        left, up, right, down = random.uniform(0, reach, 4)
        boxes.append([max(x0 - left, 0), max(y0 - up, 0), min(x1 + right, width), y1])
        boxes[-1][3] = min(y1 + down, height)
    return _checked(PromptRequest(boxes=boxes), frame, place)


def validation_prompts(
    pair: Pair, objects: Sequence[int], prompt: PromptKind, place: Preparation
) -> Points | None:
    """Make the same prompts each time: the deepest pixel of each object, or its tight box."""
    if prompt == "none":
        return None
    frame = place.preprocessing.frame(pair.image.shape[:2])
    masks = [pair.masks[number] for number in objects]
    if prompt == "box":
        return _checked(PromptRequest(boxes=[_box(mask) for mask in masks]), frame, place)
    points = [[deepest_point(mask, seeded(0, pair.name))] for mask in masks]
    return _checked(PromptRequest(points=points), frame, place)


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Enclose an object; the corners of one that is a pixel wide must differ."""
    x0, y0, x1, y1 = tight_box(mask)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _checked(request: PromptRequest, frame: Frame, place: Preparation) -> Points:
    """Lay prompts out as the decoder takes them; all have equally many points."""
    rules = place.rules.prompts if place.rules is not None else None
    options = {} if rules is None else {"rules": rules}
    prompts = request.check(frame, mask_side=place.preprocessing.mask_side, **options)
    (batch,) = prompts.batches(frame, limit=len(prompts))
    return Points(torch.from_numpy(batch.point_coords), torch.from_numpy(batch.point_labels))
