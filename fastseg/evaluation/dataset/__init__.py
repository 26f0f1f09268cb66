"""Datasets with truth: folders of images and masks, COCO files, CSV files of pairs."""

from __future__ import annotations

import os
from pathlib import Path

from fastseg.errors import ImageError
from fastseg.evaluation.dataset.coco import read_coco
from fastseg.evaluation.dataset.example import (
    Case,
    Dataset,
    Example,
    LoadedExample,
    Truth,
    TruthSource,
    ViewSettings,
)
from fastseg.evaluation.dataset.folders import read_folders
from fastseg.evaluation.dataset.pairs import read_pairs

__all__ = [
    "Case",
    "Dataset",
    "Example",
    "LoadedExample",
    "Truth",
    "TruthSource",
    "ViewSettings",
    "read_dataset",
]


def read_dataset(source: str | os.PathLike[str]) -> Dataset:
    """List the examples of a dataset; images are read later, one by one.

    Args:
        source: A folder with ``images`` and ``masks`` (PNG, TIFF, NIfTI, NRRD, DICOM with SEG), a
            COCO file (.json), or a CSV of pairs.

    Raises:
        ImageError: There is no such dataset, or nothing in it can be evaluated.
        MaskError: Its declaration of classes cannot be used.
    """
    path = Path(source)
    if path.is_dir():
        dataset = read_folders(path)
    elif path.suffix.lower() == ".json" and path.is_file():
        dataset = read_coco(path)
    elif path.suffix.lower() == ".csv" and path.is_file():
        dataset = read_pairs(path)
    else:
        raise ImageError(
            f"{path} is no dataset. Give a folder with images and masks, a COCO file (.json), or a "
            "CSV of pairs (.csv)."
        )
    if not dataset.examples:
        reason = f" {dataset.faults[0]}" if dataset.faults else ""
        raise ImageError(f"{path} has no image with a mask.{reason}")
    return dataset
