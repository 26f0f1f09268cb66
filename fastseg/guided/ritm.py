"""RITM: points one after the other, each with the mask of those before (Sofiiuk et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.artifacts import ModelFolder
from fastseg.contract import GUIDED_GRAPH, LABEL_FOREGROUND
from fastseg.errors import EmbeddingError, PromptError
from fastseg.guided.grid import find_masks, refuse_settings
from fastseg.guided.image import GuidedImage, PointAnswer
from fastseg.guided.model import GuidedModel
from fastseg.guided.point_maps import point_maps
from fastseg.guided.preprocessing import image_input
from fastseg.guided.resizing import resize_corners
from fastseg.guided.zoom import choose_region
from fastseg.images import MAX_PIXELS, Channels, ImageSource, read_image
from fastseg.inference.sessions import Choice
from fastseg.masks import Masks
from fastseg.ops import Rle
from fastseg.sam.classifier import Classifier, name_masks, require_classifier
from fastseg.sam.grid_settings import SETTINGS, Search, resolved_settings
from fastseg.sam.mask_generator import Progress
from fastseg.timings import Stopwatch

Floats = NDArray[np.float32]


class Ritm(GuidedModel):
    """An iterative-mask network: one mask for the points of a prompt, in the order of the points.

    The points of a prompt are given to the network one by one, each with the mask of those before,
    as its predictor does; so their order matters. The mask depends on the image and the points
    alone, not on earlier calls: those only save runs of the network.
    """

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        super().__init__(folder, choice, max_pixels=max_pixels)
        self._rules = self.manifest.point_preprocessing
        self.threshold = self._rules.threshold

    def everything(
        self,
        image: ImageSource,
        *,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[ArrayLike] | None = None,
        min_mask_region_area: int = 0,
        search: Search = "full",
        embedding: GuidedImage | None = None,
        classify: Classifier | None = None,
        channels: Channels = "rgb",
        max_device_memory: int | None = None,
        progress: Progress | None = None,
    ) -> Masks:
        """Find objects by a grid of points, each a prompt of its own; see ``Sam.everything``.

        The network runs on the whole image for every point, so a grid takes minutes. It predicts no
        IoU: ``scores`` are those of ``segment``, and by default ``stability_score_thresh`` alone
        filters. ``points_per_batch`` and ``max_device_memory`` change nothing.

        Raises:
            EmbeddingError: The embedding is another model's or another image's.
            ImageError: The image cannot be used.
            PromptError: A setting cannot be used; crops and coarse-to-fine searches are refused.
        """
        given = locals()
        settings = resolved_settings({name: given[name] for name in SETTINGS}, self.rules)
        refuse_settings(settings)
        if classify is not None:
            require_classifier(classify)
        with self._graphs.call():
            pixels = read_image(image, channels=channels, max_pixels=self.max_pixels)
            ready = self._read(pixels if embedding is None else embedding, "rgb")
            if ready.frame.image != pixels.shape[:2]:
                raise EmbeddingError(
                    f"{ready!r} is not of the image of {pixels.shape[0]} x {pixels.shape[1]} "
                    "pixels. Embed the image that is segmented."
                )
            watch = Stopwatch()
            found = find_masks(self, ready, settings, watch, progress)
        masks = found.with_timings(ready.timings + self._timings(watch, n_masks=len(found)))
        return masks if classify is None else name_masks(classify, pixels, None, masks)

    def mask_of_point(
        self, image: GuidedImage, point: NDArray[np.float64], offset: float
    ) -> tuple[Rle, float, float]:
        """Draw the mask of one foreground point, which the image does not remember.

        Args:
            image: What ``embed`` made.
            point: (2,) x before y, in pixels.
            offset: Shift of the logit of the threshold that stability is measured with.

        Returns:
            One mask, its score and its stability.
        """
        answer = self._next(image, point[None], np.array([LABEL_FOREGROUND], np.int32), None)
        return self._drawn(answer.probabilities, offset)

    def _input(self, pixels: NDArray[np.uint8]) -> Floats:
        return image_input(pixels, self._rules)

    def _probabilities(
        self, image: GuidedImage, points: NDArray[np.float64], labels: NDArray[np.int32]
    ) -> Floats:
        marks = labels.tolist()
        prompt = tuple((x, y, mark) for (x, y), mark in zip(points.tolist(), marks, strict=True))
        known, answer = image.memory.longest(prompt)
        for count in range(known + 1, len(prompt) + 1):
            answer = self._next(image, points[:count], labels[:count], answer)
            image.memory.keep(prompt[:count], answer)
        if answer is None:
            raise PromptError("A prompt has no point but padding. Give each at least one point.")
        return answer.probabilities

    def _next(
        self,
        image: GuidedImage,
        points: NDArray[np.float64],
        labels: NDArray[np.int32],
        before: PointAnswer | None,
    ) -> PointAnswer:
        """Run the network on all points so far and the mask before the last of them."""
        height, width = image.frame.image
        last = np.zeros((height, width), np.float32) if before is None else before.probabilities
        seen = None if before is None else before.region
        shown = None if before is None else last
        region = choose_region(shown, points, labels, seen, self._rules.zoom)
        if region is None:
            return PointAnswer(self._run(image.pixels, last[None], points, labels), seen)
        size = region.resized(self._rules.zoom.side)
        part = resize_corners(region.cut(image.pixels), size)
        mask = resize_corners(region.cut(last[None]), size)
        found = self._run(part, mask, region.to_input(points, size), labels)
        return PointAnswer(region.paste(found, (height, width)), region)

    def _run(
        self,
        pixels: Floats,
        mask: Floats,
        points: NDArray[np.float64],
        labels: NDArray[np.int32],
    ) -> Floats:
        """Run the network on an image and, if the model asks for it, its mirror image.

        Returns:
            (h, w) probabilities: the sigmoid of the mean logit.
        """
        height, width = mask.shape[1:]
        inputs = [(pixels, mask, points)]
        if self._rules.flip:
            mirrored = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)
            inputs.append((pixels[:, :, ::-1], mask[:, :, ::-1], mirrored))
        maps = [
            np.concatenate([last, point_maps(at, labels, (height, width), self._rules.radius)])
            for _, last, at in inputs
        ]
        feeds = {"image": np.stack([each for each, _, _ in inputs]), "guidance": np.stack(maps)}
        logits = self._graphs.run(GUIDED_GRAPH, feeds)["logits"][:, 0]
        mean = logits[0] if len(logits) == 1 else (logits[0] + logits[1, :, ::-1]) / 2
        probabilities: Floats = (1 / (1 + np.exp(-np.clip(mean, -80, 80)))).astype(np.float32)
        return probabilities
