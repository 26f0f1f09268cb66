"""Agreement of measurements: by hand, and equal to SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from fastseg.errors import MeasurementError
from fastseg.evaluation.agreement import agreement, mann_whitney, spread_over


def samples(seed, n=30, ties=False):
    random = np.random.default_rng(seed)
    clinical = random.normal(50, 12, n)
    model = clinical + random.normal(2, 6, n)
    return (np.round(model / 5), np.round(clinical / 5)) if ties else (model, clinical)


@pytest.mark.parametrize("seed", range(5))
def test_line_and_r2_equal_scipy(seed):
    model, clinical = samples(seed)
    found, expected = agreement(model, clinical), scipy.stats.linregress(model, clinical)
    assert found.r2 == pytest.approx(expected.rvalue**2, abs=1e-12)
    assert found.slope == pytest.approx(expected.slope, abs=1e-12)
    assert found.intercept == pytest.approx(expected.intercept, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_mann_whitney_equals_scipy(seed, ties):
    first, second = samples(seed, ties=ties)
    second = second[:17] + seed
    found = mann_whitney(first, second)
    expected = scipy.stats.mannwhitneyu(first, second, method="asymptotic")
    assert found.u == expected.statistic
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)


def test_bland_altman_is_that_by_hand():
    found = agreement([10, 22, 33], [10, 20, 30])
    assert found.units.bias == pytest.approx(5 / 3)
    sd = math.sqrt(((0 - 5 / 3) ** 2 + (2 - 5 / 3) ** 2 + (3 - 5 / 3) ** 2) / 3)
    assert found.units.half_width == pytest.approx(2 * sd)
    assert found.units.limits == pytest.approx((5 / 3 - 2 * sd, 5 / 3 + 2 * sd))
    percents = [0, 100 * 2 / 21, 100 * 3 / 31.5]
    assert found.percent.bias == pytest.approx(np.mean(percents))
    clinical = agreement([10, 22, 33], [10, 20, 30], percent_base="clinical", sd_multiple=1.96)
    assert clinical.percent.bias == pytest.approx((0 + 10 + 10) / 3)
    assert clinical.units.half_width == pytest.approx(1.96 * sd)


def test_a_negative_line_has_an_r2_and_its_slope_tells():
    found = agreement([1, 2, 3, 4], [8, 6, 4, 2])
    assert found.r2 == pytest.approx(1)
    assert found.slope == pytest.approx(-2)


def test_patients_without_both_values_are_left_out_and_counted():
    found = agreement([1, 2, math.nan, 4, 5], [1, math.nan, 3, 4, 5.5])
    assert (found.n, found.left_out) == (3, 2)


def test_constant_values_have_no_r2():
    assert math.isnan(agreement([3, 3, 3], [1, 2, 3]).r2)


@pytest.mark.parametrize(
    ("model", "clinical", "message"),
    [
        ([1, 2], [1, 2], "2 patients"),
        ([1, 2, 3], [1, 2], "3 values"),
        ([math.nan] * 4, [1] * 4, "0 p"),
    ],
)
def test_too_few_patients_are_refused(model, clinical, message):
    with pytest.raises(MeasurementError, match=message):
        agreement(model, clinical)


def test_an_empty_sample_has_no_rank():
    with pytest.raises(MeasurementError, match="two samples"):
        mann_whitney([], [1.0])


def test_equal_samples_do_not_differ():
    assert mann_whitney([1, 1, 1], [1, 1]).p == 1


def test_a_spread_over_measurements_is_that_of_numpy():
    found = spread_over([0.2, 0.5, 0.8, math.nan])
    assert found == pytest.approx({"mean": 0.5, "sd": 0.3, "min": 0.2, "max": 0.8})
