"""A runtime that fastseg imports sends nothing and leaves nothing in the user's home.

A process loads a model in each runtime and segments. Seen are: files in an empty home, open sockets
and threads of the process at its end, and every connection, host name look-up and child process of
Python code. Not seen are a socket of native code that was opened and closed in between, and what a
runtime would do later than that: ONNX Runtime looks up its host some 20 seconds after it queued
events, so the queue's absence is what is tested.
"""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

import pytest

from fastseg.backends import telemetry
from fastseg.backends.telemetry import import_without_telemetry, telemetry_off
from tests.helpers import processes

USE = """
import json, os, sys
from pathlib import Path

seen = []
SENT = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen",
        "os.fork", "os.posix_spawn", "os.system")
sys.addaudithook(lambda event, args: seen.append(event) if event in SENT else None)

import numpy as np
import fastseg

image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
with fastseg.load("sam-nano", backend="{backend}") as model:
    model.segment(image, points=[[40, 30]])
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
print(json.dumps([seen, [link for link in links if link.startswith("socket:")], threads]))
"""


VERBS = """
import json, os, sys
from pathlib import Path

seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket.") else None)

import numpy as np
from PIL import Image

from fastseg.__main__ import main
from fastseg.testing import tiny_sam_folder

noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
Image.fromarray(noise).save("image.png")
np.save("p_a4c.npy", noise[None])
tiny = str(tiny_sam_folder("tiny"))
codes = {}
for verb, *words in (
    ["models"],
    ["models", "verify", tiny],
    ["doctor"],
    ["segment", "image.png", "--model", tiny, "--point", "9", "9", "--out", "segmented"],
    ["everything", "image.png", "--model", tiny, "--points-per-side", "4", "--out", "found"],
    ["echo", "p_a4c.npy", "--cm-per-pixel", "0.2", "--channels", "rgb", "--out", "report"],
    ["compare", tiny, "--a", "onnxruntime:fp32", "--b", "openvino:fp32"],
    ["calibrate", tiny],
    ["bench", tiny, "--max-seconds", "1"],
):
    codes[" ".join([verb, *words])] = main([verb, *words])
links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
print(json.dumps([codes, seen, [link for link in links if link.startswith("socket:")]]))
"""


def test_every_verb_sends_nothing(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    home, place = tmp_path / "home", tmp_path / "place"
    home.mkdir()
    place.mkdir()
    done = processes.finish([sys.executable, "-B", "-c", VERBS], env=private(home), cwd=place)
    assert done.returncode == 0, done.stderr
    codes, seen, sockets = json.loads(done.stdout.splitlines()[-1])
    assert {call: code for call, code in codes.items() if code} == {}
    assert (seen, sockets) == ([], [])
    assert_only_fastseg_wrote_into(home)


def private(home: Path) -> dict[str, str]:
    """Return an environment with a home of its own, in which telemetry is not switched off."""
    unset = ("ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "JENKINS_URL")  # all switch it off
    # Not a cache folder that this test chooses: what a runtime writes beside it has to be seen.
    kept = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    return {
        **{key: value for key, value in kept.items() if key not in unset},
        "HOME": str(home),
        "PYTHONPATH": str(processes.ROOT),
    }


def assert_only_fastseg_wrote_into(home: Path) -> None:
    left = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    assert [path for path in left if not path.startswith(".cache/fastseg/")] == []


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "native"])
def test_load_and_segment_send_nothing(tmp_path, backend):
    pytest.importorskip(backend if backend != "native" else "onnxruntime")
    home = tmp_path / "home"
    home.mkdir()
    environment = private(home)
    command = [sys.executable, "-B", "-c", USE.format(backend=backend)]
    done = processes.finish(command, env=environment)
    assert done.returncode == 0, done.stderr
    seen, sockets, threads = json.loads(done.stdout.splitlines()[-1])
    assert (seen, sockets) == ([], [])
    assert not [name for name in threads if "telemetry" in name.lower() or "1ds" in name.lower()]
    assert_only_fastseg_wrote_into(home)


@pytest.fixture
def runtime(monkeypatch):
    """Put a runtime into the process that counts how often its telemetry is switched off."""
    calls: list[str] = []
    fake = types.ModuleType("a_runtime")
    fake.disable_telemetry_events = lambda: calls.append("off")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_runtime", fake)
    return calls


def test_a_runtime_that_was_imported_before_is_told(runtime, monkeypatch):
    monkeypatch.delenv(telemetry.ORT_SWITCH, raising=False)
    import_without_telemetry("a_runtime")
    assert (runtime, os.environ[telemetry.ORT_SWITCH]) == (["off"], "1")


def test_what_the_user_has_set_stays(runtime, monkeypatch):
    monkeypatch.setenv(telemetry.ORT_SWITCH, "0")
    import_without_telemetry("a_runtime")
    assert (runtime, os.environ[telemetry.ORT_SWITCH]) == ([], "0")


def test_the_sender_is_there_again_afterwards(monkeypatch):
    sender = types.ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", sender)
    with telemetry_off(), pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
    assert sys.modules["openvino_telemetry"] is sender
