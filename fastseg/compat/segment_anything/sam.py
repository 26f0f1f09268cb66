"""The model: fastseg's, with the attributes and methods of the reference that callers use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.compat import tensors
from fastseg.compat.deferred_model import DeferredModel
from fastseg.compat.enlarging import enlarge
from fastseg.compat.square_prompts import SquarePrompts
from fastseg.contract import LABEL_BOX_BOTTOM_RIGHT, LABEL_BOX_TOP_LEFT, MULTIPLE, SINGLE
from fastseg.errors import CheckpointError, ImageError, PromptError
from fastseg.geometry import Frame
from fastseg.sam import model as fastseg_sam
from fastseg.sam.embedding import Embedding


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """The facts about the encoder that callers read."""

    img_size: int
    """Side of the model's square in pixels."""


class Prompts(SquarePrompts):
    """Prompts in the order of the reference's prompt encoder."""

    __slots__ = ()

    @staticmethod
    def of(points: Any, labels: Any, boxes: Any, masks: Any) -> Prompts:
        """Lay prompts out as the reference's prompt encoder does.

        Args:
            points: (n, points, 2) or None.
            labels: (n, points) or None.
            boxes: (n, 4) or None.
            masks: (n, 1, h, w) or None.

        Raises:
            PromptError: They are not for equally many prompts, or a label is not -1, 0 or 1.
        """
        parts = []
        if points is not None:
            parts.append(_points(points, labels, padded=boxes is None))
        if boxes is not None:
            corners = tensors.to_array(boxes).astype(np.float32).reshape(-1, 2, 2)
            marks = np.array([LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT], np.int32)
            parts.append((corners, np.tile(marks, (len(corners), 1))))
        mask = None if masks is None else tensors.to_array(masks).astype(np.float32)
        count = len(parts[0][0]) if parts else 1 if mask is None else len(mask)
        if not parts:
            parts.append((np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.int32)))
        if any(len(coords) != count for coords, _ in parts) or (
            mask is not None and (mask.ndim != 4 or len(mask) not in (1, count))
        ):
            given = [len(coords) for coords, _ in parts]
            shape = None if mask is None else mask.shape
            raise PromptError(
                f"points and boxes are for {given} prompts and masks are {shape}. Give points "
                "(n, points, 2), boxes (n, 4) and masks (n, 1, h, w)."
            )
        if mask is not None:
            mask = np.ascontiguousarray(np.broadcast_to(mask, (count, *mask.shape[1:])))
        coords, marks = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
        return Prompts(coords, marks, mask)


def _points(
    points: Any, labels: Any, *, padded: bool
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    coords = tensors.to_array(points).astype(np.float32)
    marks = tensors.to_array(labels).astype(np.int32)
    if coords.ndim != 3 or coords.shape[2] != 2 or marks.shape != coords.shape[:2]:
        raise PromptError(
            f"points must be (n, points, 2) and labels (n, points), not {coords.shape} and "
            f"{marks.shape}."
        )
    if not np.isin(marks, (-1, 0, 1)).all():
        raise PromptError("labels of points are 1 (foreground), 0 (background) or -1 (padding).")
    if padded:
        coords = np.pad(coords, ((0, 0), (0, 1), (0, 0)))
        marks = np.pad(marks, ((0, 0), (0, 1)), constant_values=-1)
    return coords, marks


@dataclass(frozen=True, slots=True)
class Decoded:
    """Masks of prompts: (n, masks, ...) arrays."""

    masks: NDArray[Any]  # bool (n, masks, H, W), or float32 logits
    scores: NDArray[np.float32]  # (n, masks)
    logits: NDArray[np.float32]  # (n, masks, h, w)


class Sam(DeferredModel):
    """A model folder as a model of the reference; loaded when it is first used.

    Args:
        folder: The model folder.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"

    @property
    def image_encoder(self) -> ImageEncoder:
        """The side of the square that images are resized into."""
        return ImageEncoder(self.loaded.manifest.image_preprocessing.side)

    def require(self, model: fastseg_sam.Sam) -> None:
        """Refuse a model that prepares images or masks in another way than SAM.

        Raises:
            CheckpointError: It does.
        """
        if model.manifest.rules is not None or not model.manifest.image_preprocessing.is_of_sam:
            raise CheckpointError(
                f"{self._folder} holds {model.manifest.name}, whose images or masks are not "
                "prepared as SAM's are. Use it by fastseg.load."
            )

    def __call__(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, Any]]:
        """Predict masks for images with their prompts.

        Args:
            batched_input: For each image a dictionary: ``image`` (3, H, W) resized by
                ``ResizeLongestSide``, ``original_size`` (H, W), and any of ``point_coords``
                (n, points, 2), ``point_labels`` (n, points), ``boxes`` (n, 4), ``mask_inputs``
                (n, 1, h, w), in pixels of the resized image.
            multimask_output: Three masks a prompt, or one.

        Returns:
            For each image a dictionary of tensors: ``masks`` bool (n, masks, H, W),
            ``iou_predictions`` (n, masks), ``low_res_logits`` (n, masks, h, w).
        """
        outputs = []
        for record in batched_input:
            size = (int(record["original_size"][0]), int(record["original_size"][1]))
            embedding = self.encode(tensors.to_array(record["image"])[None], size)
            given = ("point_coords", "point_labels", "boxes", "mask_inputs")
            prompts = Prompts.of(*(record.get(name) for name in given))
            found = self.decode(embedding, prompts, multimask_output)
            named = {
                "masks": found.masks,
                "iou_predictions": found.scores,
                "low_res_logits": found.logits,
            }
            outputs.append({k: tensors.to_tensor(v, self.device) for k, v in named.items()})
        return outputs

    forward = __call__

    def preprocess(self, x: Any) -> Any:
        """Normalise and pad a resized image, a tensor (..., 3, H, W), to the square."""
        return tensors.to_tensor(self._square(tensors.to_array(x)), self.device)

    def postprocess_masks(
        self, masks: Any, input_size: tuple[int, ...], original_size: tuple[int, ...]
    ) -> Any:
        """Enlarge logits, a tensor (n, masks, h, w), to the image, (n, masks, H, W)."""
        side, resized = self.image_encoder.img_size, (input_size[0], input_size[1])
        size = (original_size[0], original_size[1])
        return tensors.to_tensor(enlarge(tensors.to_array(masks), side, resized, size), self.device)

    def encode(self, resized: NDArray[Any], original_size: tuple[int, int]) -> Embedding:
        """Encode an image (1, 3, H, W) that was resized but neither normalised nor padded.

        Raises:
            ImageError: Its shape is not that of a resized image.
        """
        side = self.image_encoder.img_size
        if resized.ndim != 4 or resized.shape[:2] != (1, 3) or max(resized.shape[2:]) != side:
            raise ImageError(
                f"a resized image must be (1, 3, H, W) with a long side of {side}, not "
                f"{resized.shape}. Resize it by ResizeLongestSide({side})."
            )
        return self.loaded.embed_square(self._square(resized)[0], original_size)

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask: bool, *, as_logits: bool = False
    ) -> Decoded:
        """Decode prompts to masks of the image, or to their logits there."""
        model, slots = self.loaded, MULTIPLE if multimask else SINGLE
        embedding = model.decoder.complete(embedding)
        scores, logits = prompts.decode(model.decoder, embedding, slots)
        frame = embedding.frame
        # Masks are cut at 0 in one pass; another threshold needs the logits of all pixels.
        if as_logits or self.mask_threshold != 0:
            large = enlarge(logits, frame.side, frame.resized, frame.image)
            return Decoded(large if as_logits else large > self.mask_threshold, scores, logits)
        flat = logits.reshape(-1, *logits.shape[2:])
        runs = ops.binarise(flat, frame, threads=model.threads).runs
        pixels = ops.rle_to_array(runs).reshape(*scores.shape, *frame.image)
        return Decoded(pixels, scores, logits)

    def frame(self, original_size: tuple[int, int]) -> Frame:
        """Return the placement of an image of (H, W) in the square."""
        return Frame(original_size, self.image_encoder.img_size)

    def _square(self, resized: NDArray[Any]) -> NDArray[np.float32]:
        about = self.loaded.manifest.image_preprocessing
        mean, std = (
            np.array(values, np.float32)[:, None, None] for values in (about.mean, about.std)
        )
        normal = (resized.astype(np.float32) - mean) / std
        height, width = normal.shape[-2:]
        rest = [(0, 0)] * (normal.ndim - 2) + [(0, about.side - height), (0, about.side - width)]
        return np.pad(normal, rest)
