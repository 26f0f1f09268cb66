"""``fastseg demo``: a real photograph, an embedded model, no download and no GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from fastseg import demo as demonstration
from fastseg.cli.arguments import ModelArguments, into, json_option, model_options
from fastseg.cli.progress import progress
from fastseg.cli.report import Report, Table


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Options of ``fastseg demo``."""

    out: Path


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("fastseg-demo"),
    show_default=True,
    help="Folder for the results. An earlier demo folder of that name is replaced.",
)
@model_options
@json_option
@into(Arguments)
def demo(arguments: Arguments) -> Report:
    """Segment a photograph of coins, and write an overlay, the masks and the timings."""
    with progress(None) as step:
        step("loading")
        with arguments.load_sam() as model:
            step("segmenting")
            shown = demonstration.write(model, arguments.out)
    body = {**shown.as_dict(), "out": str(arguments.out)}
    return Report("demo", body, (_table(shown), _footer(shown, arguments.out)))


def _table(shown: demonstration.Demo) -> Table:
    table = Table("", box=None, pad_edge=False)
    for heading in ("prompts", "masks", "encode ms", "decode ms", "masks ms", "ms per mask"):
        table.add_column(heading, justify="right")
    for step in shown.as_dict()["steps"]:
        timings = step["timings"]
        per_mask = timings["per_mask_ms"]
        table.add_row(
            step["name"],
            str(step["prompts"]),
            str(step["masks"]),
            f"{timings['preprocess'] + timings['encode']:.0f}",
            f"{timings['decode']:.0f}",
            f"{timings['postprocess']:.0f}",
            "-" if per_mask is None else f"{per_mask:.1f}",
        )
    return table


def _footer(shown: demonstration.Demo, out: Path) -> str:
    about = shown.about
    files = ", ".join(str(out / name) for name in ("overlay.png", "masks.json", "timings.json"))
    return (
        f"\n{about['model']} on {about['backend']} {about['device']} {about['precision']}, "
        "first calls after loading\nms per mask: all ms divided by the masks; for boxes, by the "
        f"three predicted for each box\n{files}"
    )
