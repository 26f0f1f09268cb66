"""Nothing that a test starts outlives it, however the test was started."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress

import pytest

from tests.helpers import processes

SLEEPS = "import subprocess, sys; print('up', flush=True); subprocess.run(['sleep', '300'])"


@pytest.fixture
def interrupts_ignored():
    """Let SIGINT be ignored, as under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_process_and_its_children_end_with_a_test_that_fails():
    began = time.monotonic()
    with suppress(InterruptedError), processes.running([sys.executable, "-c", SLEEPS]) as process:
        assert process.stdout.readline() == "up\n"
        raise InterruptedError
    # Its output ends when the last process that holds it has ended: the child holds it too.
    assert process.stdout.closed
    assert time.monotonic() - began < 200


def test_an_interrupt_arrives_where_it_is_ignored_here(interrupts_ignored):
    program = "print('up', flush=True); import time; time.sleep(300)"
    with processes.running([sys.executable, "-c", program]) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in complained


def test_a_command_that_finishes_gives_its_output_and_code():
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = processes.finish([sys.executable, "-c", program])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
