"""DICOM SEG: binary segments that refer to the frames of their source."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra, versions
from fastseg.errors import FastsegError, MaskError
from fastseg.imaging.dicom.patient import without_patient
from fastseg.imaging.dicom.quiet import QUIET
from fastseg.imaging.image import MedicalImage

_LONGEST_LABEL = 64


def segmentation(
    pixels: NDArray[np.bool_], names: Sequence[str], source: MedicalImage, *, keep_patient: bool
) -> bytes:
    """Make a DICOM SEG.

    Args:
        pixels: (n, H, W, segments), for each frame of ``source``.
        names: Label of each segment.
        source: An image whose frames have files.
        keep_patient: Copy the patient's data from the source.

    Raises:
        BackendUnavailableError: highdicom is not installed.
        MaskError: The source lacks what a DICOM SEG has to say.
    """
    with needs_extra("dicom", "writing DICOM SEG"):
        from highdicom import UID
        from highdicom.seg import Segmentation
        from pydicom import dcmread
    version = versions()["fastseg"]
    try:
        with QUIET:
            paths = list(dict.fromkeys(path for path, _ in source.files))
            headers = [dcmread(path, stop_before_pixels=True) for path in paths]
            for header in headers:
                without_patient(header, keep=keep_patient)
            made = Segmentation(
                source_images=headers,
                pixel_array=_of_all_frames(pixels, source, headers),
                segmentation_type="BINARY",
                segment_descriptions=_descriptions(names, version),
                series_instance_uid=UID(),
                series_number=1,
                sop_instance_uid=UID(),
                instance_number=1,
                manufacturer="fastseg",
                manufacturer_model_name="fastseg",
                software_versions=version,
                device_serial_number="0",
            )
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


def _of_all_frames(
    pixels: NDArray[np.bool_], source: MedicalImage, headers: Sequence[Any]
) -> NDArray[np.bool_]:
    """Put the frames of a part of a multi-frame file into all of its frames."""
    count = int(headers[0].get("NumberOfFrames") or 1)
    if len(headers) > 1 or count == 1:
        return pixels
    whole = np.zeros((count, *pixels.shape[1:]), np.bool_)
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
            segment_label=name[:_LONGEST_LABEL],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]
