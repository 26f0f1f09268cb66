"""A predictor that keeps images, as in the reference of SAM 2."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import ops
from fastseg.compat import tensors
from fastseg.compat.enlarging import interpolate
from fastseg.compat.sam2.model import Sam2, refuse_download
from fastseg.compat.sam2.prompts import square_prompts
from fastseg.contract import MULTIPLE, SINGLE
from fastseg.sam.drawing import draw, kept_logits
from fastseg.sam.embedding import Embedding

Floats = NDArray[np.float32]

_NO_IMAGE = "An image must be set with .set_image(...) before mask prediction."


class SAM2ImagePredictor:
    """Masks for prompts on the image that was set, or the images; not to be shared by threads.

    Args:
        sam_model: A model of ``build_sam2``.
        mask_threshold: Logit above which a pixel is in a mask.
        max_hole_area: Kept, without effect, as in the reference where its extension for GPUs is not
            compiled; a warning says so.
        max_sprinkle_area: As ``max_hole_area``.
        **kwargs: Without effect, as in the reference.
    """

    def __init__(
        self,
        sam_model: Sam2,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.model = sam_model
        self.mask_threshold = mask_threshold
        if max_hole_area > 0 or max_sprinkle_area > 0:
            warnings.warn(
                "fastseg fills no holes and removes no sprinkles of SAM 2's masks.", stacklevel=2
            )
        self._embeddings: list[Embedding] = []
        self._is_batch = False

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> NoReturn:  # noqa: ARG003
        """Refuse to fetch a model by its name.

        Raises:
            CheckpointError: Always; see ``build_sam2``.
        """
        refuse_download(model_id)

    @property
    def device(self) -> Any:
        """The device of the model."""
        return self.model.device

    def set_image(self, image: NDArray[np.uint8] | Image.Image) -> None:
        """Encode an image, on which ``predict`` then works.

        Args:
            image: uint8 (H, W, 3) RGB, or a Pillow image.

        Raises:
            NotImplementedError: It is neither.
            ImageError: The image cannot be used.
        """
        self.reset_predictor()
        if not isinstance(image, np.ndarray | Image.Image):
            raise NotImplementedError("Image format not supported")
        self._embeddings = [self._embed(image)]

    def set_image_batch(self, image_list: list[NDArray[np.uint8]]) -> None:
        """Encode images, on which ``predict_batch`` then works.

        Args:
            image_list: A list of uint8 (H, W, 3) RGB.

        Raises:
            AssertionError: It is no list, or an image is no array.
            ImageError: An image cannot be used.
        """
        self.reset_predictor()
        if not isinstance(image_list, list):
            raise AssertionError("image_list must be a list")
        if not all(isinstance(image, np.ndarray) for image in image_list):
            raise AssertionError(
                "Images are expected to be an np.ndarray in RGB format, and of shape  HWC"
            )
        self._embeddings = [self._embed(image) for image in image_list]
        self._is_batch = True

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[Floats, Floats, Floats]:
        """Predict the masks of one prompt, or of several.

        Args:
            point_coords: (points, 2), or (n, points, 2), x before y in pixels of the image.
            point_labels: (points,) or (n, points): 1 foreground, 0 background.
            box: (4,) or (n, 4) x0 y0 x1 y1 in pixels of the image.
            mask_input: (1, 256, 256) or (n, 1, 256, 256) low-resolution logits of an earlier call.
            multimask_output: Three masks, or one.
            return_logits: Return logits instead of masks, enlarged to the image.
            normalize_coords: False for coordinates that lie in 0..1 already.

        Returns:
            float32 masks of 0 and 1, (masks, H, W), or (n, masks, H, W) for n > 1; their predicted
            IoUs, (masks,); low-resolution logits, (masks, 256, 256).

        Raises:
            RuntimeError: No image was set.
            AssertionError: There are points without labels.
            PromptError: A label is not known, or a shape does not fit.
        """
        if not self._embeddings:
            raise RuntimeError(_NO_IMAGE)
        prompts = (point_coords, point_labels, box, mask_input)
        return self._predict(-1, prompts, multimask_output, return_logits, normalize_coords)

    def predict_batch(
        self,
        point_coords_batch: Sequence[Any] | None = None,
        point_labels_batch: Sequence[Any] | None = None,
        box_batch: Sequence[Any] | None = None,
        mask_input_batch: Sequence[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[Floats], list[Floats], list[Floats]]:
        """Predict the masks of every image of ``set_image_batch``.

        Args:
            point_coords_batch: For each image as in ``predict``.
            point_labels_batch: For each image.
            box_batch: For each image.
            mask_input_batch: For each image.
            multimask_output: Three masks, or one.
            return_logits: Return logits instead of masks.
            normalize_coords: False for coordinates that lie in 0..1 already.

        Returns:
            Lists of the arrays that ``predict`` returns.

        Raises:
            AssertionError: The images were not set by ``set_image_batch``.
            RuntimeError: There is no image.
        """
        if not self._is_batch:
            raise AssertionError("This function should only be used when in batched mode")
        if not self._embeddings:
            raise RuntimeError(
                "An image must be set with .set_image_batch(...) before mask prediction."
            )
        given = (point_coords_batch, point_labels_batch, box_batch, mask_input_batch)
        found = []
        for number in range(len(self._embeddings)):
            own = tuple(None if part is None else part[number] for part in given)
            found.append(
                self._predict(number, own, multimask_output, return_logits, normalize_coords)
            )
        masks, scores, logits = (list(column) for column in zip(*found, strict=True))
        return masks, scores, logits

    def get_image_embedding(self) -> Any:
        """Return the embeddings of the images, a tensor (n, 256, h, w).

        Raises:
            RuntimeError: No image was set.
            BackendUnavailableError: torch is not installed.
        """
        if not self._embeddings:
            raise RuntimeError(
                "An image must be set with .set_image(...) to generate an embedding."
            )
        features = np.stack([embedding.features for embedding in self._embeddings])
        return tensors.to_tensor(features, self.device)

    def reset_predictor(self) -> None:
        """Forget the images."""
        self._embeddings = []
        self._is_batch = False

    def _embed(self, image: NDArray[np.uint8] | Image.Image) -> Embedding:
        return self.model.loaded.embed(image)

    def _predict(
        self,
        number: int,
        given: tuple[Any, ...],
        multimask: bool,
        as_logits: bool,
        normalise: bool,
    ) -> tuple[Floats, Floats, Floats]:
        embedding = self.model.decoder.complete(self._embeddings[number])
        points, labels, boxes, masks = given
        size = embedding.frame.image if normalise else (1, 1)
        prompts = square_prompts(
            points, labels, boxes, masks, size=size, side=self.model.image_size
        )
        slots = MULTIPLE if multimask else SINGLE
        scores, logits = prompts.decode(self.model.decoder, embedding, slots)
        drawn = self._draw(logits, embedding, as_logits)
        kept = kept_logits(logits, self.model.output_rules)
        first = 0 if len(scores) == 1 else slice(None)
        return drawn[first], scores[first], kept[first]

    def _draw(self, logits: Floats, embedding: Embedding, as_logits: bool) -> Floats:
        """Return masks of the image, or their logits there; (n, masks, H, W)."""
        size = embedding.frame.image
        if as_logits or self.mask_threshold != 0:
            large = interpolate(logits, size)
            return large if as_logits else (large > self.mask_threshold).astype(np.float32)
        flat = logits.reshape(-1, *logits.shape[2:])
        rules, threads = self.model.output_rules, self.model.loaded.threads
        runs = draw(flat, embedding.frame, rules, threads=threads).runs
        found: Floats = ops.rle_to_array(runs).reshape(*logits.shape[:2], *size).astype(np.float32)
        return found
