"""SAM's image encoders: their sizes, their weight names, and the reference's embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder, Shape
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from fastseg.export.onnx.writer import write
from tests.helpers.exported_sam import BOTH_SIZES
from tests.helpers.random_weights import scattered
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import reference_encoder

SMALL = Shape(width=48, depth=3, heads=3, global_blocks=(1,), side=256)
"""16 tokens a side, which windows of 14 do not divide."""

PARAMETERS = {"vit_b": 89_670_912, "vit_l": 308_278_272, "vit_h": 637_026_048}
ENTRIES = {"vit_b": 314, "vit_l": 482, "vit_h": 594}


def pair(shape: Shape):
    """The reference and ours with the same scattered weights."""
    theirs = scattered(reference_encoder(shape))
    with torch.device("meta"):
        ours = ImageEncoder(shape)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    return theirs, ours.eval().requires_grad_(False)


def random_image(side: int, count: int = 1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def relative(actual, expected) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("kind", SHAPES)
def test_every_size_has_the_published_number_of_weights(kind):
    with torch.device("meta"):
        encoder = ImageEncoder(SHAPES[kind])
        others = PromptEncoder(), MaskDecoder()
    assert sum(weight.numel() for weight in encoder.parameters()) == PARAMETERS[kind]
    assert sum(len(module.state_dict()) for module in (encoder, *others)) == ENTRIES[kind]


@pytest.mark.parametrize("kind", SHAPES)
def test_every_weight_of_every_size_has_the_name_and_shape_of_the_reference(kind):
    with torch.device("meta"):
        theirs = segment_anything().sam_model_registry[kind]().image_encoder.state_dict()
        ours = ImageEncoder(SHAPES[kind]).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


def test_window_and_global_attention_equal_the_reference():
    theirs, ours = pair(SMALL)
    image = random_image(SMALL.side)
    assert relative(ours(image).numpy(), theirs(image).numpy()) <= 1e-5


def test_a_graph_takes_any_number_of_images(tmp_path):
    _, ours = pair(SMALL)
    modules = SamModules(ours, PromptEncoder(SMALL.grid, SMALL.side), MaskDecoder())
    source = next(modules.sources())
    write(source, tmp_path / "encoder.onnx")
    images = random_image(SMALL.side, count=3)
    backend = OrtBackend(tmp_path / "encoder.onnx", source.graph, threads=2)
    found = backend.run({"image": images.numpy()})["embedding"]
    assert relative(found, ours(images).numpy()) <= 1e-5


@pytest.mark.parametrize("size", BOTH_SIZES)
def test_an_exported_graph_embeds_as_the_reference_does(size, request):
    sam = request.getfixturevalue(size)
    stored = artifacts.read(sam.folder).manifest.graphs["encoder"]
    image = random_image(sam.shape.side)
    with torch.inference_mode():
        expected = sam.reference().image_encoder(image).numpy()
    backend = OrtBackend(sam.folder / stored.file, stored.graph, threads=2)
    assert relative(backend.run({"image": image.numpy()})["embedding"], expected) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit_l", "vit_h"])
def test_blocks_of_larger_sizes_embed_as_the_reference_does(kind):
    """A window block and a global one; more are more of the same, and take gigabytes."""
    shape = replace(SHAPES[kind], depth=2, global_blocks=(1,))
    theirs, ours = pair(shape)
    image = random_image(1024)
    with torch.inference_mode():
        assert relative(ours(image).numpy(), theirs(image).numpy()) <= 1e-5
