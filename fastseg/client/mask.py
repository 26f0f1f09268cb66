"""A mask as the server sends it, and the decoding of its run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastseg.errors import MaskError

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask as the server sent it; its pixels are decoded when asked for."""

    size: tuple[int, int]
    """Height and width in pixels."""

    counts: str
    """COCO's compressed run lengths."""

    score: float
    """The network's own estimate of the mask's IoU, about 0..1."""

    stability: float | None
    """Area at a higher over area at a lower threshold; None of an empty mask."""

    area: int
    """Pixels."""

    bbox: tuple[int, int, int, int]
    """x, y, width, height, with width = xmax - xmin."""

    prompt: int
    """Index of the prompt."""

    def run_lengths(self) -> list[int]:
        """Decode the run lengths: background first, then in turn, column by column.

        Raises:
            MaskError: The text is damaged.
        """
        return decode_counts(self.counts, self.size[0] * self.size[1])

    def pixels(self) -> bytes:
        """Decode the pixels, row by row: height x width bytes of 0 or 1.

        Raises:
            MaskError: The text is damaged.
        """
        height, width = self.size
        columns, inside = bytearray(), 0
        for count in self.run_lengths():
            columns += bytes([inside]) * count
            inside = 1 - inside
        rows = bytearray(height * width)
        for column in range(width):
            rows[column::width] = columns[column * height : (column + 1) * height]
        return bytes(rows)


def decode_counts(text: str, pixels: int) -> list[int]:
    """Decode COCO's compressed run lengths.

    A number is written in groups of 5 bits, the lowest first; from the fourth on it is the
    difference from the one before the last.

    Args:
        text: The compressed counts.
        pixels: Height x width, which the run lengths add up to.

    Raises:
        MaskError: The text is damaged.
    """
    counts: list[int] = []
    value = shift = total = 0
    for letter in text.encode("ascii", "replace"):
        group = letter - 48
        if not 0 <= group < 64 or shift > 40:
            raise MaskError("the counts of a mask are damaged: a letter is none of theirs.")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
        total += value
        if value < 0 or total > pixels:
            raise MaskError("the counts of a mask are damaged: they leave the image.")
        value = shift = 0
    if shift or total != pixels:
        raise MaskError(f"the counts of a mask are damaged: they are of {total}, not {pixels}.")
    return counts


def to_mask(row: Json) -> Mask:
    """Read a mask of an answer."""
    code = row["segmentation"]
    x, y, width, height = row["bbox"]
    return Mask(
        size=(code["size"][0], code["size"][1]),
        counts=code["counts"],
        score=row["predicted_iou"],
        stability=row["stability_score"],
        area=row["area"],
        bbox=(x, y, width, height),
        prompt=row["prompt"],
    )


def to_json(mask: Mask, name: str) -> Json:
    """Write a mask with its name, as exports take it."""
    code = {"size": mask.size, "counts": mask.counts}
    return {"segmentation": code, "name": name, "score": mask.score}
