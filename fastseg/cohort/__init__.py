"""Cohorts: many images through a model, with a journal, so that nothing done is lost."""

from fastseg.cohort.engine import Outcome, Run, run
from fastseg.cohort.manifest import Item, read_items
from fastseg.cohort.workers.ray import RaySettings

__all__ = ["Item", "Outcome", "RaySettings", "Run", "read_items", "run"]
