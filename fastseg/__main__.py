"""``fastseg`` and ``python -m fastseg``: the command line, if what it needs is installed."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

INTERRUPTED = 130
TERMINATED = 143
HUNG_UP = 129

CLEANING_S = 10.0
"""Time that a command has to remove half-written results, before a further signal interrupts it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``fastseg``; None takes those of the process.

    Returns:
        0 done, 1 some inputs failed, 2 a call that cannot be carried out, 130 interrupted.
    """
    signals = _Signals()
    try:
        try:
            from fastseg.cli.root import run
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in ("click", "rich"):
                raise
            from fastseg.environment import install_hint

            sys.stderr.write(f"fastseg: the command line needs {package}. {install_hint('cli')}\n")
            return 2
        code = run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        signals.done()
    if code == INTERRUPTED:
        _forget_interrupt()
    return code


def _forget_interrupt() -> None:
    """Let the exit code stand after an interrupt that came inside of ``exec``.

    Modules are in it while they make their dataclasses. Then CPython ends ``python -m`` by the
    signal, although the interrupt was caught, unless some source is run before the end.
    """
    exec("")  # noqa: S102


class _Signals:
    """Signals that end the command by an exception, so that half-written results are removed."""

    def __init__(self) -> None:
        self._last = -CLEANING_S
        self._handled = [signal.SIGTERM]
        # A background job ignores interrupts, and a process started by nohup its terminal's end.
        for number in (signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handled.append(number)
        for number in self._handled:
            signal.signal(number, self._end)

    def done(self) -> None:
        """Let a second Ctrl-C not change the exit code while the interpreter ends."""
        if self._last > 0:
            for number in self._handled:
                signal.signal(number, signal.SIG_IGN)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        # A second Ctrl-C, or the SIGTERM after it, must not interrupt what the first one began.
        now = time.monotonic()
        if now - self._last < CLEANING_S:
            return
        self._last = now
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(TERMINATED if number == signal.SIGTERM else HUNG_UP)


if __name__ == "__main__":
    sys.exit(main())
