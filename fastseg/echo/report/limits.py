"""Limits that no heart goes beyond, each with the publication that it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastseg.echo.findings import Finding


@dataclass(frozen=True, slots=True)
class Limit:
    """The range of a quantity."""

    least: float
    most: float
    source: str


_LABELS = "limits of Ferreira et al. 2025"
_HEALTHY = "the mean of healthy hearts + 5 SD in Lang et al. 2015"

AREAS_CM2 = {
    "LV": Limit(4.7, 104.0, _LABELS),
    "RV": Limit(4.7, 104.0, _LABELS),
    "LA": Limit(6.0, 75.0, _LABELS),
    "RA": Limit(6.0, 75.0, _LABELS),
}
"""Area of a chamber in an apical view: outside of it the publication takes no mask for a label."""

SHARES_PERCENT = {
    "lv_ef": Limit(0.0, 89.0, f"{_HEALTHY}, 64 and 5 %"),
    "la_ef": Limit(0.0, 89.0, f"{_HEALTHY}, 64 and 5 %, of the LV"),
    "rv_fac": Limit(0.0, 84.0, f"{_HEALTHY}, 49 and 7 %"),
}
"""Emptied share by the start of a row's name. No disease raises it far above that of the healthy,
and masks that fail in one frame do; below 0 a chamber would grow while it empties."""


def area_fault(finding: Finding) -> str:
    """Say that the area of a chamber is none of a heart's; empty if it may be one."""
    limit = AREAS_CM2.get(finding.measurement.name)
    area = finding.measurement.area_cm2
    if limit is None or math.isnan(area) or limit.least <= area <= limit.most:
        return ""
    return (
        f"{finding.measurement.name} of {area:.1f} cm2 in {finding.place} is outside of "
        f"{limit.least:g} to {limit.most:g} cm2, the {limit.source}"
    )


def share_fault(name: str, percent: float) -> str:
    """Say that a row's share is none of a heart's; empty if it may be one."""
    limit = next((one for start, one in SHARES_PERCENT.items() if name.startswith(start)), None)
    if limit is None or limit.least < percent <= limit.most:
        return ""
    return (
        f"{percent:.1f} % is outside of {limit.least:g} to {limit.most:g} %, {limit.source}: "
        "look at the masks in these frames"
    )
