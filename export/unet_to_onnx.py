"""Export of the echo U-Net to a model folder: ``python export/unet_to_onnx.py W.h5 a4c OUT``."""

from __future__ import annotations

import argparse
import sys

from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError
from fastseg.export.unet import export_unet


def main(arguments: list[str] | None = None) -> int:
    """Export; the same as ``fastseg export unet``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="of the echo U-Net: .pt, .pth, .safetensors or Keras .h5")
    parser.add_argument("view", choices=list(VIEWS), help="the view of the frames")
    parser.add_argument("out", help="the model folder to write")
    parser.add_argument("--store", choices=["float32", "float16"], default="float32")
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32")
    options = parser.parse_args(arguments)
    try:
        table = export_unet(
            options.weights,
            options.out,
            options.view,
            store=options.store,
            precision=options.precision,
            progress=print,
        )
    except FastsegError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
