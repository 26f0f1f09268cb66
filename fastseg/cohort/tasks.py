"""Tasks of a cohort: masks for the prompts of each image, or for everything in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastseg import results
from fastseg.cohort.manifest import Item
from fastseg.errors import CohortError, PromptError
from fastseg.imaging.view import read_view
from fastseg.inputs.numbers import one_of, yes_or_no
from fastseg.masks import Masks
from fastseg.sam.grid_settings import SETTINGS, resolved_settings
from fastseg.sam.model import Sam

TASKS = ("segment", "everything")

_SEGMENT = ("multimask", "best")


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its settings and its model."""

    name: str
    model: Sam
    settings: Mapping[str, Any]

    def description(self) -> dict[str, Any]:
        """Describe what the results depend on beside the items, ready for JSON."""
        graphs = self.model.manifest.graphs.items()
        content = "\n".join(f"{name} {stored.content}" for name, stored in sorted(graphs))
        return {
            "task": self.name,
            "settings": {**self.settings},
            "model": self.model.manifest.name,
            "model_sha256": hashlib.sha256(content.encode()).hexdigest(),
            "runs": dict(self.model.runs),
        }

    def do(self, item: Item) -> tuple[Masks, bytes]:
        """Segment the image of an item.

        Returns:
            The masks, and the content of the file of results: the same for the same item.

        Raises:
            FastsegError: The image or its prompts cannot be used.
        """
        window, frame = item.window or self.settings.get("window"), item.frame
        limit = self.model.max_pixels
        pixels, medical = read_view(item.path, window=window, frame=frame, max_pixels=limit)
        call: Callable[..., Masks] = {
            "segment": self._segment,
            "everything": self._everything,
        }[self.name]
        masks = call(pixels, item)
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
        return masks, (results.to_json(document) + "\n").encode()

    def _segment(self, pixels: Any, item: Item) -> Masks:
        masks: Masks = self.model.segment(
            pixels,
            points=item.points,
            labels=item.labels,
            boxes=item.boxes,
            names=item.names,
            multimask=self.settings["multimask"],
        )
        return masks.best() if self.settings["best"] else masks

    def _everything(self, pixels: Any, item: Item) -> Masks:
        if item.boxes is not None or item.points is not None:
            raise PromptError(
                f"{item.image} has prompts, and everything takes none. Use the task segment."
            )
        grid = {name: value for name, value in self.settings.items() if name in SETTINGS}
        masks: Masks = self.model.everything(pixels, **grid)
        return masks


def make_task(name: str, model: Sam, settings: Mapping[str, Any] | None) -> Task:
    """Check a task and its settings.

    Args:
        name: ``"segment"`` or ``"everything"``.
        model: A model that takes prompts.
        settings: ``window`` for both; ``multimask`` and ``best`` of ``segment``; the settings of
            ``Sam.everything`` that are numbers.

    Raises:
        CohortError: There is no such task or setting, or the model takes no prompts.
        PromptError: A setting cannot be used.
    """
    one_of(name, TASKS, "task", CohortError)
    if not isinstance(model, Sam):
        raise CohortError(f"the task {name} needs a model that takes prompts, not {model!r}.")
    given = dict(settings or {})
    grid = [each for each in SETTINGS if each not in ("point_grids", "max_device_memory")]
    known = ("window", *(_SEGMENT if name == "segment" else grid))
    unknown = [each for each in given if each not in known]
    if unknown:
        raise CohortError(
            f"the task {name} has no setting {', '.join(unknown)}. It has {', '.join(known)}."
        )
    if name == "everything":
        grid_given = {each: value for each, value in given.items() if each != "window"}
        checked = resolved_settings(grid_given, model.rules)
        given |= {each: getattr(checked, each) for each in grid}
    else:
        given = {"multimask": True, "best": False, **given}
        given |= {each: yes_or_no(given[each], each, PromptError) for each in _SEGMENT}
    return Task(name, model, given)
