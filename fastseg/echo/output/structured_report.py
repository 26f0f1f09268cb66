"""A report as DICOM SR: a measurement report of TID 1500."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

from fastseg.echo.report import Row, Study
from fastseg.environment import needs_extra, versions
from fastseg.errors import FastsegError, ImageError, OutputError
from fastseg.imaging.dicom import QUIET, without_patient
from fastseg.provenance import NOTICE

SCHEME = "99FASTSEG"
"""Designator of the concepts that no standard names: the rows of the report."""

_SITES = {
    "lv": ("87878005", "Left ventricle"),
    "sax": ("87878005", "Left ventricle"),
    "la": ("82471001", "Left atrium"),
    "ra": ("73829009", "Right atrium"),
    "rv": ("53085002", "Right ventricle"),
}
"""Codes of SNOMED CT by the start of a row's name."""

_UNITS = {
    "cm2": "cm2", "cm": "cm", "mL": "ml", "g": "g", "%": "%", "mL/m2": "ml/m2", "g/m2": "g/m2",
}  # fmt: skip
"""UCUM by unit."""


def structured_report(
    study: Study,
    sources: Sequence[str | os.PathLike[str]],
    *,
    keep_patient: bool = False,
) -> bytes:
    """Make a Comprehensive SR with a measurement group for each row that has a value.

    A group has the name of its row as tracking identifier and as coded name in the scheme
    ``99FASTSEG``, the chamber as finding site, the value with all its digits, references to the
    frames that it was made from, and its caution as a comment. The report is marked as partial and
    unverified, and has the research-use notice and the cautions of the study as comments.

    Args:
        study: The report.
        sources: The DICOM files that it was made from, of one study.
        keep_patient: Copy the patient's data from the sources; it is left empty otherwise.

    Raises:
        BackendUnavailableError: highdicom is not installed.
        ImageError: A source is no DICOM file.
        OutputError: No row has a value, or the sources cannot be referred to.
    """
    rows = [row for row in study.rows if math.isfinite(row.value)]
    if not rows or not sources:
        raise OutputError(
            "a DICOM SR needs a measurement with a value and the DICOM files that it is from. "
            "Save the report as .html, .csv or .json instead."
        )
    with needs_extra("dicom", "writing DICOM SR"):
        from highdicom import UID
        from highdicom.sr import ComprehensiveSR
    try:
        with QUIET:
            headers = {os.fspath(path): _header(path, keep_patient) for path in sources}
            made = ComprehensiveSR(
                evidence=list(headers.values()),
                content=_content(study, rows, headers),
                series_instance_uid=UID(),
                series_number=1,
                sop_instance_uid=UID(),
                instance_number=1,
                manufacturer="fastseg",
                is_complete=False,
                is_final=False,
                is_verified=False,
                series_description="Echo measurements, research use only",
            )
            stream = BytesIO()
            made.save_as(stream, enforce_file_format=True)
            return stream.getvalue()
    except FastsegError:
        raise
    except Exception as error:  # highdicom asks for elements that a source may lack, each its way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(
            f"no DICOM SR can be made from these files: {reason}. Save the report as .html, .csv "
            "or .json instead."
        ) from error


def _header(path: str | os.PathLike[str], keep_patient: bool) -> Any:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError) as error:
        raise ImageError(
            f"{os.fspath(path)} is no DICOM file, which a DICOM SR refers to. Save the report as "
            ".html, .csv or .json instead."
        ) from error
    return without_patient(header, keep=keep_patient)


def _content(study: Study, rows: Sequence[Row], headers: dict[str, Any]) -> Any:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        RelationshipTypeValues,
        TextContentItem,
    )
    from highdicom.uid import UID
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=UID.from_uuid("8f0b5f0e-3c53-4a52-9d2b-6f2d4c1f7a10"),
        name="fastseg",
        manufacturer_name="fastseg",
        model_name=f"fastseg {versions()['fastseg']}",
    )
    observer = ObserverContext(
        observer_type=codes.DCM.Device, observer_identifying_attributes=device
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=_coded("40701008", "SCT", "Echocardiography"),
        imaging_measurements=[_group(row, headers) for row in rows],
        title=codes.DCM.ImagingMeasurementReport,
    )
    cautions = dict.fromkeys(_without_path(one, headers) for one in study.cautions)
    for text in (NOTICE, *cautions):
        comment = TextContentItem(
            name=codes.DCM.Comment,
            value=text,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        report[0].ContentSequence.append(comment)
    return report


def _without_path(caution: str, paths: Iterable[str]) -> str:
    """Return a caution without the path that it is about: paths often name the patient."""
    for path in paths:
        caution = caution.removeprefix(f"{path}: ")
    return caution


def _group(row: Row, headers: dict[str, Any]) -> Any:
    from highdicom.sr import (
        FindingSite,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        RelationshipTypeValues,
        TextContentItem,
        TrackingIdentifier,
    )
    from highdicom.uid import UID
    from pydicom.sr.codedict import codes

    site, meaning = _SITES[row.name.split("_", 1)[0]]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=UID(), identifier=row.name),
        source_images=list(_references(row, headers)) or None,
        finding_sites=[FindingSite(_coded(site, "SCT", meaning))],
        measurements=[
            Measurement(
                name=_coded(row.name, SCHEME, row.title),
                value=row.value,
                unit=_coded(_UNITS[row.unit], "UCUM", row.unit),
            )
        ],
    )
    spread = f"{row.low:.6g} to {row.high:.6g} over {row.beats} beats" if row.beats > 1 else ""
    for text in filter(None, (spread, row.caution)):
        comment = TextContentItem(
            name=codes.DCM.Comment,
            value=text,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        group[0].ContentSequence.append(comment)
    return group


def _references(row: Row, headers: dict[str, Any]) -> Iterator[Any]:
    """Yield the files of a row, each with the numbers of its frames from 1."""
    from highdicom.sr import SourceImageForMeasurementGroup

    for path, header in headers.items():
        numbers = [
            int(frame.removeprefix(f"{path} frame ")) + 1
            for frame in row.frames
            if frame.startswith(f"{path} frame ")
        ]
        if not numbers and path not in row.frames:
            continue
        many = int(header.get("NumberOfFrames") or 1) > 1
        yield SourceImageForMeasurementGroup.from_source_image(
            header, sorted(numbers) if many and numbers else None
        )


def _coded(value: str, scheme: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning)
