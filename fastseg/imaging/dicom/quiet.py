"""Silence about warnings whose texts quote what a header holds."""

from __future__ import annotations

import threading
import warnings
from types import TracebackType


class _Quiet:
    """Hides the warnings of pydicom and highdicom while a call in any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                # One block for all threads: blocks that overlap would restore each other's filters.
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module="pydicom|highdicom")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(kind, error, trace)


QUIET = _Quiet()
