"""Training files of nnU-Net v2: the weights of a two-dimensional plan, and the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from fastseg.artifacts.guidance import NONE, TILES, UNIT, Z_SCORE, BoxPreprocessing
from fastseg.contract import guided_network
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.kinds import Kind
from fastseg.export.checkpoints.preparations import PREPARATIONS, Preparation
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.plain_unet import PlainUNet, PlainUNetShape, shape_of

WORD = "nnunet"
"""The preparation of these networks."""

_SCHEMES = {
    "ZScoreNormalization": Z_SCORE,
    "RGBTo01Normalization": UNIT,
    "NoNormalization": NONE,
}
"""Normalisations of plans that are followed."""

_COPIES = ("decoder.encoder.",)
"""Beginnings of names under which the file holds the encoder again."""


def without_copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the second names of weights, where they are of such a network."""
    if shape_of(weights) is None:
        return dict(weights)
    return {
        name: each
        for name, each in weights.items()
        if not name.startswith(_COPIES) and ".all_modules." not in name
    }


def kind_of(
    path: Path, weights: Mapping[str, Tensor], content: Callable[[], Any]
) -> tuple[Kind, Preparation] | None:
    """Recognise the network of a training file, and read the preparation from its plan.

    Args:
        path: Of the file, for errors.
        weights: Its weights, see ``without_copies``.
        content: Reads all of it.

    Returns:
        None if the weights are of another network.

    Raises:
        CheckpointError: The file has no plan, or one that is not followed; or the network draws
            other classes than the object in a box.
    """
    shape = shape_of(weights)
    if shape is None:
        return None
    rules = _rules(path, content(), shape.channels - 1)
    if any(side % shape.divisor for side in rules.size):
        raise CheckpointError(
            f"{path} has tiles of {rules.size}, which its network of strides {shape.strides} does "
            "not divide. Take the file as nnU-Net wrote it"
        )
    kind = Kind(
        "nnunet-2d-box",
        f"nnU-Net 2D plan with a box channel, {len(shape.widths)} stages",
        partial(_modules, shape, rules.size),
        (WORD,),
        certain=True,
    )
    if mismatch := kind.mismatch(weights):
        names = [*mismatch.missing, *mismatch.extra, *mismatch.misshapen]
        raise CheckpointError(
            f"{path} is a U-Net of nnU-Net that fastseg does not export: it must have plain "
            f"convolutions and two classes, and differs at {', '.join(names[:6])}. Train the "
            "plan of the box as dataset with one foreground class"
        )
    return kind, replace(PREPARATIONS[WORD], preprocessing=rules)


def _modules(shape: PlainUNetShape, size: tuple[int, int]) -> GuidedModules:
    graph = guided_network(1, channels=shape.channels - 1, size=size)
    return GuidedModules(PlainUNet(shape), graph)


def _rules(path: Path, content: Any, channels: int) -> BoxPreprocessing:
    """Read size of tiles and normalisation from the plan of a file."""
    if channels not in (1, 3):
        raise CheckpointError(
            f"{path} takes {channels + 1} channels. A specialist takes R, G, B and a box, or grey "
            "and a box"
        )
    try:
        arguments = content["init_args"]
        plan = arguments["plans"]["configurations"][arguments["configuration"]]
        size = tuple(map(int, plan["patch_size"]))
        schemes = list(plan["normalization_schemes"])
        masked = any(plan.get("use_mask_for_norm") or ())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} holds a U-Net of nnU-Net without its plan, which tells tiles and "
            "normalisation. Export checkpoint_final.pth as nnU-Net wrote it"
        ) from error
    words = [_SCHEMES.get(scheme) for scheme in schemes]
    *of_image, of_box = words if len(words) == channels + 1 else [None, None]
    if len(size) != 2 or masked or None in (*of_image, of_box) or len({*of_image}) != 1:
        raise CheckpointError(
            f"{path} has a plan that fastseg does not follow: tiles {size}, normalisation "
            f"{', '.join(map(str, schemes))}{' inside a mask' if masked else ''}. It follows "
            f"two-dimensional plans with one of {', '.join(_SCHEMES)} for all channels of the image"
        )
    return BoxPreprocessing(
        (size[0], size[1]), TILES, str(of_image[0]), str(of_box), channels=channels
    )
