"""Means over tasks and over objects, and published means recomputed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastseg.evaluation.aggregation import Aggregate, Spread
from fastseg.evaluation.published import ALL_TASKS, TABLES, figures, read_table


def test_tasks_weigh_alike_whatever_their_number_of_objects():
    found = Aggregate.of(["a", "a", "a", "b"], [0.1, 0.2, 0.3, 0.8])
    assert found.over_tasks == pytest.approx((0.2 + 0.8) / 2)
    assert found.over_samples.mean == pytest.approx(1.4 / 4)
    expected = Spread(3, 0, pytest.approx(0.2), 0.2, pytest.approx(0.15), pytest.approx(0.25))
    assert found.tasks["a"] == expected


def test_undefined_scores_are_counted_and_left_out():
    found = Aggregate.of(["a", "a", "b"], [0.5, math.nan, math.nan])
    assert found.over_tasks == 0.5
    assert found.over_samples.n == 1
    assert found.over_samples.undefined == 2
    assert math.isnan(found.tasks["b"].mean)


def test_no_score_at_all_gives_nothing():
    assert math.isnan(Aggregate.of([], []).over_tasks)


@pytest.mark.parametrize("method", ["sam", "sam_oracle", "ritm", "simpleclick", "focalclick"])
def test_published_means_of_28_tasks_come_out_as_printed(method):
    rows = [row for row in read_table("mazurowski_points_iou") if row["method"] == method]
    (printed,) = [
        row for row in read_table("mazurowski_points_mean_iou") if row["method"] == method
    ]
    assert len(rows) == 28
    for column in (f"n{number}" for number in range(1, 10)):
        scores = [float(row[column]) for row in rows]
        found = Aggregate.of([row["task"] for row in rows], scores)
        assert found.over_tasks == pytest.approx(float(printed[column]), abs=1e-6)


def test_published_modes_have_the_means_of_their_tasks():
    means = {
        (one.variant, one.slot): one.value for one in figures("modes") if one.task == ALL_TASKS
    }
    first = [means[f"mode {mode}", "first"] for mode in range(1, 6)]
    oracle = [means[f"mode {mode}", "oracle"] for mode in range(1, 6)]
    assert np.round(first, 4).tolist() == [0.4610, 0.4826, 0.5891, 0.6542, 0.5829]
    assert np.round(oracle, 4).tolist() == [0.5150, 0.5141, 0.6771, 0.7438, 0.6791]


@pytest.mark.parametrize("protocol", ["points", "modes", "centroid"])
def test_every_published_figure_names_its_source(protocol):
    assert figures(protocol)
    assert all(one.source and 0 <= one.value <= 1 for one in figures(protocol))


def test_every_row_of_every_published_table_names_its_source():
    assert len(TABLES) == 11
    for name in TABLES:
        rows = read_table(name)
        assert rows
        assert all(row["source"] for row in rows)


def test_protocols_without_printed_scores_have_none():
    assert figures("everything") == ()
