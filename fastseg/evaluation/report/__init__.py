"""Reports of evaluations: tables as files, and a page for people."""

from fastseg.evaluation.report.folder import (
    PAGE_FILE,
    SCORES_FILE,
    SUMMARY_FILE,
    TIMES_FILE,
    check_out,
    write_results,
)

__all__ = [
    "PAGE_FILE",
    "SCORES_FILE",
    "SUMMARY_FILE",
    "TIMES_FILE",
    "check_out",
    "write_results",
]
