"""Export of trained weights as the embedded model folders.

``python -m training.echo.publish training/runs/echo/width-16 fastseg/models``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from fastseg import artifacts
from fastseg.export.model_folder import Card
from fastseg.export.networks.unet import UNet
from fastseg.export.unet import write_unet_folder
from fastseg.validation.parity import Table
from training.echo.heart import CHANNELS, CLASSES, VIEWS, View
from training.saving import keeping_card

DESCRIPTION = (
    "Finds the chambers of the {view} view of the heart; trained on generated ultrasound phantoms "
    "alone. Research use only, not a medical device."
)


def load(weights: Path, view: View) -> UNet:
    """Load the network of a view with trained weights."""
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
    digest = artifacts.sha256(weights)
    card = Card(
        name=f"echo-{view}",
        licence="Apache-2.0",
        description=DESCRIPTION.format(view=view.upper()),
        source={"kind": "echo", "checkpoint_sha256": digest, "data": "generated phantoms"},
    )
    with keeping_card(out):
        return write_unet_folder(load(weights, view), out, view, card, store="float16")


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
