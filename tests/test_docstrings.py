"""Docstrings open with their subject or a verb, never with a headless question word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("fastseg", "training", "benchmarks", "export", "examples", "tools", "tests")

HEADLESS = re.compile(r"(What|Which|Whether|Where|How|Who|Whose|When|Why)\b")


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, those below constants and fields included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                match statement:
                    case ast.Expr(ast.Constant(str(text))):
                        yield statement.lineno, text


def headless(source: str) -> list[str]:
    """``line: first line`` of every docstring that opens with a question word."""
    return [
        f"{line}: {text.strip().splitlines()[0]}"
        for line, text in docstrings(source)
        if HEADLESS.match(text.strip())
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_opens_with_a_question_word(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [
        f"{file.relative_to(ROOT)}:{problem}"
        for file in files
        for problem in headless(file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        '"""What a module is."""',
        'def f():\n    """Whether it is."""',
        'class A:\n    """How it is."""',
        'class A:\n    x: int\n    """Where it is."""',
        'X = 1\n"""Which one."""',
        'async def f():\n    """\n    Who it is.\n    """',
    ],
)
def test_every_place_of_a_docstring_is_read(source):
    assert len(headless(source)) == 1


@pytest.mark.parametrize("source", ['"""Whatever."""', '"""However."""', 'x = "What"', "f('How')"])
def test_other_words_and_other_strings_are_left_alone(source):
    assert headless(source) == []
