"""Export of a SAM checkpoint to a model folder, compared with its source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry, safetensors
from fastseg.artifacts.manifest import SAM, UNET, GraphFile, Manifest
from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.errors import CheckpointError, ModelFolderError
from fastseg.export.checkpoints import sam as sam_checkpoint
from fastseg.export.checkpoints.identify import source_modules
from fastseg.export.checkpoints.preparations import MEAN, STD, Preparation
from fastseg.export.checkpoints.sam import Checkpoint
from fastseg.export.encoder_run import EncoderRun
from fastseg.export.fp16 import convert as fp16_convert
from fastseg.export.guided import compare as compare_guided
from fastseg.export.model_folder import (
    Card,
    Progress,
    parameter_count,
    require_parity,
    require_precision,
    silent,
    versions,
)
from fastseg.export.networks.folded_encoder import fold
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from fastseg.export.onnx import float16_storage
from fastseg.export.onnx.writer import Store, write
from fastseg.export.verification import GraphFiles, compare
from fastseg.validation.comparison import Comparison
from fastseg.validation.parity import Table

DECODER_WEIGHTS = "decoder.safetensors"
"""Weights of prompt encoder and mask decoder as published, for the native decoder."""

ENCODER_WEIGHTS = "encoder.safetensors"
"""Weights of the encoder, which the native encoder and the graph read."""


def export_sam(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    precision: str = "fp32",
    name: str | None = None,
    licence: str | None = None,
    progress: Progress | None = None,
) -> Table:
    """Turn a SAM checkpoint into a model folder.

    The folder appears whole, and only if every graph, run in ONNX Runtime, agrees with the torch
    modules. Its ``model.json`` holds the differences.

    Args:
        checkpoint: A ``.pth`` or ``.safetensors`` file of SAM ViT-B, ViT-L or ViT-H.
        out: The folder to write. A model folder of that name is replaced, another one never.
        precision: ``"fp32"``, or ``"fp16"`` for mixed-precision graphs beside the float32 ones.
        name: The model's name; that of the folder if left out.
        licence: Of the weights; that of the published checkpoint if it is one.
        progress: Called with a few words as each step begins.

    Returns:
        The differences between graphs and modules, a row a tensor.

    Raises:
        CheckpointError: The file is not such a checkpoint; see ``checkpoints.sam.read``.
        BackendUnavailableError: The precision cannot be written, or ONNX Runtime is missing.
        OutputError: The folder cannot be written.
        ParityError: A graph does not do what its module does, or the masks of the mixed-precision
            ones are too far from the others.
    """
    require_precision(precision)
    step = progress or silent
    step("reading the checkpoint")
    read = sam_checkpoint.read(checkpoint)
    card = _card(read, name or Path(out).name, licence)
    return write_sam_folder(load_modules(read), out, card, precision=precision, progress=step)


def load_modules(checkpoint: Checkpoint) -> SamModules:
    """Build SAM's torch modules around the weights of a checkpoint.

    Raises:
        CheckpointError: Weights are missing, extra or of another shape.
    """
    shape = SHAPES[checkpoint.kind]
    # Without memory of their own: the weights of the checkpoint become the modules'.
    with torch.device("meta"):
        modules = SamModules(
            ImageEncoder(shape), PromptEncoder(shape.grid, shape.side), MaskDecoder()
        )
    checkpoint.fill(modules.by_prefix())
    return modules


def write_sam_folder(
    modules: SamModules,
    out: str | os.PathLike[str],
    card: Card,
    *,
    store: Store = "float32",
    precision: str = "fp32",
    preparation: Preparation | None = None,
    progress: Progress | None = None,
) -> Table:
    """Write torch modules as a model folder and compare its graphs with them.

    Args:
        modules: Encoder, prompt encoder and mask decoder. They are set to evaluation and frozen;
            with ``store="float16"`` they are changed as ``float16_storage.prepare`` describes.
        out: The folder to write. A model folder of that name is replaced, another one never.
        card: Name, licence and origin.
        store: Type of the weights in the files of the float32 graphs.
        precision: ``"fp16"`` for mixed-precision graphs beside the float32 ones; see
            ``fp16.convert``.
        preparation: Preprocessing and rules, where they are not those of SAM.
        progress: Called with a few words as each step begins.

    Returns:
        The differences between graphs and modules, a row a tensor.

    Raises:
        OutputError: The folder cannot be written.
        ParityError: A graph does not do what its module does, or the masks of the mixed-precision
            ones are too far from the others; nothing is left.
    """
    step = progress or silent
    for module in modules.by_prefix().values():
        module.eval().requires_grad_(False)
        if store == "float16":
            float16_storage.prepare(module)
    with artifacts.write(out, overwrite=True) as folder, ExitStack() as runs:
        graphs: dict[str, GraphFile] = {}
        run = None
        weights = _write_weights(modules, folder, store)
        for source in modules.sources():
            name = source.graph.name
            step(f"writing {name}")
            path = folder / f"{name}.onnx"
            # The decoder's graphs hold other forms of its weights.
            shared = weights.get(name) if name == "encoder" else None
            outside = write(source, path, store=store, weights=shared)
            graphs[name] = artifacts.graph_file(source.graph, path, data=outside)
            if name == "encoder":
                run = runs.enter_context(
                    closing(EncoderRun((path, source.graph), modules.image_side))
                )
        step("comparing the graphs with their source")
        table = compare(modules, _located(folder, graphs), run)
        require_parity(card.name, table)
        manifest = Manifest(
            family=SAM,
            name=card.name,
            preprocessing=(
                preparation.preprocessing if preparation else Preprocessing(modules.side, MEAN, STD)
            ),
            rules=preparation.rules if preparation else None,
            graphs=graphs,
            weights={name: artifacts.stored_file(file) for name, file in weights.items()},
            source={**card.source, "parameters": parameter_count(*modules.by_prefix().values())},
            licence=card.licence,
            description=card.description,
            written_by=versions(),
            parity=tuple(table.as_rows()),
        )
        if precision == fp16_convert.PRECISION:
            with folded_encoder(modules) as encoder:
                _, manifest = fp16_convert.write_fp16(
                    ModelFolder(folder, manifest), encoder=encoder, progress=step
                )
        artifacts.write_manifest(folder, manifest)
    return table


def _write_weights(modules: SamModules, folder: Path, store: Store) -> dict[str, Path]:
    """Write the weights for native kernels; return the files by the graph that a kernel runs."""
    found = {}
    decoder = modules.decoder_weights()
    if decoder is not None:
        found["decoder"] = folder / DECODER_WEIGHTS
        safetensors.write(found["decoder"], decoder, lossless_fp16=store == "float16")
    encoder = modules.encoder_weights()
    if encoder is not None and store == "float32":
        found["encoder"] = folder / ENCODER_WEIGHTS
        safetensors.write(found["encoder"], encoder)
    return found


def add_fp16(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    images: Sequence[NDArray[np.uint8]] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Add mixed-precision graphs to a model folder, as ``fp16.convert.add_fp16`` does.

    Args:
        folder: A model folder of either family.
        out: The folder to write, which may be ``folder``.
        checkpoint: The SAM checkpoint that the folder was exported from. With it the encoder's
            relative positions are folded into queries and keys, as runtimes for GPUs want them.
        images: uint8 (H, W, 3) to measure ranges on and to compare on; generated ones if empty.
        progress: Called with a few words as each step begins.

    Raises:
        CheckpointError: The file is not the checkpoint that the folder was exported from.
        ModelFolderError: The folder is incomplete, or has no float32 graphs.
        ParityError: The masks differ too much; nothing is left.
        OutputError: The folder cannot be written.
    """
    step = progress or silent
    if checkpoint is None:
        return fp16_convert.add_fp16(folder, out, images=images, progress=step)
    step("reading the checkpoint")
    read = sam_checkpoint.read(checkpoint)
    if artifacts.read(folder).manifest.source.get("sha256") != read.sha256:
        raise CheckpointError(
            f"{folder} was not exported from {checkpoint}. Give its own checkpoint, or none."
        )
    with folded_encoder(load_modules(read)) as encoder:
        return fp16_convert.add_fp16(folder, out, encoder=encoder, images=images, progress=step)


@contextmanager
def folded_encoder(modules: SamModules) -> Iterator[Path | None]:
    """Write SAM's encoder with folded relative positions, for the block; None for another one."""
    if not isinstance(modules.image_encoder, ImageEncoder):
        yield None
        return
    modules.image_encoder.eval().requires_grad_(False)
    folded = replace(modules, image_encoder=fold(modules.image_encoder))
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "encoder.onnx"
        write(next(iter(folded.sources())), path)
        yield path


def check_folder(folder: str | os.PathLike[str], checkpoint: str | os.PathLike[str]) -> Table:
    """Compare the float32 graphs of a model folder with a checkpoint, as an export does at its end.

    Args:
        folder: A model folder that was exported from a checkpoint of a promptable network.
        checkpoint: The ``.pth`` or ``.safetensors`` file.

    Returns:
        The differences between graphs and torch modules, a row a tensor.

    Raises:
        ModelFolderError: The folder is incomplete, altered or of another family.
        CheckpointError: The file is not a SAM checkpoint.
    """
    found = artifacts.read(folder)
    if found.manifest.family == UNET:
        raise ModelFolderError(
            f"{folder} is of family {found.manifest.family!r}, and only graphs of models that take "
            "prompts are compared with a checkpoint. Name a model folder that fastseg export FILE "
            "wrote."
        )
    modules = source_modules(found.manifest.source, checkpoint)
    if isinstance(modules, GuidedModules):
        return compare_guided(modules, found.file(found.graph_file(modules.graph.name, "fp32")))
    if modules is None:
        modules = load_modules(sam_checkpoint.read(checkpoint))
    for module in modules.by_prefix().values():
        module.eval().requires_grad_(False)
    return compare(modules, _located(found.path, found.manifest.graphs))


def _located(folder: Path, graphs: Mapping[str, GraphFile]) -> GraphFiles:
    return {name: (folder / stored.file, stored.graph) for name, stored in graphs.items()}


def _card(checkpoint: Checkpoint, name: str, licence: str | None) -> Card:
    """Describe a checkpoint: all facts of a published one, else its kind and hash."""
    published = registry.published(checkpoint.sha256)
    known_licence = published.licence if published else ""
    return Card(
        name=name,
        licence=known_licence if licence is None else licence,
        description=published.description if published else f"SAM {checkpoint.kind} weights",
        source={
            "file": checkpoint.path.name,
            "sha256": checkpoint.sha256,
            "kind": checkpoint.kind,
            "published_as": published.name if published else None,
        },
    )
