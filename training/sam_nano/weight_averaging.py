"""Mean of the weights that runs kept (model soups, Wortsman et al. 2022).

The mean is better than its parts where they were fine-tuned from one another.

``python -m training.sam_nano.weight_averaging RUN/kept/ONE.safetensors RUN/kept/TWO.safetensors
--out FILE``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def average_weights(files: list[Path]) -> dict[str, torch.Tensor]:
    """Average every tensor of several files; counters are those of the last.

    Raises:
        KeyError: The files hold tensors of different names.
    """
    loaded = [load_file(file) for file in files]
    for file, weights in zip(files, loaded, strict=True):
        if weights.keys() != loaded[0].keys():
            raise KeyError(f"{file} and {files[0]} are weights of different networks")
    return {
        name: torch.stack([weights[name] for weights in loaded]).mean(dim=0)
        if last.is_floating_point()
        else last
        for name, last in loaded[-1].items()
    }


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, average, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="+", help="weights that runs kept")
    parser.add_argument("--out", type=Path, required=True, help="the weights to write")
    arguments = parser.parse_args(argv)
    save_file(average_weights(arguments.weights), str(arguments.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
