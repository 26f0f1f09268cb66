"""Tasks of single images: masks for the prompts of each, or for everything in it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastseg import results
from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks.base import RESULT, Product, PromptedTask
from fastseg.errors import PromptError
from fastseg.imaging.view import read_view
from fastseg.masks import Masks
from fastseg.sam.grid_settings import SETTINGS


@dataclass(frozen=True, kw_only=True)
class ImageTask(PromptedTask):
    """A task that reads one image of an item."""

    def _make(self, item: Item, path: Path) -> Product:
        window = item.window or self.settings.get("window")
        pixels, medical = read_view(
            path, window=window, frame=item.frame, max_pixels=self.max_pixels
        )
        masks = self._masks(pixels, item)
        height, width = masks.size
        pixel_mm2 = None if medical is None else medical.pixel_mm2
        document = {
            "image": item.image,
            "frame": item.frame,
            "patient": item.patient,
            "width": width,
            "height": height,
            "annotations": list(results.describe(masks, pixel_mm2=pixel_mm2)),
        }
        return Product({RESULT: (results.to_json(document) + "\n").encode()}, len(masks))

    @abstractmethod
    def _masks(self, pixels: NDArray[np.uint8], item: Item) -> Masks:
        """Segment the image of an item, uint8 (H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class SegmentTask(ImageTask):
    """Masks for the prompts of an image."""

    name: ClassVar[str] = "segment"

    def _masks(self, pixels: NDArray[np.uint8], item: Item) -> Masks:
        image: Any = pixels
        if self.cache is not None and (item.boxes is not None or item.points is not None):
            image = self.cache.embed(self.model, pixels)
        masks: Masks = self.model.segment(
            image,
            points=item.points,
            labels=item.labels,
            boxes=item.boxes,
            names=item.names,
            multimask=self.settings["multimask"],
        )
        return masks.best() if self.settings["best"] else masks


@dataclass(frozen=True, kw_only=True)
class EverythingTask(ImageTask):
    """Masks of everything in an image."""

    name: ClassVar[str] = "everything"

    def _masks(self, pixels: NDArray[np.uint8], item: Item) -> Masks:
        if item.boxes is not None or item.points is not None:
            raise PromptError(
                f"{item.image} has prompts, and everything takes none. Use the task segment."
            )
        grid = {name: value for name, value in self.settings.items() if name in SETTINGS}
        kept = None if self.cache is None else self.cache.embed(self.model, pixels)
        masks: Masks = self.model.everything(pixels, **grid, embedding=kept)
        return masks
