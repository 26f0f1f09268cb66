"""Agreement of measurements of a model with clinical ones, and of two models with each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.errors import MeasurementError

PercentBase: TypeAlias = Literal["mean", "clinical"]

LEAST_PATIENTS = 3
"""Patients that a correlation needs: two always lie on a line."""


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Differences of two methods (Bland and Altman 1986)."""

    bias: float
    """Mean difference, model minus clinical."""

    sd: float
    """Standard deviation of the differences, divided by n."""

    half_width: float
    """Half of the limits of agreement: a multiple of ``sd``."""

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper limit of agreement."""
        return self.bias - self.half_width, self.bias + self.half_width


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of one measurement over patients."""

    n: int
    left_out: int
    """Patients whose value is missing in either table."""

    r2: float
    """Squared correlation of Pearson; NaN if all values of one method are equal."""

    slope: float
    """Of clinical values against the model's; its sign tells what r2 hides."""

    intercept: float
    units: BlandAltman
    percent: BlandAltman

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MannWhitney:
    """Test of two samples for one being larger (Mann and Whitney 1947)."""

    u: float
    """Pairs in which the first sample is larger; ties count one half."""

    p: float
    """Two-sided, by the normal approximation with corrections for continuity and ties."""


def agreement(
    model: ArrayLike,
    clinical: ArrayLike,
    *,
    sd_multiple: float = 2.0,
    percent_base: PercentBase = "mean",
) -> Agreement:
    """Compare the values of a model with clinical ones, patient by patient.

    Args:
        model: (n,) values, NaN where there is none.
        clinical: (n,) values of the same patients.
        sd_multiple: Standard deviations to a limit of agreement; 2 in Ferreira and Arnaout, 1.96 in
            their code.
        percent_base: Denominator of differences in percent, the mean of both or the clinical value.

    Raises:
        MeasurementError: The samples differ in length, or fewer than 3 patients have both values.
    """
    found, drawn = _sample(model), _sample(clinical)
    if found.shape != drawn.shape:
        raise MeasurementError(f"{len(found)} values of a model and {len(drawn)} clinical ones.")
    known = np.isfinite(found) & np.isfinite(drawn)
    x, y = found[known], drawn[known]
    if len(x) < LEAST_PATIENTS:
        raise MeasurementError(
            f"{len(x)} patients have both values, and an agreement needs {LEAST_PATIENTS}. Give "
            "more patients, or leave the measurement out."
        )
    base = (x + y) / 2 if percent_base == "mean" else y
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * (x - y) / base
    slope, intercept, r2 = _line(x, y)
    return Agreement(
        n=len(x),
        left_out=len(known) - len(x),
        r2=r2,
        slope=slope,
        intercept=intercept,
        units=_bland_altman(x - y, sd_multiple),
        percent=_bland_altman(percent[np.isfinite(percent)], sd_multiple),
    )


def mann_whitney(first: ArrayLike, second: ArrayLike) -> MannWhitney:
    """Test whether the values of one sample tend to be larger than those of another.

    It equals SciPy's ``mannwhitneyu(first, second, method="asymptotic")``.

    Raises:
        MeasurementError: A sample is empty or holds something that is no number.
    """
    one, two = _sample(first), _sample(second)
    if not len(one) or not len(two) or not np.isfinite(np.concatenate([one, two])).all():
        raise MeasurementError("the test of Mann and Whitney needs two samples of finite numbers.")
    ranks = _ranks(np.concatenate([one, two]))
    n, m = len(one), len(two)
    u = float(ranks[:n].sum() - n * (n + 1) / 2)
    total = n + m
    ties = sum(count**3 - count for count in Counter(ranks.tolist()).values())
    variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1))) if total > 1 else 0.0
    if variance <= 0:
        return MannWhitney(u, 1.0)
    z = (max(u, n * m - u) - n * m / 2 - 0.5) / math.sqrt(variance)
    return MannWhitney(u, min(1.0, math.erfc(z / math.sqrt(2))))


def _sample(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, np.float64).reshape(-1)


def _bland_altman(differences: NDArray[np.float64], sd_multiple: float) -> BlandAltman:
    if not len(differences):
        return BlandAltman(math.nan, math.nan, math.nan)
    sd = float(differences.std())
    return BlandAltman(float(differences.mean()), sd, sd_multiple * sd)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit a line by least squares: slope, intercept, squared correlation."""
    dx, dy = x - x.mean(), y - y.mean()
    across, down, both = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    if not across or not down:
        return math.nan, math.nan, math.nan
    slope = both / across
    return slope, float(y.mean() - slope * x.mean()), both**2 / (across * down)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank values from 1; equal ones share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((last - counts + 1 + last) / 2)[place.reshape(-1)]
    return ranks


def spread_over(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (n - 1), least and largest of values over measurements."""
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return dict.fromkeys(("mean", "sd", "min", "max"), math.nan)
    sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    mean, low, high = float(known.mean()), float(known.min()), float(known.max())
    return {"mean": mean, "sd": sd, "min": low, "max": high}
