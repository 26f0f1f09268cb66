"""The task of volumes: objects followed through the slices from the prompts of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fastseg import imaging, results
from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks.base import RESULT, Product, PromptedTask
from fastseg.errors import ImageError
from fastseg.imaging import MedicalImage
from fastseg.imaging.saving import encode
from fastseg.sam.volume_summary import describe_object, describe_slices

RULES = ("rule", "margin", "min_score", "max_change", "max_shift", "multimask")
"""Settings of ``PropagationSettings``."""


@dataclass(frozen=True, kw_only=True)
class PropagateTask(PromptedTask):
    """Masks of the slices of a volume; ``frame`` of an item is the prompted slice."""

    name: ClassVar[str] = "propagate"

    def _make(self, item: Item, path: Path) -> Product:
        volume = self._read(item, path)
        found = self.model.propagate(
            volume,
            start=item.frame,
            points=item.points,
            labels=item.labels,
            boxes=item.boxes,
            names=item.names,
            axis=self.settings["axis"],
            **{name: self.settings[name] for name in RULES},
            cache=self.cache,
        )
        document = {
            "image": item.image,
            "patient": item.patient,
            "shape": list(volume.stored.shape[:3]),
            "spacing_mm": [volume.slice_spacing, *(volume.spacing or (None, None))],
            "objects": [describe_object(found, number) for number in range(found.objects)],
            "slices": list(describe_slices(found, volume)),
        }
        suffix = f".{self.settings['format']}"
        files = {
            RESULT: (results.to_json(document) + "\n").encode(),
            suffix: encode(suffix, found.frames(), volume),
        }
        return Product(files, found.objects)

    def _read(self, item: Item, path: Path) -> MedicalImage:
        image = imaging.read(path, max_pixels=self.max_pixels)
        window: Any = item.window or self.settings["window"]
        if window is not None:
            image = image.with_window(window)
        if image.volumes > 1:
            raise ImageError(
                f"{item.image} has {image.volumes} volumes in time. Cut it into files of one each."
            )
        return image
