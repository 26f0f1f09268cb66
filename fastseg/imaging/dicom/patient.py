"""The patient's data of a DICOM header, which results leave out unless they are asked for."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any

_KEY = secrets.token_bytes(32)
"""Key of the hashes, made anew for each process: they cannot be traced back by trying numbers."""

_IDENTITY = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")

_NEEDED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
"""Elements that objects made from a source have, empty if they are not asked for."""


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
    for name in _NEEDED:
        if not keep or name not in header:
            setattr(header, name, "" if name != "PatientAge" else None)
    for name in _MORE:
        if not keep and name in header:
            delattr(header, name)
    return header


def study_hash(path: str | os.PathLike[str]) -> str:
    """Hash the patient's identifier and the study of a DICOM file, to group files by it.

    The identifier goes into the hash and nowhere else. Hashes hold in one process, since its key is
    random: identifiers are short, and a plain hash of one is found by trying all.

    Args:
        path: A DICOM file.

    Returns:
        64 hexadecimal digits; empty if the file states no identifier.

    Raises:
        BackendUnavailableError: pydicom is not installed.
        ImageError: The file is damaged.
    """
    from fastseg.imaging.dicom.content import faults, read_elements

    with faults(path), Path(path).open("rb") as file:
        header = read_elements(file, _IDENTITY)
        words = [str(header.get(name) or "").strip() for name in _IDENTITY]
    if not words[0]:
        return ""
    return hmac.new(_KEY, "\n".join(words).encode("utf-8"), hashlib.sha256).hexdigest()
