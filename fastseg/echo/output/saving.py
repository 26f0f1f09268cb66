"""Writing of a report as one file, by its suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastseg.echo.report import Study
from fastseg.environment import versions
from fastseg.errors import OutputError
from fastseg.provenance import NOTICE
from fastseg.results import to_json
from fastseg.storage.atomic import atomic_file

SUFFIXES = (".json", ".csv", ".html", ".dcm")
"""Suffixes of the files that a report is written as."""


def save_report(
    study: Study,
    path: str | os.PathLike[str],
    *,
    sources: Sequence[str | os.PathLike[str]] = (),
    keep_patient: bool = False,
) -> Path:
    """Write a report as one file, whole or not at all, with the research-use notice in it.

    Args:
        study: What ``study`` returned.
        path: The file. Its suffix chooses the format: .json with every curve and finding, .csv with
            a line a row, .html as one page with the area curves, or .dcm as DICOM SR (TID 1500).
        sources: The DICOM files that the report is from; DICOM SR needs them.
        keep_patient: Copy the patient's data of the sources into the DICOM SR.

    Returns:
        The path.

    Raises:
        BackendUnavailableError: highdicom is not installed, for .dcm.
        ImageError: A source is no DICOM file.
        OutputError: The suffix is of no such format, the sources are missing, or the file cannot be
            written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".json":
        head = {"notice": NOTICE, "versions": versions()}
        content = (to_json({**head, **study.as_dict()}, indent=2) + "\n").encode("utf-8")
    elif suffix == ".csv":
        from fastseg.echo.output.table import as_csv

        content = as_csv([study]).encode("utf-8")
    elif suffix == ".html":
        from fastseg.echo.output.page import as_page

        content = as_page(study).encode("utf-8")
    elif suffix == ".dcm":
        from fastseg.echo.output.structured_report import structured_report

        content = structured_report(study, sources, keep_patient=keep_patient)
    else:
        raise OutputError(
            f"{target.name} has no suffix that reports are saved by. Give one of "
            f"{', '.join(SUFFIXES)}."
        )
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)
    return target
