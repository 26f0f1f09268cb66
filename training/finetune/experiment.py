"""The experiment of Shi et al. in any size: zero-shot with points against tuned without a prompt.

``python -m training.finetune.experiment TRAIN --test TEST --out DIR``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fastseg import environment
from fastseg.errors import FastsegError, PromptError
from fastseg.evaluation.dataset import read_dataset
from fastseg.evaluation.published import read_table
from fastseg.inputs.numbers import whole_number
from fastseg.storage.atomic import atomic_file
from training.finetune.__main__ import add_options, places, say, settings, start_torch
from training.finetune.finetuning import NOTICE, FineTuning, fine_tune
from training.finetune.scoring import Score, base_folder, prompted, unprompted


def table(scores: Sequence[Score]) -> str:
    """Write scores as a Markdown table, the figures that the study prints below them."""
    lines = ["| condition | Dice | IoU | images |", "|---|---:|---:|---:|"]
    lines += [f"| {one.what} | {one.dice:.4f} | {one.iou:.4f} | {one.images} |" for one in scores]
    for row in read_table("shi_vessel_finetune"):
        name, source = row["dataset"], "published"
        lines.append(
            f"| {source}, {name}: points by hand | {row['dice_manual']} | {row['iou_manual']} | |"
        )
        lines.append(
            f"| {source}, {name}: tuned, no prompt | {row['dice_finetuned']} | "
            f"{row['iou_finetuned']} | |"
        )
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> list[Score]:
    """Score the base, fine-tune it, score the result, and keep all in ``--out``.

    Raises:
        FastsegError: As ``fine_tune``, ``prompted`` and ``unprompted`` raise them.
    """
    for number in arguments.clicks:
        whole_number(number, "clicks", PromptError, least=1)
    test, out = read_dataset(arguments.test), arguments.out
    task = FineTuning(
        out=out / "tuned",
        run=out / "tuned-run",
        resume=arguments.resume,
        settings=settings(arguments, seed=arguments.seed, prompt="none"),
        **places(arguments),
    )
    tuned = fine_tune(arguments.data, task, say)
    base = base_folder(arguments.model, out / "base", arguments.preprocess)
    scores = prompted(base, test, arguments.clicks, arguments.classes)
    what = f"tuned ({arguments.method}), no prompt"
    scores.append(unprompted(task.out, test, arguments.classes, what))
    report = {
        "notice": NOTICE,
        "machine": environment.machine(),
        "settings": task.settings.as_dict(),
        "best_epoch": tuned.best_epoch + 1,
        "scores": [asdict(score) for score in scores],
        "published": list(read_table("shi_vessel_finetune")),
    }
    with atomic_file(out / "experiment.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return scores


def main(argv: list[str] | None = None) -> int:
    """Run the experiment and print its table; return 1 if data or weights do not allow it."""
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune.experiment", description=NOTICE
    )
    parser.add_argument("data", type=Path, help="training images with masks")
    parser.add_argument("--test", required=True, type=Path, help="test images with masks")
    parser.add_argument("--out", required=True, type=Path, help="folder for models and scores")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clicks", type=int, nargs="+", default=[1, 5], help="points (1 5)")
    add_options(parser)
    arguments = parser.parse_args(argv)
    try:
        start_torch(arguments)
        print(table(run(arguments)))
    except FastsegError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
