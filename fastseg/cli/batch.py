"""Many pictures through one call: each is done or named as failed, and the results are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from fastseg import results
from fastseg.cli.arguments import OutArguments
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, document, error_body
from fastseg.errors import FastsegError, ImageError, OutputError
from fastseg.images import read_image
from fastseg.masks import Masks
from fastseg.results import Contents, ResultFolder
from fastseg.sam.model import Sam

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
"""Files of a folder that count as pictures, in any case."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done with every picture, and what is kept of it."""

    verb: str
    call: Callable[[NDArray[np.uint8]], Masks]
    settings: dict[str, Any]
    """What was asked for, as it is written beside the results."""

    contents: Contents
    max_pixels: int | None
    """Largest picture that is read, height x width."""


@dataclass(slots=True)
class _Tally:
    """What has been done so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    last: Masks | None = None

    @property
    def exit_code(self) -> int:
        """1 as soon as a picture has failed."""
        return SOME_FAILED if self.failures else DONE


class _NothingDoneError(Exception):
    """Every picture failed, so that there is nothing to keep."""


def expand(sources: Sequence[Path]) -> list[Path]:
    """Replace every folder by the pictures in it, in the order of their names.

    Raises:
        ImageError: A folder has no picture in it.
    """
    found: list[Path] = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        inside = [file for file in sorted(source.iterdir()) if file.suffix.lower() in SUFFIXES]
        if not inside:
            raise ImageError(f"{source} has no picture in it ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found


def work_through(pictures: Sequence[Path], model: Sam, task: Task, out: OutArguments) -> Report:
    """Do ``task`` with every picture, and write the results if a folder was given.

    A picture that fails is named and does not stop the others; if all fail, nothing is written.
    """
    info = model.provenance()
    tally = _Tally()
    body: dict[str, Any] = {**info, "settings": task.settings, "pictures": tally.rows}
    with suppress(_NothingDoneError), ExitStack() as stack:
        folder: ResultFolder | None = None
        if out.out is not None:
            writing = results.write(out.out, info, contents=task.contents, overwrite=out.overwrite)
            folder = stack.enter_context(writing)
        step = stack.enter_context(progress(len(pictures)))
        for picture in pictures:
            step(picture.name)
            _do(picture, task, folder, tally)
        if len(tally.failures) == len(pictures):
            raise _NothingDoneError
        if folder is not None:
            folder.report(document(task.verb, body, tally.exit_code))
    written = None if tally.last is None else out.out
    text = tuple(_text(tally, info, written))
    body = {**body, "out": None if written is None else str(written)}
    return Report(task.verb, body, text, tally.exit_code, tally.failures)


def _do(picture: Path, task: Task, folder: ResultFolder | None, tally: _Tally) -> None:
    row: dict[str, Any] = {"file": str(picture)}
    tally.rows.append(row)
    try:
        image = read_image(picture, max_pixels=task.max_pixels)
        masks = task.call(image)
        row |= {"width": image.shape[1], "height": image.shape[0], "masks": len(masks)}
        row["timings"] = masks.timings.as_dict()
        if folder is None:
            row["annotations"] = list(results.describe(masks, task.contents.mode))
        else:
            folder.add(str(picture), image, masks)
        tally.last = masks
    except OutputError:
        raise
    except FastsegError as error:
        row |= error_body(error)
        tally.failures.append(f"{picture}: {error}")


def _text(tally: _Tally, info: dict[str, str], out: Path | None) -> Iterator[RenderableType]:
    done = [row for row in tally.rows if "error" not in row]
    if not done:
        return
    table = Table("picture", "size", box=None, pad_edge=False)
    for heading in ("masks", "ms", "ms per mask"):
        table.add_column(heading, justify="right")
    for row in done:
        timings = row["timings"]
        per_mask = timings["per_mask_ms"]
        table.add_row(
            row["file"],
            f"{row['width']} x {row['height']}",
            str(row["masks"]),
            f"{timings['total']:.0f}",
            "-" if per_mask is None else f"{per_mask:.1f}",
        )
    yield table
    if len(done) == 1 and tally.last is not None:
        yield ""
        yield mask_table(tally.last)
    yield f"\n{info['model']} on {info['backend']} {info['device']} {info['precision']}"
    if out is not None:
        yield f"results in {out}"


def mask_table(masks: Masks) -> Table:
    """One row a mask: its prompt, box, area, and the two scores."""
    table = Table(box=None, pad_edge=False)
    for heading in ("mask", "prompt", "x0", "y0", "x1", "y1", "area", "score", "stability"):
        table.add_column(heading, justify="right")
    for index in range(len(masks)):
        numbers = (index + 1, masks.prompt[index], *masks.boxes[index], masks.areas[index])
        shares = (f"{masks.scores[index]:.3f}", f"{masks.stability[index]:.3f}")
        table.add_row(*(str(int(number)) for number in numbers), *shares)
    return table
