"""The end of a process: a thread that still works gets its results, and nothing is aborted."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.testing import tiny_sam_folder
from tests.helpers.processes import finish, running

FASTSEG = (sys.executable, "-m", "fastseg")

WORK = """
import hashlib, sys, threading, numpy, fastseg
image = numpy.random.default_rng(0).integers(0, 256, (40, 60, 3), numpy.uint8)
def work(loaded=None):
    digest = hashlib.sha256()
    with fastseg.load(sys.argv[1], backend=sys.argv[2]) as model:
        for masks in (
            model.segment(image, points=[30, 20]),
            model.everything(image, points_per_side=4),
            *model.stream([image] * 3, points=[[[[30, 20]]]] * 3),
        ):
            digest.update(masks.array().tobytes())
    with fastseg.load("echo-a4c") as network:
        for masks in network.stream([image] * 3):
            digest.update(masks.array().tobytes())
    return digest.hexdigest()
before = work()
"""

AFTER_THE_MAIN_THREAD = """
def serve():
    threading.main_thread().join()
    print(work() == before)
threading.Thread(target=serve).start()
"""

AT_EXIT = """
import atexit
atexit.register(lambda: print(work() == before))
"""

REGISTERED_BEFORE = """
import atexit
atexit.register(lambda: print(work() == before))
"""

DAEMON_IN_A_KERNEL = """
import threading, time, numpy
from fastseg import ops
logits = numpy.random.default_rng(0).normal(size=(64, 256, 256)).astype(numpy.float32)
running = threading.Event()
def compute():
    while True:
        ops.box_nms(numpy.zeros((3000, 4), numpy.float32), numpy.zeros(3000, numpy.float32), 0.5)
        running.set()
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
running.wait()
"""

DAEMON_IN_A_RUNTIME = """
running = threading.Event()
model = fastseg.load(sys.argv[1], backend=sys.argv[2])
def compute():
    while True:
        model.segment(image, points=[30, 20])
        running.set()
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
running.wait()
"""

FORKED = """
import os
model = fastseg.load(sys.argv[1], backend=sys.argv[2])
expected = model.segment(image, points=[30, 20]).array()
child = os.fork()
if child == 0:
    same = (model.segment(image, points=[30, 20]).array() == expected).all()
    sys.exit(7 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(WORK + AFTER_THE_MAIN_THREAD, id="a thread that outlives the main one"),
        pytest.param(WORK + AT_EXIT, id="a function of atexit"),
        pytest.param(
            "before = None\n" + REGISTERED_BEFORE + WORK, id="one that was registered before"
        ),
        pytest.param(WORK + FORKED, id="a forked child that ends by sys.exit"),
    ],
)
def test_the_same_masks_come_while_the_process_ends(program, tiny, backend):
    done = finish([sys.executable, "-c", program, tiny, backend])
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_daemon_thread_in_a_kernel_does_not_abort_the_process():
    for _ in range(3):
        done = finish([sys.executable, "-c", DAEMON_IN_A_KERNEL])
        assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_thread_in_a_runtime_does_not_abort_the_process(tiny, backend):
    done = finish([sys.executable, "-c", WORK + DAEMON_IN_A_RUNTIME, tiny, backend])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT,) * 3, (signal.SIGINT, signal.SIGTERM), (signal.SIGHUP, signal.SIGINT)],
    ids=[
        "three interrupts",
        "an interrupt and a termination",
        "a closed terminal and an interrupt",
    ],
)
def test_further_signals_do_not_stop_the_cleaning(tiny, tmp_path, signals):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    place = tmp_path / "results"
    place.mkdir()
    images = [str(tmp_path / "noise.png")] * 2000  # more than can be done before the signal
    command = (*FASTSEG, "everything", *images, "--model", tiny, "--points-per-side", "8")
    with running((*command, "--out", str(place / "out"))) as process:
        wait_for_results(place)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.01)
        printed, complained = process.communicate(timeout=60)
    assert process.returncode == (130 if signals[0] == signal.SIGINT else 129), complained
    assert list(place.iterdir()) == []
    assert printed == ""
    assert "Traceback" not in complained


def wait_for_results(place: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(place.rglob("masks.json")):
        assert time.monotonic() < deadline, "the results were not begun"
        time.sleep(0.01)
