"""Masks of a request as a file: COCO, PNG, an overlay, NIfTI, NRRD or DICOM SEG."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastseg import environment, imaging, overlay, provenance
from fastseg.errors import MaskError
from fastseg.images import read_image
from fastseg.imaging.label_maps import label_map
from fastseg.imaging.mask_set import structures
from fastseg.inputs.text import file_stem
from fastseg.masks import Masks
from fastseg.ops import Rle
from fastseg.results import UNNAMED, describe, to_json
from fastseg.server import bodies
from fastseg.server.image_store import OpenImage
from fastseg.server.prompting import to_rle
from fastseg.server.refusals import RefusalError

Exported = tuple[bytes, str, str]
"""Content, media type, and name of a file."""


def export(opened: OpenImage, body: bodies.ExportBody) -> Exported:
    """Write masks as a file in memory.

    Raises:
        MaskError: The masks do not fit the image, overlap where they must not, or are named twice.
        BackendUnavailableError: The package for the format is not installed.
        RefusalError: There is no such frame, or the format takes one frame.
    """
    frames = {one.frame: _masks(opened, one) for one in body.frames}
    if len(frames) < len(body.frames):
        raise MaskError("a frame is given twice. Put all of its masks into one.")
    content, media, suffix = _WRITERS[body.format](opened, frames, body.format)
    return content, media, f"{file_stem(Path(opened.name).name)}{suffix}"


def _masks(opened: OpenImage, one: bodies.FrameMasks) -> Masks:
    """Read the masks of one frame.

    Raises:
        MaskError: A mask is of another size than the image.
        RefusalError: There is no such frame.
    """
    size = opened.frame(one.frame).size
    runs = [to_rle(mask.segmentation) for mask in one.masks]
    wrong = next((rle.size for rle in runs if rle.size != size), None)
    if wrong is not None:
        raise MaskError(
            f"a mask of {wrong[1]} x {wrong[0]} pixels does not fit {opened.name} of "
            f"{size[1]} x {size[0]}."
        )
    scores = np.array([mask.score for mask in one.masks], np.float32)
    names = tuple(mask.name or UNNAMED for mask in one.masks)
    joined = Rle.concatenate(runs) if runs else Rle.from_lists([], size)
    return Masks.from_rle(
        joined,
        scores=scores,
        stability=np.full(len(runs), np.nan, np.float32),
        names=names if any(mask.name for mask in one.masks) else None,
    )


def _coco(opened: OpenImage, frames: dict[int, Masks], _: str) -> Exported:
    height, width = opened.image.size
    categories: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, masks in sorted(frames.items()):
        file = opened.name if len(opened.image) == 1 else f"{opened.name}#{number}"
        image = {"id": number + 1, "file_name": file, "width": width, "height": height}
        images.append(image)
        names = masks.names or (UNNAMED,) * len(masks)
        for name, row in zip(names, describe(masks), strict=True):
            category = categories.setdefault(name, len(categories) + 1)
            own = {"id": len(annotations) + 1, "image_id": number + 1}
            annotations.append({**own, **row, "category_id": category})
    document = {
        "info": {"notice": provenance.NOTICE, "versions": environment.versions()},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    return to_json(document).encode(), "application/json", ".json"


def _only(frames: dict[int, Masks], form: str) -> tuple[int, Masks]:
    if len(frames) > 1:
        raise RefusalError(422, f"{form} holds one frame, and {len(frames)} are given.")
    return next(iter(frames.items()))


def _png(_: OpenImage, frames: dict[int, Masks], form: str) -> Exported:
    _number, masks = _only(frames, form)
    if not len(masks):
        raise MaskError("there is no mask to write. Give at least one.")
    labels = label_map([masks])[0]
    narrow = labels.astype(np.uint8) if labels.max() < 256 else labels
    return _encoded(Image.fromarray(narrow)), "image/png", ".labels.png"


def _overlay(opened: OpenImage, frames: dict[int, Masks], form: str) -> Exported:
    number, masks = _only(frames, form)
    pixels = read_image(opened.frame(number), max_pixels=None)
    drawn = overlay.draw(overlay.Panel(pixels, masks), numbers=False)
    return _encoded(drawn), "image/png", ".overlay.png"


def _medical(opened: OpenImage, frames: dict[int, Masks], form: str) -> Exported:
    """Write a file that holds every frame of its source, those without masks empty."""
    image = opened.image
    none = _masks(opened, bodies.FrameMasks(masks=[]))
    several = [frames.get(number, none) for number in range(len(image))]
    if not any(map(len, several)):
        raise MaskError("there is no mask to write. Give at least one.")
    structures(several)
    source = image if image.spacing is not None or image.affine is not None or image.files else None
    with tempfile.TemporaryDirectory(prefix="fastseg-export-") as folder:
        file = imaging.save(Path(folder, f"masks.{form}"), several, source=source)
        return file.read_bytes(), "application/octet-stream", f".masks.{form}"


def _encoded(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


_Writer = Callable[[OpenImage, dict[int, Masks], str], Exported]

_WRITERS: dict[str, _Writer] = {
    "coco": _coco,
    "png": _png,
    "overlay": _overlay,
    **dict.fromkeys(("nii", "nii.gz", "nrrd", "dcm"), _medical),
}


def view(opened: OpenImage, number: int, max_side: int | None, form: str) -> tuple[bytes, str]:
    """Draw a frame in its window as a PNG or JPEG file.

    Args:
        opened: The image.
        number: Its frame.
        max_side: Longest side in pixels; None keeps the size.
        form: ``"png"`` or ``"jpeg"``.

    Returns:
        Content and media type.

    Raises:
        RefusalError: There is no such frame.
    """
    drawing = Image.fromarray(read_image(opened.frame(number), max_pixels=None))
    if max_side is not None:
        drawing.thumbnail((max_side, max_side))
    if form == "png":
        return _encoded(drawing), "image/png"
    stream = BytesIO()
    options: dict[str, Any] = {"quality": 92}
    drawing.save(stream, "JPEG", **options)
    return stream.getvalue(), "image/jpeg"
