"""Train the echo networks: ``python -m training.echo --view all --out training/runs/echo``.

A run can be stopped at any time and continues when the same command is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from training.echo.heart import VIEWS
from training.echo.network import read_joint
from training.echo.plan import plan
from training.echo.trainer import train
from training.echo.widening import widen


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, train, name the weight files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--view", choices=["all", *VIEWS], default="all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--width", type=int, default=16, help="channels of the finest level")
    parser.add_argument(
        "--widen", type=Path, help="echo-joint.safetensors of half the width to start from"
    )
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to try the loop")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    width = 4 if arguments.smoke else arguments.width
    start = None
    if arguments.widen:
        narrow = read_joint(arguments.widen)
        start, width = widen(narrow, seed=0), 2 * narrow.width
    views = [view for view in VIEWS if arguments.view in ("all", view)]
    todo = plan(width, smoke=arguments.smoke, widened=start is not None)
    out = arguments.out / f"width-{width}"
    for view, file in train(todo, views, out, start=start).items():
        print(f"{view}: {file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
