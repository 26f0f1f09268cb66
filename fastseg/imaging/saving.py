"""Masks as files: label maps, outlines, tables and DICOM SEG, with the geometry of their source."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import MaskError, OutputError
from fastseg.imaging import annotation_files, label_maps
from fastseg.imaging.dicom.segmentation import SegmentationKind, segmentation
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.mask_probabilities import probabilities
from fastseg.imaging.mask_set import MaskSet, by_structure, structures
from fastseg.inputs.numbers import one_of
from fastseg.storage.atomic import atomic_file


def save(
    path: str | os.PathLike[str],
    masks: Sequence[MaskSet],
    *,
    source: MedicalImage | None = None,
    keep_patient: bool = False,
    segmentation: SegmentationKind = "binary",
) -> Path:
    """Write the masks of the frames of an image as one file, whole or not at all.

    In label maps (.nii, .nii.gz, .nrrd, .tiff, .png) a pixel holds the number of its mask, from 1,
    and 0 outside of all; masks of one number or one name in several frames are one structure.
    DICOM SEG (.dcm), COCO (.json), GeoJSON (.geojson) and tables (.csv) take masks that overlap.

    Args:
        path: The file; its suffix chooses the format.
        masks: The masks of each frame, in their order; of one frame a list of one.
        source: The image of the masks, whose geometry the file gets. DICOM SEG needs one that was
            read from DICOM, and its files at their place.
        keep_patient: Write the patient's name, identifier, birth date and sex of the source into
            the DICOM SEG. They are left empty otherwise.
        segmentation: Type of a DICOM SEG: ``"binary"``; ``"fractional"``, the sigmoid of the
            logits on the side of 0.5 where the mask is, or 0 and 1 where logits were not kept;
            ``"labelmap"``, a number a pixel.

    Returns:
        The path.

    Raises:
        BackendUnavailableError: nibabel, pynrrd or highdicom is not installed.
        MaskError: The masks overlap in a label map, are too many, do not fit their source, or are
            alternatives for one prompt that would become one structure.
        OutputError: The suffix is of no such format, or the file cannot be written.
    """
    target = Path(path)
    one_of(segmentation, get_args(SegmentationKind), "segmentation", MaskError)
    content = encode(suffix_of(target), masks, source, keep_patient, segmentation)
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)
    return target


def suffix_of(path: Path) -> str:
    """Return the suffix that chooses the format of a file.

    Raises:
        OutputError: It is of no format that masks are saved in.
    """
    suffix = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    if suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path.name} has no suffix that masks are saved by. Give one of {', '.join(SUFFIXES)}."
        )
    return suffix.lower()


def encode(
    suffix: str,
    masks: Sequence[MaskSet],
    source: MedicalImage | None = None,
    keep_patient: bool = False,
    kind: SegmentationKind = "binary",
) -> bytes:
    """Return the content of the file that ``save`` writes.

    Raises:
        BackendUnavailableError: As ``save``; likewise ``MaskError``.
    """
    _check_fit(masks, source)
    if suffix not in _A_MASK_EACH:
        _refuse_alternatives(masks)
    if suffix == _DICOM:
        return _dicom(masks, source, keep_patient, kind)
    return _WRITERS[suffix](masks, source, keep_patient)


def _check_fit(masks: Sequence[MaskSet], source: MedicalImage | None) -> None:
    sizes = {one.size for one in masks}
    if not masks or len(sizes) > 1:
        raise MaskError(f"masks to save are of one size, and these are of {sorted(sizes)}.")
    if source is not None and (len(masks), *sizes) != (len(source), source.size):
        (height, width), (rows, columns) = sizes.pop(), source.size
        raise MaskError(
            f"the masks are of {len(masks)} frames of {width} x {height} pixels, and {source.name} "
            f"has {len(source)} of {columns} x {rows}. Give the image that they were made of."
        )


def _refuse_alternatives(masks: Sequence[MaskSet]) -> None:
    """Refuse alternatives for one prompt: of one name, they would be joined without a word."""
    for frame, one in enumerate(masks):
        if one.names is None:
            continue
        seen: dict[tuple[int, str], NDArray[np.bool_]] = {}
        for prompt, name, mask in zip(one.prompt.tolist(), one.names, one.array(), strict=True):
            before = seen.setdefault((prompt, name), np.zeros_like(mask))
            if (before & mask).any():
                raise MaskError(
                    f"frame {frame} has several masks of prompt {prompt}, {name!r}, that overlap: "
                    "alternatives, which would become one structure. Save masks.best()."
                )
            before |= mask


def _dicom(
    masks: Sequence[MaskSet], source: MedicalImage | None, keep: bool, kind: SegmentationKind
) -> bytes:
    if source is None or not source.files:
        raise MaskError(
            "a DICOM SEG refers to the DICOM files of its image. Give source=, an image that "
            "fastseg.imaging.read read from DICOM files and not from an archive."
        )
    names = structures(masks)
    if kind == "labelmap":
        pixels: NDArray[Any] = label_maps.label_map(masks)
        return segmentation(pixels, names, source, keep_patient=keep, kind=kind)
    dtype = np.float32 if kind == "fractional" else np.bool_
    pixels = np.zeros((len(masks), *masks[0].size, len(names)), dtype)
    for one, out in zip(masks, pixels, strict=True):
        planes = probabilities(one) if kind == "fractional" else one.array()
        for place, plane in zip(by_structure(one, names), planes, strict=True):
            out[..., place] = np.maximum(out[..., place], plane)
    return segmentation(pixels, names, source, keep_patient=keep, kind=kind)


_Writer = Callable[[Sequence[MaskSet], "MedicalImage | None", bool], bytes]

_WRITERS: dict[str, _Writer] = {
    ".nii": label_maps.nifti,
    ".nii.gz": label_maps.packed_nifti,
    ".nrrd": label_maps.nrrd_file,
    ".tif": label_maps.tiff,
    ".tiff": label_maps.tiff,
    ".png": label_maps.png,
    ".json": annotation_files.coco,
    ".geojson": annotation_files.geojson,
    ".csv": annotation_files.csv_table,
}

_DICOM = ".dcm"

_A_MASK_EACH = (".json", ".geojson", ".csv")
"""Formats that keep each mask apart, whatever its name."""

SUFFIXES = (*_WRITERS, _DICOM)
"""Suffixes that choose the format of saved masks."""
