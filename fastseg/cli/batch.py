"""Batches of images: each is segmented or reported as failed, and the results are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from fastseg import results
from fastseg.cli.arguments import DEFAULT_MODEL, Command, OutArguments, out_options
from fastseg.cli.batch_journal import BatchJournal, open_batch_journal
from fastseg.cli.progress import progress
from fastseg.cli.report import (
    DONE,
    SOME_FAILED,
    Report,
    Table,
    document,
    error_body,
    failure_line,
    print_error,
)
from fastseg.cohort.tasks.base import describe_model
from fastseg.errors import FastsegError, OutputError
from fastseg.guided.promptable import PromptModel
from fastseg.imaging import MedicalImage
from fastseg.inputs.text import printable
from fastseg.masks import Masks
from fastseg.results import Contents, ResultFolder

LOW_SCORE = 0.5
"""Score below which a mask of the embedded model is probably wrong."""


@dataclass(frozen=True, kw_only=True)
class BatchArguments(OutArguments):
    """The result folder, and whether an interrupted call is gone on with."""

    resume: bool

    def check_out(self, inputs: Iterable[Path]) -> None:
        """Refuse ``--resume`` without a folder, and a folder as ``OutArguments`` does.

        Raises:
            click.UsageError: There is no result folder to go on with.
            OutputError: As there.
        """
        if self.resume and self.out is None:
            raise click.UsageError(
                "--resume goes on with the call that --out names, and it is missing"
            )
        super().check_out(inputs)


def batch_options(command: Command) -> Command:
    """Add ``--resume`` and the options of ``out_options``."""
    text = "Go on with a call of several images that was interrupted."
    return click.option("--resume", is_flag=True, help=text)(out_options(command))


@dataclass(frozen=True, slots=True)
class Task:
    """The work on every image, and the form of its results."""

    verb: str
    call: Callable[[NDArray[np.uint8]], Masks]
    settings: dict[str, Any]
    """Prompts and options of the call, as they are written beside the results."""

    contents: Contents
    per_mask: str
    """Masks that ``ms per mask`` is averaged over, in words."""

    read: Callable[[Path], tuple[NDArray[np.uint8], MedicalImage | None]]
    """Reads an image: uint8 (H, W, 3), and its geometry if it has one."""


@dataclass(slots=True)
class _Outcome:
    """Results and failures so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    last: Masks | None = None
    without_masks: int = 0
    """Images in which nothing was found."""

    unsure: int = 0
    """Images with masks, none of which has a score of ``LOW_SCORE``."""

    @property
    def exit_code(self) -> int:
        """Exit code: 1 once an image has failed."""
        return SOME_FAILED if self.failures else DONE


class _AllFailedError(Exception):
    """Every image failed, so no result folder is written."""


def run_batch(
    images: Sequence[Path],
    model: PromptModel,
    task: Task,
    out: BatchArguments,
    hints: Sequence[str] = (),
) -> Report:
    """Run ``task`` on every image, and write the results if a folder was given.

    An image that fails is reported and does not stop the others; if all fail, nothing is written.
    Of several images for a folder the finished ones are journaled, so that an interruption loses
    none. ``hints`` are further lines for stderr.
    """
    info = model.provenance()
    outcome = _Outcome()
    body: dict[str, Any] = {**info, "settings": task.settings, "pictures": outcome.rows}
    with suppress(_AllFailedError), ExitStack() as stack:
        journal = stack.enter_context(_journaled(images, model, task, out))
        folder: ResultFolder | None = None
        if out.out is not None:
            writing = results.write(out.out, info, contents=task.contents, overwrite=out.overwrite)
            folder = stack.enter_context(writing)
        step = stack.enter_context(progress(len(images)))
        for file in images:
            step(file.name)
            _segment_file(file, task, folder, journal, outcome)
        if len(outcome.failures) == len(images):
            raise _AllFailedError
        if folder is not None:
            folder.report(document(task.verb, body, outcome.exit_code))
    written = None if outcome.last is None else out.out
    text = tuple(_text(outcome, task, info, written))
    body = {**body, "out": None if written is None else str(written)}
    hints = (*hints, *_hints(outcome, info["model"]))
    return Report(task.verb, body, text, outcome.exit_code, outcome.failures, hints)


@contextmanager
def _journaled(
    images: Sequence[Path], model: PromptModel, task: Task, out: BatchArguments
) -> Iterator[BatchJournal | None]:
    """Open the journal of several images for a folder, and say how far an interrupted call came."""
    if out.out is None or len(images) < 2:
        yield None
        return
    about = {"verb": task.verb, "settings": task.settings, **describe_model(model)}
    fractional = task.contents.segmentation == "fractional"
    with open_batch_journal(out.out, about, resume=out.resume, keep_logits=fractional) as journal:
        try:
            yield journal
        except _AllFailedError:
            journal.is_over = True
            raise
        except (KeyboardInterrupt, OutputError):
            done = journal.finished
            print_error(f"{done} of {len(images)} images are done; --resume goes on with the rest")
            raise


def _segment_file(
    file: Path,
    task: Task,
    folder: ResultFolder | None,
    journal: BatchJournal | None,
    outcome: _Outcome,
) -> None:
    row: dict[str, Any] = {"file": str(file)}
    outcome.rows.append(row)
    try:
        image, medical = task.read(file)
        kept = None if journal is None else journal.get(file)
        masks = task.call(image) if kept is None else kept
        if journal is not None and kept is None:
            journal.add(file, masks)
        row |= {"width": image.shape[1], "height": image.shape[0], "masks": len(masks)}
        row["timings"] = masks.timings.as_dict()
        if masks.search is not None:
            row |= {"search": masks.search, "points_decoded": masks.points_decoded}
        if folder is None:
            pixel = None if medical is None else medical.pixel_mm2
            described = results.describe(masks, task.contents.mode, pixel_mm2=pixel)
            row["annotations"] = list(described)
        else:
            folder.add(str(file), image, masks, medical=medical)
        outcome.last = masks
        outcome.without_masks += not len(masks)
        outcome.unsure += bool(len(masks)) and float(masks.scores.max()) < LOW_SCORE
    except OutputError:
        raise
    except FastsegError as error:
        row |= error_body(error)
        outcome.failures.append(failure_line(str(file), error))


def _hints(outcome: _Outcome, model: str) -> Iterator[str]:
    """Yield a hint if nothing was found, or if the embedded model is not sure of what it found."""
    images = sum("error" not in row for row in outcome.rows)
    found = []
    if outcome.without_masks:
        found.append(f"nothing was found in {outcome.without_masks} of {images} images")
    if outcome.unsure and model == DEFAULT_MODEL:
        found.append(f"no mask has a score of {LOW_SCORE} in {outcome.unsure} of {images} images")
    if not found:
        return
    if model == DEFAULT_MODEL:
        remedy = (
            f"{model} knows compact objects on a plain ground (coins, cells), not ordinary "
            "photographs. Export a real checkpoint: fastseg export sam --checkpoint "
            "sam_vit_b_01ec64.pth --out vit-b, then --model vit-b; see docs/models.md"
        )
    else:
        remedy = "Lower --pred-iou-thresh or --stability-score-thresh, or raise --points-per-side"
    yield f"{' and '.join(found)}. {remedy}"


def _text(
    outcome: _Outcome, task: Task, info: dict[str, str], out: Path | None
) -> Iterator[RenderableType]:
    done = [row for row in outcome.rows if "error" not in row]
    if not done:
        return
    table = Table("image", "size", box=None, pad_edge=False)
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
    yield f"ms per mask: ms divided by {task.per_mask}"
    if len(done) == 1 and outcome.last is not None:
        yield ""
        yield mask_table(outcome.last)
    yield f"\n{info['model']} on {info['backend']} {info['device']} {info['precision']}"
    if out is not None:
        yield f"results in {printable(str(out))}"


def mask_table(masks: Masks) -> Table:
    """Build a table with a row for each mask: its prompt, box, area, the two scores, its name."""
    table = Table(box=None, pad_edge=False)
    for heading in ("mask", "prompt", "x0", "y0", "x1", "y1", "area", "score", "stability"):
        table.add_column(heading, justify="right")
    if masks.names is not None:
        table.add_column("name")
    for index in range(len(masks)):
        numbers = (index + 1, masks.prompt[index], *masks.boxes[index], masks.areas[index])
        shares = (f"{masks.scores[index]:.3f}", f"{masks.stability[index]:.3f}")
        names = () if masks.names is None else (masks.names[index],)
        table.add_row(*(str(int(number)) for number in numbers), *shares, *names)
    return table
