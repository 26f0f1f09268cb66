"""Round of self-training: the network's own stable masks of photographs, as scenes of a pool.

``python -m training.sam_nano.self_training MODEL POOL --images IMAGES --scenes 300`` adds them.
MODEL is a folder that ``publish`` wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastseg
from fastseg.sam.model import Sam
from training.sam_nano import evaluation, prompts, stored_pool
from training.sam_nano.cached_scenes import CachedScene, cache_scene
from training.sam_nano.photographs import camera, regions
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.plan import Stage
from training.sam_nano.scene_pool import REQUESTS
from training.sam_nano.scenes import Scene

SEED = 67
"""First number of the seed of every scene."""

FIRST = 1_000_000
"""Number of the first scene of a round in a pool, above those that were drawn."""

POINTS_PER_SIDE = 16

THRESHOLDS = {"pred_iou_thresh": 0.75, "stability_score_thresh": 0.9}
"""Everything mode's thresholds: what is found in the mirrored photograph too may score less."""

AGREEING_IOU = 0.85
"""Overlap from which on a mask was found again in the mirrored photograph."""

CROSSING_SHARE = 0.1
"""Masks that share more than this of the smaller one, and less than the rest, cross."""

FEWEST = 2
"""Least masks of the network in a scene; photographs with fewer teach it nothing new."""

TRIES = 40
"""Photographs that are tried for one scene."""

Masks = NDArray[np.bool_]
"""(N, height, width)."""


def agreeing_masks(model: Sam, image: NDArray[np.uint8]) -> Masks:
    """Return the masks of everything mode that the mirrored image has too, best-scored first.

    Args:
        model: The network.
        image: uint8 (height, width, 3).
    """
    found, mirrored = (
        model.everything(view, points_per_side=POINTS_PER_SIDE, **THRESHOLDS)
        for view in (image, np.ascontiguousarray(image[:, ::-1]))
    )
    order = np.argsort(-found.scores, kind="stable")
    masks, others = found.array()[order], mirrored.array()[:, :, ::-1]
    if not len(masks) or not len(others):
        return masks[:0]
    shares = masks.mean(axis=(1, 2))
    fits = (shares > regions.AREAS[0]) & (shares < regions.AREAS[1])
    again = evaluation.overlaps(masks[:, ::2, ::2], others[:, ::2, ::2]).max(axis=1)
    return masks[fits & (again >= AGREEING_IOU)]


def without_crossings(masks: Masks) -> Masks:
    """Keep the masks that lie inside, around or beside all that come before them."""
    kept: list[int] = []
    halves = masks[:, ::2, ::2].astype(np.float32)
    flat = halves.reshape(len(halves), halves.shape[1] * halves.shape[2])
    areas = flat.sum(axis=1)
    for row in range(len(masks)):
        both = flat[kept] @ flat[row]
        same = both > regions.DISTINCT_IOU * (areas[kept] + areas[row] - both)
        shared = both / np.maximum(np.minimum(areas[kept], areas[row]), 1)
        crossing = (shared > CROSSING_SHARE) & (shared < 1 - CROSSING_SHARE)
        if areas[row] and not (same | crossing).any():
            kept.append(row)
    return masks[kept]


def label(random: np.random.Generator, model: Sam, image: NDArray[np.uint8]) -> Scene | None:
    """Label an image by the network's masks, and by its regions where those do not cross them.

    Returns:
        The scene, or None if the network is sure of too few masks.
    """
    own = without_crossings(agreeing_masks(model, image))
    if len(own) < FEWEST:
        return None
    found = regions.find(random, image)
    levels = regions.levels(found)
    weak = [(levels == number).any(axis=0) for number in range(1, len(found.wholes))]
    joined = without_crossings(np.stack([*own, *weak]))
    nested = regions.nest(joined, image.shape[:2])
    shown = camera.expose(random, image.astype(np.float32) / 255)
    return Scene(shown, nested.labels, nested.wholes, ground_known=False)


def draw(index: int, side: int, model: Sam, images: Collection) -> CachedScene:
    """Draw the scene of a number; the same number and network give the same scene.

    Raises:
        ValueError: The network is sure of too few masks in ``TRIES`` photographs in a row.
    """
    random = np.random.default_rng((SEED, side, index))
    stage = Stage(1, side, 1, 32, (0.0, 0.0), all_kinds=True, area_exponent=0.4)
    for _ in range(TRIES):
        scene = label(random, model, images.photograph(random, (side, side)))
        if scene is not None and (masks := prompts.targets(scene)):
            return cache_scene(random, scene, masks, stage, REQUESTS)
    raise ValueError(
        f"the network found fewer than {FEWEST} stable masks in each of {TRIES} photographs: "
        "train it on photographs first, or calibrate its scores"
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and add the scenes that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of the network, or the name of an embedded one")
    parser.add_argument("pool", type=Path, help="folder of the pool")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--side", type=int, default=768, help="side of the scenes in pixels")
    parser.add_argument("--scenes", type=int, default=300, help="scenes of the round")
    arguments = parser.parse_args(argv)
    images = Collection(arguments.images)
    with fastseg.load(arguments.model, device="cpu") as model:
        for index in range(FIRST, FIRST + arguments.scenes):
            file = arguments.pool / str(arguments.side) / f"{index:06d}.npz"
            if not file.exists():
                stored_pool.pack(draw(index, arguments.side, model, images), file)
    print(f"{arguments.scenes} scenes of the network's own masks in {arguments.pool}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
