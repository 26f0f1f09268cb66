"""Medical images: DICOM, NIfTI, NRRD and deep image files with geometry, and masks out again."""

from fastseg.imaging.image import MedicalImage, Timing, UltrasoundRegion
from fastseg.imaging.reading import is_medical, read
from fastseg.imaging.saving import save
from fastseg.imaging.window import WINDOWS, Window

__all__ = [
    "WINDOWS",
    "MedicalImage",
    "Timing",
    "UltrasoundRegion",
    "Window",
    "is_medical",
    "read",
    "save",
]
