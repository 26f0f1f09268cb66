"""Protocol ``adapter``: models that draw their masks without a prompt (Shi et al., fine-tuned)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.errors import MaskError, PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.metrics import dice, iou
from fastseg.evaluation.protocols.base import Protocol, Scored, make_row, require, spent
from fastseg.guided.promptable import PromptModel
from fastseg.masks import Masks
from fastseg.timings import Stopwatch

if TYPE_CHECKING:
    from fastseg.echo.unet import Unet

ONLY = "only"
"""Slot of a model that draws one mask of each class."""


@dataclass(frozen=True, kw_only=True)
class Adapter(Protocol):
    """One run of a model without a prompt, and its masks against the classes of the truth.

    A model that names its masks is scored by class, all objects of a class as one. A model with one
    mask without a name is scored against the one class of the data.
    """

    name: ClassVar[str] = "adapter"
    source: ClassVar[str] = "Shi et al., arXiv 2304.12637, fine-tuned by SAM-Adapter"
    headline: ClassVar[str] = "dice"
    takes_prompts: ClassVar[bool] = False

    classes: tuple[str, ...] = ()
    """Classes that are scored; all if empty."""

    resolution: Literal["image", "model"] = "image"
    """Size at which masks are compared: that of the image, or the square of the model, to which
    image (bilinear) and truth (nearest) are stretched, as SAM-Adapter's own evaluation does."""

    def __post_init__(self) -> None:
        """Check the switches."""
        require(self.resolution, ("image", "model"), "resolution")

    def score(self, example: LoadedExample, model: PromptModel | Unet, seed: int) -> Scored:  # noqa: ARG002
        """Run a model on an image, and score a mask a class.

        Raises:
            PromptError: The model needs a prompt.
            MaskError: The model draws no mask for a class, or the class of its only mask is not
                known.
        """
        truths = list(self._truths(example))
        if not truths:
            return Scored()
        image = example.image
        if self.resolution == "model":
            size = _square(model, image)
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        watch = Stopwatch()
        with watch("decode"):
            masks = _segment(model, image, example.spacing)
        drawn = masks.array()
        rows = []
        for truth in truths:
            place = _place(masks, truth, truths)
            mask, wanted = drawn[place], truth.mask
            if self.resolution == "model":
                wanted = _nearest(wanted, mask.shape[::-1])
            scores = {"iou": iou(mask, wanted), "dice": dice(mask, wanted)}
            rows.append(
                make_row(
                    example,
                    truth,
                    variant="no prompt",
                    slot=ONLY,
                    mask=_nearest(mask, truth.mask.shape[::-1]),
                    scores=scores,
                    chosen=[place],
                    predicted=[float(masks.scores[place])],
                )
            )
        return Scored(rows, milliseconds=spent(watch))

    def _truths(self, example: LoadedExample) -> Iterator[Truth]:
        """Yield the objects of each class as one."""
        by_class: dict[str, list[Truth]] = {}
        for truth in example.truths:
            if not self.classes or truth.task in self.classes:
                by_class.setdefault(truth.task, []).append(truth)
        for task, objects in by_class.items():
            united = np.logical_or.reduce([truth.mask for truth in objects])
            yield Truth(task, task, united, objects[0].labelled)


def _segment(
    model: PromptModel | Unet, image: NDArray[np.uint8], spacing: tuple[float, float] | None
) -> Masks:
    if not isinstance(model, PromptModel):
        size = spacing[0] / 10 if spacing is not None and spacing[0] == spacing[1] else None
        return model.segment(image, cm_per_pixel=size)
    rules = model.rules.prompts
    if rules.any:
        raise PromptError(
            f"{model.manifest.name} takes {rules.taken}, and adapter gives no prompt. Judge it by "
            "evaluate points, centroid or boxes."
        )
    return model.segment(image)


def _square(model: PromptModel | Unet, image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the width and height of a model's square; those of the image where it has none."""
    side = model.manifest.side
    return (image.shape[1], image.shape[0]) if side is None else (side, side)


def _place(masks: Masks, truth: Truth, truths: list[Truth]) -> int:
    """Find the mask of a class."""
    if masks.names is not None:
        names = [name.casefold() for name in masks.names]
        if truth.task.casefold() in names:
            return names.index(truth.task.casefold())
        raise MaskError(
            f"the model draws {', '.join(masks.names)}, and the truth is of the class "
            f"{truth.task}. Give classes the names of the masks, or leave others out by --class."
        )
    if len(truths) > 1:
        raise MaskError(
            f"the model draws one mask, and the truth is of {len(truths)} classes: "
            f"{', '.join(one.task for one in truths)}. Name the one that is meant by --class."
        )
    return 0


def _nearest(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize to a width and height by the nearest pixel."""
    if mask.shape[::-1] == size:
        return mask
    resized = Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized).astype(np.bool_)
