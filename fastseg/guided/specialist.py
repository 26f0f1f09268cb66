"""Specialists: networks for one kind of image, which take a box as a channel of ones."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.guidance import TILES
from fastseg.contract import GUIDED_GRAPH
from fastseg.errors import PromptError
from fastseg.guided.box_map import box_map
from fastseg.guided.image import GuidedImage
from fastseg.guided.model import GuidedModel
from fastseg.guided.preprocessing import box_input, filled_part, normalised
from fastseg.guided.resizing import resize_bilinear
from fastseg.guided.tiles import average_tiles
from fastseg.images import MAX_PIXELS
from fastseg.inference.sessions import Choice

Floats = NDArray[np.float32]

BACKGROUND = -80.0
"""Logit of the black borders of an image, which nnU-Net cuts off."""


class Specialist(GuidedModel):
    """A network that draws the object in a box, as MedSAM is compared with (Ma et al. 2024)."""

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        super().__init__(folder, choice, max_pixels=max_pixels)
        self._rules = self.manifest.box_preprocessing
        self.threshold = self._rules.threshold

    def everything(self, *_: object, **__: object) -> NoReturn:
        """Refuse: a grid of points means nothing to a network that takes boxes.

        Raises:
            PromptError: Always.
        """
        raise PromptError(
            "This model was not trained for points, which everything() asks it. It takes "
            f"{self.rules.prompts.taken}."
        )

    def _input(self, pixels: NDArray[np.uint8]) -> Floats:
        return box_input(pixels, self._rules)

    def _probabilities(
        self,
        image: GuidedImage,
        points: NDArray[np.float64],
        labels: NDArray[np.int32],  # noqa: ARG002 - the points of a box are its corners
    ) -> Floats:
        height, width = image.frame.image
        if self._rules.resize == TILES:
            logits = self._tiled(image.pixels, box_map(points, (height, width), (height, width)))
        else:
            box = box_map(points, (height, width), self._rules.size)
            logits = resize_bilinear(self._run(image.pixels, box), (height, width))
        probabilities: Floats = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
        return probabilities

    def _tiled(self, pixels: Floats, box: Floats) -> Floats:
        """Average the logits of tiles over the part of the image that is not black.

        Statistics and tiles are those of that part, and the rest is background (nnU-Net).
        """
        rules, stacked = self._rules, np.concatenate([pixels, box])
        part = filled_part(stacked)
        cut = stacked[:, part[0], part[1]]
        normal = np.concatenate(
            [
                normalised(cut[:-1], rules.normalise),
                normalised(cut[-1:], rules.normalise_box),
            ]
        )
        logits = np.full(pixels.shape[1:], BACKGROUND, np.float32)
        logits[part] = average_tiles(
            normal, rules.size, rules.step, lambda tile: self._run(tile[:-1], tile[-1:])
        )
        return logits

    def _run(self, pixels: Floats, box: Floats) -> Floats:
        """Run the network on its own size; return logits (h, w)."""
        feeds = {"image": pixels[None], "guidance": box[None]}
        logits: Floats = self._graphs.run(GUIDED_GRAPH, feeds)["logits"][0, 0]
        return logits
