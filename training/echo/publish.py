"""Turn trained weights into the embedded model folders.

``python -m training.echo.publish training/runs/echo/width-16 fastseg/models``
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from fastseg.export.folders import Card
from fastseg.export.unet import write_unet_folder
from fastseg.export.unet_network import UNet
from fastseg.parity import Table
from training.echo.heart import CHANNELS, CLASSES, VIEWS, View

DESCRIPTION = (
    "Finds the chambers of the {view} view of the heart; trained on generated ultrasound phantoms "
    "alone. Research use only, not a medical device."
)
KEPT = "README.md"
"""The model card: written by hand, so it outlives a new export."""


def load(weights: Path, view: View) -> UNet:
    """The network of a view with the weights that training left."""
    stored = load_file(weights)
    with torch.device("meta"):
        network = UNet(CHANNELS[view], len(CLASSES[view]), len(stored["head.weight"][0]))
    network.load_state_dict(stored, assign=True)
    return network.eval()


def publish(weights: Path, out: Path, view: View) -> Table:
    """Export weights as a folder whose file holds them in half precision; keeps its model card.

    Raises:
        ParityError: The graph does not do what the trained network does.
        OutputError: The folder cannot be written.
    """
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    card = Card(
        name=f"echo-{view}",
        licence="Apache-2.0",
        description=DESCRIPTION.format(view=view.upper()),
        source={"kind": "echo", "checkpoint_sha256": digest, "data": "generated phantoms"},
    )
    with tempfile.TemporaryDirectory() as aside:
        card_text = out / KEPT
        if card_text.exists():
            shutil.copy(card_text, aside)
        table = write_unet_folder(load(weights, view), out, view, card, store="float16")
        if (Path(aside) / KEPT).exists():
            shutil.copy(Path(aside) / KEPT, card_text)
    return table


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, export, print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder with echo-<view>.safetensors of a run")
    parser.add_argument("out", type=Path, help="where the folders echo-<view> are written")
    parser.add_argument("--view", choices=["all", *VIEWS], default="all")
    arguments = parser.parse_args(argv)
    for view in VIEWS:
        if arguments.view in ("all", view):
            weights = arguments.run / f"echo-{view}.safetensors"
            print(publish(weights, arguments.out / f"echo-{view}", view))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
