"""The heart without prompts: from frames to chambers, and from chambers to a report."""

from fastseg.echo.findings import Place, find
from fastseg.echo.mask_measures import MaskSource, measure_masks
from fastseg.echo.output import save_report
from fastseg.echo.report import Row, Study, find_view, study, view_doubt

__all__ = [
    "MaskSource",
    "Place",
    "Row",
    "Study",
    "find",
    "find_view",
    "measure_masks",
    "save_report",
    "study",
    "view_doubt",
]
