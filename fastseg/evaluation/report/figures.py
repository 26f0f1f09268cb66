"""Figures of the page, drawn by matplotlib without a display: bytes that an ``img`` shows."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra

# The colours of Okabe and Ito (2008), which people with any colour vision tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")

_WIDTH = 7.2  # inches; the column of the page

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "fastseg",
    "svg.fonttype": "path",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as the page shows it."""

    data: str
    """A ``data:`` address, so that the page needs no other file."""

    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: a score after 1, 2, ... prompts."""

    label: str
    values: Sequence[float]
    published: bool = False
    muted: bool = False
    """Drawn in grey, because it is of another kind of network."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One task: mean and quartiles of a score."""

    label: str
    mean: float
    q1: float
    q3: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One image with truth, prediction and prompts."""

    title: str
    image: NDArray[np.uint8]  # (H, W, 3)
    truth: NDArray[np.bool_]  # (H, W)
    mask: NDArray[np.bool_]  # (H, W)
    prompt: Sequence[Sequence[float]]


def curves(lines: Sequence[Line], *, score: str, caption: str) -> Drawing:
    """Draw a score by the number of prompts; published curves are broken lines."""
    with _figure(_WIDTH, 3.8) as (figure, axes):
        longest = max(len(line.values) for line in lines)
        for place, line in enumerate(lines):
            numbers = np.arange(1, len(line.values) + 1)
            axes.plot(
                numbers,
                line.values,
                "--" if line.published else "-",
                color="#888888" if line.muted else COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                linewidth=0.9 if line.muted else 1.5,
                markersize=4.5,
                markerfacecolor="white" if line.published else None,
                label=line.label,
            )
        axes.set(xlabel="points", ylabel=f"{score}, mean over tasks", ylim=(0, 1.02))
        axes.set_xticks(np.arange(1, longest + 1))
        figure.legend(loc="outside lower left", ncols=2)
        ends = "; ".join(
            f"{line.label}: {line.values[0]:.3f} with 1, {line.values[-1]:.3f} with "
            f"{len(line.values)}"
            for line in lines
        )
        return _svg(figure, f"Curves of {score} by the number of points. {ends}.", caption)


def bars(rows: Sequence[Bar], *, score: str, caption: str) -> Drawing:
    """Draw the mean of each task as a bar, and its quartiles as a line across the end."""
    rows = sorted(rows, key=lambda row: row.mean)
    with _figure(_WIDTH, 1.1 + 0.26 * len(rows)) as (figure, axes):
        places = np.arange(len(rows))
        axes.barh(places, [row.mean for row in rows], color=SKY, height=0.7)
        for place, row in zip(places, rows, strict=True):
            if row.n > 1:
                axes.plot([row.q1, row.q3], [place, place], color=BLACK, linewidth=1.3)
        axes.set_yticks(places, [f"{row.label} ({row.n})" for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set(xlabel=score, xlim=(0, max(1.0, max(row.q3 for row in rows))))
        axes.grid(visible=False, axis="y")
        best, worst = rows[-1], rows[0]
        alt = (
            f"Bars of {score} for {len(rows)} tasks, from {worst.label} with {worst.mean:.3f} to "
            f"{best.label} with {best.mean:.3f}."
        )
        return _svg(figure, alt, caption)


def grouped_bars(
    groups: Sequence[str], series: dict[str, Sequence[float]], *, score: str, caption: str
) -> Drawing:
    """Draw bars of several series side by side for each group."""
    with _figure(_WIDTH, 3.6) as (figure, axes):
        width = 0.8 / len(series)
        for place, (label, values) in enumerate(series.items()):
            at = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
            colour = COLOURS[place % len(COLOURS)]
            hatch = ("", "//", "..", "xx")[place % 4]
            axes.bar(at, values, width, label=label, color=colour, edgecolor="white", hatch=hatch)
        axes.set_xticks(np.arange(len(groups)), groups)
        axes.set(ylabel=score, ylim=(0, 1))
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower left", ncols=3)
        listed = "; ".join(
            f"{label}: " + ", ".join(f"{g} {v:.3f}" for g, v in zip(groups, values, strict=True))
            for label, values in series.items()
        )
        return _svg(figure, f"Bars of {score}. {listed}.", caption)


def found_share(
    series: dict[str, Sequence[float]], *, levels: Sequence[float], caption: str
) -> Drawing:
    """Draw the share of objects that reach an IoU, for every IoU from 0 to 1."""
    with _figure(_WIDTH, 3.6) as (figure, axes):
        grid = np.linspace(0, 1, 201)
        for place, (label, ious) in enumerate(series.items()):
            share = [float(np.mean(np.asarray(ious) >= level)) for level in grid]
            axes.plot(grid, share, color=COLOURS[place % len(COLOURS)], label=label)
        for level in levels:
            axes.axvline(level, color="#777777", linewidth=0.8, linestyle=":")
        axes.set(xlabel="IoU of the best mask", ylabel="share of objects", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper right")
        listed = "; ".join(
            f"{label}: "
            + ", ".join(
                f"{np.mean(np.asarray(ious) >= level):.0%} at {level:g}" for level in levels
            )
            for label, ious in series.items()
        )
        return _svg(figure, f"Share of objects found by IoU. {listed}.", caption)


def panels(shown: Sequence[Panel], *, caption: str) -> Drawing:
    """Draw images with the truth filled in green, the prediction outlined in red, and prompts."""
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    tallest = max(panel.truth.shape[0] / panel.truth.shape[1] for panel in shown)
    height = rows * (_WIDTH / columns * min(tallest, 2.0) + 0.5)
    with _figure(_WIDTH, height, (rows, columns)) as (figure, axes):
        flat = np.atleast_1d(axes).ravel()
        for panel, one in zip(shown, flat[: len(shown)], strict=True):
            _draw_panel(panel, one)
        for one in flat[len(shown) :]:
            one.axis("off")
        alt = "Cases: " + "; ".join(panel.title.replace("\n", ", ") for panel in shown) + "."
        return _png(figure, alt, caption)


def scatter(
    model: NDArray[np.float64],
    clinical: NDArray[np.float64],
    *,
    title: str,
    sd_multiple: float,
    caption: str,
) -> Drawing:
    """Draw model against clinical values with the fitted line, and their Bland-Altman plot."""
    with _figure(_WIDTH, 3.4, (1, 2)) as (figure, axes):
        left, right = axes
        left.plot(model, clinical, "o", color=BLUE, markersize=4, alpha=0.8)
        ends = np.array([min(model.min(), clinical.min()), max(model.max(), clinical.max())])
        left.plot(ends, ends, ":", color="#777777", linewidth=1)
        if np.ptp(model) > 0:
            slope, intercept = np.polyfit(model, clinical, 1)
            left.plot(ends, slope * ends + intercept, color=RED)
        left.set(xlabel="model", ylabel="clinical", title=title)
        middle, difference = (model + clinical) / 2, model - clinical
        bias, half = difference.mean(), sd_multiple * difference.std()
        right.plot(middle, difference, "o", color=BLUE, markersize=4, alpha=0.8)
        right.axhspan(bias - half, bias + half, color=SKY, alpha=0.2, linewidth=0)
        right.axhline(bias, color=RED)
        right.set(xlabel="mean of both", ylabel="model - clinical", title="Bland-Altman")
        alt = (
            f"{title}: {len(model)} patients, model against clinical value, and their differences: "
            f"bias {bias:.3g}, limits {bias - half:.3g} to {bias + half:.3g}."
        )
        return _svg(figure, alt, caption)


def agreement_bands(
    names: Sequence[str], r2: dict[str, Sequence[float]], *, level: float, caption: str
) -> Drawing:
    """Draw r2 of each measurement for each model, with a line at the level that counts as good."""
    with _figure(_WIDTH, 1.2 + 0.27 * len(names)) as (figure, axes):
        places = np.arange(len(names))[::-1]
        axes.axvspan(level, 1, color=GREEN, alpha=0.12, linewidth=0)
        for place, (label, values) in enumerate(r2.items()):
            marker, colour = MARKERS[place % 6], COLOURS[place % 6]
            axes.plot(values, places, marker, color=colour, label=label, markersize=5)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set(xlabel="r2", xlim=(0, 1))
        figure.legend(loc="outside lower left", ncols=3)
        listed = "; ".join(
            f"{label}: {sum(v > level for v in values)} of {len(values)} above {level:g}"
            for label, values in r2.items()
        )
        return _svg(figure, f"r2 by measurement. {listed}.", caption)


def bias_bars(
    names: Sequence[str], biases: Sequence[float], sds: Sequence[float], *, caption: str
) -> Drawing:
    """Draw the bias of each measurement in percent, with bars of 1 and 2 standard deviations."""
    with _figure(_WIDTH, 1.2 + 0.27 * len(names)) as (figure, axes):
        places = np.arange(len(names))[::-1]
        for place, bias, sd in zip(places, biases, sds, strict=True):
            axes.plot([bias - 2 * sd, bias + 2 * sd], [place, place], color=SKY, linewidth=3)
            axes.plot([bias - sd, bias + sd], [place, place], color=BLUE, linewidth=5)
            axes.plot([bias], [place], "o", color=BLACK, markersize=4)
        axes.axvline(0, color="#777777", linewidth=1)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set(xlabel="bias in percent, with 1 and 2 standard deviations")
        listed = ", ".join(f"{name} {bias:.1f}" for name, bias in zip(names, biases, strict=True))
        return _svg(figure, f"Bias in percent by measurement: {listed}.", caption)


def small_multiples(
    panels_: dict[str, dict[str, Sequence[float]]],
    points: Sequence[int],
    *,
    score: str,
    caption: str,
) -> Drawing:
    """Draw a score by the number of points, a panel for each name, a line for each series."""
    names = list(panels_)
    with _figure(_WIDTH, 3.0, (1, len(names)), share=True) as (figure, axes):
        flat = np.atleast_1d(axes).ravel()
        for name, one in zip(names, flat, strict=True):
            for place, (label, values) in enumerate(panels_[name].items()):
                style = {"color": COLOURS[place % 6], "marker": MARKERS[place % 6]}
                # Series that agree lie on each other: dashes let both be seen.
                style["linestyle"] = "--" if place % 2 else "-"
                one.plot(range(len(points)), values, label=label, markersize=4, **style)
            one.set_xticks(range(len(points)), [str(count) for count in points])
            one.set(title=name, xlabel="points", ylim=(0, 1))
        flat[0].set_ylabel(score)
        shown = flat[0].get_legend_handles_labels()
        figure.legend(*shown, loc="outside lower left", ncols=3)
        listed = "; ".join(
            f"{name}, {label}: {values[-1]:.3f} with {points[-1]}"
            for name, series in panels_.items()
            for label, values in series.items()
        )
        return _svg(figure, f"{score} by points in {len(names)} panels. {listed}.", caption)


@contextmanager
def _figure(
    width: float, height: float, grid: tuple[int, int] = (1, 1), *, share: bool = False
) -> Iterator[tuple[Any, Any]]:
    """Open a figure that no window shows.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    with needs_extra("report", "drawing figures"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(*grid, sharey=share)


def _draw_panel(panel: Panel, axes: Any) -> None:
    axes.imshow(panel.image, interpolation="nearest")
    tint = np.zeros((*panel.truth.shape, 4))
    tint[panel.truth] = (0.0, 0.62, 0.45, 0.45)
    axes.imshow(tint, interpolation="nearest")
    if panel.mask.any() and not panel.mask.all():
        axes.contour(panel.mask, levels=[0.5], colors=[RED], linewidths=1.8)
    for one in panel.prompt:
        if len(one) == 4:
            x0, y0, x1, y1 = one
            xs, ys = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
            axes.plot(xs, ys, color="white", linewidth=2.2)
            axes.plot(xs, ys, "--", color=BLACK, linewidth=1.1)
        else:
            x, y, label = one
            marker = "P" if label else "X"
            axes.plot(x, y, marker, color=ORANGE if label else SKY, markeredgecolor=BLACK, ms=7)
    axes.set_title(panel.title, fontsize=8.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _svg(figure: Any, alt: str, caption: str) -> Drawing:
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(_address("image/svg+xml", file.getvalue()), alt, caption)


def _png(figure: Any, alt: str, caption: str) -> Drawing:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return Drawing(_address("image/png", file.getvalue()), alt, caption)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
