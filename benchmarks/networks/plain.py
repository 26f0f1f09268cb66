"""fastseg beside what people have without it: plain ONNX of an encoder, and a torch reference."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastseg
from benchmarks import turns
from benchmarks.networks import exports, timing
from fastseg.export.checkpoints.kinds import Kind
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.ritm import SHAPES
from tests.helpers import reference_deeplab, reference_ritm
from tests.helpers.random_weights import batch_norm_statistics, scattered
from tests.helpers.reference_zoo import efficient_vit_sam, mobile_sam

REFERENCE_SIDE = 8
"""Points a side that the torch reference decodes; its time is extrapolated to those asked for."""

PLAIN_SIZE = (160, 224)
"""Height and width of the input on which modules and plain forms are compared."""

PASSING = 0.25
"""Share of the masks whose predicted IoU passes, in both."""


def reference_of(kind: Kind) -> Any:
    """Build the reference package's network around the same random weights, or return None."""
    if kind.name == "mobile-sam":
        model = mobile_sam().sam_model_registry["vit_t"]()
    elif kind.name.startswith("efficientvit-sam-"):
        model = efficient_vit_sam(kind.name.removeprefix("efficientvit-sam-"))
    else:
        return None
    model.load_state_dict(exports.random_weights(kind), strict=False)
    return model.eval().requires_grad_(False)


def difference(kind: Kind) -> float | None:
    """Compare the logits of a network with prompts as channels with those of its plain form.

    The weights are random ones with which logits are neither large nor all of one sign. None for a
    network that has no such form.
    """
    modules = kind.build()
    if not isinstance(modules, GuidedModules):
        return None
    network, reference = modules.network, None
    if kind.name in SHAPES:
        network = reference_ritm.random_weights(network)
        reference = reference_ritm.Network(network.state_dict(), SHAPES[kind.name])
    elif kind.preparations == ("deeplab-box",):
        network = batch_norm_statistics(scattered(network))
        reference = reference_deeplab.Network(network.state_dict())
    if reference is None:
        return None
    random = torch.Generator().manual_seed(3)
    image = torch.randn(1, 3, *PLAIN_SIZE, generator=random)
    guidance = torch.rand(1, modules.graph.inputs[1].shape[1], *PLAIN_SIZE, generator=random)
    with torch.inference_mode():
        found, expected = network(image, guidance), reference(image, guidance)
    return float((found - expected).abs().max() / expected.abs().max())


def plain_onnx(kind: Kind, place: Path) -> Path | None:
    """Write the reference's encoder as torch exports it, unless it is there; None without one."""
    path = place / "plain" / f"{kind.name}.onnx"
    if path.is_file():
        return path
    reference = reference_of(kind)
    if reference is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    side = _image_side(kind)
    pixels = torch.zeros(1, 3, side, side)
    torch.onnx.export(reference.image_encoder, (pixels,), str(path), dynamo=True, verbose=False)
    return path


def compared_ms(kind: Kind, folder: Path, plain: Path) -> str:
    """Time encoders on one input in turns, plain and exported by fastseg, in words."""
    import onnxruntime
    import openvino

    side = _image_side(kind)
    pixels = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    own = folder / "encoder.onnx"
    runs = {}
    for name, path in (("plain ONNX in ONNX Runtime", plain), ("fastseg's in ONNX Runtime", own)):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: pixels}
        runs[name] = partial(session.run, None, inputs)
    compiled = openvino.Core().compile_model(str(own), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runs["fastseg's in OpenVINO"] = partial(compiled, pixels)
    found = turns.milliseconds(runs, rounds=timing.REPEATS)
    medians = {name: statistics.median(each) for name, each in found.items()}
    first = next(iter(medians.values()))
    return ", ".join(f"{name} {ms:.0f} ms ({first / ms:.2f}x)" for name, ms in medians.items())


def _image_side(kind: Kind) -> int:
    with torch.device("meta"):
        modules: Any = kind.build()
    return int(modules.image_side)


def everything_ratio(folder: Path, kind: Kind, side: int) -> str:
    """Compare everything mode of fastseg with that of the torch reference, in words."""
    pixels = timing.image()
    with fastseg.load(folder, device="cpu") as model:
        model_: Any = model
        all_masks = {**timing.EVERY_MASK, "box_nms_thresh": 1.0}
        scores = model_.everything(pixels, points_per_side=REFERENCE_SIDE, **all_masks).scores
        settings = {
            "pred_iou_thresh": float(np.quantile(scores, 1 - PASSING)),
            "stability_score_thresh": 0.0,
        }
        start = time.perf_counter()
        kept = len(model_.everything(pixels, points_per_side=side, **settings))
        ours = time.perf_counter() - start
    reference = reference_of(kind)
    generator = mobile_sam().SamAutomaticMaskGenerator(
        reference, points_per_side=REFERENCE_SIDE, **settings
    )
    start = time.perf_counter()
    generator.predictor.set_image(pixels)
    embedding = time.perf_counter() - start
    start = time.perf_counter()
    generator.generate(pixels)
    points = time.perf_counter() - start - embedding
    whole = embedding + points * side**2 / REFERENCE_SIDE**2
    return (
        f"{kind.title}, everything mode, {side**2} points, the scores of {PASSING:.0%} of the "
        f"masks pass: fastseg {ours:.2f} s ({kept} masks), torch reference {whole:.1f} s "
        f"(embedding {embedding:.2f} s; {REFERENCE_SIDE**2} points {points:.2f} s, extrapolated); "
        f"ratio {whole / ours:.1f}"
    )
