"""The base of models whose prompts are channels of their network's input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.contract import GUIDED_GRAPH, LABEL_PADDING
from fastseg.errors import EmbeddingError, PromptError
from fastseg.geometry import Frame
from fastseg.guided.image import GuidedImage
from fastseg.images import MAX_PIXELS, Channels, ImageSource, is_stack, read_image
from fastseg.inference.loaded_model import LoadedModel
from fastseg.inference.sessions import Choice
from fastseg.inputs.numbers import shown, yes_or_no
from fastseg.masks import Masks
from fastseg.ops import Rle
from fastseg.sam.prompts import PromptRequest, Prompts
from fastseg.sam.streaming import Stages, pair_requests, stream_masks
from fastseg.timings import Stopwatch, Timings

STABILITY_OFFSET = 1.0
"""Shift of the logit of the threshold that the stability of a mask is measured by, as SAM's."""


class GuidedModel(LoadedModel, ABC):
    """A network that draws one mask from an image and the maps of one prompt.

    Its calls are those of ``Sam``, so that the same code serves both. Safe in several threads.
    """

    threshold: float
    """Probability above which a pixel is part of a mask."""

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        super().__init__(folder, choice, image_graph=GUIDED_GRAPH, max_pixels=max_pixels)
        self.encoder_sha256 = self._graphs.plans[GUIDED_GRAPH].stored.content
        """Hash of the network and its weights; images carry it as ``GuidedImage.model``."""
        self.rules = self.manifest.sam_rules
        """The prompts that the model takes."""

    @abstractmethod
    def _input(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise an image (H, W, 3), and resize it where the model asks for it."""

    @abstractmethod
    def _probabilities(
        self, image: GuidedImage, points: NDArray[np.float64], labels: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Compute the mask of one prompt: probabilities (H, W) in the pixels of the image."""

    def embed(self, image: ImageSource, *, channels: Channels = "rgb") -> GuidedImage:
        """Prepare an image for any number of prompts.

        No network runs here. The image remembers the masks of its prompts, so that a prompt that
        goes on from an earlier one costs its further points alone.

        Args:
            image: Path, open file, bytes, PIL image or array, see ``read_image``.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.

        Raises:
            ImageError: The image cannot be used.
        """
        watch = Stopwatch()
        with watch("preprocess"):
            pixels = read_image(image, channels=channels, max_pixels=self.max_pixels)
            prepared = self._input(pixels)
        height, width = pixels.shape[:2]
        timings = self._timings(watch, n_masks=0)
        return GuidedImage(prepared, Frame((height, width)), self.encoder_sha256, timings=timings)

    @overload
    def segment(  # type: ignore[overload-overlap]  # a str is an Iterable, but one image
        self,
        image: ImageSource | GuidedImage,
        *,
        points: ArrayLike | Sequence[Any] | None = None,
        labels: ArrayLike | Sequence[Any] | None = None,
        boxes: ArrayLike | None = None,
        mask_logits: ArrayLike | None = None,
        names: str | Sequence[str] | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> Masks: ...

    @overload
    def segment(
        self,
        image: Iterable[ImageSource | GuidedImage],
        *,
        points: Iterable[Any] | None = None,
        labels: Iterable[Any] | None = None,
        boxes: Iterable[Any] | None = None,
        mask_logits: Iterable[Any] | None = None,
        names: Iterable[Any] | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> list[Masks]: ...

    def segment(
        self,
        image: Any,
        *,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        mask_logits: Any = None,
        names: Any = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> Masks | list[Masks]:
        """Draw the mask of each prompt, with the arguments of ``Sam.segment``.

        Args:
            image: An image, or what ``embed`` of this model made of one. Many of them, as a list,
                an iterator or a stack (n, H, W, 3), give a list of ``Masks``.
            points: (2,) or (points, 2) for one prompt, (prompts, points, 2) for many, x before y in
                pixels, or a list of (points, 2) arrays of any lengths.
            labels: 1 foreground, 0 background, -1 none, shaped like ``points`` without its last
                axis; None means all foreground.
            boxes: (4,) or (prompts, 4) as x0, y0, x1, y1 in pixels.
            mask_logits: No model of this kind takes them.
            names: A name for each prompt, which its mask carries.
            multimask: One mask is drawn either way: these networks have no alternatives.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.

        Returns:
            One mask a prompt, in their order. ``scores`` is the IoU that the probabilities promise
            (see ``ops.chamber_scores``), as these networks predict none; ``logits`` is None.

        Raises:
            ImageError: The image cannot be used.
            PromptError: The prompts cannot be used, or are of a kind that the model does not take.
        """
        if is_stack(image):
            asked = {"points": points, "labels": labels, "boxes": boxes, "mask_logits": mask_logits}
            options = {"names": names, "multimask": multimask, "channels": channels}
            return list(self.stream(image, **asked, **options))
        yes_or_no(multimask, "multimask", PromptError)
        request = PromptRequest(points, labels, boxes, mask_logits, names)
        with self._graphs.call():
            return self._decode(*self._check(self._read(image, channels), request))

    def stream(
        self,
        images: Iterable[ImageSource | GuidedImage],
        *,
        points: Iterable[Any] | None = None,
        labels: Iterable[Any] | None = None,
        boxes: Iterable[Any] | None = None,
        mask_logits: Iterable[Any] | None = None,
        names: Iterable[Any] | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
        batch_size: int = 8,
        on_error: Literal["raise", "yield"] = "raise",
    ) -> Iterator[Any]:
        """Segment many images in order, in bounded memory; see ``Sam.stream``.

        Raises:
            ImageError: An image cannot be used.
            PromptError: A prompt cannot be used, or images and prompts are not equally many.
        """
        yes_or_no(multimask, "multimask", PromptError)
        requests = pair_requests(images, (points, labels, boxes, mask_logits, names))
        stages = Stages(
            read=lambda image: self._read(image, channels), encode=self._check, decode=self._decode
        )
        return stream_masks(requests, stages, batch_size=batch_size, on_error=on_error)

    def _read(self, image: Any, channels: Channels) -> GuidedImage:
        if isinstance(image, GuidedImage):
            image.require(self.encoder_sha256)
            return replace(image, timings=Timings())  # those of an earlier call
        if hasattr(image, "features"):
            raise EmbeddingError(
                f"{shown(image)} was made by a model of another kind. Embed the image with the "
                "model that segments it."
            )
        return self.embed(image, channels=channels)

    def _check(self, image: GuidedImage, request: PromptRequest) -> tuple[GuidedImage, Prompts]:
        """Check the prompts; the network has not run yet."""
        return image, request.check(image.frame, mask_side=1, rules=self.rules.prompts)

    def _decode(self, image: GuidedImage, prompts: Prompts) -> Masks:
        """Draw the mask of every prompt as run lengths."""
        watch = Stopwatch()
        parts: list[Rle] = [Rle.from_lists([], image.frame.image)]
        scores, stability = [], []
        for first, end in zip(prompts.offsets[:-1], prompts.offsets[1:], strict=True):
            labels = prompts.labels[first:end]
            given = labels != LABEL_PADDING
            with watch("decode"):
                points = prompts.points[first:end][given]
                found = self._probabilities(image, points, labels[given])
            with watch("postprocess"):
                runs, score, stable = self._drawn(found)
            parts.append(runs)
            scores.append(score)
            stability.append(stable)
        return Masks.from_rle(
            Rle.concatenate(parts),
            scores=np.array(scores, np.float32),
            stability=np.array(stability, np.float32),
            timings=image.timings + self._timings(watch, n_masks=len(scores)),
            names=prompts.names_of_masks(1),
        )

    def _drawn(
        self, probabilities: NDArray[np.float32], offset: float = STABILITY_OFFSET
    ) -> tuple[Rle, float, float]:
        """Cut a mask at the threshold; return it with its score and its stability."""
        mask = probabilities > np.float32(self.threshold)
        planes = probabilities[None, None], mask[None, None]
        score = ops.chamber_scores(*planes, threads=self.threads).scores[0, 0]
        low, high = (_shifted(self.threshold, shift) for shift in (-offset, offset))
        outer = np.count_nonzero(probabilities > low)
        stable = np.count_nonzero(probabilities > high) / outer if outer else np.nan
        return ops.rle_from_array(mask[None]), float(score), float(stable)


def _shifted(probability: float, offset: float) -> np.float32:
    """Move a probability by an offset of its logit."""
    logit = math.log(probability / (1 - probability)) + offset
    # Beyond 700 the exponential has no float64, and the probability is 0 or 1 long before.
    return np.float32(1 / (1 + math.exp(-min(max(logit, -700.0), 700.0))))
