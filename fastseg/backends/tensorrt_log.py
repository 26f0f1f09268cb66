"""What TensorRT says while it works: errors are kept, phases are reported, the rest is silent."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

_ERROR = 1
"""Severity of an error; 0 is an internal one, 2 a warning."""

_MOST_ERRORS = 3


class Log:
    """Collects what a runtime complains about. One a build or a loaded engine."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._logger: Any = None

    @property
    def errors(self) -> str:
        """The first errors in one line, empty if there was none."""
        return "; ".join(self._errors[:_MOST_ERRORS])

    def forget(self) -> None:
        """Forget the errors up to now."""
        self._errors.clear()

    def as_logger(self, module: Any) -> Any:
        """This log as the runtime wants it; the same object each time, kept as long as this."""
        if self._logger is None:
            self._logger = _logger(module, self._errors)
        return self._logger


def _logger(module: Any, errors: list[str]) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            # Not super(): the binding asks for its own constructor by name.
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= _ERROR:
                text = " ".join(message.split()).rstrip(".")
                if text and text not in errors:
                    errors.append(text)

    return Logger()


class Watch:
    """The phases of one build, and whether the user has interrupted it.

    Ctrl-C is held back while the block runs: an exception may not pass through the runtime's own
    frames, so the runtime is asked to stop instead.

    Args:
        module: The runtime.
        config: The build's configuration.
        progress: Is told which phase begins.
    """

    def __init__(self, module: Any, config: Any, progress: Callable[[str], None]) -> None:
        self.interrupted = False
        self._monitor = _monitor(module, self, progress)
        self._previous: Any = None
        config.progress_monitor = self._monitor

    def __enter__(self) -> Watch:
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


def _monitor(module: Any, watch: Watch, progress: Callable[[str], None]) -> Any:
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
            """Go on unless the user has had enough."""
            del phase, step
            return not watch.interrupted

    return Monitor()
