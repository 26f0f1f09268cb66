"""Paths as users write them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with a leading ``~`` replaced by the home folder, if there is one."""
    given = Path(path)
    with suppress(RuntimeError):
        return given.expanduser()
    return given
