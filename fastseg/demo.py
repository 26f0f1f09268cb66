"""The demonstration: a photograph, segmented by a grid of points and by a few boxes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import environment, overlay, results
from fastseg.demo_data import PICTURE
from fastseg.environment import usable_cores
from fastseg.images import read_image
from fastseg.masks import Masks
from fastseg.sam.model import Sam

__all__ = [
    "BOXES",
    "OVERLAY_FILE",
    "PICTURE",
    "POINTS_PER_SIDE",
    "TIMINGS_FILE",
    "Demo",
    "demo",
    "write",
]

BOXES = ((305, 15, 365, 72), (245, 94, 297, 145), (188, 169, 237, 218), (18, 232, 75, 289))
"""Boxes around four of the coins: x0, y0, x1, y1 in pixels."""

POINTS_PER_SIDE = 24
"""Points along each side in everything mode: a coin is several points wide, so none is missed."""

TIMINGS_FILE = "timings.json"
OVERLAY_FILE = "overlay.png"


@dataclass(frozen=True, slots=True)
class Demo:
    """The masks of the demonstration, and their timings."""

    image: NDArray[np.uint8]
    """(H, W, 3) the photograph."""

    everything: Masks
    """Every object, from a grid of points."""

    boxed: Masks
    """The best mask of each of ``BOXES``."""

    about: dict[str, Any]
    """Model, backend, device and precision."""

    def as_dict(self) -> dict[str, Any]:
        """Return counts and timings of every step, ready for JSON."""
        return {
            **self.about,
            "state": "first calls after loading",
            "machine": environment.machine(),
            "steps": [
                self._step("everything", POINTS_PER_SIDE**2, self.everything),
                self._step("boxes", len(BOXES), self.boxed),
            ],
        }

    def _step(self, name: str, prompts: int, masks: Masks) -> dict[str, Any]:
        timings = masks.timings.as_dict()
        return {"name": name, "prompts": prompts, "masks": len(masks), "timings": timings}

    def drawing(self) -> Image.Image:
        """Draw the photograph twice, with the masks of the grid and of the boxes."""
        title = f"everything: {len(self.everything)} masks from {POINTS_PER_SIDE**2} points"
        panels = (
            overlay.Panel(self.image, self.everything, title),
            overlay.Panel(self.image, self.boxed, f"{len(BOXES)} box prompts", prompt_boxes=BOXES),
        )
        about, whole, boxed = self.about, self.everything.timings, self.boxed.timings
        per_mask = f", {whole.per_mask_ms:.0f} ms per mask" if whole.n_masks else ""
        facts = [
            f"{about['model']} on {about['backend']} {about['device']} {about['precision']}",
            f"{usable_cores()} cores",
            f"everything {whole.total / 1e3:.1f} s{per_mask}",
            f"boxes {boxed.decode + boxed.postprocess:.0f} ms once the image is encoded "
            f"({boxed.encode:.0f} ms)",
        ]
        return overlay.compose(panels, " · ".join(facts), long_side=960)


def demo(model: Sam) -> Demo:
    """Segment the photograph.

    Args:
        model: A loaded model; ``sam-nano`` was made for images like this one.
    """
    image = read_image(PICTURE)
    whole = model.everything(image, points_per_side=POINTS_PER_SIDE)
    embedding = model.embed(image)
    boxed = model.segment(embedding, boxes=BOXES)
    timings = embedding.timings + boxed.timings
    best = boxed.best().with_timings(timings)
    return Demo(image, whole, best, model.provenance())


def write(model: Sam, out: str | os.PathLike[str]) -> Demo:
    """Segment the photograph; write the drawing, the masks of everything mode and the timings.

    The files of an earlier demonstration in that folder are replaced.

    Args:
        model: As for ``demo``.
        out: The folder, which is looked at before the work begins and in which the files appear
            when all of them are written.

    Raises:
        OutputError: The name is taken by something else, or the place cannot be written.
    """
    contents = results.Contents(overlays=False)
    with results.write(out, model.provenance(), contents=contents, overwrite=True) as folder:
        shown = demo(model)
        folder.add(PICTURE.name, shown.image, shown.everything)
        folder.report(shown.as_dict(), name=TIMINGS_FILE)
        shown.drawing().save(folder.path / OVERLAY_FILE)
    return shown
