"""The eight rows of the published resource table, for published and for measured models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fastseg.benchmarking.annotation_times import AnnotationTimes
from fastseg.benchmarking.model_costs import SOURCE, ModelCosts

Origin: TypeAlias = Literal["published", "measured", "estimate", "card", "unknown"]

MASKS, STUDIES, LARGE_COHORT = 1350, 100, 18_423
"""Masks and studies of the publication, and the cohort that it extrapolates to."""

SECONDS_A_BOX = 3 * 3600 / MASKS
"""8.0 s to draw a box: 3 hours for 1350 masks, as published."""

SECONDS_A_CANDIDATE = 1.1 * 3600 / (3 * MASKS)
"""0.978 s to look at a candidate: 1.1 hours for 4050 masks, as published."""

_TRAINED = {
    "SAM": (11_000_000, 1_100_000_000, 256),
    "SSL U-Net": (93_000, 0, 1),
}
"""Training images, labels and GPUs of the published models."""

_GENERATED = {"generated scenes": 1, "generated phantoms": 0}
"""Training data without a real image or a label, by the manifest's words, and the GPUs used."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of the table."""

    value: float | None
    origin: Origin

    @property
    def text(self) -> str:
        """The value as it is printed, with a mark where it is not measured here."""
        if self.value is None:
            return "not stated"
        mark = {"estimate": " (estimate)", "card": " (card)"}.get(self.origin, "")
        return f"{self.value:,.4g}{mark}" if self.value < 10_000 else f"{self.value:,.0f}{mark}"


@dataclass(frozen=True, slots=True)
class ResourceRow:
    """One row of the table: a resource, and its value for every model."""

    name: str
    unit: str
    cells: tuple[Cell, ...]

    def as_dict(self, models: Sequence[str]) -> dict[str, Any]:
        """Return the row, ready for JSON."""
        cells = [
            {"model": model, "value": cell.value, "origin": cell.origin}
            for model, cell in zip(models, self.cells, strict=True)
        ]
        return {"row": self.name, "unit": self.unit, "models": cells}


def resource_rows(
    models: Sequence[ModelCosts], times: AnnotationTimes | None = None
) -> tuple[ResourceRow, ...]:
    """Make the eight rows in the order of the publication.

    What cannot be measured comes from the publication or the model's card.

    Args:
        models: The columns.
        times: Times that people took with these models. Without them the times of people are
            published ones, scaled by the boxes and candidates of a mask, and marked as estimates.
    """
    prompting = tuple(_prompting(one, times) for one in models)
    selection = tuple(_selection(one, times) for one in models)
    return (
        ResourceRow("training images", "real images", tuple(_trained(one, 0) for one in models)),
        ResourceRow("manual labels", "masks", tuple(_trained(one, 1) for one in models)),
        ResourceRow("box prompting time", f"h for {MASKS} masks", prompting),
        ResourceRow("mask selection time", f"h for {MASKS} masks", selection),
        ResourceRow("model size", "MB", tuple(_own(one, one.megabytes) for one in models)),
        ResourceRow(
            "parameters", "millions", tuple(_own(one, one.million_parameters) for one in models)
        ),
        ResourceRow("training compute", "GPUs", tuple(_trained(one, 2) for one in models)),
        ResourceRow(
            "inference time per mask", "s", tuple(_own(one, one.seconds_per_mask) for one in models)
        ),
    )


def hours_of_people(costs: ModelCosts, times: AnnotationTimes | None = None) -> float:
    """Return the hours of drawing boxes and selecting masks for ``MASKS`` masks."""
    return sum(cell.value or 0.0 for cell in (_prompting(costs, times), _selection(costs, times)))


def sentences(models: Sequence[ModelCosts], times: AnnotationTimes | None = None) -> Iterator[str]:
    """Yield what the times of people come to, for each model that needs them."""
    for one in models:
        hours = hours_of_people(one, times)
        if hours:
            yield (
                f"{one.name}: {hours:.1f} h of prompting and selecting for {STUDIES} studies, "
                f"{60 * hours / STUDIES:.2f} minutes a study, {hours / STUDIES * LARGE_COHORT:.0f} "
                f"h for {LARGE_COHORT:,} studies."
            )
    yield (
        f"published: {SOURCE}. estimate: {SECONDS_A_BOX:.1f} s a box and "
        f"{SECONDS_A_CANDIDATE:.3f} s a candidate mask, as published. card: from the model's card."
    )


def _trained(costs: ModelCosts, place: int) -> Cell:
    if costs.origin == "published":
        return Cell(_TRAINED[costs.name][place], "published")
    if costs.training_data not in _GENERATED:
        return Cell(None, "unknown")
    return Cell((0, 0, _GENERATED[costs.training_data])[place], "card")


def _prompting(costs: ModelCosts, times: AnnotationTimes | None) -> Cell:
    measured = None if times is None or not costs.prompts_per_mask else times.seconds_prompting
    return _people(costs, costs.prompts_per_mask * SECONDS_A_BOX, measured)


def _selection(costs: ModelCosts, times: AnnotationTimes | None) -> Cell:
    candidates = costs.masks_to_choose_from if costs.masks_to_choose_from > 1 else 0
    measured = None if times is None or not candidates else times.seconds_choosing
    return _people(costs, candidates * SECONDS_A_CANDIDATE, measured)


def _people(costs: ModelCosts, seconds: float, measured: float | None) -> Cell:
    origin: Origin = "published" if costs.origin == "published" else "estimate"
    if origin == "estimate" and measured is not None:
        origin, seconds = "measured", measured
    return Cell(round(seconds * MASKS / 3600, 6), origin)


def _own(costs: ModelCosts, value: float | None) -> Cell:
    return Cell(value, "unknown" if value is None else costs.origin)
