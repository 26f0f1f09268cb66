"""Runs of ``fastseg evaluate``: models over a dataset, with a journal, results and a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from rich.console import RenderableType

from fastseg import environment
from fastseg.cli.evaluation_options import EvaluationArguments
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, Table
from fastseg.errors import ImageError, PromptError
from fastseg.evaluation import report as reports
from fastseg.evaluation.aggregation import Aggregate
from fastseg.evaluation.dataset import Dataset, ViewSettings, read_dataset
from fastseg.evaluation.journal import SUFFIX, Journal
from fastseg.evaluation.protocols import Protocol
from fastseg.evaluation.runner import Outcome
from fastseg.evaluation.runner import evaluate as run_protocol
from fastseg.evaluation.summary import Summary, report_head, summarise
from fastseg.guided.promptable import PromptModel
from fastseg.inputs.text import printable
from fastseg.loading import load, load_promptable
from fastseg.storage.paths import real_path, user_path

if TYPE_CHECKING:
    from fastseg.echo.unet import Unet


def run_evaluation(kind: type[Protocol], arguments: EvaluationArguments) -> Report:
    """Evaluate the models of a call by a protocol whose switches are among its options."""
    protocol = kind(**{one.name: getattr(arguments, one.name) for one in fields(kind)})
    if len(set(arguments.model)) != len(arguments.model):
        raise PromptError("a --model is named twice. Name each once.")
    dataset = read_dataset(arguments.data)
    view = arguments.view(protocol)
    arguments.check_out([example.path for example in dataset.examples])
    journal = _journal(arguments, protocol, dataset, view)
    outcomes = _run_models(arguments, protocol, dataset, view, journal)
    head = {
        **report_head(),
        "seed": arguments.seed,
        "view": {one.name: getattr(view, one.name) for one in fields(view)},
        "prompts": "simulated from the truth" if kind.takes_prompts else "none",
    }
    summary = summarise(protocol, dataset.name, outcomes, dataset.faults, head)
    if arguments.out is not None:
        options = {"page": arguments.page, "overwrite": arguments.overwrite}
        reports.write_results(arguments.out, summary, dataset, view, **options)
    if journal is not None:
        journal.remove()
    written = None if arguments.out is None else str(arguments.out)
    body = {**summary.as_dict(), "out": written}
    for name in ("notice", "versions", "published"):
        body.pop(name)
    code = SOME_FAILED if summary.faults else DONE
    text = tuple(_text(summary, written))
    return Report(f"evaluate {protocol.name}", body, text, code, summary.faults)


def _journal(
    arguments: EvaluationArguments, protocol: Protocol, dataset: Dataset, view: ViewSettings
) -> Journal | None:
    if arguments.out is None:
        return None
    out = real_path(user_path(arguments.out))
    run = {
        "protocol": protocol.name,
        "settings": protocol.settings(),
        "data": str(real_path(arguments.data)),
        "examples": len(dataset.examples),
        "models": list(arguments.model),
        "precision": [arguments.device, arguments.backend, arguments.precision],
        "seed": arguments.seed,
        "view": [str(getattr(view, one.name)) for one in fields(view)],
        "version": environment.versions()["fastseg"],
    }
    return Journal(out.parent / f".{out.name}{SUFFIX}", run, resume=arguments.resume)


def _run_models(
    arguments: EvaluationArguments,
    protocol: Protocol,
    dataset: Dataset,
    view: ViewSettings,
    journal: Journal | None,
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with progress(len(dataset.examples) * len(arguments.model)) as step:
        for name in arguments.model:
            with _load(name, protocol, arguments) as model:
                outcome = run_protocol(
                    protocol,
                    dataset,
                    model,
                    seed=arguments.seed,
                    view=view,
                    journal=journal,
                    called=name,
                    progress=step,
                )
            called = _called(str(outcome.model["model"]), outcomes)
            outcomes.append(replace(outcome, model={**outcome.model, "model": called}))
    if not any(outcome.rows for outcome in outcomes):
        faults = [fault for outcome in outcomes for fault in outcome.faults]
        reason = faults[0] if faults else "every truth is empty."
        raise ImageError(f"nothing of {arguments.data} could be evaluated: {reason}")
    return outcomes


def _load(name: str, protocol: Protocol, arguments: EvaluationArguments) -> PromptModel | Unet:
    if protocol.takes_prompts:
        return load_promptable(name, arguments.choice, max_pixels=None)
    return load(
        name,
        device=arguments.device,
        backend=arguments.backend,
        precision=arguments.precision,
        threads=arguments.threads,
        max_pixels=None,
    )


def _called(name: str, outcomes: list[Outcome]) -> str:
    """Tell two folders of one model name apart."""
    taken = {str(outcome.model["model"]) for outcome in outcomes}
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _text(summary: Summary, written: str | None) -> Iterator[RenderableType]:
    table = Table("model", "prompt", "mask", "score", box=None, pad_edge=False)
    for heading in ("n", "mean over tasks", "mean", "median", "published"):
        table.add_column(heading, justify="right")
    for condition in summary.conditions:
        for name, scores in condition.scores.items():
            printed = summary.published(condition.variant, condition.slot, name)
            published = "" if printed is None else f"{printed.value:.3f}"
            heads = (condition.model, condition.variant, condition.slot, name)
            table.add_row(*heads, *_numbers(scores), published)
    yield table
    images = {image for outcome in summary.outcomes for image in outcome.milliseconds}
    yield (
        f"\n{len(images)} images, {len(summary.faults)} not evaluated, "
        f"{len(summary.left_out)} empty truths left out. Prompts: {summary.head['prompts']}."
    )
    if any(
        summary.published(one.variant, one.slot, n)
        for one in summary.conditions
        for n in one.scores
    ):
        yield f"published: {summary.protocol.source}, on other data"
    if written is not None:
        yield f"results in {printable(written)}"


def _numbers(scores: Aggregate) -> tuple[str, ...]:
    spread = scores.over_samples
    return str(spread.n), *(f"{v:.3f}" for v in (scores.over_tasks, spread.mean, spread.median))
