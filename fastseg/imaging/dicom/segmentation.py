"""DICOM SEG: segments that refer to the frames of their source."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra, versions
from fastseg.errors import FastsegError, MaskError
from fastseg.imaging.dicom.clip_segmentation import as_single_frame, repeat_for_frames
from fastseg.imaging.dicom.patient import without_patient
from fastseg.imaging.dicom.quiet import QUIET
from fastseg.imaging.image import MedicalImage
from fastseg.inputs.text import printable

SegmentationKind: TypeAlias = Literal["binary", "fractional", "labelmap"]
"""Types of DICOM SEG (PS3.3, C.8.20.2): a bit a pixel and segment, a probability of 0..255 a pixel
and segment, or one number a pixel."""

_LONGEST_LABEL = 64


def segmentation(
    pixels: NDArray[Any],
    names: Sequence[str],
    source: MedicalImage,
    *,
    keep_patient: bool,
    kind: SegmentationKind = "binary",
) -> bytes:
    """Make a DICOM SEG.

    Frames without a place in the patient, those of an ultrasound clip for one, are referred to by
    their numbers.

    Args:
        pixels: (n, H, W, segments) for each frame of ``source``: bool, or probabilities 0..1 of
            ``"fractional"``; of ``"labelmap"`` (n, H, W) numbers of segments, 0 outside.
        names: Label of each segment.
        source: An image whose frames have files.
        keep_patient: Copy the patient's data from the source.
        kind: Type of the segmentation.

    Raises:
        BackendUnavailableError: highdicom is not installed.
        MaskError: The source lacks what a DICOM SEG has to say.
    """
    with needs_extra("dicom", "writing DICOM SEG"):
        import highdicom  # noqa: F401
        from pydicom import dcmread
    try:
        with QUIET:
            paths = list(dict.fromkeys(path for path, _ in source.files))
            headers = [dcmread(path, stop_before_pixels=True) for path in paths]
            for header in headers:
                _complete(header, keep_patient)
            whole = _of_all_frames(pixels, source, headers)
            clip = len(headers) == 1 and len(whole) > 1 and "FrameOfReferenceUID" not in headers[0]
            if clip:
                original = as_single_frame(headers[0])
                made = _made(headers, np.ones_like(whole[:1]), names, kind)
                repeat_for_frames(made, whole, original)
            else:
                made = _made(headers, whole, names, kind)
            stream = BytesIO()
            made.save_as(stream, enforce_file_format=True)
            return stream.getvalue()
    except FastsegError:
        raise
    except Exception as error:  # highdicom asks for elements that a source may lack, each its way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MaskError(
            f"no DICOM SEG can be made for {source.name}: {reason}. Save as NIfTI or NRRD instead."
        ) from error


def _made(
    headers: Sequence[Any], pixels: NDArray[Any], names: Sequence[str], kind: SegmentationKind
) -> Any:
    from highdicom import UID
    from highdicom.seg import Segmentation

    version = versions()["fastseg"]
    return Segmentation(
        source_images=headers,
        pixel_array=pixels,
        segmentation_type=kind.upper(),
        segment_descriptions=_descriptions(names, version),
        series_instance_uid=UID(),
        series_number=1,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="fastseg",
        manufacturer_model_name="fastseg",
        software_versions=version,
        device_serial_number="0",
        omit_empty_frames=bool(pixels.any()),
    )


def _complete(header: Any, keep_patient: bool) -> None:
    """Give a header the elements that a SEG copies, empty where it lacks them or must not."""
    without_patient(header, keep=keep_patient)
    if not keep_patient:
        # Names of segments may have any letters, and some machines misspell the source's set.
        header.SpecificCharacterSet = "ISO_IR 192"


def _of_all_frames(
    pixels: NDArray[Any], source: MedicalImage, headers: Sequence[Any]
) -> NDArray[Any]:
    """Put the frames of a part of a multi-frame file into all of its frames."""
    count = int(headers[0].get("NumberOfFrames") or 1)
    if len(headers) > 1 or count == 1:
        return pixels
    whole = np.zeros((count, *pixels.shape[1:]), pixels.dtype)
    for (_, place), frame in zip(source.files, pixels, strict=True):
        whole[place] = frame
    return whole


def _descriptions(names: Sequence[str], version: str) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name="fastseg", version=version, family=codes.cid7162.ArtificialIntelligence
    )
    return [
        SegmentDescription(
            segment_number=number,
            # A backslash would separate two values.
            segment_label=printable(name).replace("\\", "/")[:_LONGEST_LABEL],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]
