"""The attack reports what is planted, keeps the cases, and is no attack without cases."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tools.attack import planted, runner
from tools.attack.__main__ import CAMPAIGNS, main
from tools.attack.campaign import Campaign
from tools.attack.mutations import HOSTILE, damaged, with_hostile_values

ROOT = Path(__file__).parents[2]


def conditions(folder: Path) -> runner.Conditions:
    return runner.Conditions(seed=1, out=folder)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler is installed")
@pytest.mark.parametrize("program", ["attack/kernels.cpp", "kernel_digests.cpp"])
def test_programs_beside_the_extension_fit_its_headers(program):
    words = [
        "c++",
        "-std=c++20",
        "-fsyntax-only",
        f"-I{ROOT / 'csrc'}",
        str(ROOT / "tools" / program),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_planted_failure_is_reported_and_kept(tmp_path, capsys):
    words = ["--seed", "1", "--out", str(tmp_path), "--only", planted.Planted.name]
    assert main(words, [planted.Planted()]) == 1
    kept = {path.name: path.read_text() for path in (tmp_path / "failures").glob("*/failure.txt")}
    assert len(list((tmp_path / "failures").iterdir())) == len(planted.PLANTED)
    assert all("--seed 1" in text for text in kept.values())
    told = capsys.readouterr().out
    assert f"| planted failures | {len(planted.PLANTED)} | 0 | 0 | {len(planted.PLANTED)} |" in told
    texts = [
        (tmp_path / "failures" / f"planted-failures-{index}" / "failure.txt").read_text()
        for index in range(len(planted.PLANTED))
    ]
    expected = ("KeyError", "BrokenPromise", "ImageError", "SIGSEGV", "exit code 0", "no end after")
    for text, words_of in zip(texts, (*expected, "MiB of memory"), strict=True):
        assert words_of in text
    assert "_raise_untyped" in texts[0], "the traceback is kept"


def test_an_attack_that_reports_nothing_has_failed():
    found = planted.as_found(runner.Outcome("planted"))
    assert len(found.failures) == len(planted.PLANTED)


def test_a_campaign_without_a_case_has_failed(tmp_path):
    late = runner.Conditions(seed=1, out=tmp_path, deadline=0.0)
    outcome = runner.run(planted.Planted(), late)
    assert outcome.failures


def test_the_short_form_tries_or_names_every_campaign():
    for campaign in CAMPAIGNS:
        assert campaign.cases
        assert campaign.short_cases or campaign.left_out
        assert campaign.name
    assert len({campaign.name for campaign in CAMPAIGNS}) == len(CAMPAIGNS)


def test_the_budgets_fit_the_time_that_is_promised():
    assert sum(campaign.short_budget for campaign in CAMPAIGNS if campaign.short_cases) < 150
    assert sum(campaign.budget for campaign in CAMPAIGNS) < 1000


def test_a_skipped_campaign_says_why(tmp_path):
    class Absent(Campaign):
        name = "absent"
        cases = 1

        def missing(self) -> str:
            return "needs a moon"

    outcome = runner.run(Absent(), conditions(tmp_path))
    assert outcome.skipped
    assert "needs a moon" in runner.table([outcome])


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_the_same_for_the_same_seed(seed):
    content = bytes(range(256))
    assert damaged(content, Random(seed)) == damaged(content, Random(seed))
    assert damaged(content, Random(seed)) != content


def test_hostile_values_reach_every_depth():
    document = {"a": {"b": [1, {"c": 2}]}}
    made = [with_hostile_values(document, Random(seed)) for seed in range(300)]
    assert document == {"a": {"b": [1, {"c": 2}]}}
    assert any(one.get("a") in HOSTILE for one in made if isinstance(one.get("a"), str))
    deep = [one["a"]["b"][1]["c"] for one in made if _is_whole(one)]
    assert any(value != 2 for value in deep)


def _is_whole(document: dict[str, object]) -> bool:
    try:
        return isinstance(document["a"]["b"][1]["c"], object)
    except (KeyError, TypeError, IndexError):
        return False


def test_the_shell_script_lists_the_campaigns():
    command = [ROOT / "tools" / "attack.sh", "--list"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [campaign.name for campaign in CAMPAIGNS]
