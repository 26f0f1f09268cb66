"""Run code blocks of a page one after another, each in a folder of its own.

Takes a folder with the files of the page, a JSON file with a list of ``{"language", "text",
"commands"}``, and the JSON file to write: what each block printed and raised. ``python -m`` is run
in this process, so that modules are imported once for all blocks. The process ends when its stdin
does, so that it never outlives the tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import sys
import threading
import traceback
from pathlib import Path

MODULES = ("fastseg", "training.echo.adapt")
"""Modules that ``python -m`` runs here; other commands are for the tests to read."""


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


def end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def main(files: Path, blocks: Path, answers: Path) -> None:
    threading.Thread(target=end_with_stdin, daemon=True).start()
    found = []
    for number, block in enumerate(json.loads(blocks.read_text(encoding="utf-8"))):
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
    answers.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
