"""``fastseg bench``: the speed and memory of a model on this machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import RenderableType

from fastseg import environment
from fastseg.benchmarking import bench as benchmark
from fastseg.benchmarking import model_costs, resource_table
from fastseg.benchmarking.annotation_times import AnnotationTimes, read_annotation_times
from fastseg.benchmarking.repetition import StoppingRule
from fastseg.cli.arguments import DEFAULT_MODEL, into, json_option, runtime_options
from fastseg.cli.progress import progress
from fastseg.cli.report import Report, Table
from fastseg.demo_data import PICTURE
from fastseg.environment import usable_cores
from fastseg.images import read_image
from fastseg.inference.sessions import Choice

TABLE1_MODELS = (DEFAULT_MODEL, "echo-a4c")
"""Embedded models, compared if no model is named."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments of ``fastseg bench``."""

    models: tuple[str, ...]
    table1: bool
    times: tuple[Path, ...]
    image: Path
    prompts: tuple[int, ...]
    everything: int
    max_seconds: float
    tolerance: float
    device: str
    backend: str
    precision: str
    threads: int


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--table1",
    is_flag=True,
    help="Compare the costs of the MODELs (bytes, parameters, time of a mask, prompts) with those "
    "published for SAM and the label-free U-Net.",
)
@click.option(
    "--times",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Times that people took, a CSV of the page of fastseg serve; for --table1. May be given "
    "several times.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    default=PICTURE,
    help="Image to measure on. Default: the image of the demo.",
)
@click.option(
    "--prompts",
    type=click.IntRange(1, 4096),
    multiple=True,
    default=(1, 64),
    show_default=True,
    help="Points of a call; may be given several times.",
)
@click.option(
    "--everything",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Also measure everything mode with N x N points; 0 leaves it out.",
    metavar="N",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Stop each measurement after this many seconds, stable or not.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    default=0.03,
    show_default=True,
    help="Stop when the 95 % confidence interval of the median is within this fraction: 0.03 is "
    "3 %.",
)
@runtime_options
@json_option
@into(Arguments)
def bench(arguments: Arguments) -> Report:
    """Measure MODEL: each stage, time per mask, peak memory, and a cold start in a fresh process.

    Every measurement takes up to --max-seconds: about a minute in all by default. With --table1
    several MODELs may be given.
    """
    if arguments.table1:
        return _table1(arguments)
    if arguments.times:
        raise click.UsageError("--times belongs to --table1.")
    if len(arguments.models) > 1:
        raise click.UsageError("Give one MODEL; several may be compared by --table1 alone.")
    plan = benchmark.BenchmarkPlan(
        model=arguments.models[0] if arguments.models else DEFAULT_MODEL,
        image=read_image(arguments.image),
        prompts=arguments.prompts,
        everything=arguments.everything,
        device=arguments.device,
        backend=arguments.backend,
        precision=arguments.precision,
        threads=arguments.threads,
        rule=_rule(arguments),
    )
    with progress(2 + len(plan.prompts) + bool(plan.everything)) as step:
        result = benchmark.bench(plan, progress=step)
    body = {**result.as_dict(), "image": str(arguments.image)}
    return Report("bench", body, tuple(_text(result)))


def _rule(arguments: Arguments) -> StoppingRule:
    return StoppingRule(tolerance=arguments.tolerance, max_seconds=arguments.max_seconds)


def _table1(arguments: Arguments) -> Report:
    """Compare costs: published rows first, then rows measured here."""
    models = arguments.models or TABLE1_MODELS
    times = read_annotation_times(arguments.times) if arguments.times else None
    image = read_image(arguments.image)
    choice = Choice(arguments.device, arguments.backend, arguments.precision, arguments.threads)
    rows = list(model_costs.PUBLISHED)
    with progress(len(models)) as step:
        for model in models:
            step(model)
            rows.append(model_costs.measure(model, image, choice, _rule(arguments)))
    threads = arguments.threads or usable_cores()
    names = [row.name for row in rows]
    body = {
        "table": "resources",
        "table1": [row.as_dict(names) for row in resource_table.resource_rows(rows, times)],
        "sentences": list(resource_table.sentences(rows, times)),
        "times": None if times is None else times.as_dict(),
        "rows": [row.as_dict() for row in rows],
        "threads": threads,
        "machine": environment.machine(),
        "image": str(arguments.image),
    }
    return Report("bench", body, tuple(_resources_text(rows, threads, times)))


def _resources_text(
    rows: list[model_costs.ModelCosts], threads: int, times: AnnotationTimes | None
) -> Iterator[RenderableType]:
    resources = Table("resource", "unit", box=None, pad_edge=False)
    for row in rows:
        resources.add_column(row.name, justify="right")
    for resource in resource_table.resource_rows(rows, times):
        cells = (cell.text for cell in resource.cells)
        resources.add_row(resource.name, resource.unit, *cells)
    yield resources
    yield "\n" + "\n".join(resource_table.sentences(rows, times)) + "\n"
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for heading in (
        "files (MB)",
        "params (M)",
        "s/mask",
        "s/extra mask",
        "boxes/mask",
        "choices/mask",
    ):
        table.add_column(heading, justify="right")
    table.add_column("source")
    for row in rows:
        further, parameters = row.seconds_per_further_mask, row.million_parameters
        table.add_row(
            row.name,
            f"{row.megabytes:.1f}",
            "unknown" if parameters is None else f"{parameters:.1f}",
            f"{row.seconds_per_mask:.3g}",
            "-" if further is None else f"{further:.3g}",
            str(row.prompts_per_mask),
            str(row.masks_to_choose_from),
            "published" if row.origin == "published" else row.ran_on,
        )
    yield table
    yield (
        "\ns/mask: time of a frame divided by its masks. s/extra mask: another mask on an embedded "
        "image. boxes/mask: drawn by a person. choices/mask: masks that one is selected from.\n"
        f"published: {model_costs.SOURCE}. It names no machine, and the 93 MB include the state of "
        "the optimiser.\n"
        f"measured: {environment.line()}; {threads} threads, warm, medians; a frame with "
        f"{model_costs.STRUCTURES} structures, embedding included."
    )


def _text(result: benchmark.Result) -> Iterator[RenderableType]:
    about = result.about
    yield (
        f"{about['model']} on {about['backend']} {about['device']} {about['precision']}, "
        f"{about['threads']} threads, batch 1, image "
        f"{about['picture']['width']} x {about['picture']['height']}"
    )
    yield f"configuration: {about['reason']}"
    yield environment.line() + "\n"
    table = Table("warm, ms", "stage", box=None, pad_edge=False)
    for heading in (
        "p50",
        "p90",
        "p99",
        "±",
        "rounds",
        "masks",
        "ms per mask",
        "peak MiB",
        "GFLOP/s",
    ):
        table.add_column(heading, justify="right")
    for one in result.measurements:
        peak, rate = result.peak_bytes[one.name], _rate(result, one.name)
        for stage, ms in one.stages.items():
            last = stage == "total"
            table.add_row(
                one.name if stage == next(iter(one.stages)) else "",
                stage,
                *(f"{ms.percentile(percent):.2f}" for percent in (50, 90, 99)),
                _half_width(ms.half_width) + ("" if one.stable or not last else " unstable"),
                str(len(ms.rounds)),
                str(one.masks) if last and one.masks else "",
                f"{one.per_mask_ms:.2f}" if last and one.per_mask_ms is not None else "",
                f"{peak / 2**20:.0f}" if last and peak is not None else "",
                rate if last else "",
            )
    yield table
    yield (
        "±: 95 % confidence interval of the median, known from 6 rounds on; unstable: wider than "
        "--tolerance. peak MiB: resident memory above the loaded, warm model."
    )
    if result.peak is not None:
        yield (
            f"GFLOP/s: in brackets the share of this processor's float32 peak, measured now, "
            f"{result.peak.multiply_add:.0f} GFLOP/s with as many threads.\n"
        )
    cold = Table("cold, ms, 1 run", box=None, pad_edge=False)
    for name in result.cold:
        cold.add_column(name.replace("_", " "), justify="right")
    cold.add_row("fresh process", *(f"{value:.0f}" for value in result.cold.values()))
    yield cold


def _rate(result: benchmark.Result, name: str) -> str:
    """Write the rate of a measurement with its share of the peak, as far as they are known."""
    rate, share = result.gflops(name), result.share_of_peak(name)
    if rate is None:
        return ""
    return f"{rate:.0f}" if share is None else f"{rate:.0f} ({share:.0%})"


def _half_width(fraction: float) -> str:
    return f"{fraction:.1%}" if math.isfinite(fraction) else "-"
