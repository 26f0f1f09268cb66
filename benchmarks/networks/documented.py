"""``python -m benchmarks.networks.documented`` runs the two commands of each network in the docs.

Each network begins in an empty folder with a checkpoint file of its true shape, under the name that
``docs/models.md`` gives it. Its weights are random. The installed program ``fastseg`` then runs the
words of the page, each command in a process of its own. Where only the hash of a published file
tells the preparation, ``--preprocess`` is added. ``--networks`` chooses networks by name. Ends with
1 if a command fails or leaves no mask.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from benchmarks.networks import exports
from fastseg import environment
from fastseg.export.checkpoints.identify import identify
from fastseg.export.checkpoints.kinds import Kind
from tests.helpers import page

HEADINGS = ("network", "file, MB", "export, s", "segment, s", "masks")

PHOTOGRAPH = page.ROOT / "fastseg" / "demo_data" / "coins.png"


def main() -> int:
    """Print a row a network; return 0, or 1 if a command of any failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.networks.documented", description=__doc__
    )
    names = [name for name in exports.BY_NAME if name != "sam-nano"]
    parser.add_argument("--networks", nargs="+", default=names, choices=names, metavar="NAME")
    arguments = parser.parse_args()
    print(f"{environment.line()}; {environment.usable_cores()} cores\n")
    print("| " + " | ".join(HEADINGS) + " |")
    print("|---|" + "---:|" * (len(HEADINGS) - 1))
    rows = map(row, (exports.BY_NAME[name] for name in arguments.networks))
    failed = False
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)
        failed |= len(cells) < len(HEADINGS)
    return int(failed)


def row(kind: Kind) -> list[str]:
    """Return a network's cells: those of a full row, or its title and what went wrong."""
    try:
        return [kind.title, *run(kind)]
    except RuntimeError as problem:
        return [kind.title, str(problem)]


def run(kind: Kind) -> list[str]:
    """Run the two commands of a network in a folder of their own and describe what they took.

    Raises:
        RuntimeError: A command failed, or its results hold no mask.
    """
    export, segment, *_ = page.commands_by_title()[kind.title]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint, image = folder / export[2], folder / segment[2]
        torch.save(exports.content(kind), checkpoint)
        with Image.open(PHOTOGRAPH) as photograph:
            photograph.convert("RGB").save(image)
        if identify(checkpoint).as_dict()["preprocess"] is None:
            export = [*export, "--preprocess", kind.preparations[0]]
        times = [seconds(command, folder) for command in (export, segment)]
        masks = json.loads(
            (folder / segment[segment.index("--out") + 1] / "masks.json").read_text()
        )
        size = checkpoint.stat().st_size / 1e6
    if not masks["annotations"]:
        raise RuntimeError("no mask was written")
    return [f"{size:.0f}", *(f"{each:.1f}" for each in times), str(len(masks["annotations"]))]


def seconds(command: Sequence[str], folder: Path) -> float:
    """Run a command in a folder to its end and return the seconds that it took.

    Raises:
        RuntimeError: It ended with an error; the message holds the last lines that it printed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join((done.stdout + done.stderr).splitlines()[-5:])
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {last}")
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
