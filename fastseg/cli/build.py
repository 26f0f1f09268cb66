"""``fastseg build``: engines of TensorRT or TensorRT-RTX for a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastseg import artifacts, building, environment
from fastseg.artifacts import registry
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.building import Built, Request
from fastseg.cli.arguments import into, json_option
from fastseg.cli.progress import progress
from fastseg.cli.report import Report, Table


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments of ``fastseg build``."""

    model: str
    backend: str
    precision: str
    target: str
    device: str
    out: Path | None
    overwrite: bool

    @property
    def request(self) -> Request:
        """The same as a request to the library."""
        targets = tuple(name.strip().lower() for name in self.target.split(",") if name.strip())
        return Request(self.backend, self.precision, targets, self.device, self.out, self.overwrite)


@click.command()
@click.argument("model")
@click.option(
    "--backend", required=True, type=click.Choice([*FLAVOURS]), help="The runtime of the engines."
)
@click.option(
    "--precision",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Precision of the engines; MODEL must hold graphs in it.",
)
@click.option(
    "--target",
    default="",
    help="For tensorrt-rtx: GPU architectures to build for, as in sm86,sm89. Default: portable "
    "engines.",
)
@click.option("--device", default="auto", help="GPU to build and compare on: auto, cuda or cuda:1.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Model folder to write, with the engines in it. Default: only the user's cache.",
)
@click.option("--overwrite", is_flag=True, help="Replace the model folder --out if it exists.")
@json_option
@into(Arguments)
def build(arguments: Arguments) -> Report:
    """Build engines for every graph of MODEL, and compare them with FP32 if there is a GPU.

    Engines are kept only if all of them are built and the comparison passes.
    """
    folder = artifacts.read(registry.find(arguments.model))
    with progress(None) as step:
        built = building.build(folder, arguments.request, progress=step)
    body = {
        "model": folder.manifest.name,
        "backend": arguments.backend,
        "precision": arguments.precision,
        "runtime_version": built.runtime_version,
        "targets": built.targets,
        "gpu": None if built.gpu is None else str(built.gpu),
        "device": "none" if built.gpu is None else arguments.device,
        "engines": [
            {"graph": one.graph, "bytes": one.bytes, "seconds": one.seconds, "origin": one.origin}
            for one in built.engines
        ],
        "comparison": {"state": built.comparison.state, "numbers": built.comparison.numbers},
        "out": None if arguments.out is None else str(arguments.out),
    }
    return Report("build", body, _text(folder.manifest.name, arguments, built))


def _text(name: str, arguments: Arguments, built: Built) -> tuple[Any, ...]:
    targets = ", ".join(built.targets) or str(built.gpu)
    table = Table("graph", "MB", "seconds", "from", box=None, pad_edge=False, header_style="bold")
    for column in (1, 2):
        table.columns[column].justify = "right"
    for one in built.engines:
        table.add_row(one.graph, f"{one.bytes / 1e6:.1f}", f"{one.seconds:.1f}", one.origin)
    where = arguments.out or built.cache or "no folder, because this user has no home folder"
    comparison = built.table or f"{built.comparison.state}."
    if not built.comparison.passed and arguments.precision != "fp32":
        comparison += (
            f" Engines in {arguments.precision} run only on machines where they were compared: "
            "repeat this command on the machine that will run them."
        )
    runtime = f"{arguments.backend} {built.runtime_version}"
    return (
        f"{name}: {runtime}, {arguments.precision}, for {targets}",
        environment.line() + "\n",
        table,
        f"\n{comparison}",
        f"\nengines in {where}",
    )
