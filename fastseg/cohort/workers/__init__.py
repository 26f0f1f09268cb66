"""Engines of cohorts: threads, processes, and Ray."""

from fastseg.cohort.workers.opening import ENGINES, open_workers

__all__ = ["ENGINES", "open_workers"]
