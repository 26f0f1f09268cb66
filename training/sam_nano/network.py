"""sam-nano as it is trained: the three parts of SAM and an auxiliary head."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.nano_encoder import EMBEDDING_CHANNELS, NanoEncoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.onnx.float16_storage import LARGE
from training.sam_nano.batches import DENSE_CHANNELS, Batch, PromptBatch
from training.sam_nano.devices import autocast_disabled
from training.sam_nano.training_decoder import TransformerOutput, run_transformer

FREQUENCIES = (0.5, 4.0)
"""Range of the Fourier projection's deviation: from coarse to fine positions."""

TOKEN_SCALE = 0.3
LOCAL_GAIN = 1.5
EMBEDDING_SCALE = 0.3


class SamNano(nn.Module):
    """The network, whose state dict has SAM's prefixes and names."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.image_encoder = NanoEncoder()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()
        projection = self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        low, high = FREQUENCIES
        projection *= low * (high / low) ** torch.rand(projection.shape[1])
        localise_attention(self)

    def predict(
        self, embedding: Tensor, prompts: PromptBatch, corner: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return low-resolution logits (N, 4, 4 * grid, 4 * grid) and scores (N, 4), float32."""
        logits, scores = self.mask_decoder(embedding, *self._encode(embedding, prompts, corner))
        return logits.float(), scores.float()

    def transform(
        self, embedding: Tensor, prompts: PromptBatch, corner: tuple[int, int]
    ) -> tuple[TransformerOutput, Tensor]:
        """Run all but the mask head, fast to train: tokens and image, and scores (N, 4)."""
        encoded = self._encode(embedding, prompts, corner)
        transformed = run_transformer(self.mask_decoder, embedding, *encoded)
        scores = self.mask_decoder.iou_prediction_head(transformed.tokens[:, 0])
        return transformed, scores.float()

    def _encode(
        self, embedding: Tensor, prompts: PromptBatch, corner: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the positions of a window's tokens, and its prompts, sparse and dense."""
        grid = embedding.shape[-1]
        x, y = corner
        all_positions = self.prompt_encoder.dense_positions()
        positions = all_positions[:, :, y : y + grid, x : x + grid]
        with autocast_disabled(embedding.device):  # coordinates need all their digits
            sparse, dense = self.prompt_encoder(
                prompts.coords, prompts.labels, prompts.mask_prompts
            )
        return positions, sparse, dense


@torch.no_grad()
def localise_attention(network: SamNano) -> None:
    """Initialise attention as local, which usual initial weights take long to learn.

    Queries and keys of the cross attentions share one projection, so that equal positions attend
    to each other. Token and label embeddings start small beside positions, and so does the image
    embedding, for the same reason.
    """
    encoder, transformer = network.prompt_encoder, network.mask_decoder.transformer
    embeddings = [*encoder.point_embeddings, encoder.not_a_point_embed, encoder.no_mask_embed]
    for token in [*embeddings, network.mask_decoder.mask_tokens, network.mask_decoder.iou_token]:
        token.weight *= TOKEN_SCALE
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        nn.init.orthogonal_(attention.q_proj.weight, gain=LOCAL_GAIN)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        nn.init.zeros_(attention.q_proj.bias)
        nn.init.zeros_(attention.k_proj.bias)
    for last in (network.image_encoder.neck, network.image_encoder.lines):
        nn.init.constant_(last[1].weight, EMBEDDING_SCALE)


class AuxiliaryHead(nn.Module):
    """Predicts the dense targets of every mask pixel from the embedding; training only."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(EMBEDDING_CHANNELS, DENSE_CHANNELS * 16, 1)
        nn.init.zeros_(self.projection.weight)  # the head learns before the encoder follows it

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (B, 256, g, g) to (B, DENSE_CHANNELS, 4 * g, 4 * g)."""
        return functional.pixel_shuffle(self.projection(embedding), 4)


@torch.no_grad()
def fold_statistics(network: SamNano) -> None:
    """Multiply every batch normalisation into its convolution, in place; the function stays.

    The remaining normalisation divides by one and adds a bias.
    """
    for pair in network.image_encoder.modules():
        if not isinstance(pair, nn.Sequential) or not isinstance(pair[-1], nn.BatchNorm2d):
            continue
        convolution, norm = pair
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        convolution.weight *= scale[:, None, None, None]
        norm.bias -= norm.running_mean * scale
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)


@torch.no_grad()
def unfold_statistics(network: SamNano) -> None:
    """Give folded convolutions kernels of length one again, in place; the function stays.

    ``fold_statistics`` leaves kernels of any length, for which no step size fits: the optimiser's
    steps are of one size for all. The length goes to the normalisation.
    """
    for pair in network.image_encoder.modules():
        if isinstance(pair, nn.Sequential) and isinstance(pair[-1], nn.BatchNorm2d):
            convolution, norm = pair
            length = convolution.weight.flatten(1).norm(dim=1).clamp(min=1e-3)
            convolution.weight /= length[:, None, None, None]
            norm.weight *= length


def compact(network: SamNano) -> dict[str, Tensor]:
    """Return the weights with the large ones as float16, as the model folder stores them."""
    fold_statistics(network)
    return {
        name: (tensor.half() if tensor.numel() >= LARGE else tensor).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def freeze_statistics(network: nn.Module) -> None:
    """Make every batch normalisation use its running statistics."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


class RunningAverage:
    """A running average of a network's weights, smoother than those of the last step."""

    def __init__(self, network: SamNano) -> None:
        self.network = copy.deepcopy(network).eval()
        self.updates = 0

    @torch.no_grad()
    def update(self, network: SamNano) -> None:
        """Move towards ``network``; quickly at first, then over about 200 steps."""
        self.updates += 1
        share = max(1 / 200, 1 / (self.updates + 1))
        theirs = network.state_dict()
        for name, mine in self.network.state_dict().items():
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs[name], share)
            else:
                mine.copy_(theirs[name])


def disc_targets(batch: Batch, random: torch.Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return noise as an embedding, and simple targets: discs about points, ellipses in boxes."""
    images, side = batch.images.shape[0], batch.images.shape[-1]
    device = batch.images.device
    embedding = torch.randn(images, EMBEDDING_CHANNELS, side // 16, side // 16, generator=random)
    steps = (torch.arange(side // 4, device=device) + 0.5) * 4
    corner = torch.tensor(batch.corner, device=device) * 16.0
    targets = []
    for prompts in batch.prompts:
        coords = prompts.coords - corner
        middle = coords[:, :2].mean(dim=1) if prompts.has_boxes else coords[:, 0]
        reach = (
            (coords[:, 1] - coords[:, 0]).abs() / 2 + 2
            if prompts.has_boxes
            else torch.full_like(middle, 40)
        )
        x = (steps[None] - middle[:, :1]) / reach[:, :1]
        y = (steps[None] - middle[:, 1:]) / reach[:, 1:]
        targets.append(((x[:, None] ** 2 + y[:, :, None] ** 2) < 1).float())
    return EMBEDDING_SCALE * embedding.to(device), tuple(targets)
