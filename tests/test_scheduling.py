"""Parallel workers share the tests so that nothing expensive is made twice."""

from __future__ import annotations

import re

import pytest

from tests.helpers import scheduling
from tests.helpers.processes import ROOT


def test_every_named_file_is_there() -> None:
    assert not [file for file in scheduling.FIRST if not (ROOT / file).is_file()]


@pytest.mark.parametrize(
    "fixtures",
    [
        r"vit_small|\bsmall_modules|\bsmall_folder|small_fp16_folder|BOTH_SIZES",
        r"sam2_small_folder",
    ],
    ids=["SAM", "SAM 2"],
)
def test_the_files_that_ask_for_one_export_go_to_one_worker(fixtures: str) -> None:
    asking = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("test_*.py")
        if file.name != "test_scheduling.py"
        and re.search(fixtures, file.read_text(encoding="utf-8"))
    ]
    assert asking
    assert len({scheduling.group(f"{file}::test") for file in asking}) == 1


@pytest.mark.parametrize(
    ("cores", "gigabytes", "workers"),
    [(1, 16, 1), (2, 16, 2), (16, 16, 4), (64, 256, 4), (8, 8, 2), (2, 2, 1)],
)
def test_workers_are_bounded_by_cores_and_memory(cores, gigabytes, workers) -> None:
    assert scheduling.worker_count(cores, gigabytes * 2**30) == workers
