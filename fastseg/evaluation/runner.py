"""Runs of a protocol over a dataset: each image on its own, several at once, in one order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from fastseg.environment import usable_cores
from fastseg.errors import FastsegError, OutputError
from fastseg.evaluation.dataset import Case, Dataset, Example, ViewSettings
from fastseg.evaluation.journal import Journal
from fastseg.evaluation.protocols import Protocol, Row, Scored
from fastseg.guided.promptable import PromptModel
from fastseg.inference.concurrency import ordered_map

if TYPE_CHECKING:
    from fastseg.echo.unet import Unet

WORKERS = 4
"""Most images at once; one is scored while another is decoded, and each holds its arrays."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a protocol found out about one model."""

    model: Mapping[str, Any]
    """The model, and the backend, device and precision it ran in."""

    rows: tuple[Row, ...]
    images: Mapping[str, Mapping[str, float]]
    """Scores of each image as a whole."""

    milliseconds: Mapping[str, Mapping[str, float]]
    """Times of each image by stage."""

    faults: tuple[str, ...]
    """A sentence for each image that could not be evaluated."""

    left_out: tuple[str, ...] = field(default=())
    """Objects without a pixel, which no score counts."""


def evaluate(
    protocol: Protocol,
    dataset: Dataset,
    model: PromptModel | Unet,
    *,
    seed: int = 0,
    view: ViewSettings | None = None,
    journal: Journal | None = None,
    called: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Evaluate a model on every example of a dataset.

    Images that fail are named and do not stop the others. Every choice by chance depends on the
    seed and the names of image and object, so the rows do not depend on the number of threads.

    Args:
        protocol: The rules.
        dataset: From ``read_dataset``.
        model: A loaded model: one that takes prompts, unless the protocol gives none.
        seed: Seed of what is drawn by chance.
        view: How files become images; the protocol's own rule for levels if left out.
        journal: Where finished images are kept.
        called: Name of the model in the journal; its own name if left out.
        progress: Called with the name of each image as it begins.

    Raises:
        OutputError: The journal cannot be written.
    """
    settings = view or ViewSettings(intensity=protocol.intensity)
    name = called or str(model.manifest.name)
    writing = threading.Lock()

    def one(example: Example | Case) -> tuple[Scored | None, str]:
        with writing:
            progress(example.name)
            if journal is not None and any(known := journal.get(name, example.name)):
                return known
        try:
            scored = score_example(protocol, example, model, seed=seed, view=settings)
            fault = ""
        except OutputError:
            raise
        except FastsegError as error:
            scored, fault = None, str(error)
        if journal is not None:
            with writing:
                journal.add(name, example.name, scored, fault)
        return scored, fault

    workers = min(WORKERS, usable_cores(), len(dataset.examples))
    found = ordered_map(one, dataset.examples, workers=max(1, workers))
    done = list(zip(dataset.examples, found, strict=True))
    return Outcome(
        model=model.provenance(),
        rows=tuple(row for _, (scored, _) in done if scored for row in scored.rows),
        images={e.name: scored.image_scores for e, (scored, _) in done if scored},
        milliseconds={e.name: scored.milliseconds for e, (scored, _) in done if scored},
        faults=tuple(fault for _, (_, fault) in done if fault),
        left_out=tuple(
            f"{e.name}: {name}" for e, (scored, _) in done if scored for name in scored.left_out
        ),
    )


def score_example(
    protocol: Protocol,
    example: Example | Case,
    model: PromptModel | Unet,
    *,
    seed: int,
    view: ViewSettings,
) -> Scored:
    """Score a model on one example; one whose truths are all empty has no rows.

    Raises:
        FastsegError: A file cannot be read, or image and truth do not belong together.
    """
    loaded = example.load(view)
    scored = Scored()
    if loaded.truths:  # the caller has chosen a protocol that fits the model
        scored = protocol.score(loaded, cast("PromptModel", model), seed)
    scored.left_out = loaded.left_out
    return scored
