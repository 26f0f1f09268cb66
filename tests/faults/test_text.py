"""Text from outside is printed, drawn and written as one line, whatever it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg import overlay, results
from fastseg.cli.report import Report, Table, print_error, show
from fastseg.inputs.text import file_stem, printable
from tests.helpers.made_masks import rectangles
from tests.helpers.processes import ROOT, finish

NAMES = (
    "frame[a4c]",
    "run [/old]",
    "[/]",
    "[[x]] :heart:",
    "two\nlines",
    "tab\tand \x1b[31mred",
    "caf\udce9",
    "\u202egnp",
    "..",
    "...",
    ".hidden",
    "x" * 250,
    "\U0001fac0 coeur \u5fc3",
)
IMAGE = np.full((30, 40, 3), 100, np.uint8)
MASKS = rectangles((30, 40), [(1, 2, 10, 12)])


def test_every_name_is_one_line_that_can_be_encoded() -> None:
    for name in NAMES:
        line = printable(name)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
        line.encode()
    assert printable("caf\udce9\n\x1b\u202e") == r"caf\xe9\n\x1b\u202e"
    assert printable("Müller [a4c]\u3000\u5fc3") == "Müller [a4c]\u3000\u5fc3"


@pytest.mark.parametrize("name", NAMES)
def test_a_report_shows_every_name_as_it_is(capsys, name) -> None:
    table = Table(box=None, show_header=False)
    table.add_row(name, "cell")
    report = Report("verb", {"name": name}, (table, f"results in {printable(name)}"))
    assert show(report, as_json=False) == 0
    shown = capsys.readouterr().out
    assert printable(name) in shown.replace("\n", "")
    assert "\x1b" not in shown
    assert show(report, as_json=True) == 0
    assert json.loads(capsys.readouterr().out.encode())["name"] == name
    print_error(f"{name}: no image")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_results_of_every_name_are_written(tmp_path: Path, name: str) -> None:
    contents = results.Contents(mode="binary_mask")
    with results.write(tmp_path / "out", {}, contents=contents) as folder:
        called = [folder.add(f"{name}.png", IMAGE, MASKS, stem=name) for _ in range(2)]
        folder.report({"file": name})
    assert len(set(called)) == 2
    for stem in called:
        assert (tmp_path / "out" / "overlays" / f"{stem}.png").is_file()
        assert (tmp_path / "out" / "masks" / stem / "0001.png").is_file()
    coco = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [one["file_name"] for one in coco["images"]] == [f"{name}.png"] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_drawn(name: str) -> None:
    assert overlay.compose([overlay.Panel(IMAGE, MASKS, name)], name).width > 0


def test_the_name_of_a_file_stays_where_it_can() -> None:
    assert file_stem("p7_A4C Müller [1].v2") == "p7_A4C Müller [1].v2"
    assert file_stem("a/../b") == "a_.._b"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(IMAGE).save(tmp_path / "Müller \u5fc3.png")
    return tmp_path / "Müller \u5fc3.png"


COMMAND = [sys.executable, "-m", "fastseg"]


@pytest.mark.parametrize("words", [["--json"], []])
def test_an_encoding_without_the_letters_of_a_name_escapes_them(image, words) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    call = [*COMMAND, "segment", image, "--box", "1", "1", "9", "9", *words]
    done = finish(call, env=environment)
    assert done.returncode == 0, done.stderr
    if words:
        assert json.loads(done.stdout)["pictures"][0]["file"] == str(image)
    else:
        assert r"M\xfcller \u5fc3.png" in done.stdout


@pytest.mark.parametrize("verb", [["models"], ["models", "--json"], ["--help"], ["--version"]])
@pytest.mark.parametrize("stream", [">/dev/full", ">&-"])
def test_a_full_or_closed_output_is_one_line_and_no_traceback(verb, stream) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    done = finish(["sh", "-c", f'"$@" {stream}', "sh", *COMMAND, *verb])
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert done.returncode == (0 if stream == ">&-" and verb[0] != "models" else 2)


def test_a_full_or_closed_stderr_keeps_the_exit_code() -> None:
    for stream in ("2>/dev/full", "2>&-"):
        done = finish(["sh", "-c", f'"$@" {stream}', "sh", *COMMAND, "models", "rm", "nowhere"])
        assert (done.returncode, done.stdout) == (2, "")


def test_the_limit_on_pixels_is_named_by_its_option(image) -> None:
    call = [*COMMAND, "segment", image, "--box", "1", "1", "9", "9", "--max-pixels", "100"]
    done = finish(call)
    assert done.returncode == 1
    assert "--max-pixels 0" in done.stderr
    assert "max_pixels" not in done.stderr
