"""``fastseg export FILE``: any checkpoint, recognised by its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastseg.cli.arguments import into, json_option
from fastseg.cli.export_cost import costed
from fastseg.cli.progress import progress
from fastseg.cli.report import Report
from fastseg.environment import needs_extra
from fastseg.inputs.text import printable

COMMAND = "checkpoint"
"""The subcommand that stands for a file."""


class ExportGroup(click.Group):
    """``fastseg export``, whose first word may be a file instead of a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the subcommand in front of a file or of its options."""
        helps = ctx.help_option_names
        if args and args[0] not in self.commands and args[0] not in helps:
            args = [COMMAND, *args]
        return super().parse_args(ctx, args)


@dataclass(frozen=True, kw_only=True)
class CheckpointArguments:
    """The arguments of ``fastseg export FILE``."""

    file: Path
    out: Path | None
    preprocess: str | None
    key: str | None
    lora: Path | None
    decoder: Path | None
    adapter: Path | None
    precision: str
    name: str | None
    licence: str | None


@click.command(COMMAND)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Model folder to write. Without it, the report says what FILE is.",
)
@click.option(
    "--preprocess",
    help="How images were prepared in training: sam, medsam, ... Only for files that do not tell.",
)
@click.option("--key", help="Name of the weights in FILE, where it holds several sets.")
@click.option(
    "--lora",
    type=click.Path(path_type=Path),
    help="LoRA weights over FILE, or PEFT's folder: they are merged.",
)
@click.option(
    "--decoder", type=click.Path(path_type=Path), help="A fine-tuned decoder to use with FILE."
)
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    help="The tuned part of SAM-Adapter to use with FILE.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="fp16 adds mixed-precision graphs for GPUs, if their masks agree with fp32.",
)
@click.option("--name", help="Name of the model. Default: the folder's name.")
@click.option("--licence", help="Licence of the weights, for model.json.")
@json_option
@into(CheckpointArguments)
def checkpoint(arguments: CheckpointArguments) -> Report:
    """Export the checkpoint FILE, whose network is recognised by its weights.

    FILE is a .pt, .pth or .safetensors file. Nothing in it is executed. The folder appears whole,
    and only if its graphs agree with the network in torch.
    """
    with needs_extra("export"):
        from fastseg.export.checkpoints.identify import identify
        from fastseg.export.promptable import export_checkpoint
    with progress(None) as step, costed() as cost:
        step("reading the checkpoint")
        found = identify(
            arguments.file,
            preprocess=arguments.preprocess,
            key=arguments.key,
            lora=arguments.lora,
            decoder=arguments.decoder,
            adapter=arguments.adapter,
        ).as_dict()
        if arguments.out is None:
            return Report("export identify", found, _lines(found))
        table = export_checkpoint(
            arguments.file,
            arguments.out,
            preprocess=arguments.preprocess,
            key=arguments.key,
            lora=arguments.lora,
            decoder=arguments.decoder,
            adapter=arguments.adapter,
            precision=arguments.precision,
            name=arguments.name,
            licence=arguments.licence,
            progress=step,
        )
    body = {
        **found,
        "out": str(arguments.out),
        "precision": arguments.precision,
        "device": "cpu",
        **cost.as_dict(),
        "parity": table.as_rows(),
    }
    text = (*_lines(found), str(table), f"\n{cost.as_text()}", f"model in {arguments.out}")
    return Report("export checkpoint", body, text)


def _lines(found: dict[str, Any]) -> tuple[str, ...]:
    """Say in words what a checkpoint is."""
    published, unused = found["published_as"], found["unused"]
    preparation = found["preprocess"] or (
        f"not known: name it by --preprocess {' or '.join(found['preprocess_choices'])}"
    )
    if found["prompt_free"]:
        preparation += "; tuned without a prompt, so the model takes none"
    return (
        f"{printable(found['file'])}: {found['title']}, {found['weights']} weights",
        f"published as: {published or 'no file that fastseg knows'} ({found['sha256'][:16]})",
        f"licence: {found['licence'] or 'not known'}",
        f"preparation of images: {preparation}",
        f"weights that are not used: {len(unused)}" + (f", such as {unused[0]}" if unused else ""),
    )
