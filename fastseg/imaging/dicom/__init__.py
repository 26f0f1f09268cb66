"""DICOM files: header, pixels, geometry, ultrasound regions and series."""

from fastseg.imaging.dicom.codestream import Coded
from fastseg.imaging.dicom.content import (
    begins_without_preamble,
    faults,
    is_dicom,
    read_elements,
    read_header,
)
from fastseg.imaging.dicom.header import (
    PALETTE,
    PixelFormat,
    check_limits,
    decimals,
    pixel_format,
)
from fastseg.imaging.dicom.patient import study_hash, without_patient
from fastseg.imaging.dicom.pixels import StoredPixels, decode
from fastseg.imaging.dicom.quiet import QUIET
from fastseg.imaging.dicom.regions import timing, ultrasound_regions

__all__ = [
    "PALETTE",
    "QUIET",
    "Coded",
    "PixelFormat",
    "StoredPixels",
    "begins_without_preamble",
    "check_limits",
    "decimals",
    "decode",
    "faults",
    "is_dicom",
    "pixel_format",
    "read_elements",
    "read_header",
    "study_hash",
    "timing",
    "ultrasound_regions",
    "without_patient",
]
