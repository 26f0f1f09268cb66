"""The figures of an evaluation's page: curves, bars, small multiples and cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.evaluation.aggregation import Aggregate
from fastseg.evaluation.dataset import Dataset, LoadedExample, ViewSettings
from fastseg.evaluation.protocols import Phases, Row
from fastseg.evaluation.protocols.everything import RECALL_AT
from fastseg.evaluation.published import ALL_TASKS
from fastseg.evaluation.published import figures as published_figures
from fastseg.evaluation.report import figures
from fastseg.evaluation.report.figures import Bar, Drawing, Line, Panel
from fastseg.evaluation.report.labels import label
from fastseg.evaluation.summary import Summary

QUARTERS = (25, 50, 75)
"""Percentiles of the objects that are shown as cases, as in Mazurowski et al."""

_MOST_BARS = 40


def drawings(summary: Summary, dataset: Dataset, view: ViewSettings) -> Iterator[Drawing]:
    """Draw the figures that belong to the protocol of a run.

    Args:
        summary: The run, with at least one condition.
        dataset: The data, whose images the cases are drawn on.
        view: Window and colours of the images.

    Yields:
        The figures in the order of the page.
    """
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
