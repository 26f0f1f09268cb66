"""Published figures of the studies, with their sources."""

from fastseg.evaluation.published.tables import (
    AGREEMENT,
    ALL_TASKS,
    MEASUREMENTS,
    RESOURCES,
    TABLES,
    Figure,
    figures,
    read_table,
    study_measurements,
)

__all__ = [
    "AGREEMENT",
    "ALL_TASKS",
    "MEASUREMENTS",
    "RESOURCES",
    "TABLES",
    "Figure",
    "figures",
    "read_table",
    "study_measurements",
]
