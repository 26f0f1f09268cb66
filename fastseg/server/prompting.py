"""Prompts of a request to masks of a model, and masks to JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import ops
from fastseg.errors import MaskError, PromptError
from fastseg.geometry import Frame
from fastseg.masks import Masks, concatenate
from fastseg.ops import Rle
from fastseg.results import describe
from fastseg.sam.embedding import Embedding
from fastseg.sam.model import Sam
from fastseg.sam.volume_masks import VolumeMasks
from fastseg.server import bodies
from fastseg.server.settings import Limits
from fastseg.timings import Timings

CERTAIN = 16.0
"""Logit of a pixel that lies wholly inside of a mask prompt; outside it is the negative."""

_KEYS = ("segmentation", "area", "bbox", "predicted_iou", "stability_score", "prompt")


def segment(model: Sam, embedding: Embedding, body: bodies.PromptsBody, limits: Limits) -> Masks:
    """Decode the prompts of a request, those of one kind in one call.

    Returns:
        Masks in the order of the prompts, three or one for each.

    Raises:
        PromptError: The prompts cannot be used, or are too many.
        MaskError: A mask prompt is no mask of the image.
    """
    prompts = body.prompts
    if not prompts and not model.rules.prompts.any:
        return model.segment(embedding)
    check_number(prompts, limits)
    parts = []
    for members in _kinds(prompts):
        chosen = [prompts[index] for index in members]
        given = arguments(model, embedding.frame, chosen)
        masks = model.segment(embedding, **given, multimask=body.multimask)
        parts.append(replace(masks, prompt=np.array(members, np.int64)[masks.prompt], logits=None))
    timings = sum((part.timings for part in parts), Timings())
    joined = concatenate(parts, timings)
    joined = joined[np.argsort(joined.prompt, kind="stable")]
    return joined.best() if body.best else joined


def to_rle(mask: bodies.Rle) -> Rle:
    """Read a mask of a request.

    Raises:
        MaskError: The run lengths contradict themselves, or the mask is too large.
    """
    height, width = mask.size
    if isinstance(mask.counts, str):
        if not mask.counts.isascii():
            raise MaskError("the counts of a mask are text of ASCII. Send those of COCO.")
        return ops.rle_from_strings([mask.counts.encode("ascii")], (height, width))
    if any(not 0 <= count < 2**32 for count in mask.counts):
        raise MaskError("run lengths must be from 0 to 4294967295.")
    rle = Rle.from_lists([mask.counts], (height, width))
    ops.rle_check(rle)
    return rle


def mask_logits(rle: Rle, frame: Frame, side: int) -> NDArray[np.float32]:
    """Turn a mask of the image into low-resolution logits, (side, side), for a mask prompt.

    A logit is the share of the pixel that the mask covers, from ``-CERTAIN`` to ``CERTAIN``.

    Raises:
        MaskError: The mask is of another size than the image.
    """
    if rle.size != frame.image:
        raise MaskError(
            f"a mask prompt is of {rle.size[1]} x {rle.size[0]} pixels, and the image of "
            f"{frame.image[1]} x {frame.image[0]}. Give a mask of the image's size."
        )
    covered = Image.fromarray(ops.rle_to_array(rle)[0].astype(np.uint8) * 255)
    height, width = (max(1, -(-length * side // frame.side)) for length in frame.resized)
    share = np.asarray(covered.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    logits = np.full((side, side), -CERTAIN, np.float32)
    logits[:height, :width] = (2 * share - 1) * CERTAIN
    return logits


def answer(masks: Masks) -> dict[str, Any]:
    """Return masks with their scores and timings, ready for JSON."""
    rows = [{key: row[key] for key in _KEYS} for row in describe(masks)]
    return {"masks": rows, "timings": masks.timings.as_dict()}


def volume_answer(found: VolumeMasks) -> dict[str, Any]:
    """Return the masks of every frame that has any, and where objects end, ready for JSON."""
    frames = [(number, masks[masks.areas > 0]) for number, masks in enumerate(found)]
    return {
        "frames": [{"frame": number, **answer(masks)} for number, masks in frames if len(masks)],
        "stops": [stop.as_dict() for stop in found.stops],
        "timings": found.timings.as_dict(),
    }


def check_number(prompts: Sequence[bodies.Prompt], limits: Limits) -> None:
    """Check that there are prompts, and not too many.

    Raises:
        PromptError: There is none, or there are too many prompts or points.
    """
    if not prompts:
        raise PromptError("the request has no prompt. Give at least one.")
    points = sum(len(prompt.points or ()) for prompt in prompts)
    for count, most, what in (
        (len(prompts), limits.max_prompts, "prompts"),
        (points, limits.max_points, "points"),
    ):
        if count > most:
            raise PromptError(f"{count} {what} are more than {most}. Send several requests.")


def _kinds(prompts: Sequence[bodies.Prompt]) -> Iterator[list[int]]:
    """Yield the places of prompts that consist of the same things."""
    kinds: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        given = (prompt.points, prompt.box, prompt.mask)
        kinds[tuple(part is not None for part in given)].append(index)
    yield from kinds.values()


def arguments(model: Sam, frame: Frame, prompts: Sequence[bodies.Prompt]) -> dict[str, Any]:
    """Return the arguments of ``Sam.segment`` for prompts that consist of the same things.

    Raises:
        PromptError: They do not, or points and labels are not equally many.
        MaskError: A mask prompt is no mask of the image.
    """
    if len(list(_kinds(prompts))) > 1:
        raise PromptError("the prompts must all be points, or all boxes, or all masks.")
    found: dict[str, Any] = {}
    first = prompts[0]
    for prompt in prompts:
        if prompt.labels is not None and len(prompt.labels) != len(prompt.points or ()):
            raise PromptError(
                f"{len(prompt.points or ())} points and {len(prompt.labels)} labels: give each "
                "point one label, or none."
            )
    if first.points is not None:
        found["points"] = [np.array(one.points, np.float64) for one in prompts]
        found["labels"] = [
            np.array([1] * len(one.points or ()) if one.labels is None else one.labels, object)
            for one in prompts
        ]
    if first.box is not None:
        found["boxes"] = [one.box for one in prompts]
    if first.mask is not None:
        found["mask_logits"] = np.stack(
            [
                mask_logits(to_rle(one.mask), frame, model.mask_side)
                for one in prompts
                if one.mask is not None
            ]
        )
    return found
