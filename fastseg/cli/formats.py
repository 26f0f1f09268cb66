"""Options for the formats that masks are written in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import click

from fastseg.cli.arguments import Command
from fastseg.imaging.dicom.segmentation import SegmentationKind
from fastseg.imaging.saving import SUFFIXES
from fastseg.results import Contents

FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)
"""Names of the formats: their suffixes without the dot."""


@dataclass(frozen=True, kw_only=True)
class FormatArguments:
    """The formats of mask files, and the type of DICOM SEG."""

    format: tuple[str, ...]
    segmentation: SegmentationKind

    def contents(self, contents: Contents, out: Path | None) -> Contents:
        """Add the formats to the contents of a result folder.

        Raises:
            click.UsageError: There is no result folder to write them into.
        """
        if self.format and out is None:
            raise click.UsageError("--format writes files into --out, which is missing")
        suffixes = tuple(f".{name}" for name in dict.fromkeys(self.format))
        return replace(contents, suffixes=suffixes, segmentation=self.segmentation)


def format_options(command: Command) -> Command:
    """Add ``--format --segmentation``."""
    formats = click.option(
        "--format",
        type=click.Choice(FORMATS),
        multiple=True,
        help="Also write the masks in this format into --out. May be given several times.",
    )
    kind = click.option(
        "--segmentation",
        type=click.Choice(get_args(SegmentationKind)),
        default="binary",
        show_default=True,
        help="Type of a DICOM SEG (--format dcm).",
    )
    return formats(kind(command))
