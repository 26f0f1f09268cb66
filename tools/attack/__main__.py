"""The attack as one command, ``python -m tools.attack``: campaigns, a table, and an exit code."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from fastseg import environment
from fastseg.ops.sam_decoder import kernel_tables
from tools.attack import planted, runner
from tools.attack.arrays import Arrays, Embeddings
from tools.attack.campaign import Campaign, Outcome
from tools.attack.concurrency import Concurrency
from tools.attack.dicom import DicomBytes, DicomElements
from tools.attack.full_disk import FileSizes, SmallDisk
from tools.attack.images import Films, Images
from tools.attack.kernels import DecoderKernel, Kernels, KernelThreads, SanitizedRunLengths
from tools.attack.kills import Kills
from tools.attack.leaks import Leaks
from tools.attack.limits import MemoryLimits, ProcessLimits
from tools.attack.model_folders import AlteredFiles, Graphs, ManifestFields
from tools.attack.run_lengths import RunLengths
from tools.attack.weights import Checkpoints, NativeWeights, Pickles, Safetensors

MINUTES, SHORT_MINUTES = 20, 3

CAMPAIGNS: tuple[Campaign, ...] = (
    *(ManifestFields(), AlteredFiles(), Graphs()),
    *(Safetensors(), NativeWeights(), Checkpoints(), Pickles()),
    *(Images(), Films(), Arrays(), Embeddings(), DicomBytes(), DicomElements()),
    *(RunLengths(), Kills(), SmallDisk(), FileSizes(), MemoryLimits(), ProcessLimits()),
    *(Concurrency(), Leaks()),
    # The last, because they compile the kernels first.
    *(SanitizedRunLengths(), Kernels(), DecoderKernel(), KernelThreads()),
)

_VERSIONS = ("pydicom", "h5py")


def main(argv: Sequence[str] | None = None, campaigns: Sequence[Campaign] = CAMPAIGNS) -> int:
    """Run the campaigns that the words ask for.

    Returns:
        0 if every case was survived, 1 if not.
    """
    given = _arguments(campaigns).parse_args(argv)
    if given.list:
        print("\n".join(one.name for one in campaigns))
        return 0
    out = Path(given.out or tempfile.mkdtemp(prefix="fastseg-attack-"))
    shutil.rmtree(out / "failures", ignore_errors=True)
    minutes = SHORT_MINUTES if given.short else MINUTES
    conditions = runner.Conditions(
        seed=secrets.randbelow(2**32) if given.seed is None else given.seed,
        out=out,
        short=given.short,
        deadline=time.monotonic() + 60 * minutes,
        case=given.case,
    )
    print(f"seed {conditions.seed}; {_machine()}", flush=True)
    outcomes = [] if given.only else [_planted(conditions)]
    for campaign in campaigns:
        if given.only and campaign.name not in given.only:
            continue
        outcomes.append(runner.run(campaign, conditions))
        print(_line(outcomes[-1]), flush=True)
    shutil.rmtree(out / "work", ignore_errors=True)
    print(f"\n{runner.table(outcomes)}")
    if not any(outcome.failures for outcome in outcomes):
        if not given.out:
            shutil.rmtree(out)
        return 0
    if not given.out:
        shutil.rmtree(out / "builds", ignore_errors=True)
    print(f"\nThe cases that failed are in {out / 'failures'}.")
    return 1


def _planted(conditions: runner.Conditions) -> Outcome:
    """Check that the runner reports failures."""
    with tempfile.TemporaryDirectory() as folder:
        short = runner.Conditions(conditions.seed, Path(folder), deadline=conditions.deadline)
        outcome = planted.as_found(runner.run(planted.Planted(), short))
    print(_line(outcome), flush=True)
    return outcome


def _line(outcome: Outcome) -> str:
    """Return what a campaign found, as one line and its first failures."""
    if outcome.skipped:
        return f"{outcome.name}: not run, {outcome.note}"
    note = f", {outcome.note}" if outcome.note else ""
    told = (
        f"{outcome.name}: {outcome.counts.tried:,} tried, {len(outcome.failures)} failures, "
        f"{outcome.seconds:.0f} s{note}"
    )
    return "\n".join(filter(None, (told, runner.failures(outcome))))


def _machine() -> str:
    """Return processor, versions and the kernels' instruction sets in one line."""
    more = ", ".join(f"{name} {_version(name)}" for name in _VERSIONS)
    return f"{environment.line()}; {more}; kernels: {', '.join(kernel_tables())}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _arguments(campaigns: Sequence[Campaign]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/attack.sh", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the form of CI, within 3 minutes")
    parser.add_argument("--seed", type=int, help="drawn and printed if left out")
    names = [one.name for one in campaigns]
    parser.add_argument("--only", nargs="+", metavar="CAMPAIGN", choices=names)
    parser.add_argument("--case", type=int, help="the only case to try, of --only")
    parser.add_argument(
        "--out", help="folder for the cases that fail and for builds of the kernels"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the campaigns")
    return parser


def _end(*_: object) -> None:
    """End by an exception, so that no worker outlives the command."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
