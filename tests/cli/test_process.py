"""The command as a process: signals, full disks, missing parts, exit codes, what it imports."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.environment import install_hint
from fastseg.testing import tiny_sam_folder
from tests.helpers.processes import ROOT, finish, running

FASTSEG = (sys.executable, "-m", "fastseg")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def image(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return str(tmp_path / "noise.png")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_leaves_nothing(tiny, image, tmp_path, number, code) -> None:
    place = tmp_path / "results"
    place.mkdir()
    images = [image] * 2000  # more than can be done before the signal
    command = (*FASTSEG, "everything", *images, "--model", tiny, "--points-per-side", "8")
    with running((*command, "--out", str(place / "out"))) as process:
        deadline = time.monotonic() + 60
        while not any(place.rglob("masks.json")):
            assert time.monotonic() < deadline, "the results were not begun"
            time.sleep(0.01)
        process.send_signal(number)
        printed, complained = process.communicate(timeout=60)
    assert process.returncode == code, complained
    assert list(place.iterdir()) == []
    assert printed == ""
    assert "Traceback" not in complained


def test_an_interrupt_while_a_class_is_made_ends_with_its_code(tmp_path) -> None:
    (tmp_path / "interrupted.py").write_text(
        """
import sys

from fastseg.__main__ import main
from fastseg.cli import root


def run(words):
    try:
        exec("raise KeyboardInterrupt")  # as dataclasses run their source
    except KeyboardInterrupt:
        return 130


root.run = run
sys.exit(main([]))
"""
    )
    run = finish((sys.executable, "-m", "interrupted"), cwd=tmp_path)
    assert run.returncode == 130, run.stderr


def test_a_full_disk_leaves_nothing(tiny, image, tmp_path) -> None:
    place = tmp_path / "results"
    place.mkdir()

    def allow_small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = (*FASTSEG, "segment", image, "--model", tiny, "--point", "9", "9", "--json")
    run = finish((*command, "--out", str(place / "out")), before=allow_small_files_only)
    assert run.returncode == 2
    assert json.loads(run.stdout)["error"]["type"] == "OutputError"
    assert len(run.stderr.splitlines()) == 1
    assert list(place.iterdir()) == []


def test_an_out_folder_that_cannot_be_made_is_one_line(tiny, image, tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    out = str(tmp_path / "file" / "out")
    run = finish((*FASTSEG, "segment", image, "--model", tiny, "--point", "9", "9", "--out", out))
    assert run.returncode == 2
    assert run.stderr.startswith("fastseg: ")
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_cli_extra_one_line_says_how_to_get_it(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from fastseg.__main__ import main"
    run = finish((sys.executable, "-c", f"{script}; sys.exit(main(['doctor']))"))
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        f"fastseg: the command line needs {missing}. {install_hint('cli')}"
    ]


@pytest.mark.parametrize(
    "statement", ["import fastseg", "from fastseg import load, Masks", "import fastseg.cli.root"]
)
def test_importing_loads_neither_torch_nor_a_runtime(statement: str) -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "matplotlib", "scipy")
    script = f"import sys; {statement}; print([n for n in {heavy} if n in sys.modules])"
    assert finish((sys.executable, "-c", script)).stdout.strip() == "[]"


def test_the_library_does_not_need_the_command_line() -> None:
    script = "import sys; from fastseg import load, list_models, doctor; list_models(); "
    script += "print([n for n in ('click', 'rich') if n in sys.modules])"
    assert finish((sys.executable, "-c", script)).stdout.strip() == "[]"


def test_a_closed_pipe_is_no_error() -> None:
    pipe = f"{sys.executable} -m fastseg models --json | head -c 10"
    run = finish(("bash", "-c", f"{pipe}; echo; echo ${{PIPESTATUS[0]}}"))
    assert run.stdout.splitlines()[-1] == "0"
    assert run.stderr == ""


@pytest.mark.parametrize("words", [("nonsense",), ("segment",), ("demo", "--colour")])
def test_a_bad_call_is_2_and_prints_nothing_on_stdout(words: tuple[str, ...]) -> None:
    run = finish((*FASTSEG, *words))
    assert run.returncode == 2
    assert run.stdout == ""
    assert "Traceback" not in run.stderr


def test_an_unknown_model_is_2_and_names_those_that_exist() -> None:
    run = finish((*FASTSEG, "demo", "--model", "sam-gigantic"))
    assert run.returncode == 2
    assert "sam-gigantic" in run.stderr
    assert "sam-nano" in run.stderr


@pytest.mark.parametrize(
    "verb", ["demo", "segment", "everything", "models", "compare", "calibrate", "bench"]
)
def test_every_verb_explains_itself(verb: str) -> None:
    run = finish((*FASTSEG, verb, "--help"))
    assert run.returncode == 0
    assert verb in run.stdout


@pytest.mark.parametrize("plain", [True, False])
def test_colours_go_only_to_terminals_that_may_have_them(tiny, image, plain) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    environment |= {"NO_COLOR": "1"} if plain else {}
    environment.pop("COLORTERM", None)
    terminal, end = pty.openpty()
    command = (*FASTSEG, "everything", image, "--model", tiny, "--points-per-side", "8")
    with running(command, stdout=end, stderr=end, env=environment) as process:
        os.close(end)
        printed = b""
        with suppress(OSError):  # the end of a terminal is an error
            while part := os.read(terminal, 4096):
                printed += part
        assert process.wait(timeout=60) == 0
    os.close(terminal)
    assert b"noise.png" in printed
    coloured = re.search(rb"\x1b\[(\d+;)*[349]\d[;m]", printed) is not None
    assert coloured is not plain
