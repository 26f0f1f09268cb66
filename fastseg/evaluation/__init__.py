"""Evaluation of models on data with truth, by the protocols of published studies."""

from fastseg.evaluation.dataset import Dataset, ViewSettings, read_dataset
from fastseg.evaluation.protocols import (
    Adapter,
    Boxes,
    Centroid,
    Everything,
    Modes,
    Phases,
    Points,
)
from fastseg.evaluation.report import write_results
from fastseg.evaluation.runner import Outcome, evaluate
from fastseg.evaluation.summary import Summary, summarise

__all__ = [
    "Adapter",
    "Boxes",
    "Centroid",
    "Dataset",
    "Everything",
    "Modes",
    "Outcome",
    "Phases",
    "Points",
    "Summary",
    "ViewSettings",
    "evaluate",
    "read_dataset",
    "summarise",
    "write_results",
]
