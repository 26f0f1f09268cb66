"""The page of an evaluation: one HTML file with tables and figures, for screen and print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastseg.environment import needs_extra
from fastseg.evaluation.aggregation import Spread
from fastseg.evaluation.dataset import Dataset, ViewSettings
from fastseg.evaluation.published import Figure
from fastseg.evaluation.report.drawings import drawings
from fastseg.evaluation.report.labels import label, number
from fastseg.evaluation.summary import Condition, Summary, image_means

TEMPLATE = Path(__file__).parent / "page.html"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table of the page: text cells, then numbers."""

    heads: Sequence[str]
    numbers: Sequence[str]
    published: str = ""
    source: str = ""
    """Number of the source below the table."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page."""

    title: str
    note: str
    heads: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[TableRow]
    sources: Sequence[str] = ()


def render(content: dict[str, Any]) -> str:
    """Fill the template of a page.

    Raises:
        BackendUnavailableError: jinja2 is not installed.
    """
    with needs_extra("report", "writing the HTML page"):
        from jinja2 import Environment, StrictUndefined
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**content)


def write_page(summary: Summary, dataset: Dataset, view: ViewSettings) -> str:
    """Write the page of an evaluation.

    Raises:
        BackendUnavailableError: The extra ``report`` is not installed.
    """
    models = " and ".join(summary.models)
    tables = [_overall(summary), _by_task(summary)] if summary.conditions else []
    figures = list(drawings(summary, dataset, view)) if summary.conditions else []
    return render(
        {
            "title": f"{summary.protocol.name}: {models} on {summary.dataset}",
            "lead": _lead(summary),
            "facts": _facts(summary),
            "tables": tables,
            "figures": figures,
            "faults": summary.faults,
            "left_out": summary.left_out,
            "notice": summary.head["notice"],
        }
    )


def _lead(summary: Summary) -> str:
    if not summary.conditions:
        return "No object could be scored."
    first = summary.conditions[0]
    name = summary.headline()
    scores = first.scores[name]
    published = summary.published(first.variant, first.slot, name)
    text = (
        f"{first.model} has {number(scores.over_tasks)} ({label(name)}) as a mean over "
        f"{_counted(len(scores.tasks), 'task')} ({_counted(scores.over_samples.n, 'object')}; "
        f"{first.variant}, {first.slot} mask)."
    )
    if published is None:
        return text
    return (
        f"{text} The study prints {number(published.value)} for {published.method} on its own "
        "data, which are not these."
    )


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _facts(summary: Summary) -> list[tuple[str, str]]:
    head = summary.head
    runs = [
        f"{one['model']} on {one['backend']} {one['device']} {one['precision']}"
        for one in (outcome.model for outcome in summary.outcomes)
    ]
    settings = "; ".join(
        f"{name} {', '.join(map(str, value)) or 'all' if isinstance(value, list) else value}"
        for name, value in summary.protocol.settings().items()
    )
    images = len(summary.outcomes[0].milliseconds)
    return [
        ("protocol", f"{summary.protocol.name}, after {summary.protocol.source}"),
        ("switches", settings),
        ("models", "; ".join(runs)),
        ("dataset", f"{summary.dataset}, {_counted(images, 'image')}"),
        ("seed", str(head["seed"])),
        ("date", str(head["date"])),
        ("machine", f"{head['machine']['cpu']}, {head['machine']['cores']} cores"),
        ("versions", ", ".join(f"{k} {v}" for k, v in head["versions"].items() if v)),
        *(
            (f"{name}, mean", f"{model}: {number(value)}")
            for model, outcome in zip(summary.models, summary.outcomes, strict=True)
            for name, value in image_means(outcome).items()
        ),
    ]


def _overall(summary: Summary) -> Table:
    rows = []
    sources: list[str] = []
    for condition in summary.conditions:
        for name, scores in condition.scores.items():
            published = summary.published(condition.variant, condition.slot, name)
            heads = (condition.model, condition.variant, condition.slot, label(name))
            numbers = (number(scores.over_tasks), *_spread(scores.over_samples))
            rows.append(TableRow(heads, numbers, *_cited(published, sources)))
    return Table(
        "All objects",
        "The mean over tasks weighs every task alike; the others weigh every object alike.",
        ("model", "prompt", "mask", "score"),
        ("mean over tasks", "n", "mean", "median", "quartiles"),
        rows,
        sources,
    )


def _by_task(summary: Summary) -> Table:
    _, slot = summary.main
    shown = [one for one in summary.conditions if _is_shown(one, summary)]
    rows = []
    sources: list[str] = []
    for condition in shown:
        for name in _task_scores(condition, summary):
            for task, spread in condition.scores[name].tasks.items():
                published = summary.published(condition.variant, condition.slot, name, task)
                heads = (task, condition.model, condition.variant, label(name))
                rows.append(TableRow(heads, _spread(spread), *_cited(published, sources)))
    rows.sort(key=lambda row: row.heads[0])  # conditions keep their order
    return Table(
        "By task",
        f"The {slot} mask. A published figure stands beside a task that has its name.",
        ("task", "model", "prompt", "score"),
        ("n", "mean", "median", "quartiles"),
        rows,
        sources,
    )


def _is_shown(condition: Condition, summary: Summary) -> bool:
    return condition.slot in (summary.main[1], "none")


def _task_scores(condition: Condition, summary: Summary) -> list[str]:
    names = list(condition.scores)
    if summary.protocol.name == "points":
        return list(dict.fromkeys(("iou 1", summary.headline(), "noc85")))
    return names if summary.protocol.name != "modes" else ["iou"]


def _cited(figure: Figure | None, sources: list[str]) -> tuple[str, str]:
    """Return a published value and the number of its source, which joins the list."""
    if figure is None:
        return "", ""
    source = f"{figure.method}, {figure.source}, on other data"
    if source not in sources:
        sources.append(source)
    return number(figure.value), str(sources.index(source) + 1)


def _spread(spread: Spread) -> tuple[str, ...]:
    quartiles = f"{number(spread.q1)} to {number(spread.q3)}" if spread.n else "-"
    return str(spread.n), number(spread.mean), number(spread.median), quartiles
