"""The report of one patient: frames that count, values with their spread, reasons and cautions."""

from fastseg.echo.report.rows import SEPARATOR, Row, Study
from fastseg.echo.report.values import INDEXED, study
from fastseg.echo.report.view_check import view_doubt

__all__ = ["INDEXED", "SEPARATOR", "Row", "Study", "study", "view_doubt"]
