"""Runs are equal for a seed on any number of threads, go on after a stop, and name what failed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.errors import OutputError
from fastseg.evaluation import Points, evaluate, read_dataset
from fastseg.evaluation.journal import Journal
from fastseg.evaluation.protocols import Centroid
from tests.fakes.scripted_model import ScriptedModel


@pytest.fixture
def dataset(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(4):
        noise = random.integers(0, 60, (48, 64), np.uint8)
        labels = np.zeros((48, 64), np.uint8)
        labels[10:30, 5 + number : 30] = 1
        labels[32:44, 40:60] = 2
        Image.fromarray(noise + 60 * labels).save(tmp_path / "data" / "images" / f"{number}.png")
        Image.fromarray(labels).save(tmp_path / "data" / "masks" / f"{number}.png")
    return read_dataset(tmp_path / "data")


def square(prompt):
    mask = np.zeros((48, 64), np.bool_)
    mask[10:30, 5:30] = True
    return np.stack([mask] * 3), [0.9, 0.8, 0.7]


def test_rows_are_equal_on_any_number_of_threads(dataset, use_cores):
    found = []
    for threads in (1, 2):
        use_cores(threads)
        with fastseg.load("sam-nano", threads=threads) as model:
            rules = Points(count=2, slots=("first",))
            found.append(evaluate(rules, dataset, model, seed=5).rows)
    assert found[0] == found[1]
    assert len(found[0]) == 8


def test_another_seed_draws_other_points(dataset):
    model = ScriptedModel(square)
    one, two = (evaluate(Points(count=2), dataset, model, seed=seed).rows for seed in (1, 2))
    assert [row.prompt for row in one] != [row.prompt for row in two]


def test_rows_come_in_the_order_of_the_dataset(dataset):
    rows = evaluate(Centroid(slots=("first",)), dataset, ScriptedModel(square)).rows
    assert [row.image for row in rows] == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_an_image_that_fails_is_named_and_the_others_are_done(dataset):
    dataset.examples[1].path.write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = evaluate(Centroid(slots=("first",)), dataset, ScriptedModel(square))
    assert [row.image for row in outcome.rows] == ["0", "0", "2", "2", "3", "3"]
    (fault,) = outcome.faults
    assert "1.png" in fault


class StoppedError(Exception):
    pass


def test_a_run_goes_on_where_it_was_stopped(dataset, tmp_path):
    path, run = tmp_path / "j.jsonl", {"seed": 1}
    rules = Centroid(slots=("first",))
    whole = evaluate(rules, dataset, ScriptedModel(square)).rows

    def stop_at_the_third(name):
        if name == "2":
            raise StoppedError

    with pytest.raises(StoppedError):
        evaluate(
            rules,
            dataset,
            ScriptedModel(square),
            journal=Journal(path, run, resume=False),
            progress=stop_at_the_third,
        )
    done = len(path.read_text().splitlines()) - 1
    with path.open("a") as file:
        file.write('{"model": "scripted", "ima')  # killed in the middle of a line
    model = ScriptedModel(square)
    resumed = evaluate(rules, dataset, model, journal=Journal(path, run, resume=True)).rows
    assert resumed == whole
    assert len(model.embedded) == 4 - done
    assert len(path.read_text().splitlines()) == 5


def test_a_journal_of_another_run_is_refused(dataset, tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, {"seed": 1}, resume=False)
    evaluate(Centroid(), dataset, ScriptedModel(square), journal=journal)
    with pytest.raises(OutputError, match="another seed"):
        Journal(path, {"seed": 2}, resume=True)
    with pytest.raises(OutputError, match="4 finished images"):
        Journal(path, {"seed": 1}, resume=False)
    path.write_text(json.dumps({"seed": 1}) + "\n{broken\n")
    with pytest.raises(OutputError, match="damaged"):
        Journal(path, {"seed": 1}, resume=True)
