"""Fine-tuning of a SAM-shaped network: python -m training.finetune DATA --model M --out DIR."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from fastseg.errors import FastsegError, PromptError
from fastseg.inputs.numbers import whole_number
from training.finetune.finetuning import NOTICE, FineTuning, fine_tune
from training.finetune.settings import METHODS, PROMPTS, Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command of this package has."""
    usual = Settings()
    add = parser.add_argument
    add("--model", default="sam-nano", help="checkpoint, embedded model or model folder (sam-nano)")
    add("--preprocess", help="preparation of the checkpoint's images, as for fastseg export")
    add("--method", choices=METHODS, default=usual.method)
    add("--prompt", choices=PROMPTS, default=usual.prompt, help="prompt to draw masks for (none)")
    add("--class", dest="classes", action="append", default=[], help="class to learn; all if none")
    add("--patient", help="regular expression that finds the patient in an image's name")
    add("--epochs", type=int, default=usual.epochs, help=f"most epochs ({usual.epochs})")
    add("--rate", type=float, default=usual.rate, help=f"AdamW's learning rate ({usual.rate:g})")
    add(
        "--patience",
        type=int,
        default=usual.patience,
        help="epochs without progress until it stops",
    )
    add("--validation", type=float, default=usual.validation, help="share of pairs kept back (0.2)")
    add("--rank", type=int, default=usual.rank, help="rank of the pairs of lora (4)")
    add("--device", default="cpu", help="of torch, for example cuda")
    add("--threads", type=int, help="of torch; its own choice if left out")
    add("--licence", help="licence of your weights, for the model's card; that of the base if none")


def settings(arguments: argparse.Namespace, **changed: Any) -> Settings:
    """Return the settings of a command line, with some changed.

    Raises:
        PromptError: A setting is out of its range.
    """
    given = {
        name: getattr(arguments, name)
        for name in ("method", "prompt", "epochs", "rate", "patience", "validation", "rank")
    }
    return Settings(**{**given, "classes": tuple(arguments.classes), **changed})


def places(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the base and the device of a command line, as ``FineTuning`` takes them."""
    names = ("model", "preprocess", "patient", "device", "licence")
    return {name: getattr(arguments, name) for name in names}


def start_torch(arguments: argparse.Namespace) -> None:
    """Set the number of torch's threads.

    Raises:
        PromptError: It is less than 1.
    """
    if arguments.threads is not None:
        whole_number(arguments.threads, "threads", PromptError, least=1)
        torch.set_num_threads(arguments.threads)


def say(line: str) -> None:
    """Write a line of progress."""
    print(line, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Fine-tune; return 0 if a model folder was written, 1 if data or weights do not allow it."""
    parser = argparse.ArgumentParser(prog="python -m training.finetune", description=NOTICE)
    parser.add_argument("data", type=Path, help="images with masks, as for fastseg evaluate")
    parser.add_argument("--out", required=True, type=Path, help="the model folder to write")
    parser.add_argument("--run", type=Path, help="folder for weights and losses; OUT-run if none")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--seed", type=int, default=0)
    add_options(parser)
    arguments = parser.parse_args(argv)
    run = arguments.run or arguments.out.with_name(f"{arguments.out.name}-run")
    try:
        start_torch(arguments)
        task = FineTuning(
            out=arguments.out,
            run=run,
            resume=arguments.resume,
            settings=settings(arguments, seed=arguments.seed),
            **places(arguments),
        )
        tuned = fine_tune(arguments.data, task, say)
    except FastsegError as error:
        print(error, file=sys.stderr)
        return 1
    best = tuned.curve[tuned.best_epoch]
    print(
        f"model in {arguments.out}, epoch {tuned.best_epoch + 1} of {len(tuned.curve)}, Dice "
        f"{best.dice:.4f} on pairs kept back; weights and losses in {run}. {NOTICE}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
