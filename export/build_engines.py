"""Build of engines from a model folder: ``python export/build_engines.py FOLDER OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fastseg import artifacts
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.building import Request, build
from fastseg.errors import FastsegError


def main(arguments: list[str] | None = None) -> int:
    """Build; the same as ``fastseg build``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the model folder")
    parser.add_argument("out", type=Path, help="the model folder to write, with the engines in it")
    parser.add_argument("--backend", choices=[*FLAVOURS], default="tensorrt-rtx")
    parser.add_argument("--precision", choices=["fp16", "fp32"], default="fp16")
    parser.add_argument("--target", nargs="*", default=[], help="sm86 sm89; portable if left out")
    options = parser.parse_args(arguments)
    request = Request(options.backend, options.precision, tuple(options.target), out=options.out)
    try:
        folder = artifacts.read(options.folder)
        built = build(folder, request, progress=print)
    except FastsegError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for one in built.engines:
        print(f"{one.graph}: {one.bytes} bytes, {one.origin}, {one.seconds:.1f} s")
    print(built.table or built.comparison.state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
