"""Export of a SAM checkpoint as a folder: ``python export/sam_to_onnx.py sam_vit_b.pth OUT``."""

from __future__ import annotations

import argparse
import sys

from fastseg.errors import FastsegError
from fastseg.export.sam import export_sam


def main(arguments: list[str] | None = None) -> int:
    """Export; the same as ``fastseg export sam``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="SAM ViT-B, ViT-L or ViT-H: .pth or .safetensors")
    parser.add_argument("out", help="the model folder to write")
    parser.add_argument("--name", help="the model's name; that of the folder if left out")
    parser.add_argument("--licence", help="of the weights")
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32")
    options = parser.parse_args(arguments)
    try:
        table = export_sam(
            options.checkpoint,
            options.out,
            precision=options.precision,
            name=options.name,
            licence=options.licence,
            progress=print,
        )
    except FastsegError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
