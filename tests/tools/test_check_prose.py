"""The rules of Markdown prose, and their exceptions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_prose.py"

LONG = ("word " * 30).strip()

GOOD = {
    "a sentence a line": "The first sentence ends here.\nThe second one follows.",
    "a sentence over two lines": "The sentence begins here\nand ends here.",
    "a table": f"| {LONG} | One. Two. |",
    "a code block": f"```bash\n# {LONG} One. Two.\n```",
    "a code block in a list": f"- item\n\n  ```\n  {LONG}\n  ```",
    "the target of a link": f"See [the page](https://example.org/{'x' * 120}).",
    "a bare address": f"See https://example.org/{'x' * 120}",
    "a numbered item": "1. The first step.",
    "a bold lead-in": "- **Exact.** Masks equal those of the original.",
    "an abbreviation": "The method is that of Ferreira et al. The axis follows it, e.g. `X`.",
    "a citation": "Nat Commun 16, 4070 (2025), doi 10.1038/s41467-025-59451-5.",
    "a point inside code": "Call `model.Segment(a). Then` once.",
    "a version number": "Python 3.10 is the oldest. ",
}

BAD = {
    "a long line": (LONG, "149 characters, more than 100"),
    "a long heading": (f"# {LONG}", "more than 100"),
    "two sentences": ("One ends. Another begins.", "two sentences in one line"),
    "a second sentence in bold": ("One ends. **Another** begins.", "two sentences"),
    "a second sentence from code on": (
        "One ends. `name` begins another.",
        "two sentences",
    ),
    "a sentence in parentheses": ("One ends (here.) Another begins.", "two sentences"),
    "two after a code block": ("```\ncode\n```\nOne? Another.", "two sentences"),
}


def run(*files: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, str(TOOL), *map(str, files))
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, str]:
    """Return the report of one run on each text."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {**GOOD, **{name: text for name, (text, _) in BAD.items()}}
    files = {name: folder / f"{number}.md" for number, name in enumerate(texts)}
    for name, file in files.items():
        file.write_text(texts[name].rstrip("\n") + "\n", encoding="utf-8")
    lines = run(*files.values()).stdout.splitlines()
    return {
        name: "\n".join(line for line in lines if line.startswith(f"{file}:"))
        for name, file in files.items()
    }


@pytest.mark.parametrize("name", GOOD)
def test_good_prose_passes(told, name) -> None:
    assert not told[name]


@pytest.mark.parametrize("name", BAD)
def test_a_broken_rule_is_told_with_its_line(told, name) -> None:
    text, expected = BAD[name]
    assert expected in told[name]
    assert f".md:{len(text.splitlines())}: " in told[name]


def test_the_exit_code_tells_whether_a_rule_is_broken(tmp_path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("One sentence.\n")
    bad.write_text("One. Two.\n")
    assert run(good).returncode == 0
    assert run(good, bad).returncode == 1
