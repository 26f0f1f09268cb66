"""TensorRT's messages: errors are collected, phases of a build reported, the rest dropped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

_ERROR = 1
"""Severity of an error; 0 is an internal one, 2 a warning."""

_MOST_ERRORS = 3


class Log:
    """The errors that a runtime logs, by thread."""

    def __init__(self, module: Any) -> None:
        self._errors: dict[int, list[str]] = {}
        self.logger = _logger(module, self._add)
        """The object that is passed to the runtime."""

    @property
    def errors(self) -> str:
        """The first errors of this thread in one line; of any thread if this one has none."""
        own = self._errors.get(threading.get_ident())
        found = own or [text for errors in list(self._errors.values()) for text in errors]
        return "; ".join(found[:_MOST_ERRORS])

    def clear(self) -> None:
        """Drop the errors of this thread up to now."""
        self._errors.pop(threading.get_ident(), None)

    def _add(self, text: str) -> None:
        errors = self._errors.setdefault(threading.get_ident(), [])
        if text not in errors and len(errors) < _MOST_ERRORS:
            errors.append(text)


@cache
def log_of(module: Any) -> Log:
    """Return the log of a runtime, one a process: the runtime uses the first that it gets."""
    return Log(module)


def _logger(module: Any, add: Callable[[str], None]) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            # Not super(): the binding requires its own constructor by name.
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            text = " ".join(message.split()).rstrip(".")
            if int(severity) <= _ERROR and text:
                add(text)

    return Logger()


class BuildMonitor:
    """The phases of one build, and whether the user interrupted it.

    While the block runs Ctrl-C raises nothing: an exception may not pass through the frames of the
    runtime, so the runtime is asked to stop instead.

    Args:
        module: The runtime.
        config: The build's configuration.
        progress: Called with the name of each phase as it begins.
    """

    def __init__(self, module: Any, config: Any, progress: Callable[[str], None]) -> None:
        self.interrupted = False
        self._monitor = _monitor(module, self, progress)
        self._previous: Any = None
        config.progress_monitor = self._monitor

    def __enter__(self) -> BuildMonitor:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
        if self.interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        self.interrupted = True


def _monitor(module: Any, build: BuildMonitor, progress: Callable[[str], None]) -> Any:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            del steps
            if parent is None or parent.startswith("Building engine"):
                progress(phase)

        def phase_finish(self, phase: str) -> None:
            del phase

        def step_complete(self, phase: str, step: int) -> bool:
            """Continue unless the user interrupted the build."""
            del phase, step
            return not build.interrupted

    return Monitor()
