"""Probes of networks whose prompts are channels of their input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts.guidance import TILES, BoxPreprocessing, PointPreprocessing
from fastseg.artifacts.manifest import RITM, Manifest
from fastseg.contract import LABEL_BACKGROUND, LABEL_FOREGROUND, Array
from fastseg.guided.box_map import box_map
from fastseg.guided.point_maps import point_maps
from fastseg.guided.preprocessing import box_input, image_input, normalised

PLACES = np.array([[0.3, 0.4], [0.7, 0.6]])
"""Points of a probe, x before y, as shares of the image's sides."""


@dataclass(frozen=True, slots=True)
class GuidedProbe:
    """An image with one prompt after the other."""

    image: NDArray[np.float32]
    """(prompts, channels, h, w) the same image for each prompt, as the network takes it."""

    guidance: NDArray[np.float32]
    """(prompts, guidance, h, w)."""

    threshold: float
    """Logit above which a pixel is part of the mask."""

    @property
    def feed(self) -> dict[str, Array]:
        """The inputs of the graph."""
        return {"image": self.image, "guidance": self.guidance}


def build_guided_probe(image: NDArray[np.uint8], manifest: Manifest) -> GuidedProbe:
    """Prepare an image (H, W, 3) with prompts of the kind that the model takes."""
    if manifest.family == RITM:
        return _of_points(image, manifest.point_preprocessing)
    return _of_boxes(image, manifest.box_preprocessing)


def _of_boxes(image: NDArray[np.uint8], rules: BoxPreprocessing) -> GuidedProbe:
    """Prepare an image with two boxes; of one that is seen in tiles, its upper left tile."""
    height, width = rules.size
    grey = image if rules.channels == 3 else np.repeat(image[..., :1], 3, axis=2)
    if rules.resize == TILES:
        repeats = -(-height // grey.shape[0]), -(-width // grey.shape[1]), 1
        grey = np.tile(grey, repeats)[:height, :width]
    pixels = box_input(np.ascontiguousarray(grey), rules)
    if rules.resize == TILES:
        pixels = normalised(pixels, rules.normalise)
    guidance = []
    for place in PLACES * [width, height]:
        half = np.array([width, height]) / 5
        box = box_map(np.stack([place - half, place + half]), (height, width), (height, width))
        guidance.append(normalised(box, rules.normalise_box))
    repeated = np.repeat(pixels[None], len(guidance), axis=0)
    return GuidedProbe(repeated, np.stack(guidance), _logit(rules.threshold))


def _of_points(image: NDArray[np.uint8], rules: PointPreprocessing) -> GuidedProbe:
    """Prepare an image with points, without and with a mask before them."""
    pixels = image_input(image, rules)
    height, width = pixels.shape[1:]
    places = PLACES * [width, height]
    guidance = []
    for place in places:
        rough = _disc(place, (height, width), min(height, width) / 5)
        for mask, labels in (
            (np.zeros_like(rough), [LABEL_FOREGROUND]),
            (rough, [LABEL_FOREGROUND, LABEL_BACKGROUND]),
        ):
            aside = place + np.array([width / 6, 0])
            points = np.stack([place, aside])[: len(labels)]
            maps = point_maps(points, np.array(labels, np.int32), (height, width), rules.radius)
            guidance.append(np.concatenate([mask[None], maps]))
    repeated = np.repeat(pixels[None], len(guidance), axis=0)
    return GuidedProbe(repeated, np.stack(guidance), _logit(rules.threshold))


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def _disc(middle: NDArray[np.float64], size: tuple[int, int], radius: float) -> NDArray[np.float32]:
    """Draw the probabilities (height, width) of a disc, which fade over its border."""
    y, x = np.mgrid[: size[0], : size[1]]
    away = np.hypot(x - middle[0], y - middle[1]) / radius
    faded: NDArray[np.float32] = np.clip(1.5 - away, 0, 1).astype(np.float32)
    return faded


def masks_of(logits: NDArray[np.float32], threshold: float) -> ops.Rle:
    """Cut masks at a logit: (prompts, 1, h, w) to as many run lengths."""
    return ops.rle_from_array(np.ascontiguousarray(logits[:, 0] > threshold))
