"""Run code blocks of a page one after another, each in a folder of its own.

Reads a JSON list of ``{"language", "text", "commands"}`` from stdin, and writes a JSON list of what
each printed and raised to the file that is named. ``python -m`` is run in this process, so that
modules are imported once for all blocks.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import sys
import traceback
from pathlib import Path

MODULES = ("fastseg", "training.echo.adapt")
"""What ``python -m`` runs here; other commands are for the tests to look at."""


def run_module(words: list[str]) -> None:
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{' '.join(words)} ended with {end.code}") from None


def run(block: dict) -> None:
    if block["language"] == "python":
        exec(compile(block["text"], "block", "exec"), {"__name__": "__main__"})
    for words in block["commands"]:
        if words[:1] == ["fastseg"]:
            run_module(words)
        elif words[:2] == ["python", "-m"] and words[2] in MODULES:
            run_module(words[2:])


def main(files: Path, answers: Path) -> None:
    found = []
    for number, block in enumerate(json.load(sys.stdin)):
        folder = files.with_name(f"block-{number}")
        shutil.copytree(files, folder)
        os.chdir(folder)
        out, complaints, problem = io.StringIO(), io.StringIO(), ""
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
            try:
                run(block)
            except BaseException:
                problem = traceback.format_exc()
        found.append({"out": out.getvalue(), "err": complaints.getvalue(), "problem": problem})
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
