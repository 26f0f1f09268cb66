"""Train sam-nano: ``python -m training.sam_nano --out training/runs/one``.

A run can be stopped at any time and continues when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from training.sam_nano.calibration import Calibration
from training.sam_nano.plan import CONTINUED, FULL, SIXTH, SMOKE, SMOKE_STORED, StagePlan
from training.sam_nano.stored_pool import StoredPool
from training.sam_nano.trainer import Start, train


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to try the loop")
    parser.add_argument(
        "--start", type=Path, help="published weights of the second edition or later to go on from"
    )
    parser.add_argument(
        "--calibrated",
        type=float,
        nargs=2,
        default=(2.181015, 0.058045),
        metavar=("STEEPNESS", "SHIFT"),
        help="the calibration of those weights, which is undone",
    )
    parser.add_argument(
        "--pool", type=Path, help="pool of scenes on disk: the plan of the sixth edition"
    )
    parser.add_argument("--device", default="cpu", help='where the network learns: "cpu", "cuda"')
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    start = None
    if arguments.start is not None:
        start = Start(arguments.start, Calibration(*arguments.calibrated))
    stored = None if arguments.pool is None else StoredPool(arguments.pool)
    train(
        _choose_plan(arguments),
        arguments.out,
        start=start,
        workers=arguments.workers,
        device=torch.device(arguments.device),
        stored=stored,
    )
    return 0


def _choose_plan(arguments: argparse.Namespace) -> StagePlan:
    if arguments.smoke:
        return SMOKE if arguments.pool is None else SMOKE_STORED
    if arguments.pool is not None:
        return SIXTH
    return FULL if arguments.start is None else CONTINUED


if __name__ == "__main__":
    raise SystemExit(main())
