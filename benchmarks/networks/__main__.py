"""``python -m benchmarks.networks`` prints a table of the exported networks.

``--networks`` chooses them by name, ``--runtimes`` what runs them. Exports with random weights are
kept in ``--exports`` and reused. ``--size`` and ``--repeats`` say on what image and how often calls
are timed. ``--plain`` compares the encoder with that of the reference as torch exports it, and the
modules of a network with prompts as channels with a plain form of it; ``--ratio`` compares
everything mode of MobileSAM with its torch reference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.networks import exports, plain, timing
from fastseg import artifacts, environment
from fastseg.export.checkpoints.kinds import Kind

HEADINGS = (
    "network",
    "parameters",
    "MB",
    "GMAC",
    "largest difference",
    "runtimes",
    "embedding, ms",
    "point, ms",
    "everything, s",
)


def main() -> int:
    """Print the table; return 0."""
    arguments = _arguments()
    names = arguments.networks or list(exports.BY_NAME)
    width, height = arguments.size
    print(f"{environment.line()}; {environment.usable_cores()} cores")
    print(
        f"image of {width} x {height} pixels; medians of {arguments.repeats} warm calls; "
        f"everything mode: {arguments.points_per_side**2} points, every mask drawn\n"
    )
    print("| " + " | ".join(HEADINGS) + " |")
    print("|---|" + "---:|" * 4 + "---|" + "---:|" * 3)
    for name in names:
        kind = exports.BY_NAME[name]
        folder = exports.folder_of(kind, arguments.exports, _progress(name))
        for row in _rows(kind, folder, arguments):
            print("| " + " | ".join(row) + " |", flush=True)
        if arguments.plain:
            print(f"\n{name}, {_plain(kind, folder, arguments)}", flush=True)
    if arguments.ratio:
        kind = exports.BY_NAME["mobile-sam"]
        folder = exports.folder_of(kind, arguments.exports, _progress(kind.name))
        print("\n" + plain.everything_ratio(folder, kind, arguments.ratio))
    return 0


def _plain(kind: Kind, folder: Path, arguments: argparse.Namespace) -> str:
    """Compare a network with its plain form, in words."""
    difference = plain.difference(kind)
    if difference is not None:
        return f"modules and plain form: logits {difference:.1e}"
    path = plain.plain_onnx(kind, arguments.exports)
    if path is None:
        return "encoder: no reference package"
    if arguments.no_times:
        return f"encoder: written to {path}"
    return f"encoder: {plain.compared_ms(kind, folder, path)}"


def _rows(kind: Kind, folder: Path, arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Yield a row a runtime; without times where only the export was asked for."""
    manifest = artifacts.read(folder).manifest
    gmac = exports.encoder_gmac(kind)
    facts = [
        kind.title,
        f"{exports.parameters(kind) / 1e6:.1f} M",
        f"{exports.megabytes(folder):.0f}",
        "" if gmac is None else f"{gmac:.1f}",
        f"{exports.worst_difference(manifest):.1e}",
    ]
    if arguments.no_times:
        yield [*facts, "", "", "", ""]
        return
    for runtime in arguments.runtimes:
        found = timing.times(
            folder,
            runtime,
            arguments.points_per_side,
            size=tuple(arguments.size),
            repeats=arguments.repeats,
        )
        yield [
            *facts,
            found.runs,
            _number(found.embedding_ms, 0),
            _number(found.point_ms, 1),
            _number(found.everything_s, 2),
        ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _progress(name: str):  # type: ignore[no-untyped-def]
    return lambda words: print(f"{name}: {words}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(exports.BY_NAME), metavar="NAME")
    parser.add_argument(
        "--runtimes", nargs="+", default=["auto"], choices=["auto", "onnxruntime", "openvino"]
    )
    parser.add_argument("--exports", type=Path, default=Path("build/networks"))
    parser.add_argument("--points-per-side", type=int, default=16, help="0 for no everything mode")
    parser.add_argument(
        "--size", nargs=2, type=int, default=list(timing.SIZE), metavar=("WIDTH", "HEIGHT")
    )
    parser.add_argument("--repeats", type=int, default=timing.REPEATS, help="calls, 1 at least")
    parser.add_argument("--no-times", action="store_true", help="export and count alone")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--ratio", type=int, metavar="SIDE", help="points a side, 32 for 1024")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
