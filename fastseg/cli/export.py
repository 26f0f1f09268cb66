"""``fastseg export``: from weights to a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from fastseg.artifacts import registry
from fastseg.cli.arguments import into, json_option, needs_extra
from fastseg.cli.progress import progress
from fastseg.cli.report import Report
from fastseg.echo.findings import CHAMBERS
from fastseg.images import read_image
from fastseg.validation.comparison import Comparison
from fastseg.validation.parity import Table


@click.group()
def export() -> None:
    """Turn weights into a model folder that fastseg runs."""


@dataclass(frozen=True, kw_only=True)
class SamArguments:
    """What ``fastseg export sam`` was asked for."""

    checkpoint: Path
    out: Path
    precision: str
    name: str | None
    licence: str | None


precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="fp16 adds mixed-precision graphs for GPUs, if their masks are those of fp32.",
)


@export.command()
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="SAM ViT-B, ViT-L or ViT-H: .pth or .safetensors.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder.")
@precision_option
@click.option("--name", help="The model's name; that of the folder if left out.")
@click.option("--licence", help="The licence of the weights, for the model's card.")
@json_option
@into(SamArguments)
def sam(arguments: SamArguments) -> Report:
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
    asked = {"checkpoint": str(arguments.checkpoint), "precision": arguments.precision}
    return _report("export sam", arguments.out, table, asked)


@dataclass(frozen=True, kw_only=True)
class UnetArguments:
    """What ``fastseg export unet`` was asked for."""

    weights: Path
    view: str
    out: Path
    store: Literal["float32", "float16"]
    precision: str
    name: str | None
    licence: str


@export.command()
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path),
    help="Of the echo U-Net: .pt, .pth, .safetensors or a Keras .h5.",
)
@click.option("--view", required=True, type=click.Choice([*CHAMBERS]), help="What it looks at.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder.")
@click.option(
    "--store",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How weights lie in the file of the fp32 graph; float16 rounds them.",
)
@precision_option
@click.option("--name", help="The model's name; that of the folder if left out.")
@click.option("--licence", default="", help="The licence of the weights, for the model's card.")
@json_option
@into(UnetArguments)
def unet(arguments: UnetArguments) -> Report:
    """Export the weights of an echo view's U-Net and compare the graph with them.

    The folder appears whole, and only if the graph agrees with the network in torch.
    """
    with needs_extra("export"):
        from fastseg.export.model_folder import Card
        from fastseg.export.unet import export_unet
    card = Card(arguments.name or "", arguments.licence)
    with progress(None) as step:
        table = export_unet(
            arguments.weights,
            arguments.out,
            arguments.view,
            store=arguments.store,
            precision=arguments.precision,
            card=card,
            progress=step,
        )
    asked = {
        "weights": str(arguments.weights),
        "view": arguments.view,
        "store": arguments.store,
        "precision": arguments.precision,
    }
    return _report("export unet", arguments.out, table, asked)


@dataclass(frozen=True, kw_only=True)
class HalfArguments:
    """What ``fastseg export half`` was asked for."""

    model: str
    out: Path
    checkpoint: Path | None


@export.command()
@click.argument("model")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="That MODEL was exported from: SAM's encoder is then written anew, in the form for GPUs.",
)
@json_option
@into(HalfArguments)
def half(arguments: HalfArguments) -> Report:
    """Write MODEL anew with mixed-precision graphs (fp16) beside its own.

    MODEL is a name or a folder, which --out may name as well. What each block computes in is
    decided by measuring it. The folder appears whole, and only if the masks are those of fp32.
    """
    with needs_extra("export"):
        from fastseg.export.sam import add_half
    with progress(None) as step:
        found = add_half(
            registry.find(arguments.model),
            arguments.out,
            checkpoint=arguments.checkpoint,
            progress=step,
        )
    return _added("export half", "fp16", arguments.model, arguments.out, found)


@dataclass(frozen=True, kw_only=True)
class Int8Arguments:
    """What ``fastseg export int8`` was asked for."""

    model: str
    pictures: tuple[str, ...]
    out: Path


@export.command("int8")
@click.argument("model")
@click.argument("pictures", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder.")
@json_option
@into(Int8Arguments)
def quantised(arguments: Int8Arguments) -> Report:
    """Write MODEL anew with its encoder in 8-bit integers (int8) beside its own.

    MODEL is a name or a folder, which --out may name as well. What is rounded to is measured on
    PICTURES, some of those that the model is for, or on generated ones. The folder appears whole,
    and only if the masks are those of fp32.
    """
    with needs_extra("export"):
        from fastseg.export.int8.convert import add_int8
    with progress(None) as step:
        found = add_int8(
            registry.find(arguments.model),
            arguments.out,
            pictures=[read_image(picture) for picture in arguments.pictures],
            progress=step,
        )
    return _added("export int8", "int8", arguments.model, arguments.out, found)


def _added(verb: str, precision: str, model: str, out: Path, found: Comparison) -> Report:
    """What was added to a folder, and the comparison that it has passed."""
    body = {
        "model": model,
        "out": str(out),
        "device": "cpu",
        "precision": precision,
        "comparison": found.as_dict(),
    }
    kept = f"masks that a pipeline would keep: {found.kept[0]} and {found.kept[1]}"
    text = (
        f"{precision} against fp32, {found.masks} masks on {found.images} images",
        str(found.table),
        kept,
        f"\nmodel in {out}",
    )
    return Report(verb, body, text)


def _report(verb: str, out: Path, table: Table, asked: Mapping[str, str]) -> Report:
    """The verdict of an export, which always runs on the processor."""
    body = {"out": str(out), **asked, "device": "cpu", "parity": table.as_rows()}
    return Report(verb, body, (str(table), f"\nmodel in {out}"))
