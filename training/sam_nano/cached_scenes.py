"""Scenes with the prompts drawn for them, small enough to be kept and shown again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastseg import contract
from training.sam_nano import prompts, scene_kinds, scenes
from training.sam_nano.devices import to_device
from training.sam_nano.plan import Stage

PIXELS_PER_MASK_PIXEL = 16
"""Image pixels of one mask pixel; coverage is counted in them."""

BACKGROUND_ODDS = 0.06
"""Share of single points that lie on the background instead of on an object."""


class PromptRequest(NamedTuple):
    """A number of prompts of one kind, and the corrections of each."""

    kind: prompts.PromptKind
    count: int
    extra: int


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """N prompts of one form."""

    coords: Tensor
    """float32 (N, points, 2) in pixels of the scene."""

    labels: Tensor
    """int32 (N, points)."""

    objects: Tensor
    """int64 (N,): row of the target mask in the scene's ``coverage``."""

    def select(self, rows: Tensor, points: Sequence[int] | None = None) -> PromptGroup:
        """Return some of the prompts, with some of their points."""
        coords, labels = self.coords[rows], self.labels[rows]
        if points is not None:
            coords, labels = coords[:, list(points)], labels[:, list(points)]
        return PromptGroup(coords, labels, self.objects[rows])


@dataclass(frozen=True, slots=True)
class CachedScene:
    """One image, its objects, and the prompts for them."""

    image: Tensor
    """uint8 (h, w, 3), without the padding that makes it a square."""

    coverage: Tensor
    """uint8 (M, side / 4, side / 4): pixels of a mask pixel's 16 that each object covers."""

    owners: Tensor
    """int16 (side / 4, side / 4): number of the object, 0 for background, ``PADDED`` or
    ``UNKNOWN``."""

    prompt_groups: tuple[PromptGroup, ...]

    @property
    def fills_square(self) -> bool:
        """True if the image has no padding."""
        return tuple(self.image.shape[:2]) == tuple(4 * side for side in self.owners.shape)

    def on(self, device: torch.device) -> CachedScene:
        """Return a copy in the memory of a device."""
        return to_device(self, device, copy=True)

    def mirror(self) -> CachedScene:
        """Exchange left and right; only for a scene that fills its square."""
        right = self.image.shape[1] - 1
        return CachedScene(
            self.image.flip(1),
            self.coverage.flip(2),
            self.owners.flip(1),
            tuple(_mirror(group, right) for group in self.prompt_groups),
        )

    def relight(self, gain: float, gamma: float) -> CachedScene:
        """Map grey values to 255 * gain * (value / 255) ** gamma, cut off at 255."""
        bright = (self.image.float() / 255) ** gamma * (255 * gain)
        return replace(self, image=bright.clamp(max=255).to(torch.uint8))


def _mirror(group: PromptGroup, right: int) -> PromptGroup:
    """Mirror the prompts of an image whose last column is ``right``."""
    x = torch.where(group.labels == contract.LABEL_PADDING, 0, right - group.coords[..., 0])
    if bool((group.labels[:, -1] == contract.LABEL_BOX_BOTTOM_RIGHT).all()):
        x = torch.cat([x[:, :-2], x[:, -2:].flip(1)], dim=1)  # the left corner stays the left one
    return replace(group, coords=torch.stack([x, group.coords[..., 1]], dim=-1))


def count_covered(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Count the pixels of a mask (height, width) in each 4 x 4: (height / 4, width / 4)."""
    pixels = mask.view(np.uint8)
    rows = pixels[0::4] + pixels[1::4] + pixels[2::4] + pixels[3::4]
    return np.asarray(rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4])


def _draw_scene(
    random: np.random.Generator, side: int, all_kinds: bool
) -> tuple[scenes.Scene, list[NDArray[np.bool_]]]:
    """Draw a scene with at least one target, sometimes smaller than its square; its targets."""
    while True:
        height = width = side
        if random.random() < 0.25:  # padding below or to the right, as wide images have
            kept = int(side * random.uniform(0.5, 0.95))
            height, width = (kept, side) if random.random() < 0.6 else (side, kept)
        draw = scene_kinds.generate if all_kinds else scenes.generate
        scene = draw(random, (height, width))
        if masks := prompts.targets(scene):
            return scene, masks


def _pad(plane: NDArray[np.generic], side: int, value: int) -> NDArray[np.generic]:
    below, right = side - plane.shape[0], side - plane.shape[1]
    return np.pad(plane, ((0, below), (0, right)), constant_values=value)


def draw_cached_scene(
    random: np.random.Generator, stage: Stage, requests: Sequence[PromptRequest]
) -> CachedScene:
    """Draw a scene and the requested prompts; the generator alone decides them."""
    scene, masks = _draw_scene(random, stage.side, stage.all_kinds)
    return cache_scene(random, scene, masks, stage, requests)


def cache_scene(
    random: np.random.Generator,
    scene: scenes.Scene,
    masks: Sequence[NDArray[np.bool_]],
    stage: Stage,
    requests: Sequence[PromptRequest],
) -> CachedScene:
    """Draw the requested prompts for the ``masks`` of a scene, and pack both."""
    odds = np.array([np.count_nonzero(mask) for mask in masks]) ** stage.area_exponent
    odds /= odds.sum()
    background = scene.labels == 0
    has_background = scene.ground_known and np.count_nonzero(background) > 0.1 * background.size
    candidates = [*masks, background]
    rows: dict[int, int] = {}  # of the target objects, in the order of their prompts
    groups = []
    for kind, count, extra in requests:
        drawn, objects = [], []
        for index in random.choice(len(masks), count, p=odds).tolist():
            if kind == "point" and has_background and random.random() < BACKGROUND_ODDS:
                index = len(masks)
            slack = random.choice(prompts.SLACKS) if stage.all_kinds else prompts.USUAL_SLACK
            drawn.append(prompts.sample(random, candidates[index], kind, extra, float(slack)))
            objects.append(rows.setdefault(index, len(rows)))
        groups.append(
            PromptGroup(
                torch.from_numpy(np.stack([prompt.coords for prompt in drawn])),
                torch.from_numpy(np.stack([prompt.labels for prompt in drawn])),
                torch.tensor(objects),
            )
        )
    padded = (_pad(candidates[index], stage.side, 0) for index in rows)
    coverage = [count_covered(np.asarray(mask, dtype=bool)) for mask in padded]
    owners = _pad(_owners(scene), stage.side, prompts.PADDED)
    return CachedScene(
        torch.from_numpy(np.array(scene.image)),
        torch.from_numpy(np.stack(coverage)),
        torch.from_numpy(np.ascontiguousarray(owners[2::4, 2::4])),
        tuple(groups),
    )


def _owners(scene: scenes.Scene) -> NDArray[np.int16]:
    """Return the number of each pixel's object for the dense targets.

    Scenes whose ground is unknown have weak labels of several levels: the smallest regions have
    the edges that are seen.
    """
    if scene.ground_known:
        return scene.wholes[scene.labels].astype(np.int16)
    return np.where(scene.labels > 0, scene.labels, prompts.UNKNOWN).astype(np.int16)
