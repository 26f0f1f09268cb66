"""INT8 image graphs of a model folder: calibrated, written, and compared before they are kept.

Quantisation is post-training: the float32 graph gives the ranges on calibration images, and its
weights are rounded as they are. The graphs that answer prompts stay float32, as the position of a
point needs more than eight bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import UNET, GraphFile, Manifest
from fastseg.backends.base import require_integers
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import Array
from fastseg.errors import ModelFolderError
from fastseg.export.int8 import calibration as int8_calibration
from fastseg.export.int8.calibration import ProductDecision
from fastseg.export.int8.rewrite import to_int8
from fastseg.export.model_folder import (
    Progress,
    comparison_record,
    copy_graphs,
    silent,
    versions,
)
from fastseg.export.onnx.blocks import read_graph
from fastseg.export.onnx.writer import save
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Comparison, Limits
from fastseg.validation.synthetic import scenes, sectors

PRECISION = "int8"

CALIBRATION_IMAGES = 7
"""Generated images of a calibration. None of them is among those that masks are compared on."""

LOSSES = (3e-4, 1e-4, 5e-5, 2e-5, 1e-5)
"""Largest losses of a product, relative to the energy of its result. The first one with which the
masks agree is taken; products that lose more stay in float32."""

ARITHMETIC = "products of uint8 and int8 with 32-bit sums, on the CPU"


def add_int8(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: Sequence[NDArray[np.uint8]] = (),
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Write a model folder anew with an INT8 graph beside the float32 one of its encoder.

    A network for frames is converted as a whole. The folder appears whole, and only if the masks of
    the new graph agree with those of the old one. Its ``model.json`` holds the comparison.

    Args:
        model: A model folder with float32 graphs.
        out: The folder to write, which may be ``model``. A model folder of that name is replaced,
            another one never.
        images: uint8 (H, W, 3) to calibrate on, of the kind that the model is for; generated ones
            if empty. The comparison has images of its own.
        limits: Of the comparison; those of the family if left out.
        progress: Called with a few words as each step begins.

    Returns:
        The comparison.

    Raises:
        BackendUnavailableError: This processor cannot compute what is compared.
        ModelFolderError: The folder is incomplete, or has no float32 graphs.
        ParityError: The masks differ too much; nothing is left, and ``model`` is as it was.
        OutputError: The folder cannot be written.
    """
    require_integers("an export")
    step, folder = progress or silent, artifacts.read(model)
    manifest, fp32_graph = folder.manifest, _fp32_graph(folder)
    asked = limits or Limits.of_masks(manifest.family)
    with artifacts.write(out, overwrite=True) as target:
        copy_graphs(folder, target, without=PRECISION)
        step("calibrating")
        source = read_graph(folder.file(fp32_graph))
        feeds = _feeds(manifest, images or calibration_images(manifest))
        ranges = int8_calibration.measure_ranges(source, feeds)
        lost = int8_calibration.measure_losses(source, feeds, ranges)
        expected = comparison.expect(ModelFolder(target, manifest))
        path = target / f"{fp32_graph.graph.name}.{PRECISION}.onnx"
        for decided in _choices(lost):
            kept = {one.block for one in decided if one.precision != PRECISION}
            step(f"{len(lost) - len(kept)} of {len(lost)} products in {PRECISION}")
            outside = save(to_int8(source.clone(), ranges, kept=kept), path)
            with closing(OrtBackend(path, fp32_graph.graph, keep_memory=False)) as backend:
                found = expected.measure({fp32_graph.graph.name: backend}, precision=PRECISION)
            if found.within(asked):
                break
        comparison.require(found, asked, f"{manifest.name} in {PRECISION}")
        stored = artifacts.graph_file(fp32_graph.graph, path, precision=PRECISION, data=outside)
        stored = replace(
            stored,
            blocks=tuple(one.as_dict() for one in decided),
            comparison=comparison_record(found, asked, arithmetic=ARITHMETIC),
        )
        artifacts.write_manifest(target, _with(manifest, stored))
    return found


def _choices(lost: Mapping[str, float]) -> list[tuple[ProductDecision, ...]]:
    """List the choices to try, from the most INT8 products to the fewest; each has at least one."""
    found = {int8_calibration.decide(lost, most): None for most in LOSSES}
    some = [one for one in found if any(each.precision == PRECISION for each in one)]
    return some or [int8_calibration.decide(lost, max(lost.values()))]


def calibration_images(manifest: Manifest) -> list[NDArray[np.uint8]]:
    """Generate images that neither this comparison nor ``fastseg calibrate`` uses."""
    if manifest.family == UNET:
        return list(islice(sectors(probes.SAMPLES + CALIBRATION_IMAGES), probes.SAMPLES, None))
    return list(scenes(range(101, 101 + CALIBRATION_IMAGES)))


def _feeds(manifest: Manifest, images: Sequence[NDArray[np.uint8]]) -> list[dict[str, Array]]:
    return [probes.build_probe(manifest, one).feed for one in images]


def _fp32_graph(folder: ModelFolder) -> GraphFile:
    for one in folder.manifest.graphs.values():
        if one.graph.role == "image" and one.precision == "fp32":
            return one
    raise ModelFolderError(f"{folder.path} lacks a float32 graph to convert. Export it again.")


def _with(manifest: Manifest, stored: GraphFile) -> Manifest:
    kept = {name: one for name, one in manifest.graphs.items() if one.precision != PRECISION}
    return replace(
        manifest,
        graphs={**kept, f"{stored.graph.name}.{PRECISION}": stored},
        written_by={**manifest.written_by, **versions()},
    )
