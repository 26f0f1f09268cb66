"""``fastseg export``: from a checkpoint to a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from fastseg.cli.arguments import into, json_option, needs_extra
from fastseg.cli.progress import progress
from fastseg.cli.report import Report


@click.group()
def export() -> None:
    """Turn a checkpoint into a model folder that fastseg runs."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What ``fastseg export sam`` was asked for."""

    checkpoint: Path
    out: Path
    precision: str
    name: str | None
    licence: str | None


@export.command()
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="SAM ViT-B, ViT-L or ViT-H: .pth or .safetensors.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder.")
@click.option("--precision", default="fp32", show_default=True, help="What the graphs compute in.")
@click.option("--name", help="The model's name; that of the folder if left out.")
@click.option("--licence", help="The licence of the weights, for the model's card.")
@json_option
@into(Arguments)
def sam(arguments: Arguments) -> Report:
    """Export a SAM checkpoint and compare the graphs with it.

    The folder appears whole, and only if the graphs agree with the checkpoint's network.
    """
    with needs_extra("export"):
        from fastseg.export.sam import export_sam
    with progress(None) as step:
        table = export_sam(
            arguments.checkpoint,
            arguments.out,
            precision=arguments.precision,
            name=arguments.name,
            licence=arguments.licence,
            progress=step,
        )
    body = {
        "out": str(arguments.out),
        "checkpoint": str(arguments.checkpoint),
        "device": "cpu",
        "precision": arguments.precision,
        "parity": table.as_rows(),
    }
    return Report("export sam", body, (str(table), f"\nmodel in {arguments.out}"))
