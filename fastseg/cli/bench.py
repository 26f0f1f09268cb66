"""``fastseg bench``: how fast a model is on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import RenderableType
from rich.table import Table

from fastseg import environment
from fastseg.benchmarking import bench as benchmark
from fastseg.benchmarking import model_costs
from fastseg.benchmarking.repetition import Rule
from fastseg.cli.arguments import DEFAULT_MODEL, into, json_option, runtime_options
from fastseg.cli.progress import progress
from fastseg.cli.report import Report
from fastseg.demo_data import PICTURE
from fastseg.environment import usable_cores
from fastseg.images import read_image
from fastseg.inference.sessions import Choice

TABLE1_MODELS = (DEFAULT_MODEL, "echo-a4c")
"""What is compared if no model is named: those that come with fastseg."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What ``fastseg bench`` was asked for."""

    models: tuple[str, ...]
    table1: bool
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
    help="Compare what the MODELs cost (bytes, parameters, time a mask, prompts) with what is "
    "published of SAM and the label-free U-Net.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    default=PICTURE,
    help="The picture to measure on; the demo's if left out.",
)
@click.option(
    "--prompts",
    type=click.IntRange(1, 4096),
    multiple=True,
    default=(1, 64),
    show_default=True,
    help="Clicks a call answers; may be given several times.",
)
@click.option(
    "--everything",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Also measure everything mode with this many points per side; 0 leaves it out.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Stop a measurement after this long, stable or not.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    default=0.03,
    show_default=True,
    help="Stable: the median is known to this part of itself, with 95 % confidence.",
)
@runtime_options
@json_option
@into(Arguments)
def bench(arguments: Arguments) -> Report:
    """Measure MODEL: each stage, each mask, peak memory, and a cold start in a fresh process.

    With --table1 several MODELs may be given.
    """
    if arguments.table1:
        return _table1(arguments)
    if len(arguments.models) > 1:
        raise click.UsageError("Give one MODEL; several may be compared by --table1 alone.")
    plan = benchmark.Plan(
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


def _rule(arguments: Arguments) -> Rule:
    return Rule(tolerance=arguments.tolerance, max_seconds=arguments.max_seconds)


def _table1(arguments: Arguments) -> Report:
    """The resource comparison: published rows first, then what was measured here."""
    models = arguments.models or TABLE1_MODELS
    image = read_image(arguments.image)
    choice = Choice(arguments.device, arguments.backend, arguments.precision, arguments.threads)
    rows = list(model_costs.PUBLISHED)
    with progress(len(models)) as step:
        for model in models:
            step(model)
            rows.append(model_costs.measure(model, image, choice, _rule(arguments)))
    threads = arguments.threads or usable_cores()
    body = {
        "table": "resources",
        "rows": [row.as_dict() for row in rows],
        "threads": threads,
        "machine": environment.machine(),
        "image": str(arguments.image),
    }
    return Report("bench", body, tuple(_resources_text(rows, threads)))


def _resources_text(rows: list[model_costs.Resources], threads: int) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for heading in (
        "files, MB",
        "parameters, M",
        "s a mask",
        "s a further mask",
        "boxes a mask",
        "to choose from",
    ):
        table.add_column(heading, justify="right")
    table.add_column("by")
    for row in rows:
        further, parameters = row.seconds_per_further_mask, row.million_parameters
        table.add_row(
            row.name,
            f"{row.megabytes:.1f}",
            "not told" if parameters is None else f"{parameters:.1f}",
            f"{row.seconds_per_mask:.3g}",
            "-" if further is None else f"{further:.3g}",
            str(row.prompts_per_mask),
            str(row.masks_to_choose_from),
            "published" if row.origin == "published" else row.ran_on,
        )
    yield table
    yield (
        f"\npublished: {model_costs.SOURCE}; the machine is not told, and 93 MB hold the "
        "optimiser's state too\n"
        f"measured: {environment.line()}; {threads} threads, warm, medians; a frame with "
        f"{model_costs.STRUCTURES} structures, embedding included"
    )


def _text(result: benchmark.Result) -> Iterator[RenderableType]:
    about = result.about
    yield (
        f"{about['model']} on {about['backend']} {about['device']} {about['precision']}, "
        f"{about['threads']} threads, batch 1, picture "
        f"{about['picture']['width']} x {about['picture']['height']}"
    )
    yield f"chosen: {about['reason']}"
    yield environment.line() + "\n"
    table = Table("warm, ms", "stage", box=None, pad_edge=False)
    for heading in ("p50", "p90", "p99", "±", "rounds", "masks", "ms per mask", "peak MiB"):
        table.add_column(heading, justify="right")
    for one in result.measurements:
        peak = result.peak_bytes[one.name]
        for stage, spread in one.stages.items():
            last = stage == "total"
            table.add_row(
                one.name if stage == next(iter(one.stages)) else "",
                stage,
                *(f"{spread.percentile(percent):.2f}" for percent in (50, 90, 99)),
                f"{spread.half_width:.1%}" + ("" if one.stable or not last else " unstable"),
                str(len(spread.rounds)),
                str(one.masks) if last and one.masks else "",
                f"{one.per_mask_ms:.2f}" if last and one.per_mask_ms is not None else "",
                f"{peak / 2**20:.0f}" if last and peak is not None else "",
            )
    yield table
    yield "peak MiB is resident memory above the loaded, warm model; ± is of the median, 95 %\n"
    cold = Table("cold, ms, 1 run", box=None, pad_edge=False)
    for name in result.cold:
        cold.add_column(name.replace("_", " "), justify="right")
    cold.add_row("fresh process", *(f"{value:.0f}" for value in result.cold.values()))
    yield cold
