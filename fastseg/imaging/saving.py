"""Masks as label maps in NIfTI and NRRD, and as DICOM SEG, with the geometry of their source."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra
from fastseg.errors import MaskError, OutputError
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.stacks import LPS_FROM_RAS, flipped_affine
from fastseg.storage.atomic import atomic_file

_MOST_LABELS = 65_535


class MaskSet(Protocol):
    """Masks of one frame, as models return them."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Name of each mask, if they have names."""
        ...

    @property
    def prompt(self) -> NDArray[np.int64]:
        """Index of the prompt of each mask."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def array(self) -> NDArray[np.bool_]:
        """Return the masks, (n, H, W)."""
        ...

    def __len__(self) -> int: ...


def save(
    path: str | os.PathLike[str],
    masks: Sequence[MaskSet],
    *,
    source: MedicalImage | None = None,
    keep_patient: bool = False,
) -> Path:
    """Write the masks of the frames of an image as one file, whole or not at all.

    In NIfTI (.nii, .nii.gz) and NRRD (.nrrd) a voxel holds the number of its mask, from 1, and 0
    outside of all; masks of one number or one name in several frames are one structure. DICOM SEG
    (.dcm) holds a binary segment for each structure, and they may overlap.

    Args:
        path: The file; its suffix chooses the format.
        masks: The masks of each frame, in their order; of one frame a list of one.
        source: The image of the masks, whose geometry the file gets. DICOM SEG needs one that was
            read from DICOM, and its files at their place.
        keep_patient: Write the patient's name, identifier, birth date and sex of the source into
            the DICOM SEG. They are left empty otherwise.

    Returns:
        The path.

    Raises:
        BackendUnavailableError: nibabel, pynrrd or highdicom is not installed.
        MaskError: The masks overlap, are too many, do not fit their source, or are alternatives
            for one prompt.
        OutputError: The suffix is of no such format, or the file cannot be written.
    """
    target = Path(path)
    suffix = "".join(target.suffixes[-2:]) if target.suffix == ".gz" else target.suffix
    writer = _WRITERS.get(suffix.lower())
    if writer is None:
        raise OutputError(
            f"{target.name} has no suffix that masks are saved by. Give one of "
            f"{', '.join(_WRITERS)}."
        )
    _check_fit(masks, source)
    _refuse_alternatives(masks)
    content = writer(masks, source, keep_patient)
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)
    return target


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


def structures(masks: Sequence[MaskSet]) -> list[str]:
    """Return the name of each structure in the order of its label; masks without names have none.

    Raises:
        MaskError: Some masks have names and others have none, or they are too many.
    """
    named = [one for one in masks if one.names is not None]
    if named and any(len(one) for one in masks if one.names is None):
        raise MaskError("some of the masks have names and others have none. Save them apart.")
    if named:
        found = list(dict.fromkeys(name for one in named for name in one.names or ()))
    else:
        found = [f"mask {number + 1}" for number in range(max(map(len, masks)))]
    if len(found) > _MOST_LABELS:
        raise MaskError(f"{len(found):,} structures are more than a label map has numbers for.")
    return found


def _by_structure(masks: MaskSet, names: Sequence[str]) -> list[int]:
    """Return the place of each mask of a frame among the structures."""
    if masks.names is None:
        return list(range(len(masks)))
    return [names.index(name) for name in masks.names]


def label_map(masks: Sequence[MaskSet]) -> NDArray[np.uint16]:
    """Give the pixels of every frame the numbers of their masks, from 1: (n, H, W).

    Raises:
        MaskError: Masks of a frame overlap.
    """
    names = structures(masks)
    labels = np.zeros((len(masks), *masks[0].size), np.uint16)
    for frame, (one, out) in enumerate(zip(masks, labels, strict=True)):
        for place, mask in zip(_by_structure(one, names), one.array(), strict=True):
            shared = int(((out != 0) & (out != place + 1) & mask).sum())
            if shared:
                raise MaskError(
                    f"{names[place]} shares {shared} pixels of frame {frame} with another mask, "
                    "and a label map holds one number a pixel. Save fewer masks (masks.best()), "
                    "or save as DICOM SEG, whose segments may overlap."
                )
            out[mask] = place + 1
    return labels


def _affine(source: MedicalImage | None) -> NDArray[np.float64] | None:
    """Return the affine of columns, rows, slices in LPS; None without a place in the patient."""
    if source is None or source.affine is None:
        return None
    return flipped_affine(source.affine)


def _sides(source: MedicalImage | None) -> tuple[float, float, float] | None:
    """Return width and height of a pixel and the distance of slices in mm."""
    if source is None or source.spacing is None:
        return None
    return source.spacing[1], source.spacing[0], source.slice_spacing or 1.0


def _nifti(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    with needs_extra("nifti", "writing NIfTI"):
        import nibabel
    affine, sides = _affine(source), _sides(source)
    labels = label_map(masks).T
    if affine is None:
        # Without an affine nibabel states no place.
        image = nibabel.Nifti1Image(labels, None)
        image.header.set_zooms(sides or (1.0, 1.0, 1.0))
    else:
        image = nibabel.Nifti1Image(labels, LPS_FROM_RAS @ affine)
        image.header.set_sform(LPS_FROM_RAS @ affine, code=1)
    image.header.set_xyzt_units("unknown" if sides is None else "mm")
    content: bytes = image.to_bytes()
    return content


def _packed_nifti(masks: Sequence[MaskSet], source: MedicalImage | None, keep: bool) -> bytes:
    return gzip.compress(_nifti(masks, source, keep), mtime=0)


def _nrrd(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    with needs_extra("nifti", "writing NRRD"):
        import nrrd
    affine, sides = _affine(source), _sides(source)
    header: dict[str, Any] = {"encoding": "gzip"}
    if affine is not None:
        header["space"] = "left-posterior-superior"
        header["space directions"] = affine[:3, :3].T
        header["space origin"] = affine[:3, 3]
    elif sides is not None:
        header["spacings"] = sides
    # As 3D Slicer names segments.
    for number, name in enumerate(structures(masks)):
        header[f"Segment{number}_Name"] = name
        header[f"Segment{number}_LabelValue"] = str(number + 1)
    stream = BytesIO()
    nrrd.write(stream, label_map(masks).T, header)
    return stream.getvalue()


def _dicom(masks: Sequence[MaskSet], source: MedicalImage | None, keep: bool) -> bytes:
    from fastseg.imaging.dicom.segmentation import segmentation

    if source is None or not source.files:
        raise MaskError(
            "a DICOM SEG refers to the DICOM files of its image. Give source=, an image that "
            "fastseg.imaging.read read from DICOM files and not from an archive."
        )
    names = structures(masks)
    pixels = np.zeros((len(masks), *masks[0].size, len(names)), np.bool_)
    for one, out in zip(masks, pixels, strict=True):
        for place, mask in zip(_by_structure(one, names), one.array(), strict=True):
            out[..., place] |= mask
    return segmentation(pixels, names, source, keep_patient=keep)


_Writer = Callable[[Sequence[MaskSet], "MedicalImage | None", bool], bytes]

_WRITERS: dict[str, _Writer] = {
    ".nii": _nifti,
    ".nii.gz": _packed_nifti,
    ".nrrd": _nrrd,
    ".dcm": _dicom,
}
