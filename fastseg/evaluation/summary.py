"""Summary of a run: every score of every condition, with the published figures beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseg import environment, provenance
from fastseg.evaluation.aggregation import Aggregate
from fastseg.evaluation.protocols import Protocol, Row
from fastseg.evaluation.published import ALL_TASKS, Figure, figures
from fastseg.evaluation.runner import Outcome
from fastseg.inputs.text import printable


@dataclass(frozen=True, slots=True)
class Condition:
    """Scores of one model under one condition."""

    model: str
    variant: str
    slot: str
    scores: Mapping[str, Aggregate]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        scores = {name: aggregate.as_dict() for name, aggregate in self.scores.items()}
        return {"model": self.model, "variant": self.variant, "slot": self.slot, "scores": scores}


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores of one or several models on one dataset under one protocol."""

    protocol: Protocol
    dataset: str
    outcomes: tuple[Outcome, ...]
    conditions: tuple[Condition, ...]
    faults: tuple[str, ...]
    left_out: tuple[str, ...]
    head: Mapping[str, Any]
    """Seed, command, versions, machine and date: what the page and the JSON begin with."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order of the call."""
        return tuple(str(outcome.model["model"]) for outcome in self.outcomes)

    @property
    def main(self) -> tuple[str, str]:
        """Variant and slot that figures show: those of the first row."""
        return self.conditions[0].variant, self.conditions[0].slot

    def headline(self) -> str:
        """Return the score that figures show; of a series of scores the last one."""
        names = list(self.conditions[0].scores)
        wanted = self.protocol.headline
        numbered = [name for name in names if name.startswith(f"{wanted} ")]
        return wanted if wanted in names else numbered[-1]

    def published(
        self, variant: str, slot: str, score: str, task: str = ALL_TASKS
    ) -> Figure | None:
        """Find the published figure of a score, for a task or for the mean over all tasks."""
        return next(
            (
                figure
                for figure in figures(self.protocol.name)
                if (figure.variant, figure.slot, figure.score) == (variant, slot, score)
                and figure.task.casefold() == task.casefold()
            ),
            None,
        )

    def _shown(self) -> list[Figure]:
        """List the published figures of all tasks together, and of tasks that are ours too."""
        tasks = {row.task.casefold() for outcome in self.outcomes for row in outcome.rows}
        wanted = tasks | {ALL_TASKS}
        return [one for one in figures(self.protocol.name) if one.task.casefold() in wanted]

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``summary.json``."""
        return {
            **self.head,
            "protocol": self.protocol.name,
            "source": self.protocol.source,
            "settings": self.protocol.settings(),
            "dataset": self.dataset,
            "models": [dict(outcome.model) for outcome in self.outcomes],
            "conditions": [condition.as_dict() for condition in self.conditions],
            "images": [
                {"model": name, "image": image, **scores}
                for name, outcome in zip(self.models, self.outcomes, strict=True)
                for image, scores in outcome.images.items()
                if scores
            ],
            "published": [figure.as_dict() for figure in self._shown()],
            "faults": list(self.faults),
            "left_out": list(self.left_out),
        }


def summarise(
    protocol: Protocol,
    dataset: str,
    outcomes: Sequence[Outcome],
    faults: Sequence[str],
    head: Mapping[str, Any],
) -> Summary:
    """Summarise what a protocol found out about models.

    Args:
        protocol: The rules.
        dataset: Name of the dataset.
        outcomes: One a model.
        faults: Sentences about files of the dataset that make no example.
        head: What the documents begin with.
    """
    every = dict.fromkeys(fault for outcome in outcomes for fault in outcome.faults)
    left_out = dict.fromkeys(name for outcome in outcomes for name in outcome.left_out)
    conditions = [
        condition
        for outcome in outcomes
        for condition in _conditions(str(outcome.model["model"]), outcome.rows)
    ]
    return Summary(
        protocol,
        dataset,
        tuple(outcomes),
        tuple(conditions),
        tuple(map(printable, (*faults, *every))),
        tuple(left_out),
        dict(head),
    )


def report_head() -> dict[str, Any]:
    """Return what every document of an evaluation begins with."""
    machine = environment.machine()
    return {
        "notice": provenance.NOTICE,
        "versions": environment.versions(),
        "machine": machine,
        "date": machine["time"],
    }


def image_means(outcome: Outcome) -> dict[str, float]:
    """Average the scores of images as a whole."""
    names = dict.fromkeys(name for scores in outcome.images.values() for name in scores)
    return {
        name: float(np.mean([one[name] for one in outcome.images.values() if name in one]))
        for name in names
    }


def _conditions(model: str, rows: Sequence[Row]) -> list[Condition]:
    held: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        held.setdefault(row.condition, []).append(row)
    found = []
    for (variant, slot), own in held.items():
        tasks = [row.task for row in own]
        scores = {
            name: Aggregate.of(tasks, [row.scores[name] for row in own]) for name in own[0].scores
        }
        found.append(Condition(model, variant, slot, scores))
    return found
