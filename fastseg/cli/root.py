"""The ``fastseg`` command: runs a verb, prints its report, and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fastseg import environment
from fastseg.cli.bench import bench
from fastseg.cli.build import build
from fastseg.cli.calibrate import calibrate
from fastseg.cli.cohort import cohort
from fastseg.cli.compare import compare
from fastseg.cli.demo import demo
from fastseg.cli.doctor import doctor
from fastseg.cli.echo import echo
from fastseg.cli.evaluate import evaluate
from fastseg.cli.everything import everything
from fastseg.cli.export import export
from fastseg.cli.measure import measure
from fastseg.cli.models import models
from fastseg.cli.propagate import propagate
from fastseg.cli.report import (
    BAD_CALL,
    INTERRUPTED,
    SOME_FAILED,
    Report,
    accept_any_letter,
    document,
    error_body,
    print_error,
    print_json,
    show,
)
from fastseg.cli.segment import segment
from fastseg.cli.serve import serve
from fastseg.errors import (
    CheckpointError,
    FastsegError,
    ImageError,
    MaskError,
    ParityError,
)

_INPUT_ERRORS = (ImageError, MaskError, CheckpointError, ParityError)
"""Errors in an input, exit code 1; every other error is one of the call, exit code 2."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(environment.versions()["fastseg"], prog_name="fastseg")
def root() -> None:
    """Segment images with Segment Anything models, and measure the heart in ultrasound frames.

    For research use only; not a medical device.
    """


for verb in (
    *(demo, segment, everything, propagate, cohort, echo, measure, export, build),
    *(models, doctor, compare, calibrate, bench, evaluate, serve),
):
    root.add_command(verb)


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code: 0, 1, 2 or 130 (see docs/cli.md).

    Args:
        argv: The words after ``fastseg``.
    """
    as_json = "--json" in argv
    accept_any_letter()
    try:
        result = root.main(args=list(argv), prog_name="fastseg", standalone_mode=False)
        code = show(result, as_json=as_json) if isinstance(result, Report) else int(result or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.Abort:
        return _fail(KeyboardInterrupt("interrupted"), "interrupted", INTERRUPTED, as_json)
    except click.ClickException as error:
        if not as_json:
            error.show(sys.stderr)
            return BAD_CALL
        return _fail(error, error.format_message(), BAD_CALL, as_json)
    except FastsegError as error:
        code = SOME_FAILED if isinstance(error, _INPUT_ERRORS) else BAD_CALL
        return _fail(error, str(error), code, as_json)
    except BrokenPipeError:
        # The reader has gone (``fastseg models | head``).
        _discard_stdout()
        return 0
    except OSError as error:
        # An error that names no file is one of the stream, of a full disk for example, or of a
        # working folder that was removed.
        what = error.filename or "the working folder"
        if error.filename is None and not isinstance(error, FileNotFoundError):
            what = "standard output"
            _discard_stdout()
        reason = f"{what}: {error.strerror or error}. Check that it can be read or written."
        return _fail(error, reason, BAD_CALL, as_json)
    return code


def _discard_stdout() -> None:
    """Print nothing more on stdout, not even what is still held at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: BaseException, message: str, exit_code: int, as_json: bool) -> int:
    print_error(" ".join(message.split()))
    if as_json and sys.stdout is not None:
        print_json(document(None, error_body(error), exit_code))
    return exit_code
