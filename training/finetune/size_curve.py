"""Curve of quality by the number of training pairs, over several seeds.

``python -m training.finetune.size_curve TRAIN --test TEST --sizes 5 10 20 --seeds 0 1 2 --out DIR``
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseg import environment
from fastseg.environment import needs_extra
from fastseg.errors import FastsegError, ImageError, OutputError
from fastseg.evaluation.dataset import read_dataset
from fastseg.storage.atomic import atomic_file
from training.finetune.__main__ import add_options, places, say, settings, start_torch
from training.finetune.finetuning import NOTICE, FineTuning, tune
from training.finetune.pairs import read_pairs, subset
from training.finetune.scoring import unprompted

DONE = "run.json"
"""Result of a run that is done, so that it is not repeated."""


@dataclass(frozen=True, slots=True)
class Run:
    """One fine-tuning on a part of the pairs, scored on the test data."""

    pairs: int
    """Training pairs, those for validation among them."""

    seed: int
    dice: float
    iou: float
    epochs: int


@dataclass(frozen=True, slots=True)
class Place:
    """The runs of one number of pairs: mean, standard deviation (n - 1), least and largest Dice."""

    pairs: int
    runs: int
    mean: float
    sd: float | None
    """None of one run."""

    least: float
    largest: float


def summarise(runs: Sequence[Run]) -> list[Place]:
    """Summarise the Dice of the runs by their number of pairs."""
    found = []
    for count in sorted({run.pairs for run in runs}):
        dices = np.array([run.dice for run in runs if run.pairs == count])
        sd = float(dices.std(ddof=1)) if len(dices) > 1 else None
        ends = float(dices.min()), float(dices.max())
        found.append(Place(count, len(dices), float(dices.mean()), sd, *ends))
    return found


def plot(places_: Sequence[Place], runs: Sequence[Run], file: Path) -> None:
    """Draw the mean with its range as a band, and every run as a dot.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    with needs_extra("plot", "drawing the curve"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axes: Any = figure.subplots()
    counts = [place.pairs for place in places_]
    low, high = ([getattr(place, end) for place in places_] for end in ("least", "largest"))
    axes.fill_between(counts, low, high, color="#56B4E9", alpha=0.3, label="least to largest")
    axes.plot(counts, [place.mean for place in places_], "o-", color="#0072B2", label="mean")
    axes.plot([run.pairs for run in runs], [run.dice for run in runs], "x", color="#000000")
    axes.set(xlabel="training pairs", ylabel="Dice on the test images", xticks=counts, ylim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(file)


def run(arguments: argparse.Namespace) -> list[Place]:
    """Fine-tune for every number of pairs and seed; finished runs of ``--out`` are not repeated.

    The pairs of a smaller number are among those of a larger one with the same seed.

    Raises:
        FastsegError: As ``read_pairs``, ``tune`` and ``unprompted`` raise them.
    """
    test, out = read_dataset(arguments.test), arguments.out
    pairs, faults = read_pairs(
        read_dataset(arguments.data),
        settings(arguments, prompt="none"),
        patient=arguments.patient,
    )
    for fault in faults:
        say(f"left out: {fault}")
    if max(arguments.sizes) > len(pairs):
        raise ImageError(
            f"{max(arguments.sizes)} pairs were asked for, and there are {len(pairs)}."
        )
    runs = []
    for count in arguments.sizes:
        for seed in arguments.seeds:
            folder = out / f"pairs{count:04}-seed{seed}"
            task = FineTuning(
                out=folder / "tuned",
                run=folder / "run",
                resume=True,
                settings=settings(arguments, seed=seed, prompt="none"),
                **places(arguments),
            )
            found = _finished(folder / DONE, task)
            if found is None:
                tuned = tune(subset(pairs, count, seed), task, say)
                score = unprompted(task.out, test, arguments.classes, "")
                found = Run(count, seed, score.dice, score.iou, len(tuned.curve))
                _finish(folder / DONE, task, found)
            say(f"{count} pairs, seed {seed}: Dice {found.dice:.4f}")
            runs.append(found)
    return _save(out, runs)


def _finished(file: Path, task: FineTuning) -> Run | None:
    """Return the result of a run that is done, or None.

    Raises:
        OutputError: It was done with other settings.
    """
    if not file.exists():
        return None
    done = json.loads(file.read_text(encoding="utf-8"))
    if done["model"] != task.model or done["settings"] != task.settings.as_dict():
        raise OutputError(f"{file} is of a run with other settings. Name another --out.")
    return Run(**done["run"])


def _finish(file: Path, task: FineTuning, found: Run) -> None:
    done = {"model": task.model, "settings": task.settings.as_dict(), "run": asdict(found)}
    with atomic_file(file) as path:
        path.write_text(json.dumps(done) + "\n", encoding="utf-8")


def _save(out: Path, runs: Sequence[Run]) -> list[Place]:
    found = summarise(runs)
    with (
        atomic_file(out / "curve.csv") as path,
        path.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(asdict(runs[0])))
        writer.writeheader()
        writer.writerows(asdict(one) for one in runs)
    report = {
        "notice": NOTICE,
        "machine": environment.machine(),
        "places": [asdict(place) for place in found],
    }
    with atomic_file(out / "curve.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    with atomic_file(out / "curve.svg") as path:
        plot(found, runs, path)
    return found


def main(argv: list[str] | None = None) -> int:
    """Draw the curve and print its table; return 1 if data or weights do not allow it."""
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune.size_curve", description=NOTICE
    )
    parser.add_argument("data", type=Path, help="training images with masks")
    parser.add_argument("--test", required=True, type=Path, help="test images with masks")
    parser.add_argument("--out", required=True, type=Path, help="folder for models and scores")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20], help="pairs (5 10 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (0 1 2)")
    add_options(parser)
    arguments = parser.parse_args(argv)
    try:
        start_torch(arguments)
        found = run(arguments)
    except FastsegError as error:
        print(error, file=sys.stderr)
        return 1
    print("| pairs | runs | Dice, mean | sd | least | largest |\n|---:|---:|---:|---:|---:|---:|")
    for one in found:
        spread = "-" if one.sd is None else f"{one.sd:.4f}"
        print(
            f"| {one.pairs} | {one.runs} | {one.mean:.4f} | {spread} | {one.least:.4f} | "
            f"{one.largest:.4f} |"
        )
    print(f"curve in {arguments.out}/curve.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
