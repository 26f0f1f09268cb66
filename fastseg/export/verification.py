"""Comparison of a SAM folder's graphs with the torch modules that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastseg import contract
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import Array, GraphSpec
from fastseg.export.encoder_run import EncoderRun
from fastseg.export.networks.sam import SamModules
from fastseg.validation import parity
from fastseg.validation.parity import Difference, Table

LABELS = (
    (contract.LABEL_FOREGROUND, contract.LABEL_BACKGROUND, contract.LABEL_PADDING),
    (contract.LABEL_FOREGROUND, contract.LABEL_PADDING, contract.LABEL_PADDING),
    (contract.LABEL_BOX_TOP_LEFT, contract.LABEL_BOX_BOTTOM_RIGHT, contract.LABEL_PADDING),
    (contract.LABEL_FOREGROUND, contract.LABEL_BOX_TOP_LEFT, contract.LABEL_BOX_BOTTOM_RIGHT),
)
"""A prompt of each kind."""


GraphFiles = Mapping[str, tuple[Path, GraphSpec]]
"""File and contract of each graph, by name."""


def compare(modules: SamModules, graphs: GraphFiles, run: EncoderRun | None = None) -> Table:
    """Run every graph in ONNX Runtime on the CPU and compare it with the modules.

    Args:
        modules: The networks as published: the reference is their prompt encoder and mask decoder,
            not the re-associated ones that were exported.
        graphs: All graphs of a SAM folder.
        run: That of the encoder's graph, if it was begun earlier.

    Returns:
        The embedding, then IoU predictions and low-resolution logits of masks 1 to 3, of prompts
        of every kind, without and with a mask prompt.
    """
    run = run or EncoderRun(graphs["encoder"], modules.image_side)
    with closing(run):
        found = run.outputs()  # before torch takes memory as well
    random = torch.Generator().manual_seed(1)
    coords = modules.side * torch.rand(len(LABELS), len(LABELS[0]), 2, generator=random)
    labels = torch.tensor(LABELS, dtype=torch.int32)
    with torch.inference_mode():
        encoded = modules.encode(run.image)
        logits, ious = _decode(modules, encoded, (coords, labels))
    maps = {name: tensor.numpy() for name, tensor in encoded.items()}
    points = {"point_coords": coords.numpy(), "point_labels": labels.numpy()}
    state = {**maps, **_run(graphs["image_state"], {"embedding": maps["embedding"]})}
    with_masks: Iterable[Difference] = ()
    if "decoder_mask" in graphs:
        mask_input = logits[:, 1:2]
        with torch.inference_mode():
            again, ious_again = _decode(modules, encoded, (coords, labels, mask_input))
        masked = {**state, **points, "mask_input": mask_input.numpy()}
        with_masks = _compare_decoder("decoder_mask", graphs, masked, (ious_again, again))
    return Table(
        (
            *(parity.compare_arrays(name, found[name], array) for name, array in maps.items()),
            *_compare_decoder("decoder", graphs, {**state, **points}, (ious, logits)),
            *with_masks,
        )
    )


def _compare_decoder(
    name: str, graphs: GraphFiles, inputs: Mapping[str, Array], expected: tuple[Tensor, Tensor]
) -> Iterator[Difference]:
    """Compare the IoU predictions of one decoder graph, and the logits of the mask head on it."""
    ious, logits = expected
    wanted = {port.name for port in graphs[name][1].inputs}
    found = _run(graphs[name], {key: inputs[key] for key in wanted})
    yield parity.compare_arrays(f"{name} iou_predictions", found["iou_predictions"], ious.numpy())
    vectors = np.ascontiguousarray(found["mask_vectors"][:, 1:])
    drawn = {**inputs, "image_tokens": found["image_tokens"], "mask_vectors": vectors}
    drawn = {port.name: drawn[port.name] for port in graphs["mask_head"][1].inputs}
    yield parity.compare_logits(
        f"{name} low_res_logits",
        _run(graphs["mask_head"], drawn)["low_res_logits"],
        logits[:, 1:].numpy(),
    )


def _decode(
    modules: SamModules, encoded: Mapping[str, Tensor], prompt: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    encoder = modules.prompt_encoder
    sparse, dense = encoder(*prompt)
    embedding, *maps = encoded.values()
    logits, ious = modules.mask_decoder(embedding, encoder.dense_positions(), sparse, dense, *maps)
    return logits, ious


def _run(graph: tuple[Path, GraphSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Load a graph, run it once and close it: the largest ones fill the memory of a laptop."""
    with closing(OrtBackend(*graph)) as backend:
        return backend.run(inputs)
