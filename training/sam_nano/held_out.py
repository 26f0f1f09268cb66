"""Held-out generated scenes, which training never draws, with prompts to measure quality by.

``python -m training.sam_nano.held_out training/runs/one`` compares the weights that a run kept.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from fastseg import contract
from fastseg.sam.model import Sam
from training.sam_nano import batches, evaluation, prompts, scene_kinds, scene_mixture
from training.sam_nano.batches import PromptBatch
from training.sam_nano.cached_scenes import PIXELS_PER_MASK_PIXEL, count_covered
from training.sam_nano.losses import measured_iou
from training.sam_nano.network import SamNano
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.scenes import Scene

SEED = 90_210
"""First number of every held-out scene's seed, which training and calibration do not use."""

SIDE = 1024
PROMPTS = 6
"""Prompted objects of each scene."""


@dataclass(frozen=True, slots=True)
class HeldOutScene:
    """One scene and its prompted objects."""

    kind: str
    """A kind of ``scene_kinds`` or of ``scene_mixture``."""
    image: NDArray[np.uint8]
    """(1024, 1024, 3)."""
    masks: NDArray[np.bool_]
    """(N, 1024, 1024)."""
    points: NDArray[np.float32]
    """(N, 2): of each mask the pixel farthest from its edge, x before y."""
    boxes: NDArray[np.float32]
    """(N, 4): x0, y0, x1, y1, the edges of the outermost pixels."""


def deepest_point(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the point (x, y) of a mask that lies farthest from its edge, to about four pixels."""
    left = np.pad(2 * count_covered(mask) > PIXELS_PER_MASK_PIXEL, 1)
    if not left.any():  # thinner than a mask pixel everywhere
        y, x = np.divmod(np.flatnonzero(mask)[mask.sum() // 2], mask.shape[1])
        return np.array([x, y], dtype=np.float32)
    while left.any():
        last, left = left, left.copy()
        for axis in (0, 1):
            left &= np.roll(last, 1, axis) & np.roll(last, -1, axis)
    rows, columns = np.nonzero(last)
    middle = len(rows) // 2
    return np.array([4 * columns[middle] - 2, 4 * rows[middle] - 2], dtype=np.float32)


def scenes(count: int) -> Iterator[HeldOutScene]:
    """Yield the first ``count`` held-out scenes, cycling through the kinds; always the same."""
    for index in range(count):
        kind = scene_kinds.SCENE_KINDS[index % len(scene_kinds.SCENE_KINDS)]
        draw = functools.partial(scene_kinds.generate, size=(SIDE, SIDE), kind=kind)
        yield _hold_out(np.random.default_rng((SEED, index)), kind, draw)


def mixture_scenes(count: int, images: Collection) -> Iterator[HeldOutScene]:
    """Yield held-out scenes of the kinds that the sixth edition added; always the same.

    The photographs themselves are those of training, as there are few: their crops and what is
    pasted into them are not. Weak labels stand for the truth on photographs.
    """
    added = scene_mixture.KINDS[1:]
    for index in range(count):
        kind = added[index % len(added)]
        draw = functools.partial(
            scene_mixture.generate, images=images, size=(SIDE, SIDE), kind=kind
        )
        yield _hold_out(np.random.default_rng((SEED, 1, index)), kind, draw)


def _hold_out(
    random: np.random.Generator, kind: str, draw: Callable[[np.random.Generator], Scene]
) -> HeldOutScene:
    while True:
        scene = draw(random)
        found = prompts.targets(scene)
        if found:
            break
    weights = np.array([mask.sum() for mask in found]) ** 0.4
    wanted = min(PROMPTS, len(found))
    picked = random.choice(len(found), wanted, replace=False, p=weights / weights.sum())
    masks = np.stack([found[k] for k in picked])
    return HeldOutScene(
        kind,
        scene.image,
        masks,
        np.stack([deepest_point(mask) for mask in masks]),
        evaluation.edges(masks).astype(np.float32),
    )


class SceneResult(NamedTuple):
    """Measured and predicted IoU of the N objects of one scene."""

    point: NDArray[np.float64]
    """(N, 3): IoU of three masks for one point."""
    point_scores: NDArray[np.float64]
    """(N, 3): their predicted IoU."""
    box: NDArray[np.float64]
    """(N, 1): IoU of the single mask for a box."""
    box_scores: NDArray[np.float64]
    """(N, 1): its predicted IoU."""


@dataclass(frozen=True, slots=True)
class HeldOutQuality:
    """Means over all objects."""

    point_best: float
    """IoU of the best of three masks, one point."""
    point_chosen: float
    """IoU of the mask of three that scores highest, one point."""
    box: float
    """IoU of the single mask for a box."""
    score_error: float
    """Mean distance of the predicted IoU from the true one, over all these masks."""

    @property
    def mean(self) -> float:
        """The measure that weights are chosen by."""
        return (self.point_best + self.point_chosen + self.box) / 3


def summarise(results: Iterable[SceneResult]) -> HeldOutQuality:
    """Average the results of several scenes over their objects."""
    point, point_scores, box, box_scores = (
        np.concatenate(part) for part in zip(*results, strict=True)
    )
    winners = np.take_along_axis(point, point_scores.argmax(axis=1)[:, None], axis=1)
    misses = np.concatenate([(point_scores - point).ravel(), (box_scores - box).ravel()])
    means = (point.max(axis=1).mean(), winners.mean(), box.mean(), np.abs(misses).mean())
    return HeldOutQuality(*(float(mean) for mean in means))


@torch.inference_mode()
def measure_network(network: SamNano, held: HeldOutScene) -> SceneResult:
    """Measure a network in torch; IoU at the resolution of the logits, without enlarging them."""
    image = batches.normalise(torch.from_numpy(held.image.copy()), SIDE)[None]
    embedding = network.eval().image_encoder(image)
    targets = (
        torch.from_numpy(np.stack([count_covered(mask) for mask in held.masks])).float()
        / PIXELS_PER_MASK_PIXEL
    )
    points = np.pad(held.points[:, None], ((0, 0), (0, 1), (0, 0)))
    point_labels = (contract.LABEL_FOREGROUND, contract.LABEL_PADDING)
    box_labels = (contract.LABEL_BOX_TOP_LEFT, contract.LABEL_BOX_BOTTOM_RIGHT)
    found = []
    for coords, labels, slots in (
        (points, point_labels, slice(1, None)),
        (held.boxes.reshape(-1, 2, 2), box_labels, slice(0, 1)),
    ):
        repeated = torch.tensor(labels, dtype=torch.int32).expand(len(targets), -1)
        prompt_batch = PromptBatch(torch.from_numpy(coords), repeated, None, targets)
        logits, scores = network.predict(embedding, prompt_batch, (0, 0))
        iou = measured_iou(logits, targets)
        found += [iou[:, slots].double().numpy(), scores[:, slots].double().numpy()]
    return SceneResult(*found)


def measure_model(model: Sam, held: HeldOutScene) -> SceneResult:
    """Measure a loaded model through the public functions; IoU of whole pixels."""
    embedding, number = model.embed(held.image), len(held.masks)
    by_point = model.segment(embedding, points=held.points[:, None])
    by_box = model.segment(embedding, boxes=held.boxes, multimask=False)
    rows = np.arange(number)
    point = evaluation.overlaps(by_point.array(), held.masks).reshape(number, 3, number)
    box = evaluation.overlaps(by_box.array(), held.masks)
    return SceneResult(
        point[rows, :, rows],
        by_point.scores.astype(np.float64).reshape(number, 3),
        box[rows, rows][:, None],
        by_box.scores.astype(np.float64)[:, None],
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure the weights of a run, write the curve beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--scenes", type=int, default=20, help="held-out scenes to measure on")
    parser.add_argument(
        "--images", type=Path, help="measure on collages, photographs and phantoms instead"
    )
    arguments = parser.parse_args(argv)
    if arguments.images is None:
        name, shown = "curve.json", list(scenes(arguments.scenes))
    else:
        name = "mixture_curve.json"
        shown = list(mixture_scenes(arguments.scenes, Collection(arguments.images)))
    curve, network = [], SamNano()
    for file in sorted((arguments.run / "kept").glob("*.safetensors")):
        network.load_state_dict(load_file(file))
        quality = summarise(measure_network(network, held) for held in shown)
        curve.append({"step": int(file.stem), **asdict(quality), "mean": quality.mean})
        print(json.dumps(curve[-1]), flush=True)
    (arguments.run / name).write_text(json.dumps(curve, indent=1) + "\n")
    best = max(curve, key=lambda row: row["mean"])
    print(f"best: {arguments.run / 'kept'}/{best['step']:06d}.safetensors")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
