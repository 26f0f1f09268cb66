"""Masks that exist already: label maps, COCO JSON and DICOM SEG, with the scale that they state."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import ops
from fastseg.errors import FastsegError, ImageError, MaskError
from fastseg.images import MAX_PIXELS
from fastseg.imaging.dicom import is_dicom
from fastseg.imaging.mask_frames import MaskFrames
from fastseg.imaging.reading import read

MOST_LABELS = 256
"""Different values of a label map; more of them are an image."""

BINARY = "mask"
"""Name of the only structure of a file that has no names."""


def read_mask_file(
    path: str | os.PathLike[str], *, max_pixels: int | None = MAX_PIXELS
) -> list[MaskFrames]:
    """Read the masks of a file.

    A PNG or TIFF, NIfTI or NRRD is a label map: 0 is outside, and each other value is a structure;
    one with a single other value is one mask. NRRD names its structures as 3D Slicer does. COCO
    JSON gives the masks of each image, by category. DICOM SEG gives each segment by its label; a
    fractional one counts from a half.

    Args:
        path: The file.
        max_pixels: Largest height x width in pixels, None for no limit.

    Returns:
        One entry for each image of COCO JSON, and one for any other file.

    Raises:
        BackendUnavailableError: A package that the file needs is not installed.
        ImageError: The file cannot be read.
        MaskError: It holds no masks.
    """
    file = Path(path)
    if file.suffix.lower() == ".json":
        return _read_coco(file, max_pixels)
    if file.is_file() and is_dicom(file):
        from fastseg.imaging.dicom.stored_segments import read_segments

        return [read_segments(file, max_pixels=max_pixels)]
    image = read(file, max_pixels=max_pixels)
    indices = _palette_indices(file)
    stored = image.values if indices is None else indices
    if stored.ndim == 4:
        if not (stored == stored[..., :1]).all():
            raise MaskError(
                f"{file} is in colours, and a label map has one number a pixel. Save it as grey."
            )
        stored = stored[..., 0]
    values = _label_values(stored, file)
    names = _slicer_names(file)
    labels = tuple(names.get(value, f"label {value:g}") for value in values)
    return [
        MaskFrames(
            str(file),
            labels if len(values) > 1 or names else (BINARY,),
            len(stored),
            image.size,
            lambda index: np.stack([stored[index] == value for value in values]),
            image.spacing,
            image.slice_spacing,
        )
    ]


def _palette_indices(file: Path) -> NDArray[Any] | None:
    """Return the indices of an image with a palette, whose colours mean nothing; else None."""
    if file.suffix.lower() not in (".png", ".tif", ".tiff", ".gif", ".bmp"):
        return None
    with Image.open(file) as image:
        one = image.mode == "P" and getattr(image, "n_frames", 1) == 1
        return np.asarray(image)[None] if one else None


def _label_values(stored: NDArray[Any], file: Path) -> list[float]:
    """Return the values of the structures of a label map."""
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise MaskError(
            f"{file} holds NaN or infinity, and a label map holds numbers of structures."
        )
    values = np.unique(stored)
    values = values[values != 0]
    if not len(values):
        raise MaskError(f"{file} holds no mask: every pixel is 0.")
    if len(values) > MOST_LABELS or (values != np.round(values)).any():
        raise MaskError(
            f"{file} has {len(values)} different values and is no label map. Give masks: 0 "
            "outside, and a whole number for each structure."
        )
    return [float(value) for value in values]


def _slicer_names(file: Path) -> dict[float, str]:
    """Return the names of the structures of an NRRD file by their numbers."""
    if file.suffix.lower() != ".nrrd":
        return {}
    import nrrd

    header = nrrd.read_header(str(file))
    names: dict[float, str] = {}
    for key, name in header.items():
        number = header.get(f"{key[: -len('_Name')]}_LabelValue")
        if key.startswith("Segment") and key.endswith("_Name") and number is not None:
            names[float(number)] = str(name)
    return names


def _read_coco(file: Path, max_pixels: int | None) -> list[MaskFrames]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {one["id"]: str(one["name"]) for one in content.get("categories", ())}
        found = []
        for image in content["images"]:
            size = (int(image["height"]), int(image["width"]))
            own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
            _check_size(size, file, max_pixels)
            labels = [names.get(one.get("category_id"), BINARY) for one in own]
            found.append(_coco_frame(str(image.get("file_name", file)), size, labels, own))
    except FastsegError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{file}: no such file. Check the path.") from error
    except Exception as error:  # JSON of any other content
        reason = f"{type(error).__name__}: {error}"
        raise ImageError(
            f"{file} is no COCO JSON that can be read ({reason}). It needs images with height and "
            "width, annotations with image_id and segmentation, and categories."
        ) from error
    if not any(one.labels for one in found):
        raise MaskError(f"{file} holds no mask: it has no annotations.")
    return [one for one in found if one.labels]


def _coco_frame(
    name: str, size: tuple[int, int], labels: Sequence[str], annotations: Sequence[Any]
) -> MaskFrames:
    """Join the annotations of an image that are of one category."""
    structures = tuple(dict.fromkeys(labels))

    def frame(_: int) -> NDArray[np.bool_]:
        masks = np.zeros((len(structures), *size), np.bool_)
        for label, annotation in zip(labels, annotations, strict=True):
            masks[structures.index(label)] |= _decoded(annotation["segmentation"], size)
        return masks

    return MaskFrames(name, structures, 1, size, frame)


def _decoded(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode run lengths of either form, or polygons, of one annotation."""
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != size:
            raise MaskError(
                f"a mask is of size {segmentation['size']} and its image of {list(size)}: they "
                "contradict each other."
            )
        counts = segmentation["counts"]
        if isinstance(counts, str):
            runs = ops.rle_from_strings([counts.encode("ascii")], size)
        else:
            runs = ops.Rle(np.array(counts), np.array([0, len(counts)]), size)
        whole: NDArray[np.bool_] = ops.rle_to_array(runs)[0]
        return whole
    inside = np.zeros(size, np.bool_)
    for ring in segmentation:
        inside |= _filled(np.asarray(ring, np.float64).reshape(-1, 2), size)
    return inside


def _filled(ring: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill a polygon of corners (x, y) by the even-odd rule; a pixel is inside if its middle is."""
    odd = np.zeros(size, np.bool_)
    middles = np.arange(size[1]) + 0.5
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        rows = np.arange(max(0, np.ceil(low - 0.5)), min(size[0], np.ceil(high - 0.5))).astype(int)
        if len(rows):
            crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            odd[rows] ^= middles > crossings[:, None]
    return odd


def _check_size(size: tuple[int, int], file: Path, max_pixels: int | None) -> None:
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise ImageError(
            f"{file} describes an image of {size[1]} x {size[0]} pixels, more than max_pixels="
            f"{max_pixels:,}. Lift the limit with max_pixels=None."
        )
