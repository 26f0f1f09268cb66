"""Mixed-precision graphs of a model folder: measured, written, and compared before they are kept.

Every name of the contract keeps its dtype, so that both precisions run in the same pipeline:
images, embeddings, points, scores, mask vectors and logits are float32. Tensors that one graph
passes to another unchanged, and those that are large for each prompt, are ``FP16_TENSORS``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile, Manifest
from fastseg.backends.base import Backend
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import Array, GraphSpec, TensorSpec
from fastseg.errors import BackendError, ModelFolderError
from fastseg.export.fp16.calibration import BlockDecision, Calibration
from fastseg.export.fp16.rewrite import to_fp16
from fastseg.export.fp16.rounding import spell_out
from fastseg.export.model_folder import (
    Progress,
    comparison_record,
    copy_graphs,
    silent,
    versions,
)
from fastseg.export.onnx.blocks import read_graph
from fastseg.export.onnx.writer import save
from fastseg.inference.sessions import PreopenedSessions
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Comparison, Limits
from fastseg.validation.probes import Probe, PromptProbe

PRECISION = "fp16"

ARITHMETIC = "float32 sums, every float16 tensor rounded, on the CPU"

FP16_TENSORS = ("shared_image", "shared_keys", "shared_values", "shared_queries", "image_tokens")
"""Tensors between graphs that are float16 in a mixed-precision folder."""

CALIBRATION_PROMPTS = 4
"""Prompts of each kind in a measurement, whose memory grows with them."""


def add_fp16(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    encoder: Path | None = None,
    images: Sequence[NDArray[np.uint8]] = (),
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Write a model folder anew with mixed-precision graphs beside its float32 ones.

    The folder appears whole, and only if the masks of the new graphs agree with those of the old
    ones. Its ``model.json`` holds the comparison and the measurements of each block.

    Args:
        model: A model folder with float32 graphs.
        out: The folder to write, which may be ``model``. A model folder of that name is replaced,
            another one never.
        encoder: A float32 encoder to convert in place of the folder's own, of the same contract.
        images: uint8 (H, W, 3) to measure ranges on and to compare on; generated ones if empty.
        limits: Of the comparison; those of the family if left out.
        progress: Called with a few words as each step begins.

    Returns:
        The comparison.

    Raises:
        ModelFolderError: The folder is incomplete, or has no float32 graphs.
        ParityError: The masks differ too much; nothing is left, and ``model`` is as it was.
        OutputError: The folder cannot be written.
    """
    folder = artifacts.read(model)
    with artifacts.write(out, overwrite=True) as target:
        copy_graphs(folder, target, without=PRECISION)
        found, manifest = write_fp16(
            ModelFolder(target, folder.manifest),
            encoder=encoder,
            images=images,
            limits=limits,
            progress=progress,
        )
        artifacts.write_manifest(target, manifest)
    return found


def write_fp16(
    folder: ModelFolder,
    *,
    encoder: Path | None = None,
    images: Sequence[NDArray[np.uint8]] = (),
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> tuple[Comparison, Manifest]:
    """Write mixed-precision graphs into a folder that is being written; see ``add_fp16``.

    Returns:
        The comparison, and the manifest with the new graphs, which is not written yet.
    """
    step, manifest = progress or silent, folder.manifest
    fp32_graphs = _fp32_graphs(folder)
    sources = {name: folder.file(stored) for name, stored in fp32_graphs.items()}
    if encoder is not None:
        sources["encoder"] = encoder
    asked = [probes.build_probe(manifest, one) for one in images or comparison.samples(manifest)]
    step("measuring ranges")
    calibrations = {
        name: Calibration(path, fp32_graphs[name].graph) for name, path in sources.items()
    }
    _calibrate(calibrations, asked)
    graphs: dict[str, GraphFile] = {}
    with TemporaryDirectory() as spelled, ExitStack() as opened:
        candidate: dict[str, Backend] = {}
        for name, calibration in calibrations.items():
            step(f"writing {name} in {PRECISION}")
            decisions = calibration.decisions()
            path = folder.path / f"{name}.{PRECISION}.onnx"
            stored = _write(calibration, decisions, path)
            graphs[f"{name}.{PRECISION}"] = stored
            exact = Path(spelled) / path.name
            save(spell_out(read_graph(path)), exact)
            backend = OrtBackend(exact, stored.graph, keep_memory=name != "encoder")
            candidate[name] = opened.enter_context(closing(backend))
        step("comparing masks")
        found = comparison.gate(
            folder, candidate, precision=PRECISION, images=images, limits=limits
        )
    asked_of = limits or Limits.between(manifest.family, (PRECISION,))
    passed = comparison_record(found, asked_of, arithmetic=ARITHMETIC)
    kept = {name: one for name, one in manifest.graphs.items() if one.precision != PRECISION}
    compared = {name: replace(one, comparison=passed) for name, one in graphs.items()}
    written_by = {**manifest.written_by, **versions()}
    return found, replace(manifest, graphs={**kept, **compared}, written_by=written_by)


@contextmanager
def spelled_out(folder: ModelFolder) -> Iterator[PreopenedSessions]:
    """Open the mixed-precision graphs of a folder as a GPU would compute them, on the CPU.

    It is slow and serves comparisons: ONNX Runtime leaves out most of the rounding of the graphs as
    they are, see ``fp16.rounding``.

    Raises:
        BackendError: The folder has no such graphs.
    """
    if PRECISION not in {stored.precision for stored in folder.manifest.graphs.values()}:
        raise BackendError(
            f"{folder.path} holds no graphs in {PRECISION}. Add them: fastseg export half."
        )
    with TemporaryDirectory() as temporary, ExitStack() as opened:
        backends: dict[str, Backend] = {}
        for stored in folder.manifest.graphs.values():
            if stored.precision != PRECISION:
                continue
            path = Path(temporary) / stored.file
            save(spell_out(read_graph(folder.file(stored))), path)
            backend = OrtBackend(path, stored.graph, keep_memory=stored.graph.name != "encoder")
            backends[stored.graph.name] = opened.enter_context(closing(backend))
        yield PreopenedSessions(backends, PRECISION)


def fp16_graph(graph: GraphSpec) -> GraphSpec:
    """Convert the contract of a float32 graph to that of its mixed-precision form."""

    def port(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, dtype="float16") if tensor.name in FP16_TENSORS else tensor

    return replace(
        graph, inputs=tuple(map(port, graph.inputs)), outputs=tuple(map(port, graph.outputs))
    )


def _write(calibration: Calibration, decisions: Sequence[BlockDecision], path: Path) -> GraphFile:
    graph = fp16_graph(calibration.graph)
    ports = {port.name: port.dtype for port in (*graph.inputs, *graph.outputs)}
    fp32_blocks = {one.block for one in decisions if one.precision != PRECISION}
    outside = save(
        to_fp16(read_graph(calibration.path), fp32_blocks=fp32_blocks, ports=ports), path
    )
    stored = artifacts.graph_file(graph, path, precision=PRECISION, data=outside)
    return replace(stored, blocks=tuple(one.as_dict() for one in decisions))


def _calibrate(calibrations: Mapping[str, Calibration], asked: Sequence[Probe]) -> None:
    """Run every graph on the inputs that the questions lead to, one graph after the other."""
    feeds = [one.feed for one in asked if not isinstance(one, PromptProbe)]
    if feeds:
        only = next(iter(calibrations.values()))
        only.run(feeds)
        return
    prompted = [one for one in asked if isinstance(one, PromptProbe)]
    embeddings = calibrations["encoder"].run([{"image": one.pixels} for one in prompted])
    states = calibrations["image_state"].run(embeddings)
    for name in ("decoder", "decoder_mask"):
        ports = {port.name for port in calibrations[name].graph.inputs}
        feeds = [
            {key: array for key, array in feed.items() if key in ports}
            for one, state in zip(prompted, states, strict=True)
            for feed in _prompts(one, state, masked=name == "decoder_mask")
        ]
        tokens = calibrations[name].run(feeds)
        calibrations["mask_head"].run(
            [{key: one[key] for key in ("image_tokens", "mask_vectors")} for one in tokens]
        )


def _prompts(
    probe: PromptProbe, state: Mapping[str, Array], *, masked: bool
) -> Iterator[dict[str, Array]]:
    """Yield a few prompts of one kind, evenly from the first to the last: points and boxes."""
    every = probe.batches(len(probe.coords))
    for batch in (one for one in every if (one.mask_input is not None) == masked):
        count = len(batch.point_coords)
        some = np.linspace(0, count - 1, min(count, CALIBRATION_PROMPTS)).round().astype(int)
        feed = {
            **state,
            "point_coords": batch.point_coords[some],
            "point_labels": batch.point_labels[some],
        }
        if batch.mask_input is not None:
            feed["mask_input"] = batch.mask_input[some]
        yield feed


def _fp32_graphs(folder: ModelFolder) -> dict[str, GraphFile]:
    found = {
        one.graph.name: one for one in folder.manifest.graphs.values() if one.precision == "fp32"
    }
    names = {one.graph.name for one in folder.manifest.graphs.values()}
    if set(found) != names or not found:
        raise ModelFolderError(
            f"{folder.path} lacks float32 graphs to convert. Export the model again."
        )
    return found
