"""SAM-Adapter computes what its description says, written plainly here over the reference's SAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from PIL import Image
from torch import nn
from torch.nn import functional

import fastseg
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import identify as identification
from fastseg.export.checkpoints.completion import with_adapter
from fastseg.export.checkpoints.identify import identify
from fastseg.export.checkpoints.kinds import KINDS, Kind
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.networks import sam_adapter
from fastseg.export.networks.high_pass import HighPass
from fastseg.export.networks.image_encoder import ImageEncoder, Shape
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from fastseg.export.promptable import export_checkpoint
from fastseg.sam.preprocessing import encoder_input
from tests.helpers.exported_sam import SMALL
from tests.helpers.random_weights import scattered
from tests.helpers.reference_sam import assembled_sam, reference_encoder
from tests.helpers.remembered_exports import remembered_exports

IMAGE = np.random.default_rng(3).integers(0, 256, (90, 140, 3), dtype=np.uint8)


class Adapter(nn.Module):
    """The layers of the adapter, under the names of the tuned file."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden = shape.width // 32
        self.shared_mlp = nn.Linear(hidden, shape.width)
        self.embedding_generator = nn.Linear(shape.width, hidden)
        for block in range(shape.depth):
            layer = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU())
            setattr(self, f"lightweight_mlp_{block}", layer)
        self.prompt_generator = nn.Module()
        self.prompt_generator.proj = nn.Conv2d(3, hidden, 16, 16)


class Plain(nn.Module):
    """The whole network: the reference's encoder and decoder, and the names of the tuned file."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        sam = assembled_sam(reference_encoder(shape), side=shape.side)
        self.image_encoder, self.mask_decoder = sam.image_encoder, sam.mask_decoder
        self.image_encoder.prompt_generator = Adapter(shape)
        self.pe_layer = sam.prompt_encoder.pe_layer
        self.no_mask_embed = nn.Embedding(1, 256)
        self.grid = shape.grid

    def encode(self, image: Any) -> Any:
        """Add the adapter's output in front of every block."""
        encoder, adapter = self.image_encoder, self.image_encoder.prompt_generator
        tokens = encoder.patch_embed(image)
        seen = adapter.prompt_generator.proj(high_pass(image)).permute(0, 2, 3, 1)
        shared = seen + adapter.embedding_generator(tokens)
        x = tokens + encoder.pos_embed
        for number, block in enumerate(encoder.blocks):
            own = getattr(adapter, f"lightweight_mlp_{number}")
            x = block(x + adapter.shared_mlp(own(shared)))
        return encoder.neck(x.permute(0, 3, 1, 2))

    def forward(self, image: Any) -> tuple[Any, Any]:
        """Decode slot 0 from no prompt at all: five tokens."""
        grid = (self.grid, self.grid)
        return self.mask_decoder(
            image_embeddings=self.encode(image),
            image_pe=self.pe_layer(grid).unsqueeze(0),
            sparse_prompt_embeddings=torch.zeros(1, 0, 256),
            dense_prompt_embeddings=self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(
                1, -1, *grid
            ),
            multimask_output=False,
        )


def high_pass(image: Any) -> Any:
    """Take the centred square of frequencies out; it holds a quarter of them."""
    height, width = image.shape[-2:]
    half = int((height * width * 0.25) ** 0.5 // 2)
    kept = torch.ones(height, width)
    kept[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half] = 0
    axes = (-2, -1)
    frequencies = torch.fft.fftshift(torch.fft.fft2(image), dim=axes) * kept
    return torch.fft.ifft2(torch.fft.ifftshift(frequencies, dim=axes)).real.abs()


def relative(actual: Any, expected: Any) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def small_kind() -> Kind:
    kind = next(kind for kind in KINDS if kind.name == "sam-adapter-vit-b")
    return replace(kind, build=lambda: sam_adapter.build(SMALL))


@pytest.fixture(scope="module")
def plain(vit_small) -> Any:
    """The network with random weights; its decoder is that of ``vit_small``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = scattered(Plain(SMALL))
    found.mask_decoder.load_state_dict(vit_small.reference().mask_decoder.state_dict())
    return found


@pytest.fixture
def small(monkeypatch) -> None:
    """Let the adapter and its base be recognised at a small size."""
    sam = replace(
        KINDS[0],
        build=lambda: SamModules(ImageEncoder(SMALL), PromptEncoder(16, 256), MaskDecoder()),
    )
    monkeypatch.setattr(identification, "KINDS", (sam, small_kind()))
    prepared = PREPARATIONS["sam-adapter"]
    scaled = replace(prepared, preprocessing=replace(prepared.preprocessing, side=256))
    monkeypatch.setattr(identification, "PREPARATIONS", {"sam-adapter": scaled})


@pytest.fixture(scope="module")
def whole(plain, tmp_path_factory) -> Path:
    """A whole tuned network, as a training script saves it."""
    return saved(tmp_path_factory.mktemp("adapters") / "whole.pth", plain.state_dict())


def saved(path: Path, weights: Mapping[str, Any]) -> Path:
    torch.save({"model": dict(weights), "epoch": 3}, path)
    return path


@pytest.mark.parametrize("side", [64, 256])
def test_the_high_pass_image_is_that_of_the_fourier_transform(side):
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert relative(HighPass(side)(image), high_pass(image.double())) <= 1e-6


def test_embedding_logits_and_score_equal_the_plain_network(plain):
    ours = small_kind().fill(plain.state_dict())
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, wanted, (logits, score) = plain.encode(image), image, plain(image)
        embedding = ours.image_encoder(wanted)
        sparse, dense = ours.prompt_encoder(torch.zeros(1, 2, 2), torch.ones(1, 2))
        positions = ours.prompt_encoder.dense_positions()
        found, scores = ours.mask_decoder(embedding, positions, sparse, dense)
    assert sparse.shape == (1, 0, 256)
    assert relative(embedding, expected) <= 1e-5
    assert relative(found[:, :1], logits) <= 1e-5
    assert relative(scores[:, :1], score) <= 1e-5


def test_neither_the_native_encoder_nor_the_native_decoder_takes_its_weights():
    with torch.device("meta"):
        modules = sam_adapter.build(SMALL)
    assert modules.encoder_weights() is None
    assert modules.decoder_weights() is None


def test_a_tuned_file_is_recognised_and_tells_its_preparation(small, whole):
    found = identify(whole)
    assert found.kind.name == "sam-adapter-vit-b"
    assert found.preparation == "sam-adapter"


def test_the_tuned_part_goes_over_its_base_and_keeps_its_own_positions(
    small, plain, whole, tmp_path
):
    weights = plain.state_dict()
    base = {
        **{name: each for name, each in weights.items() if "prompt_generator" not in name},
        **{
            f"prompt_encoder.{name}": torch.full(shape, 7.0)
            for name, shape in _shapes(PromptEncoder(16, 256)).items()
        },
    }
    for name in ("pe_layer.positional_encoding_gaussian_matrix", "no_mask_embed.weight"):
        del base[name]
    base["mask_decoder.iou_token.weight"] = torch.zeros(1, 256)
    own = {name: each for name, each in weights.items() if not _of_base(name)}
    file = saved(tmp_path / "base.pth", base)
    part = saved(tmp_path / "part.pth", own)
    found = identify(file, adapter=part)
    assert found.kind.name == "sam-adapter-vit-b"
    assert set(found.weights) == set(weights)
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)
    assert found.parts["adapter"]["file"] == "part.pth"
    assert set(identify(file, adapter=whole).weights) == set(weights)


def _of_base(name: str) -> bool:
    return name.startswith("image_encoder.") and "prompt_generator" not in name


def _shapes(module: nn.Module) -> dict[str, Any]:
    return {name: each.shape for name, each in module.state_dict().items()}


@pytest.mark.parametrize("lacking", ["pe_layer.", "no_mask_embed.", "mask_decoder."])
def test_what_only_the_tuned_file_has_is_never_taken_from_the_base(lacking, tmp_path):
    names = (f"{sam_adapter.GENERATOR}shared_mlp.weight", "mask_decoder.x", *sam_adapter.OWN)
    part = {name: torch.zeros(1) for name in names if not name.startswith(lacking)}
    file = saved(tmp_path / "part.pth", part)
    with pytest.raises(CheckpointError, match=rf"holds no {lacking}.*must not stand in"):
        with_adapter({}, file)


def test_an_adapter_of_another_base_is_refused(plain, whole):
    weights = plain.state_dict()
    other = {"image_encoder.pos_embed": torch.zeros(1, 16, 16, 128)}
    with pytest.raises(CheckpointError, match="of 64 channels, and that of the base has 128"):
        with_adapter(other, whole)
    with pytest.raises(CheckpointError, match="that of the base has other layers"):
        with_adapter({}, whole)
    moved = {**weights, "image_encoder.pos_embed": weights["image_encoder.pos_embed"] + 1}
    with pytest.raises(CheckpointError, match="whole network whose image encoder differs"):
        with_adapter(moved, whole)


def test_the_tuned_part_alone_asks_for_its_base(plain, tmp_path, small):
    own = {name: each for name, each in plain.state_dict().items() if not _of_base(name)}
    with pytest.raises(CheckpointError, match=r"its base.*--adapter part\.pth"):
        identify(saved(tmp_path / "part.pth", own))


def test_images_are_stretched_by_pillow_and_normalised():
    preprocessing = replace(PREPARATIONS["sam-adapter"].preprocessing, side=64)
    found = encoder_input(IMAGE, preprocessing.frame(IMAGE.shape[:2]), preprocessing)
    stretched = Image.fromarray(IMAGE).resize((64, 64), Image.Resampling.BILINEAR)
    normal = np.asarray(stretched) / 255 - [0.485, 0.456, 0.406]
    wanted = np.moveaxis(normal / [0.229, 0.224, 0.225], 2, 0)
    np.testing.assert_allclose(found[0], wanted, atol=2e-6)


@pytest.mark.slow
def test_an_exported_folder_segments_an_image_without_a_prompt(small, plain, whole, tmp_path):
    with remembered_exports():
        export_checkpoint(whole, tmp_path / "adapter")
    stretched = Image.fromarray(IMAGE).resize((256, 256), Image.Resampling.BILINEAR)
    normal = (np.asarray(stretched) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        logits, score = plain(torch.tensor(normal).float().permute(2, 0, 1)[None])
        drawn = _enlarged(_enlarged(logits, (256, 256)), IMAGE.shape[:2])
    for backend in ("onnxruntime", "openvino"):
        pytest.importorskip(backend, reason="the runtime is not installed")
        with fastseg.load(tmp_path / "adapter", backend=backend) as model:
            masks = model.segment(IMAGE)
        assert relative(torch.from_numpy(masks.logits), logits[0]) <= 1e-5
        assert relative(torch.from_numpy(masks.scores), score[0]) <= 1e-5
        assert (masks.array()[0] != (drawn[0, 0] > 0).numpy()).mean() <= 1e-5


def _enlarged(logits: Any, size: tuple[int, ...]) -> Any:
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)
