"""``fastseg`` and ``python -m fastseg``: the command line, if what it needs is installed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

INTERRUPTED = 130
TERMINATED = 143
HUNG_UP = 129


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``fastseg``; None takes those of the process.

    Returns:
        0 done, 1 some inputs failed, 2 a call that cannot be carried out, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, _end)
    # A process that was started by nohup ignores the end of its terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _hang_up)
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
    if code == INTERRUPTED:
        _forget_interrupt()
    return code


def _forget_interrupt() -> None:
    """Let the exit code stand after an interrupt that came inside of ``exec``.

    Modules are in it while they make their dataclasses. Then CPython ends ``python -m`` by the
    signal, although the interrupt was caught, unless some source is run before the end.
    """
    exec("")  # noqa: S102


def _end(_signum: int, _frame: FrameType | None) -> None:
    """End by an exception, so that half-written results are removed on the way out."""
    raise SystemExit(TERMINATED)


def _hang_up(_signum: int, _frame: FrameType | None) -> None:
    """End by an exception, as ``_end``, when the terminal has gone."""
    raise SystemExit(HUNG_UP)


if __name__ == "__main__":
    sys.exit(main())
