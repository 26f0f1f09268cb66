"""Label maps: one number a pixel, as NIfTI, NRRD, TIFF and PNG with names and colours."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fastseg.environment import needs_extra
from fastseg.errors import MaskError
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.mask_set import MaskSet, by_structure, structures
from fastseg.imaging.palette import colours
from fastseg.imaging.stacks import LPS_FROM_RAS, flipped_affine
from fastseg.inputs.text import printable

_MOST_COLOURS = 255
_MM_PER_INCH = 25.4
_IMAGE_DESCRIPTION = 270


def label_map(masks: Sequence[MaskSet]) -> NDArray[np.uint16]:
    """Give the pixels of every frame the numbers of their masks, from 1: (n, H, W).

    Raises:
        MaskError: Masks of a frame overlap.
    """
    names = structures(masks)
    labels = np.zeros((len(masks), *masks[0].size), np.uint16)
    for frame, (one, out) in enumerate(zip(masks, labels, strict=True)):
        for place, mask in zip(by_structure(one, names), one.array(), strict=True):
            shared = int(((out != 0) & (out != place + 1) & mask).sum())
            if shared:
                raise MaskError(
                    f"{names[place]} shares {shared} pixels of frame {frame} with another mask, "
                    "and a label map holds one number a pixel. Save fewer masks (masks.best()), "
                    "or save as DICOM SEG, whose segments may overlap."
                )
            out[mask] = place + 1
    return labels


def source_affine(source: MedicalImage | None) -> NDArray[np.float64] | None:
    """Return the affine of columns, rows, slices in LPS; None without a place in the patient."""
    if source is None or source.affine is None:
        return None
    return flipped_affine(source.affine)


def source_sides(source: MedicalImage | None) -> tuple[float, float, float] | None:
    """Return width and height of a pixel and the distance of slices in mm."""
    if source is None or source.spacing is None:
        return None
    return source.spacing[1], source.spacing[0], source.slice_spacing or 1.0


def nifti(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write NIfTI-1."""
    with needs_extra("nifti", "writing NIfTI"):
        import nibabel
    affine, sides = source_affine(source), source_sides(source)
    labels = label_map(masks).T
    if affine is None:
        # Without an affine nibabel states no place.
        image = nibabel.Nifti1Image(labels, None)
        image.header.set_zooms(sides or (1.0, 1.0, 1.0))
    else:
        image = nibabel.Nifti1Image(labels, LPS_FROM_RAS @ affine)
        image.header.set_sform(LPS_FROM_RAS @ affine, code=1)
    image.header.set_xyzt_units("unknown" if sides is None else "mm")
    table = _colour_table(structures(masks)).encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", table))
    content: bytes = image.to_bytes()
    return content


def _colour_table(names: Sequence[str]) -> str:
    """Return number, red, green, blue, opacity, visibility and name of each label.

    The lines are those of a file of label descriptions of ITK-SNAP.
    """
    rows = ['0 0 0 0 0 0 0 "outside"']
    for number, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True), start=1):
        red, green, blue = colour.tolist()
        plain = printable(name).replace('"', "'")
        rows.append(f'{number} {red} {green} {blue} 1 1 1 "{plain}"')
    return "\n".join(rows)


def packed_nifti(masks: Sequence[MaskSet], source: MedicalImage | None, keep: bool) -> bytes:
    """Write NIfTI-1, packed by gzip."""
    return gzip.compress(nifti(masks, source, keep), mtime=0)


def nrrd_file(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write NRRD with a segment for each structure."""
    with needs_extra("nifti", "writing NRRD"):
        import nrrd
    affine, sides = source_affine(source), source_sides(source)
    header: dict[str, Any] = {"encoding": "gzip"}
    if affine is not None:
        header["space"] = "left-posterior-superior"
        header["space directions"] = affine[:3, :3].T
        header["space origin"] = affine[:3, 3]
    elif sides is not None:
        header["spacings"] = sides
    # As 3D Slicer names and colours segments.
    names = structures(masks)
    palette = colours(len(names))
    for number, name in enumerate(names):
        # pynrrd writes ASCII alone.
        plain = printable(name).encode("ascii", "backslashreplace").decode()
        header[f"Segment{number}_Name"] = plain
        header[f"Segment{number}_LabelValue"] = str(number + 1)
        header[f"Segment{number}_Color"] = " ".join(f"{one / 255:.6f}" for one in palette[number])
    stream = BytesIO()
    nrrd.write(stream, label_map(masks).T, header)
    return stream.getvalue()


def png(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write the label map of one frame as a PNG with a palette."""
    names = structures(masks)
    if len(masks) > 1:
        raise MaskError(f"a PNG holds one frame, and these are {len(masks)}. Save as .tiff.")
    if len(names) > _MOST_COLOURS:
        raise MaskError(
            f"a PNG with a palette holds {_MOST_COLOURS} masks, and these are {len(names)}. Save "
            "as .tiff or .nii.gz."
        )
    about = PngInfo()
    about.add_itxt("labels", _named(names))
    stream = BytesIO()
    image = _with_palette(label_map(masks)[0].astype(np.uint8), len(names))
    image.save(stream, "PNG", pnginfo=about, **_resolution(source))
    return stream.getvalue()


def tiff(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write a TIFF with a page for each frame, with a palette where 8 bits are enough."""
    names = structures(masks)
    labels = label_map(masks)
    if len(names) <= _MOST_COLOURS:
        pages = [_with_palette(one.astype(np.uint8), len(names)) for one in labels]
    else:
        pages = [Image.fromarray(one) for one in labels]
    stream = BytesIO()
    pages[0].save(
        stream,
        "TIFF",
        save_all=True,
        append_images=pages[1:],
        compression="tiff_adobe_deflate",
        tiffinfo={_IMAGE_DESCRIPTION: _named(names)},
        **_resolution(source),
    )
    return stream.getvalue()


def _with_palette(labels: NDArray[np.uint8], count: int) -> Image.Image:
    """Make an image of numbers whose colours are black for 0, then those of the masks."""
    image = Image.fromarray(labels).convert("L")
    image.putpalette([0, 0, 0, *colours(count).ravel().tolist()])
    return image


def _named(names: Sequence[str]) -> str:
    """Return the number of each structure as JSON in ASCII."""
    return json.dumps({str(number): name for number, name in enumerate(names, start=1)})


def _resolution(source: MedicalImage | None) -> dict[str, tuple[float, float]]:
    """Return the pixels an inch, across and down, that image files state."""
    if source is None or source.spacing is None:
        return {}
    height, width = source.spacing
    return {"dpi": (_MM_PER_INCH / width, _MM_PER_INCH / height)}
