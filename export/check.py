"""Check of a model folder against its checkpoint: ``python export/check.py CHECKPOINT FOLDER``."""

from __future__ import annotations

import argparse
import sys

from fastseg.errors import FastsegError
from fastseg.export.model_folder import TOLERANCE
from fastseg.export.sam import check_folder


def main(arguments: list[str] | None = None) -> int:
    """Compare; the same as ``fastseg export check``. Return 0 if graphs and checkpoint agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="SAM ViT-B, ViT-L or ViT-H: .pth or .safetensors")
    parser.add_argument("folder", help="the model folder that was exported from it")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="relative difference")
    options = parser.parse_args(arguments)
    try:
        table = check_folder(options.folder, options.checkpoint)
    except FastsegError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0 if table.within(options.tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
