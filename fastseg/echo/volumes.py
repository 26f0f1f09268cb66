"""Volumes, mass and the numbers derived from them: each formula with its source.

Lengths are in cm, areas in cm2, volumes in mL = cm3. A measurement with NaN gives NaN.
"""

from __future__ import annotations

import math

from fastseg.errors import MeasurementError
from fastseg.inputs.numbers import real_number
from fastseg.measure import Measurement

MYOCARDIUM_G_PER_ML = 1.05
"""Density of heart muscle."""


def biplane_volume_ml(a2c: Measurement, a4c: Measurement) -> float:
    """Compute the volume of a left ventricle or atrium by the biplane method of disks.

    V = pi/4 * L/n * sum of D_a2c * D_a4c over the n disks, L being the longer of both axes
    (Lang et al., J Am Soc Echocardiogr 28:1, 2015; the longer axis is the less foreshortened).

    Args:
        a2c: The chamber in the apical two-chamber view.
        a4c: The same chamber, at the same moment of the beat, in the apical four-chamber view.

    Returns:
        mL. In the mode ``"source"`` a station without pixels is left out of its list, the lists are
        paired from their beginning up to the shorter one, and the disks keep the thickness L/21;
        otherwise stations are paired by their place.

    Raises:
        MeasurementError: The two were measured in different modes.
    """
    if a2c.mode != a4c.mode:
        raise MeasurementError(
            f"one view was measured in the mode {a2c.mode!r} and the other in {a4c.mode!r}. "
            "Measure both in one mode."
        )
    pairs = zip(_stations(a2c), _stations(a4c), strict=a2c.mode == "default")
    length = longer_axis_cm(a2c, a4c)
    return math.pi / 4 * (length / len(a2c.diameters_cm)) * sum(a * b for a, b in pairs)


def single_plane_volume_ml(chamber: Measurement) -> float:
    """Compute the volume by the method of disks from one view, every disk being a circle.

    V = pi/4 * L/n * sum of D^2 (Lang et al. 2015). The right atrium is measured so.
    """
    squares = sum(diameter**2 for diameter in _stations(chamber))
    return math.pi / 4 * (chamber.length_cm / len(chamber.diameters_cm)) * squares


def area_length_volume_ml(chamber: Measurement, other: Measurement | None = None) -> float:
    """Compute the volume by the area-length method, a check that needs no diameters.

    V = 8 / (3 pi) * A1 * A2 / L, L being the shorter of both axes (Lang et al. 2015); from one view
    A1 = A2. Exact for an ellipsoid. The published method does not use it.

    Args:
        chamber: The chamber in one view.
        other: The same chamber in the other apical view, if there is one.
    """
    other = other or chamber
    lengths = (chamber.length_cm, other.length_cm)
    if not all(length > 0 for length in lengths):
        return math.nan
    return 8 / (3 * math.pi) * chamber.area_cm2 * other.area_cm2 / min(lengths)


def mass_g(*, outer_area_cm2: float, inner_area_cm2: float, length_cm: float) -> float:
    """Compute the mass of the left ventricle by the area-length method.

    m = 1.05 * 5/6 * (A1 * (L + t) - A2 * L) with the mean wall thickness t = sqrt(A1/pi) -
    sqrt(A2/pi) (Schiller et al., J Am Soc Echocardiogr 2:358, 1989). 5/6 * A * L is the volume of
    a cylinder with half an ellipsoid on it, each half as long as L.

    Args:
        outer_area_cm2: Inside the epicardium in the short-axis view, end-diastole.
        inner_area_cm2: Inside the endocardium in the same frame.
        length_cm: Long axis of the cavity, the longer of the two apical views.

    Returns:
        Grams; NaN where the inner area is larger than the outer one.
    """
    if not outer_area_cm2 >= inner_area_cm2 >= 0:
        return math.nan
    thickness = math.sqrt(outer_area_cm2 / math.pi) - math.sqrt(inner_area_cm2 / math.pi)
    muscle = outer_area_cm2 * (length_cm + thickness) - inner_area_cm2 * length_cm
    return MYOCARDIUM_G_PER_ML * (5 / 6) * muscle


def ejection_fraction_percent(largest_ml: float, smallest_ml: float) -> float:
    """Compute the ejected share of the largest volume: 100 * (EDV - ESV) / EDV, in percent."""
    return _decrease_percent(largest_ml, smallest_ml)


def fractional_area_change_percent(largest_cm2: float, smallest_cm2: float) -> float:
    """Compute 100 * (EDA - ESA) / EDA, the loss of area in percent (Lang et al. 2015)."""
    return _decrease_percent(largest_cm2, smallest_cm2)


def indexed(value: float, bsa_m2: float) -> float:
    """Compute ``value`` for each square metre of body surface.

    Raises:
        MeasurementError: The body surface area is not a positive number.
    """
    what = "the body surface area in square metres, bsa_m2,"
    return value / real_number(bsa_m2, what, MeasurementError, positive=True)


def longer_axis_cm(a2c: Measurement, a4c: Measurement) -> float:
    """Choose the longer axis of a chamber measured in both apical views; NaN if either is."""
    lengths = (a2c.length_cm, a4c.length_cm)
    return math.nan if any(map(math.isnan, lengths)) else max(lengths)


def _stations(chamber: Measurement) -> list[float]:
    """List the diameters that count: as published, a station without pixels is no station."""
    if chamber.mode == "default":
        return list(chamber.diameters_cm)
    return [diameter for diameter in chamber.diameters_cm if not math.isnan(diameter)]


def _decrease_percent(largest: float, smallest: float) -> float:
    return 100 * (largest - smallest) / largest if largest > 0 else math.nan
