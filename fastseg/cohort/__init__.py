"""Cohorts: many images through a model, with a journal, so that nothing done is lost."""

from fastseg.cohort.engine import Outcome, run
from fastseg.cohort.manifest import Item, read_items

__all__ = ["Item", "Outcome", "read_items", "run"]
