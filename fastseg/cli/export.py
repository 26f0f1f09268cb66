"""``fastseg export``: write model folders, add precisions to them, and check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from fastseg.artifacts import registry
from fastseg.cli.arguments import into, json_option
from fastseg.cli.export_checkpoint import ExportGroup, checkpoint
from fastseg.cli.export_cost import Cost, costed
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report
from fastseg.echo.views import VIEWS
from fastseg.environment import needs_extra
from fastseg.images import read_image
from fastseg.inputs.text import printable
from fastseg.validation.comparison import Comparison
from fastseg.validation.parity import Table


@click.group(cls=ExportGroup)
def export() -> None:
    """Write model folders from weights, add precisions to them, and check them.

    fastseg export FILE --out FOLDER takes any checkpoint of a promptable network.
    """


export.add_command(checkpoint)

out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="fp16 adds mixed-precision graphs for GPUs, if their masks agree with fp32.",
)


@dataclass(frozen=True, kw_only=True)
class SamArguments:
    """The arguments of ``fastseg export sam``."""

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
    help="Checkpoint of SAM ViT-B, ViT-L or ViT-H: .pth or .safetensors.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
@precision_option
@click.option("--name", help="Name of the model. Default: the folder's name.")
@click.option("--licence", help="Licence of the weights, for model.json.")
@json_option
@into(SamArguments)
def sam(arguments: SamArguments) -> Report:
    """Export a SAM checkpoint to a model folder.

    The folder appears whole, and only if its graphs agree with the checkpoint's network in torch.
    ViT-B takes about 3 minutes of processor time.
    """
    with needs_extra("export"):
        from fastseg.export.sam import export_sam
    with progress(None) as step, costed() as cost:
        table = export_sam(
            arguments.checkpoint,
            arguments.out,
            precision=arguments.precision,
            name=arguments.name,
            licence=arguments.licence,
            progress=step,
        )
    asked = {"checkpoint": str(arguments.checkpoint), "precision": arguments.precision}
    return _report("export sam", arguments.out, table, asked, cost)


@dataclass(frozen=True, kw_only=True)
class UnetArguments:
    """The arguments of ``fastseg export unet``."""

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
    help="Weights of the echo U-Net: .pt, .pth, .safetensors or a Keras .h5.",
)
@click.option("--view", required=True, type=click.Choice([*VIEWS]), help="View of the network.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
@click.option(
    "--store",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the stored weights. float16 rounds them and halves the folder.",
)
@precision_option
@click.option("--name", help="Name of the model. Default: the folder's name.")
@click.option("--licence", default="", help="Licence of the weights, for model.json.")
@json_option
@into(UnetArguments)
def unet(arguments: UnetArguments) -> Report:
    """Export the U-Net of an echo view to a model folder.

    The folder appears whole, and only if its graph agrees with the network in torch.
    """
    with needs_extra("export"):
        from fastseg.export.model_folder import Card
        from fastseg.export.unet import export_unet
    card = Card(arguments.name or "", arguments.licence)
    with progress(None) as step, costed() as cost:
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
    return _report("export unet", arguments.out, table, asked, cost)


@dataclass(frozen=True, kw_only=True)
class HalfArguments:
    """The arguments of ``fastseg export half``."""

    model: str
    out: Path
    checkpoint: Path | None


@export.command()
@click.argument("model")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="SAM checkpoint that MODEL was exported from. With it the encoder gets its form for GPUs.",
)
@json_option
@into(HalfArguments)
def half(arguments: HalfArguments) -> Report:
    """Add mixed-precision graphs (fp16) to MODEL, for GPUs.

    MODEL is a name or a folder; --out may be the same folder. Measurements decide the precision of
    each block. The folder appears whole, and only if the masks agree with those of fp32.
    """
    with needs_extra("export"):
        from fastseg.export.sam import add_fp16
    with progress(None) as step:
        found = add_fp16(
            registry.find(arguments.model),
            arguments.out,
            checkpoint=arguments.checkpoint,
            progress=step,
        )
    return _added("export half", "fp16", arguments.model, arguments.out, found)


@dataclass(frozen=True, kw_only=True)
class Int8Arguments:
    """The arguments of ``fastseg export int8``."""

    model: str
    images: tuple[str, ...]
    out: Path


@export.command("int8")
@click.argument("model")
@click.argument("images", nargs=-1)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
@json_option
@into(Int8Arguments)
def quantised(arguments: Int8Arguments) -> Report:
    """Add an encoder in 8-bit integers (int8) to MODEL.

    MODEL is a name or a folder; --out may be the same folder. IMAGES calibrate the encoder: give
    typical ones of yours; without any, generated ones are used. The folder appears whole, and only
    if the masks agree with those of fp32.
    """
    with needs_extra("export"):
        from fastseg.export.int8.convert import add_int8
    with progress(None) as step:
        found = add_int8(
            registry.find(arguments.model),
            arguments.out,
            images=[read_image(image) for image in arguments.images],
            progress=step,
        )
    return _added("export int8", "int8", arguments.model, arguments.out, found)


@dataclass(frozen=True, kw_only=True)
class CheckArguments:
    """The arguments of ``fastseg export check``."""

    model: str
    checkpoint: Path
    tolerance: float | None


@export.command()
@click.argument("model")
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="The SAM checkpoint that MODEL was exported from: .pth or .safetensors.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest relative difference that passes; that of the exports, 1e-4, if left out.",
)
@json_option
@into(CheckArguments)
def check(arguments: CheckArguments) -> Report:
    """Compare MODEL with the SAM checkpoint it is from.

    MODEL is a name or a folder. Its fp32 graphs are compared with the checkpoint's network in
    torch. Nothing is written. Ends with 1 if a tensor differs by more than the tolerance.
    """
    with needs_extra("export"):
        from fastseg.export.model_folder import TOLERANCE
        from fastseg.export.sam import check_folder
    with progress(None) as step:
        step("comparing the graphs with the checkpoint")
        table = check_folder(registry.find(arguments.model), arguments.checkpoint)
    tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
    passed = table.within(tolerance)
    body = {
        "model": arguments.model,
        "checkpoint": str(arguments.checkpoint),
        "tolerance": tolerance,
        "device": "cpu",
        "passed": passed,
        "parity": table.as_rows(),
    }
    relation = "within" if passed else "not within"
    text = (str(table), f"\n{relation} a relative difference of {tolerance:g}")
    return Report("export check", body, text, DONE if passed else SOME_FAILED)


@dataclass(frozen=True, kw_only=True)
class TritonArguments:
    """The arguments of ``fastseg export triton``."""

    model: str
    out: Path
    precision: str


@export.command()
@click.argument("model")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help="Precision of the graphs that the folder holds in it; the others are fp32.",
)
@json_option
@into(TritonArguments)
def triton(arguments: TritonArguments) -> Report:
    """Write the graphs of MODEL as a model repository of the Triton Inference Server."""
    from fastseg.export.triton import write_repository

    folder = registry.find(arguments.model)
    names = write_repository(folder, arguments.out, precision=arguments.precision)
    body = {"out": str(arguments.out), "models": list(names)}
    text = f"{printable(str(arguments.out))}: {', '.join(map(printable, names))}"
    return Report("export triton", body, (text,))


def _added(verb: str, precision: str, model: str, out: Path, found: Comparison) -> Report:
    """Report the precision that was added to a folder, and the comparison that it has passed."""
    body = {
        "model": model,
        "out": str(out),
        "device": "cpu",
        "precision": precision,
        "comparison": found.as_dict(),
    }
    kept = (
        f"masks that a pipeline would keep: {found.kept[0]} in fp32, {found.kept[1]} in {precision}"
    )
    text = (
        f"{precision} against fp32, {found.masks} masks on {found.images} images",
        str(found.table),
        kept,
        f"\nmodel in {out}",
    )
    return Report(verb, body, text)


def _report(verb: str, out: Path, table: Table, asked: Mapping[str, str], cost: Cost) -> Report:
    """Report the comparison of an export, which always runs on the CPU, and its cost."""
    body = {
        "out": str(out),
        **asked,
        "device": "cpu",
        **cost.as_dict(),
        "parity": table.as_rows(),
    }
    return Report(verb, body, (str(table), f"\n{cost.as_text()}", f"model in {out}"))
