"""A predictor that keeps one image, as in the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.compat import tensors
from fastseg.compat.segment_anything.sam import Prompts, Sam
from fastseg.compat.segment_anything.transforms import ResizeLongestSide
from fastseg.sam.embedding import Embedding

_FORMATS = ("RGB", "BGR")


class SamPredictor:
    """Masks for prompts on the image that was set; not to be shared by threads.

    Args:
        sam_model: A model of ``sam_model_registry``.
    """

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_encoder.img_size)
        self.original_size: tuple[int, int] = (0, 0)
        self.input_size: tuple[int, int] = (0, 0)
        self.reset_image()

    @property
    def device(self) -> Any:
        """The device of the model."""
        return self.model.device

    @property
    def features(self) -> Any:
        """The embedding of the image, a tensor (1, 256, h, w), or None; can be set again.

        Raises:
            BackendUnavailableError: torch is not installed.
        """
        if self._features is None:
            return None
        return tensors.to_tensor(self._features, self.device)

    @features.setter
    def features(self, values: Any) -> None:
        self._embedding: Embedding | None = None
        self._features = None if values is None else tensors.to_array(values).astype(np.float32)

    def set_image(self, image: NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Encode an image, on which ``predict`` then works.

        Args:
            image: uint8 (H, W, 3).
            image_format: ``"RGB"`` or ``"BGR"``, the order of its colours.

        Raises:
            AssertionError: ``image_format`` is another one.
            ImageError: The image cannot be used.
        """
        if image_format not in _FORMATS:
            raise AssertionError(f"image_format must be in {list(_FORMATS)}, is {image_format}.")
        pixels = np.asarray(image)
        if image_format != self.model.image_format:
            pixels = pixels[..., ::-1]
        self._keep(self.model.loaded.embed(np.ascontiguousarray(pixels)))

    def set_torch_image(self, transformed_image: Any, original_image_size: tuple[int, ...]) -> None:
        """Encode an image that ``ResizeLongestSide`` has resized already.

        Args:
            transformed_image: A tensor (1, 3, H, W), its longest side that of the model's square.
            original_image_size: (H, W) before resizing.

        Raises:
            AssertionError: The tensor has another shape.
        """
        shape, side = tuple(transformed_image.shape), self.model.image_encoder.img_size
        if len(shape) != 4 or shape[1] != 3 or max(shape[2:]) != side:
            raise AssertionError(f"set_torch_image input must be BCHW with long side {side}.")
        size = (int(original_image_size[0]), int(original_image_size[1]))
        self._keep(self.model.encode(tensors.to_array(transformed_image), size))

    def predict(
        self,
        point_coords: NDArray[Any] | None = None,
        point_labels: NDArray[Any] | None = None,
        box: NDArray[Any] | None = None,
        mask_input: NDArray[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Predict the masks of one prompt.

        Args:
            point_coords: (n, 2) x before y, in pixels of the image.
            point_labels: (n,) 1 foreground, 0 background.
            box: (4,) x0 y0 x1 y1 in pixels of the image.
            mask_input: (1, 256, 256) low-resolution logits of an earlier call.
            multimask_output: Three masks, or one.
            return_logits: Return logits instead of masks, enlarged to the image.

        Returns:
            Masks, bool (masks, H, W); their predicted IoUs, (masks,); low-resolution logits,
            (masks, 256, 256).

        Raises:
            RuntimeError: No image was set.
            AssertionError: There are points without labels.
            PromptError: A label is not -1, 0 or 1, or a shape does not fit.
        """
        self._require_image("An image must be set with .set_image(...) before mask prediction.")
        if point_coords is not None and point_labels is None:
            raise AssertionError("point_labels must be supplied if point_coords is supplied.")
        points, labels, boxes = None, None, None
        if point_coords is not None:
            points = self.transform.apply_coords(np.asarray(point_coords), self.original_size)[None]
            labels = np.asarray(point_labels)[None]
        if box is not None:
            boxes = self.transform.apply_boxes(np.asarray(box), self.original_size)
        masks = None if mask_input is None else np.asarray(mask_input)[None]
        found = self.model.decode(
            self._complete(),
            Prompts.of(points, labels, boxes, masks),
            multimask_output,
            as_logits=return_logits,
        )
        return found.masks[0], found.scores[0], found.logits[0]

    def predict_torch(
        self,
        point_coords: Any,
        point_labels: Any,
        boxes: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Any, Any, Any]:
        """Predict the masks of many prompts, which are tensors in pixels of the resized image.

        Args:
            point_coords: (n, points, 2) or None.
            point_labels: (n, points) or None.
            boxes: (n, 4) or None.
            mask_input: (n, 1, 256, 256) or None.
            multimask_output: Three masks a prompt, or one.
            return_logits: Return logits instead of masks, enlarged to the image.

        Returns:
            Tensors: masks, bool (n, masks, H, W); predicted IoUs, (n, masks); low-resolution
            logits, (n, masks, 256, 256).

        Raises:
            RuntimeError: No image was set.
            PromptError: A label is not -1, 0 or 1, or a shape does not fit.
        """
        self._require_image("An image must be set with .set_image(...) before mask prediction.")
        found = self.model.decode(
            self._complete(),
            Prompts.of(point_coords, point_labels, boxes, mask_input),
            multimask_output,
            as_logits=return_logits,
        )
        arrays = (found.masks, found.scores, found.logits)
        masks, scores, logits = (tensors.to_tensor(array, self.device) for array in arrays)
        return masks, scores, logits

    def get_image_embedding(self) -> Any:
        """Return the embedding of the image, a tensor (1, 256, h, w).

        Raises:
            RuntimeError: No image was set.
            BackendUnavailableError: torch is not installed.
        """
        self._require_image("An image must be set with .set_image(...) to generate an embedding.")
        return self.features

    def reset_image(self) -> None:
        """Forget the image."""
        self.is_image_set = False
        self.features = None
        self.orig_h = self.orig_w = self.input_h = self.input_w = None

    def _keep(self, embedding: Embedding) -> None:
        self.reset_image()
        self.original_size, self.input_size = embedding.frame.image, embedding.frame.resized
        self.features = embedding.features[None]
        self._embedding = embedding
        self.is_image_set = True

    def _complete(self) -> Embedding:
        """Return the embedding, made of ``features`` if the caller has set these."""
        size = (int(self.original_size[0]), int(self.original_size[1]))
        if self._embedding is None or self._embedding.frame.image != size:
            if self._features is None:
                raise AssertionError("Features must exist if an image has been set.")
            made = Embedding(
                self._features[0], self.model.frame(size), self.model.loaded.encoder_sha256
            )
            self._embedding = self.model.loaded.decoder.complete(made)
        return self._embedding

    def _require_image(self, message: str) -> None:
        if not self.is_image_set:
            raise RuntimeError(message)
