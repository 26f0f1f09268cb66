"""Resources of SAM ViT-H, SAM ViT-B and the published U-Net, with random weights of their shapes.

``python -m benchmarks.table1 --out FOLDER``. Time and size do not depend on the weights. Exporting
ViT-H takes minutes, 2.6 GB of disk and about 8 GB of memory; existing folders are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from fastseg.cli.root import run
from fastseg.export.model_folder import Card
from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from fastseg.export.networks.unet import UNet
from fastseg.export.sam import write_sam_folder
from fastseg.export.unet import write_unet_folder


def export_sam(kind: str, out: Path) -> None:
    """Export a SAM of random weights."""
    shape = SHAPES[kind]
    modules = SamModules(ImageEncoder(shape), PromptEncoder(shape.grid, shape.side), MaskDecoder())
    write_sam_folder(modules, out, Card(f"{kind}, random weights", licence="none"))


def export_unet(out: Path) -> None:
    """Export the published network for four chambers, with random weights."""
    card = Card("published U-Net, random weights", licence="none")
    write_unet_folder(UNet(3, 5, 32), out, "a4c", card)


EXPORTS: Mapping[str, Callable[[Path], None]] = {
    "vit-h": partial(export_sam, "vit_h"),
    "vit-b": partial(export_sam, "vit_b"),
    "unet": export_unet,
}


def main(words: list[str] | None = None) -> int:
    """Export missing models, and let ``fastseg bench --table1`` measure it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table1", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder for the models")
    parser.add_argument("--models", nargs="+", choices=EXPORTS, default=list(EXPORTS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args(words)
    torch.manual_seed(0)
    for name in arguments.models:
        if not (arguments.out / name).is_dir():
            EXPORTS[name](arguments.out / name)
    if arguments.export_only:
        return 0
    folders = [str(arguments.out / name) for name in arguments.models]
    return run(["bench", *folders, "--table1", "--precision", arguments.precision])


if __name__ == "__main__":
    sys.exit(main())
