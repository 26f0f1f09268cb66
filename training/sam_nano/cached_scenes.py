"""A scene with the prompts drawn about it, small enough to be kept and shown again."""

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
from training.sam_nano.devices import moved
from training.sam_nano.plan import Stage

SIXTEENTHS = 16
"""A mask pixel has this many pixels, and covers are counted in them."""

GROUND_ODDS = 0.06
"""How often a click asks for the ground instead of an object."""


class Asking(NamedTuple):
    """What to ask about a scene: how many prompts of a kind, with how many corrections."""

    kind: prompts.Kind
    count: int
    extra: int


@dataclass(frozen=True, slots=True)
class Asked:
    """N prompts of one form."""

    coords: Tensor
    """float32 (N, points, 2) in pixels of the page."""

    labels: Tensor
    """int32 (N, points)."""

    objects: Tensor
    """int64 (N,): whose mask is the answer, a row of the page's ``covers``."""

    def part(self, rows: Tensor, points: Sequence[int] | None = None) -> Asked:
        """Some of the prompts, with some of their points."""
        coords, labels = self.coords[rows], self.labels[rows]
        if points is not None:
            coords, labels = coords[:, list(points)], labels[:, list(points)]
        return Asked(coords, labels, self.objects[rows])


@dataclass(frozen=True, slots=True)
class Page:
    """One picture, its objects, and what is asked about them."""

    image: Tensor
    """uint8 (h, w, 3), without the padding that makes it a square."""

    covers: Tensor
    """uint8 (M, side / 4, side / 4): how many of a mask pixel's 16 pixels each object covers."""

    owners: Tensor
    """int16 (side / 4, side / 4): number of the whole object, 0 for the ground, ``PADDED``."""

    asked: tuple[Asked, ...]

    @property
    def fills_square(self) -> bool:
        """Whether the picture has no padding."""
        return tuple(self.image.shape[:2]) == tuple(4 * side for side in self.owners.shape)

    def on(self, device: torch.device) -> Page:
        """A copy in the memory of a device."""
        return moved(self, device, copy=True)

    def mirrored(self) -> Page:
        """Left and right exchanged; only for a page that fills its square."""
        right = self.image.shape[1] - 1
        return Page(
            self.image.flip(1),
            self.covers.flip(2),
            self.owners.flip(1),
            tuple(_mirrored(asked, right) for asked in self.asked),
        )

    def relit(self, gain: float, gamma: float) -> Page:
        """The same in other light: 255 * gain * (value / 255) ** gamma, cut off at 255."""
        bright = (self.image.float() / 255) ** gamma * (255 * gain)
        return replace(self, image=bright.clamp(max=255).to(torch.uint8))


def _mirrored(asked: Asked, right: int) -> Asked:
    """Prompts about a picture whose last column is ``right``, about the mirrored one."""
    x = torch.where(asked.labels == contract.LABEL_PADDING, 0, right - asked.coords[..., 0])
    if bool((asked.labels[:, -1] == contract.LABEL_BOX_BOTTOM_RIGHT).all()):
        x = torch.cat([x[:, :-2], x[:, -2:].flip(1)], dim=1)  # the left corner stays the left one
    return replace(asked, coords=torch.stack([x, asked.coords[..., 1]], dim=-1))


def cover(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """How many pixels of each 4 x 4 a mask (height, width) has: (height / 4, width / 4)."""
    pixels = mask.view(np.uint8)
    rows = pixels[0::4] + pixels[1::4] + pixels[2::4] + pixels[3::4]
    return np.asarray(rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4])


def _scene(
    random: np.random.Generator, side: int, varied: bool
) -> tuple[scenes.Scene, list[NDArray[np.bool_]]]:
    """A scene with at least one target, sometimes ending before the square does; its targets."""
    while True:
        height = width = side
        if random.random() < 0.25:  # padding below or to the right, as wide pictures have
            kept = int(side * random.uniform(0.5, 0.95))
            height, width = (kept, side) if random.random() < 0.6 else (side, kept)
        draw = scene_kinds.generate if varied else scenes.generate
        scene = draw(random, (height, width))
        if masks := prompts.targets(scene):
            return scene, masks


def _padded(plane: NDArray[np.generic], side: int, value: int) -> NDArray[np.generic]:
    below, right = side - plane.shape[0], side - plane.shape[1]
    return np.pad(plane, ((0, below), (0, right)), constant_values=value)


def draw_page(random: np.random.Generator, stage: Stage, askings: Sequence[Asking]) -> Page:
    """Draw a scene and ask about it; the generator alone decides what."""
    scene, masks = _scene(random, stage.side, stage.varied)
    odds = np.array([np.count_nonzero(mask) for mask in masks]) ** stage.leaning
    odds /= odds.sum()
    ground = scene.labels == 0
    grounded = np.count_nonzero(ground) > 0.1 * ground.size
    answers = [*masks, ground]
    rows: dict[int, int] = {}  # of the objects that are asked for, in the order of asking
    groups = []
    for kind, count, extra in askings:
        drawn, objects = [], []
        for index in random.choice(len(masks), count, p=odds).tolist():
            if kind == "click" and grounded and random.random() < GROUND_ODDS:
                index = len(masks)
            slack = random.choice(prompts.SLACKS) if stage.varied else prompts.USUAL_SLACK
            drawn.append(prompts.sample(random, answers[index], kind, extra, float(slack)))
            objects.append(rows.setdefault(index, len(rows)))
        groups.append(
            Asked(
                torch.from_numpy(np.stack([prompt.coords for prompt in drawn])),
                torch.from_numpy(np.stack([prompt.labels for prompt in drawn])),
                torch.tensor(objects),
            )
        )
    padded = (_padded(answers[index], stage.side, 0) for index in rows)
    covers = [cover(np.asarray(mask, dtype=bool)) for mask in padded]
    owners = _padded(scene.wholes[scene.labels].astype(np.int16), stage.side, prompts.PADDED)
    return Page(
        torch.from_numpy(np.array(scene.image)),
        torch.from_numpy(np.stack(covers)),
        torch.from_numpy(np.ascontiguousarray(owners[2::4, 2::4])),
        tuple(groups),
    )
