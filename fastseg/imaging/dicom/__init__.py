"""DICOM files: header, pixels, geometry, ultrasound regions and series."""
