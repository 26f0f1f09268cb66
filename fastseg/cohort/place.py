"""The place of a cohort: begun, or recognised as the one that is gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastseg.cohort.storage import UNFINISHED, Store
from fastseg.errors import CohortError, OutputError
from fastseg.inputs.numbers import shown
from fastseg.results import to_json

COHORT_FILE = "cohort.json"
ITEMS = "items"
FORMAT = 1


def begin(store: Store, about: Mapping[str, Any], *, ending: str = "", resume: bool) -> None:
    """Begin a cohort at an empty place, or check that the one there is this one.

    Args:
        store: The place.
        about: What the results depend on.
        ending: End of the name of the journal of a part.
        resume: Go on with a cohort that is there.

    Raises:
        CohortError: The cohort there is another one, or damaged.
        OutputError: There is a cohort and it is not to be resumed, or something else.
    """
    about = {"format": FORMAT, **about}
    names = store.names()
    if COHORT_FILE in names:
        # Another part of the same cohort may have begun.
        if not resume and (not ending or f"journal{ending}.jsonl" in names):
            raise OutputError(
                f"{store.place} holds a cohort. Go on with it by --resume (resume=True), remove "
                "it, or choose another folder."
            )
        _require_same(store, about)
        return
    ours = (COHORT_FILE, ITEMS)
    if any(name not in ours and not name.startswith(UNFINISHED) for name in names):
        raise OutputError(f"{store.place} is not empty and holds no cohort. Choose another folder.")
    store.write(COHORT_FILE, (to_json(about, indent=2) + "\n").encode())


def _require_same(store: Store, about: Mapping[str, Any]) -> None:
    try:
        before = json.loads(store.read(COHORT_FILE) or b"")
        differing = [name for name in about if before[name] != json.loads(to_json(about[name]))]
    except (ValueError, KeyError, TypeError) as error:
        raise CohortError(
            f"{store.place}/{COHORT_FILE} is damaged, or of another task or version. Choose "
            "another folder."
        ) from error
    if differing:
        name = differing[0]
        raise CohortError(
            f"{store.place} holds a cohort with another {name}: {shown(before[name])}, not "
            f"{shown(about[name])}. Results of both would be mixed: choose another folder."
        )


def file_version(path: Path) -> dict[str, int] | None:
    """Describe a file, to see whether it was replaced; None if it is not there."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}
