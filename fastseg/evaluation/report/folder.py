"""The result folder of an evaluation: scores, times, summary and the page, whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastseg import results
from fastseg.evaluation.dataset import Dataset, ViewSettings
from fastseg.evaluation.report.page import write_page
from fastseg.evaluation.summary import Summary
from fastseg.results import to_json
from fastseg.storage.atomic import atomic_folder

SCORES_FILE, TIMES_FILE, SUMMARY_FILE, PAGE_FILE = (
    "scores.csv",
    "times.csv",
    "summary.json",
    "report.html",
)

_ABOUT = ("model", "image", "domain", "task", "object", "pixels", "variant", "slot")
_PROMPTED = ("prompt", "chosen", "predicted")


def check_out(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder that holds anything but an earlier evaluation.

    Raises:
        OutputError: It does.
    """
    results.refuse_foreign(out, inputs, marker=SUMMARY_FILE)


def write_results(
    out: str | os.PathLike[str],
    summary: Summary,
    dataset: Dataset,
    view: ViewSettings,
    *,
    page: bool = True,
    overwrite: bool = False,
) -> None:
    """Write the result folder.

    Args:
        out: The folder.
        summary: Of the run.
        dataset: Whose images are shown as cases.
        view: How they are shown.
        page: Write the page too, which needs the extra ``report``.
        overwrite: Replace an earlier evaluation.

    Raises:
        BackendUnavailableError: The page is asked for without the extra ``report``.
        OutputError: The folder is taken, or cannot be written.
    """
    check_out(Path(out))
    document = to_json(summary.as_dict(), indent=2) + "\n"
    text = write_page(summary, dataset, view) if page else ""
    with atomic_folder(out, replace=overwrite, last=SUMMARY_FILE) as folder:
        write_rows(folder / SCORES_FILE, *_scores(summary))
        write_rows(folder / TIMES_FILE, *_times(summary))
        if text:
            (folder / PAGE_FILE).write_text(text, encoding="utf-8")
        (folder / SUMMARY_FILE).write_text(document, encoding="utf-8")


def _scores(summary: Summary) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """Return the columns and rows of ``scores.csv``: a row an object and condition."""
    names = dict.fromkeys(
        name for outcome in summary.outcomes for row in outcome.rows for name in row.scores
    )
    rows = []
    for model, outcome in zip(summary.models, summary.outcomes, strict=True):
        for row in outcome.rows:
            about = {name: getattr(row, name) for name in _ABOUT[1:]}
            prompted = {name: to_json(list(getattr(row, name))) for name in _PROMPTED}
            scores = {name: _number(row.scores.get(name)) for name in names}
            rows.append({"model": model, **about, **scores, **prompted})
    return (*_ABOUT, *names, *_PROMPTED), rows


def _times(summary: Summary) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """Return the columns and rows of ``times.csv``: a row an image and model."""
    rows = [
        {"model": model, "image": image, **{f"{name} ms": f"{ms:.3f}" for name, ms in own.items()}}
        for model, outcome in zip(summary.models, summary.outcomes, strict=True)
        for image, own in outcome.milliseconds.items()
    ]
    return tuple(dict.fromkeys(name for row in rows for name in row)), rows


def _number(value: float | None) -> str:
    """Write a score so that it is read back as it is; empty for a score that is undefined."""
    return "" if value is None or value != value else repr(float(value))


def write_rows(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Write a CSV file of dictionaries; a value that one lacks is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
