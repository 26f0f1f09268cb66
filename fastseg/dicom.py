"""Ultrasound DICOM files as frames: the public names of ``fastseg.echo.dicom``."""

from fastseg.echo.dicom import DicomClip, is_dicom, read_dicom

__all__ = ["DicomClip", "is_dicom", "read_dicom"]
