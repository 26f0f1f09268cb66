"""Examples of the README and of docs/ do as the pages show.

Every python and bash block runs as written, beside the files that its page names. A block whose
first line is ``# needs: ...`` is for machines that have what it names, and is skipped here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

import fastseg
from tests.helpers import page
from tests.helpers.page import ROOT, Block

BLOCKS = [block for name in page.pages() for block in page.blocks(name)]

HEAVY = re.compile(
    r"fastseg (demo|everything|cohort|evaluate (?!measure)|export|build|calibrate|compare|bench)"
    r"|training\.echo\.adapt|engine=\"ray\""
)
"""Commands that take more than a few seconds."""

EXTRAS = re.compile(r"\[([\w,-]+)\]")

FOLDER_OF_VIT_B = re.compile(r"(?<![\w/\"-])(vit_b|vit-b)(?![\w/\"-])")

SYSTEM = {"apt-get", "cmake", "curl", "export", "python3", "sudo", "."}
"""Commands that only blocks with a need of their own may give."""


def is_heavy(block: Block) -> bool:
    return not block.needs and bool(HEAVY.search(block.text))


def parameters(blocks: list[Block]) -> list[Any]:
    heavy = [pytest.mark.slow, pytest.mark.timeout(1800)]
    return [
        pytest.param(block, id=str(block), marks=heavy if is_heavy(block) else [])
        for block in blocks
    ]


def known_extras() -> set[str]:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, flags=re.MULTILINE))


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """Return a block's output; heavy blocks of a page run in one process, and all light ones."""

    @cache
    def run(name: str | None) -> dict[str, dict[str, str]]:
        chosen = [
            one for one in BLOCKS if not one.needs and (one.page if is_heavy(one) else None) == name
        ]
        folder = tmp_path_factory.mktemp("page")
        (folder / "files").mkdir()
        page.write_files(folder / "files")
        asked = [
            {"language": one.language, "text": one.text, "commands": one.commands()}
            for one in chosen
        ]
        blocks, answers = folder / "blocks.json", folder / "answers.json"
        blocks.write_text(json.dumps(asked), encoding="utf-8")
        script = ROOT / "tests" / "helpers" / "run_blocks.py"
        command = [sys.executable, *map(str, (script, folder / "files", blocks, answers))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
            assert process.wait() == 0
        found = json.loads(answers.read_text(encoding="utf-8"))
        return {str(block): answer for block, answer in zip(chosen, found, strict=True)}

    return lambda block: run(block.page if is_heavy(block) else None)[str(block)]


@pytest.mark.parametrize("block", parameters(BLOCKS))
def test_the_block_runs_as_written(block: Block, answers) -> None:
    if block.needs:
        pytest.skip(f"needs {block.needs}")
    answer = answers(block)
    assert not answer["problem"], answer["problem"] + answer["err"]
    if block.language == "python":
        assert answer["out"], "the block prints nothing"
        assert not answer["err"]


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.commands()], ids=str)
def test_the_commands_of_the_block_exist(block: Block) -> None:
    for program, *rest in block.commands():
        if program == "pip":
            extras = {
                name for word in rest for found in EXTRAS.findall(word) for name in found.split(",")
            }
            assert extras <= known_extras()
        elif program == "python":
            assert rest[0] == "-m"
            assert importlib.util.find_spec(rest[1]), rest[1]
            assert all((ROOT / word).is_file() for word in rest if word.endswith(".py")), rest
        elif program.startswith("tools/"):
            assert (ROOT / program).is_file(), program
        else:
            assert program == "fastseg" or (block.needs and program in SYSTEM), program


def test_the_folder_of_vit_b_has_one_name_on_every_page() -> None:
    for block in BLOCKS:
        assert not FOLDER_OF_VIT_B.search(block.text), block


@pytest.mark.parametrize("name", page.pages())
def test_every_link_leads_somewhere(name: str) -> None:
    for target in page.links(page.read(name)):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in page.anchors(file.read_text(encoding="utf-8")), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in page.links(page.read("README.md"))}
    assert not set(page.pages()) - linked - {"README.md"}


def test_a_python_session_of_the_readme_has_at_most_ten_lines() -> None:
    for block in page.blocks("README.md"):
        if block.language == "python":
            assert len([line for line in block.text.splitlines() if line.strip()]) <= 10, block


def test_the_readme_names_the_command_that_runs_the_tests() -> None:
    assert "\npip install -e '.[test]' && python -m pytest -n auto\n" in page.read("README.md")


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if "pip install" in block.text], ids=str
)
def test_what_a_block_installs_is_enough_for_what_it_runs(block: Block) -> None:
    lines = block.text.splitlines()
    local = [line for line in lines if re.search(r"pip install .*'\.(\[|')", line)]
    assert all(" -e " in line for line in local), "without -e the clone hides the package"
    extras = {
        extra for line in local for found in EXTRAS.findall(line) for extra in found.split(",")
    }
    if local and any(line.startswith("fastseg ") or "&& fastseg " in line for line in lines):
        assert extras & {"cli", "test", "dev"}, "the command line needs its extra"


def test_every_public_name_can_be_imported() -> None:
    for name in fastseg.__all__:
        assert getattr(fastseg, name) is not None


def test_the_citation_names_the_version() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, flags=re.MULTILINE)
    assert version
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_commit_hooks_call_what_make_check_calls() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    check = re.search(r"^check: (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert check
    assert re.findall(r"entry: make (\S+)", hooks) == check[1].split()


@pytest.mark.parametrize("name", [*page.pages(), "CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    missing = [path for path in page.paths(page.read(name)) if not (ROOT / path).exists()]
    assert not missing
