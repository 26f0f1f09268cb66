"""Export of trained weights as the embedded model folder.

``python -m training.sam_nano.publish training/weights/sam_nano.safetensors out/sam-nano``
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file

from fastseg import artifacts
from fastseg.export.networks.sam import SamModules
from fastseg.export.sam import Card, write_sam_folder
from fastseg.validation.parity import Table
from training.sam_nano.network import SamNano
from training.saving import keeping_card

DESCRIPTION = (
    "For compact objects on plain ground (coins, cells), not for photographs or medical images. "
    "Small, of SAM's shape, trained on generated scenes and unlabelled photographs. "
    "Research use only, not a medical device."
)


def publish(weights: Path, out: Path) -> Table:
    """Export weights as a folder whose files hold them in half precision; keeps its model card.

    Raises:
        ParityError: A graph does not do what the trained network does.
        OutputError: The folder cannot be written.
    """
    network = SamNano()
    network.load_state_dict(load_file(weights))
    modules = SamModules(network.image_encoder, network.prompt_encoder, network.mask_decoder)
    digest = artifacts.sha256(weights)
    card = Card(
        name="sam-nano",
        licence="Apache-2.0",
        description=DESCRIPTION,
        source={
            "kind": "sam-nano",
            "checkpoint_sha256": digest,
            "data": "generated scenes, unlabelled photographs",
        },
    )
    with keeping_card(out):
        return write_sam_folder(modules, out, card, store="float16")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, export, print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="sam_nano.safetensors of a run")
    parser.add_argument("out", type=Path, help="the model folder to write")
    arguments = parser.parse_args(argv)
    print(publish(arguments.weights, arguments.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
