"""The lines of a report, and the report of one patient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastseg.echo.beats import AreaCurve
from fastseg.echo.findings import Finding
from fastseg.errors import MeasurementError

SEPARATOR = "; "
"""Between the parts of a reason or a caution."""

_UNITS = {
    "_ml_per_m2": "mL/m2",
    "_g_per_m2": "g/m2",
    "_cm2": "cm2",
    "_cm": "cm",
    "_ml": "mL",
    "_g": "g",
    "_percent": "%",
}

_ABBREVIATED = frozenset(
    ("a2c", "a4c", "ed", "eda", "edv", "ef", "es", "esa", "esv", "fac", "la", "lv", "ra", "rv")
)
"""Words of row names that are written in capitals."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report."""

    name: str
    """Name, ending in its unit: ``"lv_edv_biplane_ml"``."""

    value: float
    """The number, a median where there are several beats; NaN where it is missing."""

    reason: str = ""
    """The reason why ``value`` is NaN, in words."""

    caution: str = ""
    """A reason to doubt the value, in words."""

    frames: tuple[str, ...] = ()
    """The frames that it was made from."""

    beats: int = 0
    """Beats that gave a value; of two views the pairs of their beats."""

    low: float = math.nan
    """Least value of a beat; NaN where there is one beat."""

    high: float = math.nan
    """Largest value of a beat; NaN where there is one beat."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields without the name, ready for JSON."""
        told = {"reason": self.reason, "caution": self.caution, "frames": list(self.frames)}
        spread = {"beats": self.beats, "low": self.low, "high": self.high}
        return {"value": self.value, **told, **spread}

    @property
    def title(self) -> str:
        """Name in words, without the unit: ``"LV EDV A4C"``."""
        return split_unit(self.name)[0]

    @property
    def unit(self) -> str:
        """Unit as it is printed: ``"mL"``."""
        return split_unit(self.name)[1]


@dataclass(frozen=True, slots=True)
class Study:
    """The report of one patient. Research use only; not a medical device."""

    patient: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = field(repr=False)
    curves: tuple[AreaCurve, ...] = field(default=(), repr=False)
    """Area of each chamber over the clip that counts, with its beats and the frames that count."""

    cautions: tuple[str, ...] = ()
    """Sentences about the frames that hold for every row: views that may be other ones."""

    def __getitem__(self, name: str) -> Row:
        """Return the row of that name.

        Raises:
            MeasurementError: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self.rows)
        raise MeasurementError(f"there is no row {name!r}. There are: {names}.")

    def as_dict(self) -> dict[str, Any]:
        """Return rows by name, every curve and every finding, ready for JSON."""
        return {
            "patient": self.patient,
            "cautions": list(self.cautions),
            "rows": {row.name: row.as_dict() for row in self.rows},
            "curves": [curve.as_dict() for curve in self.curves],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def split_unit(name: str) -> tuple[str, str]:
    """Split a row's name into words and unit: ``lv_edv_a4c_ml`` is ``LV EDV A4C`` and ``mL``."""
    ending = next((ending for ending in _UNITS if name.endswith(ending)), "")
    words = name[: len(name) - len(ending)].split("_")
    text = " ".join(word.upper() if word in _ABBREVIATED else word for word in words)
    return text, _UNITS.get(ending, "")


def joined(remarks: Iterable[str]) -> str:
    """Join remarks, each named once, also where they are joined already."""
    parts = (part for remark in remarks for part in remark.split(SEPARATOR))
    return SEPARATOR.join(dict.fromkeys(part for part in parts if part))
