"""The page of an evaluation: one HTML file with tables and figures, for screen and print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.environment import needs_extra
from fastseg.evaluation.aggregation import Aggregate, Spread
from fastseg.evaluation.dataset import Dataset, LoadedExample, ViewSettings
from fastseg.evaluation.protocols import Phases, Row
from fastseg.evaluation.protocols.everything import RECALL_AT
from fastseg.evaluation.published import ALL_TASKS, Figure
from fastseg.evaluation.published import figures as published_figures
from fastseg.evaluation.report import figures
from fastseg.evaluation.report.figures import Bar, Drawing, Line, Panel
from fastseg.evaluation.summary import Condition, Summary, image_means

TEMPLATE = Path(__file__).parent / "page.html"

QUARTERS = (25, 50, 75)
"""Percentiles of the objects that are shown as cases, as in Mazurowski et al."""

_MOST_BARS = 40


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
    drawings = list(_drawings(summary, dataset, view)) if summary.conditions else []
    return render(
        {
            "title": f"{summary.protocol.name}: {models} on {summary.dataset}",
            "lead": _lead(summary),
            "facts": _facts(summary),
            "tables": tables,
            "figures": drawings,
            "faults": summary.faults,
            "left_out": summary.left_out,
            "notice": summary.head["notice"],
        }
    )


def number(value: float) -> str:
    """Write a number of a table; a dash where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def label(score: str) -> str:
    """Return a score's name as people write it."""
    words = {"iou": "IoU", "dice": "Dice", "surface dice": "surface Dice", "hd95": "HD95"}
    kind, _, rest = score.partition(" ")
    if score.startswith("noc"):
        return f"points to IoU 0.{score[3:]}"
    if kind == "iou" and rest.isdigit():
        return f"IoU, {rest} point{'s' if rest != '1' else ''}"
    if kind == "surface":
        return f"surface Dice, {rest.removeprefix('dice ')}"
    if kind == "recall":
        return f"found at IoU {rest}"
    return f"{words.get(kind, kind)} {rest}".strip()


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
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
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


def _drawings(summary: Summary, dataset: Dataset, view: ViewSettings) -> Iterator[Drawing]:
    if summary.protocol.name == "points":
        yield _curves(summary)
    if summary.protocol.name == "modes":
        yield _modes(summary)
    if summary.protocol.name == "everything":
        yield _found(summary)
    if isinstance(summary.protocol, Phases):
        yield _multiples(summary, summary.protocol)
    yield from _task_bars(summary)
    yield from _domains(summary)
    if not isinstance(summary.protocol, Phases):  # its masks are of the size of the run
        yield from _cases(summary, dataset, view)


def _curves(summary: Summary) -> Drawing:
    lines = []
    for condition in summary.conditions:
        values = [
            scores.over_tasks
            for name, scores in condition.scores.items()
            if name.startswith("iou ")
        ]
        lines.append(Line(f"{condition.model}, {condition.slot}", values))
    names = [name for name in summary.conditions[0].scores if name.startswith("iou ")]
    for slot in dict.fromkeys(condition.slot for condition in summary.conditions):
        printed = [summary.published("points", slot, name, ALL_TASKS) for name in names]
        known = [figure for figure in printed if figure is not None]
        if known:
            label = f"{known[0].method}, {slot} (published)"
            lines.append(Line(label, [figure.value for figure in known], published=True))
    lines += _interactive(names)
    return figures.curves(
        lines,
        score="IoU",
        caption="IoU by number of points. Broken lines are printed by the study for its own 28 "
        "tasks; grey ones are of networks that were made for points.",
    )


def _interactive(names: Sequence[str]) -> Iterator[Line]:
    """Yield the printed curves of networks that were made for points."""
    printed: dict[str, dict[str, float]] = {}
    for figure in published_figures("points"):
        if figure.slot == "only" and figure.task == ALL_TASKS:
            printed.setdefault(figure.method, {})[figure.score] = figure.value
    for method, values in printed.items():
        known = [values[name] for name in names if name in values]
        yield Line(f"{method} (published)", known, published=True, muted=True)


def _modes(summary: Summary) -> Drawing:
    slot = summary.main[1]
    modes = list(dict.fromkeys(condition.variant for condition in summary.conditions))
    series: dict[str, Sequence[float]] = {}
    for model in summary.models:
        own = {(c.variant, c.slot): c for c in summary.conditions if c.model == model}
        series[model] = [own[mode, slot].scores["iou"].over_tasks for mode in modes]
    printed = [summary.published(mode, slot, "iou") for mode in modes]
    if all(figure is not None for figure in printed):
        label = "SAM ViT-H (published)"
        series[label] = [figure.value for figure in printed if figure is not None]
    return figures.grouped_bars(
        modes,
        series,
        score="IoU, mean over tasks",
        caption="1 a point in the largest part, 2 a point in each of the 3 largest, 3 a box around "
        "the largest part, 4 a box around each of the 3 largest, 5 a box around the whole object.",
    )


def _multiples(summary: Summary, protocol: Phases) -> Drawing:
    slot = summary.main[1]
    means = {
        (one.model, one.variant): one.scores["dice"].over_samples.mean
        for one in summary.conditions
        if one.slot == slot
    }
    drawn: dict[str, dict[str, Sequence[float]]] = {}
    for side in protocol.resolutions:
        series = drawn.setdefault(f"R {side}", {})
        for model in summary.models:
            for how in ("avg", "max"):
                variants = [f"P {count}, R {side}, {how}" for count in protocol.points]
                series[f"{model}, {how}"] = [means[model, variant] for variant in variants]
    return figures.small_multiples(
        drawn,
        protocol.points,
        score="Dice",
        caption="T(P, R, M): Dice by points, a panel for each resolution, over the scores of the "
        "phases: their mean (avg) or the best phase (max).",
    )


def _found(summary: Summary) -> Drawing:
    series: dict[str, Sequence[float]] = {
        model: [row.scores["iou"] for row in outcome.rows]
        for model, outcome in zip(summary.models, summary.outcomes, strict=True)
        if outcome.rows
    }
    return figures.found_share(
        series,
        levels=RECALL_AT,
        caption="Share of the objects that some mask of automatic mode fits at least that well.",
    )


def _task_bars(summary: Summary) -> Iterator[Drawing]:
    name = summary.headline()
    for condition in summary.conditions:
        if condition.slot != summary.main[1] or condition.variant != summary.main[0]:
            continue
        tasks = condition.scores[name].tasks
        rows = [Bar(task, s.mean, s.q1, s.q3, s.n) for task, s in tasks.items() if s.n]
        if 1 < len(rows) <= _MOST_BARS:
            yield figures.bars(
                rows,
                score=label(name),
                caption=f"{condition.model}, {condition.variant}, {condition.slot} mask: "
                f"{label(name)} of each task, with the number of objects. The black line reaches "
                "from the first to the third quartile.",
            )


def _domains(summary: Summary) -> Iterator[Drawing]:
    name, (variant, slot) = summary.headline(), summary.main
    outcome = summary.outcomes[0]
    rows = [row for row in outcome.rows if row.condition == (variant, slot) and row.domain]
    domains = sorted({row.domain for row in rows})
    if len(domains) < 2:
        return
    series: dict[str, Sequence[float]] = {}
    for task in sorted({row.task for row in rows}):
        means = []
        for domain in domains:
            own = [row.scores[name] for row in rows if (row.task, row.domain) == (task, domain)]
            means.append(Aggregate.of([task] * len(own), own).over_samples.mean)
        series[task] = means
    yield figures.grouped_bars(
        domains, series, score=label(name), caption=f"{summary.models[0]}: {name} by domain."
    )


def _cases(summary: Summary, dataset: Dataset, view: ViewSettings) -> Iterator[Drawing]:
    name = summary.headline()
    for model, outcome in zip(summary.models, summary.outcomes, strict=True):
        rows = [row for row in outcome.rows if row.condition == summary.main]
        rows = sorted(rows, key=lambda row: (row.scores[name], row.image, row.object))
        if not rows:
            continue
        places = [round(percent / 100 * (len(rows) - 1)) for percent in QUARTERS]
        chosen = [
            (f"{percent}th percentile, {rows[place].scores[name]:.3f}", rows[place])
            for percent, place in zip(QUARTERS, places, strict=True)
        ]
        shown = list(_panels(chosen, dataset, view))
        if shown:
            caption = f"{model}: cases at the quartiles of {label(name)}. {_key(shown)}"
            yield figures.panels(shown, caption=caption)
        parts = _many_parts(outcome.rows, summary)
        shown = list(_panels(parts, dataset, view))
        if shown:
            yield figures.panels(
                shown, caption=f"{model}: an object of several parts in each mode."
            )


def _key(shown: Sequence[Panel]) -> str:
    """Explain what is drawn into panels."""
    text = "Green is the truth, the red line the prediction"
    prompts = [one for panel in shown for one in panel.prompt]
    if any(len(one) == 3 for one in prompts):
        text += "; + is a foreground point, x a background point"
    if any(len(one) == 4 for one in prompts):
        text += "; a dashed line is the box of the prompt"
    return f"{text}."


def _many_parts(rows: Sequence[Row], summary: Summary) -> list[tuple[str, Row]]:
    """Choose an object with several parts, and its row in each mode."""
    if summary.protocol.name != "modes":
        return []
    own = [row for row in rows if row.slot == summary.main[1]]
    several = [row for row in own if row.variant == "mode 4" and len(row.prompt) > 1]
    if not several:
        return []
    most = max(several, key=lambda row: (len(row.prompt), row.pixels))
    return [
        (f"{row.variant}: IoU {row.scores['iou']:.3f}", row)
        for row in own
        if (row.image, row.object) == (most.image, most.object)
    ]


def _panels(
    rows: Sequence[tuple[str, Row]], dataset: Dataset, view: ViewSettings
) -> Iterator[Panel]:
    examples = {example.name: example for example in dataset.examples}
    loaded: dict[str, LoadedExample] = {}
    for title, row in rows:
        if row.image not in loaded:
            loaded[row.image] = examples[row.image].load(view)
        example = loaded[row.image]
        truth = _truth(example, row)
        size = example.image.shape[:2]
        mask = ops.rle_to_array(ops.rle_from_strings([row.mask.encode("ascii")], size))[0]
        yield Panel(f"{title}\n{row.task}", example.image, truth, mask, row.prompt)


def _truth(example: LoadedExample, row: Row) -> NDArray[np.bool_]:
    """Find the truth of a row; a part of an object is shown with all of it."""
    fitting = [truth for truth in example.truths if row.object.startswith(truth.name)]
    return max(fitting, key=lambda truth: len(truth.name)).mask
