"""The heart without prompts: from frames to chambers, and from chambers to a report."""

from fastseg.echo.findings import find
from fastseg.echo.report import Row, Study, study

__all__ = ["Row", "Study", "find", "study"]
