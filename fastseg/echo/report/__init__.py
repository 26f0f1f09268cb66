"""The report of one patient: frames that count, values with their spread, reasons and cautions."""

from fastseg.echo.report.rows import SEPARATOR, Row, Study
from fastseg.echo.report.values import INDEXED, study
from fastseg.echo.report.view_check import view_doubt
from fastseg.echo.report.view_finding import FOUND_BY_NETWORKS, find_view, view_of

__all__ = [
    "FOUND_BY_NETWORKS",
    "INDEXED",
    "SEPARATOR",
    "Row",
    "Study",
    "find_view",
    "study",
    "view_doubt",
    "view_of",
]
