"""The walk of docs/cohorts.md: 200 images, killed after 120 and resumed, here and on Ray."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cohort.test_cohort import results, wait_for_journal
from tests.helpers import page
from tests.helpers.processes import finish, running

INTERRUPTED = 120

PATIENCE = 250
"""Seconds for a call. Ray takes minutes to start its actors where others use the processor."""

BEGIN, RESUME = "## A cohort interrupted and resumed\n", "## The same on Ray\n"


def section(heading: str) -> list[page.Block]:
    """Read the code blocks of a section."""
    text = page.read("docs/cohorts.md")
    first = text[: text.index(heading)].count("\n")
    last = first + text.partition(heading)[2].partition("\n## ")[0].count("\n") + 1
    return [one for one in page.blocks("docs/cohorts.md") if first < one.line <= last]


def commands(heading: str) -> list[list[str]]:
    """List the calls of ``fastseg`` in a section, as words for a process."""
    found = [words for block in section(heading) for words in block.commands()]
    called = [words for words in found if words[0] == "fastseg"]
    return [[sys.executable, "-m", *words] for words in called]


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """The folder of the walk, with the images of its first block."""
    folder = tmp_path_factory.mktemp("walk")
    done = finish([sys.executable, "-c", section(BEGIN)[0].text], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "scans").glob("*.png"))) == 200
    return folder


@pytest.fixture(scope="module")
def whole(scans) -> dict[str, bytes]:
    """The results of a call that nothing ended."""
    first, _ = commands(BEGIN)
    done = finish([*first[: first.index("--out")], "--out", "whole"], cwd=scans)
    assert done.returncode == 0, done.stderr
    return results(scans / "whole")


@pytest.mark.slow
def test_the_loop_in_python_ends_early_and_goes_on(scans, whole) -> None:
    done = finish([sys.executable, "-c", section(BEGIN)[-1].text], cwd=scans)
    assert done.returncode == 0, done.stderr
    printed = re.fullmatch(r"200 items, (\d+) kept\n", done.stdout)
    assert printed, done.stdout
    assert INTERRUPTED <= int(printed[1]) < 200
    assert results(scans / "python") == whole


@pytest.mark.slow
@pytest.mark.parametrize("heading", [BEGIN, RESUME], ids=["here", "ray"])
def test_200_images_are_killed_after_120_and_resumed(scans, whole, heading) -> None:
    if heading == RESUME:
        pytest.importorskip("ray", reason="needs the extra cohort")
    first, second = commands(heading)
    assert second == [*first, "--resume"]
    out = scans / first[first.index("--out") + 1]
    with running(first, cwd=scans, stderr=subprocess.DEVNULL) as process:
        wait_for_journal(out, process, INTERRUPTED, PATIENCE)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    kept = (out / "journal.jsonl").read_bytes().count(b"\n")
    assert INTERRUPTED <= kept < 200
    with running(second, cwd=scans) as process:
        printed, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complained
    assert f"200 items: {200 - kept} done, {kept} kept, 0 failed, 0 left" in printed
    assert results(out) == whole
    assert len(whole) == 200
