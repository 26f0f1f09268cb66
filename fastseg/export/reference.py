"""A checkpoint's network as plain torch modules, the slow reference of every other backend."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fastseg.artifacts.manifest import UNET, Manifest
from fastseg.contract import UNET_GRAPH
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import nano as nano_checkpoint
from fastseg.export.checkpoints import sam as sam_checkpoint
from fastseg.export.checkpoints.identify import source_modules
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.sam import SamModules
from fastseg.export.onnx import float16_storage
from fastseg.export.sam import load_modules
from fastseg.export.unet import Probabilities, load_unet
from fastseg.sam.prompts import PromptBatch
from fastseg.validation.guided_probe import GuidedProbe
from fastseg.validation.probes import (
    FrameProbe,
    ModelOutputs,
    Probe,
    PromptProbe,
    frame_outputs,
    guided_outputs,
    prompt_outputs,
)

PROMPTS_PER_RUN = 16
"""Most prompts in one run; the published decoder copies the image for each of them."""

NAME = "torch:cpu"


class TorchNetwork(Protocol):
    """A network in float32 on the CPU."""

    def run(self, probe: Probe) -> ModelOutputs:
        """Run a probe of the network's family."""


def torch_network(manifest: Manifest, checkpoint: str | os.PathLike[str]) -> TorchNetwork:
    """Load the weights that a model folder was exported from.

    Args:
        manifest: Of the folder; it names the network of the weights. Where its files hold them in
            float16, they are rounded here too.
        checkpoint: SAM as published, the weights of sam-nano, or those of a view's U-Net.

    Raises:
        CheckpointError: The file is not such a checkpoint.
    """
    if manifest.family == UNET:
        network = Probabilities(load_unet(checkpoint, manifest.view))
        _round_alike(manifest, UNET_GRAPH, network, network)
        return TorchUnet(network)
    if manifest.source.get("kind") == nano_checkpoint.KIND:
        modules = nano_checkpoint.read(checkpoint)
    else:
        found = source_modules(manifest.source, checkpoint)
        if isinstance(found, GuidedModules):
            return TorchGuided(found.network.eval().requires_grad_(False))
        modules = found or load_modules(sam_checkpoint.read(checkpoint))
    _round_alike(manifest, "encoder", modules.image_encoder, *modules.by_prefix().values())
    return TorchSam(modules)


def _round_alike(
    manifest: Manifest, graph: str, measured: torch.nn.Module, *modules: torch.nn.Module
) -> None:
    """Round the weights of ``modules`` if a folder's files hold them in float16.

    The length of a graph's files, compared with the weights of ``measured``, tells.
    """
    stored = next(one for one in manifest.graphs.values() if one.graph.name == graph)
    whole = 4 * sum(weight.numel() for weight in measured.parameters())
    for module in modules:
        module.eval().requires_grad_(False)
        if sum(file.bytes for file in stored.files) < 0.75 * whole:
            float16_storage.prepare(module)


class TorchUnet:
    """A network for frames."""

    def __init__(self, network: Probabilities) -> None:
        self._network = network

    @torch.inference_mode()
    def run(self, probe: Probe) -> ModelOutputs:
        """Draw the classes of one frame."""
        if not isinstance(probe, FrameProbe):
            raise CheckpointError("the checkpoint takes no prompts: it is of a network for frames")
        found = self._network(torch.from_numpy(probe.pixels)).numpy()
        return frame_outputs(found, NAME, "fp32")


class TorchGuided:
    """A network whose prompts are channels of its input."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network

    @torch.inference_mode()
    def run(self, probe: Probe) -> ModelOutputs:
        """Draw the masks of one image's prompts."""
        if not isinstance(probe, GuidedProbe):
            raise CheckpointError("the checkpoint is of a network of another family")
        logits = self._network(torch.from_numpy(probe.image), torch.from_numpy(probe.guidance))
        return guided_outputs(probe, logits.numpy(), NAME, "fp32")


class TorchSam:
    """SAM as published, with its own prompt encoder and decoder."""

    def __init__(self, modules: SamModules) -> None:
        self._modules = modules

    @torch.inference_mode()
    def run(self, probe: Probe) -> ModelOutputs:
        """Encode one image and decode its prompts."""
        if not isinstance(probe, PromptProbe):
            raise CheckpointError("the checkpoint takes prompts: it is of no network for frames")
        embedding, *maps = self._modules.encode(torch.from_numpy(probe.pixels)).values()
        decoded = [
            self._decode((embedding, *maps), batch) for batch in probe.batches(PROMPTS_PER_RUN)
        ]
        ious, logits = (np.concatenate(column) for column in zip(*decoded, strict=True))
        return prompt_outputs(probe, (embedding[0].numpy(), ious, logits), NAME, "fp32")

    def _decode(
        self, encoded: tuple[torch.Tensor, ...], batch: PromptBatch
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute IoU predictions (prompts, 4) and low-resolution logits (prompts, 4, h, w)."""
        prompts, decoder = self._modules.prompt_encoder, self._modules.mask_decoder
        mask = None if batch.mask_input is None else torch.from_numpy(batch.mask_input)
        points = torch.from_numpy(batch.point_coords), torch.from_numpy(batch.point_labels)
        sparse, dense = prompts(*points, mask)
        embedding, *maps = encoded
        drawn, quality = decoder(embedding, prompts.dense_positions(), sparse, dense, *maps)
        return quality.numpy(), drawn.numpy()
