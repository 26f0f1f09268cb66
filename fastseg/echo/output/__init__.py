"""A report as files: JSON, CSV, an HTML page and DICOM SR, and the images that go with it."""

from fastseg.echo.output.saving import save_report

__all__ = ["save_report"]
