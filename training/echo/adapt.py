"""Adaptation of a network to unlabelled frames.

``python -m training.echo.adapt FRAMES_DIR --view a2c --out MODEL_DIR``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from fastseg.errors import FastsegError
from training.echo.adaptation import NOTICE, AdaptationTask, adapt
from training.echo.heart import VIEWS
from training.echo.self_learning import Schedule

SMOKE_WIDTH = 4
SMOKE_FRAMES = 20
SMOKE = Schedule(share=1.0, epochs=(1, 1), batch=4)
"""A few tiny steps on few frames, to try everything once."""


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def share(text: str) -> float:
    """Read a number above 0 and not above 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {number:g}")
    return number


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    usual = Schedule()
    parser = argparse.ArgumentParser(prog="python -m training.echo.adapt", description=NOTICE)
    add = parser.add_argument
    add("frames", type=Path, help="folder of images of one view, in sub-folders by patient")
    add("--view", required=True, choices=VIEWS)
    add("--out", required=True, type=Path, help="the model folder to write")
    add("--run", type=Path, help="folder for weights, losses, label images; OUT-run if left out")
    add("--cm-per-pixel", type=float, help="of the files; else their longer side is 20 cm")
    add("--most", type=positive, help="use no more frames than these, evenly chosen")
    add("--teacher", help="model that gives the first labels of a4c (echo-a2c) or sax (echo-sax)")
    add("--start", help="weights file, model folder or embedded model to start from")
    add("--licence", default="", help="licence of your weights, for the model's card")
    add("--width", type=positive, default=32, help="channels of the finest level (32)")
    add("--share", type=share, default=usual.share, help="of accepted frames in round 1 (0.3)")
    add("--epochs", type=positive, nargs=2, default=usual.epochs, help="of both rounds (5 3)")
    add("--batch", type=positive, default=usual.batch, help="frames a step (32)")
    add("--rate", type=share, default=usual.rate, help="Adam's learning rate (1e-4)")
    add("--seed", type=int, default=usual.seed)
    add("--device", default="cpu", help="of torch, for example cuda")
    add("--threads", type=positive, help="of torch; its own choice if left out")
    add("--smoke", action="store_true", help="few frames, a narrow network, one pass a round")
    return parser


def task(arguments: argparse.Namespace) -> AdaptationTask:
    """Return the task of the command line."""
    schedule = Schedule(
        share=arguments.share,
        epochs=tuple(arguments.epochs),
        batch=arguments.batch,
        rate=arguments.rate,
        seed=arguments.seed,
    )
    return AdaptationTask(
        view=arguments.view,
        frames=arguments.frames,
        out=arguments.out,
        run=arguments.run or arguments.out.with_name(f"{arguments.out.name}-run"),
        cm_per_pixel=arguments.cm_per_pixel,
        most=SMOKE_FRAMES if arguments.smoke else arguments.most,
        teacher=arguments.teacher,
        start=arguments.start,
        licence=arguments.licence,
        width=SMOKE_WIDTH if arguments.smoke else arguments.width,
        device=arguments.device,
        schedule=SMOKE if arguments.smoke else schedule,
    )


def main(argv: list[str] | None = None) -> int:
    """Adapt; return 0 if a model folder was written, 1 if frames or weights do not allow it."""
    arguments = command_parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    chosen = task(arguments)
    try:
        adapt(chosen, lambda line: print(line, file=sys.stderr, flush=True))
    except FastsegError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"model in {chosen.out}; labels to inspect in {chosen.run}. {NOTICE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
