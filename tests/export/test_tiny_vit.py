"""TinyViT embeds as the reference of MobileSAM does, and with the stem of LiteMedSAM."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from torch import nn

from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from fastseg.export.networks.tiny_vit import LITE_MEDSAM, MOBILE_SAM, TinyViT, TinyViTShape
from fastseg.export.onnx.writer import write
from tests.helpers.random_weights import scattered
from tests.helpers.reference_zoo import mobile_sam

SMALL = replace(MOBILE_SAM, side=256)
"""Maps of 64, 32 and 16 tokens a side, which windows of 7 and 14 do not divide."""


def reference(side: int) -> Any:
    """The reference's encoder at any side; its cache of biases is made by ``eval``."""
    return (
        mobile_sam()
        .modeling.TinyViT(
            img_size=side,
            num_classes=1000,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
            drop_path_rate=0.0,
        )
        .train()
    )


def embedded(theirs: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The reference's embedding; its own last step is written for 64 x 64 tokens alone."""
    x = theirs.patch_embed(pixels)
    for layer in theirs.layers:
        x = layer(x)
    grid = round(x.shape[1] ** 0.5)
    return theirs.neck(x.reshape(len(x), grid, grid, -1).permute(0, 3, 1, 2))


def filled(shape: TinyViTShape, theirs: nn.Module) -> TinyViT:
    with torch.device("meta"):
        ours = TinyViT(shape)
    known = ours.state_dict()
    weights = {name: each for name, each in theirs.state_dict().items() if name in known}
    ours.load_state_dict(weights, assign=True)
    return ours.eval().requires_grad_(False)


def relative(actual, expected) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def image(side: int, count: int = 1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_windows_with_padding_and_merges_equal_the_reference():
    theirs = scattered(reference(SMALL.side))
    ours = filled(SMALL, theirs)
    pixels = image(SMALL.side)
    with torch.inference_mode():
        assert relative(ours(pixels), embedded(theirs, pixels)) <= 1e-5


@pytest.mark.slow
def test_a_graph_takes_any_number_of_images(tmp_path):
    ours = filled(SMALL, scattered(reference(SMALL.side)))
    modules = SamModules(ours, PromptEncoder(SMALL.grid, SMALL.side), MaskDecoder())
    source = next(modules.sources())
    write(source, tmp_path / "encoder.onnx")
    backend = OrtBackend(tmp_path / "encoder.onnx", source.graph, threads=2)
    pixels = image(SMALL.side, count=2)
    found = torch.from_numpy(backend.run({"image": pixels.numpy()})["embedding"])
    with torch.inference_mode():
        assert relative(found, ours(pixels)) <= 1e-5


def test_the_published_networks_have_the_published_number_of_weights():
    with torch.device("meta"):
        others = PromptEncoder(), MaskDecoder()
        counts = {
            shape: sum(
                weight.numel() for net in (TinyViT(shape), *others) for weight in net.parameters()
            )
            for shape in (MOBILE_SAM, LITE_MEDSAM)
        }
    classifier = 321_640
    assert counts == {MOBILE_SAM: 10_130_092 - classifier, LITE_MEDSAM: 9_791_300}
    assert (MOBILE_SAM.grid, LITE_MEDSAM.grid) == (64, 64)


def test_the_stem_of_lite_medsam_keeps_the_resolution():
    """Two 1 x 1 convolutions of stride 1 in front of the same stages, written plainly here."""
    shape = replace(LITE_MEDSAM, side=64)
    theirs = reference(SMALL.side)

    def part(inputs: int, outputs: int) -> nn.Module:
        parts = [("c", nn.Conv2d(inputs, outputs, 1, bias=False)), ("bn", nn.BatchNorm2d(outputs))]
        return nn.Sequential(OrderedDict(parts))

    theirs.patch_embed.seq = nn.Sequential(part(3, 32), nn.GELU(), part(32, 64))
    scattered(theirs)
    ours = filled(shape, theirs)
    pixels = image(shape.side)
    with torch.inference_mode():
        assert relative(ours(pixels), embedded(theirs, pixels)) <= 1e-5


@pytest.mark.slow
def test_mobile_sam_embeds_at_its_size_as_the_reference_does():
    theirs = scattered(mobile_sam().sam_model_registry["vit_t"]().image_encoder.train())
    ours = filled(MOBILE_SAM, theirs)
    pixels = image(MOBILE_SAM.side)
    with torch.inference_mode():
        assert relative(ours(pixels), theirs(pixels)) <= 1e-5
