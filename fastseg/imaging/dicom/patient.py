"""The patient's data of a DICOM header, which results leave out unless they are asked for."""

from __future__ import annotations

from typing import Any

_PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
"""Elements of the source that are left empty unless they are asked for."""


_MORE = (
    "PatientSize", "PatientWeight", "PatientComments", "PatientBirthTime", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "OtherPatientIDs", "OtherPatientNames",
    "OtherPatientIDsSequence", "IssuerOfPatientID", "EthnicGroup", "Occupation",
    "AdditionalPatientHistory", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord",
    "PerformingPhysicianName", "OperatorsName",
)  # fmt: skip
"""Elements of people that a source may have; they are left out unless they are asked for."""


def without_patient(header: Any, *, keep: bool = False) -> Any:
    """Empty the patient's data of a header, or add what it lacks of it, and return the header.

    Objects that are made from a source copy these elements, and need them to be there.

    Args:
        header: A pydicom data set; it is changed.
        keep: Leave the data that are there.
    """
    for name in _PATIENT:
        if not keep or name not in header:
            setattr(header, name, "" if name != "PatientAge" else None)
    for name in _MORE:
        if not keep and name in header:
            delattr(header, name)
    return header
