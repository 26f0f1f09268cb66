"""sam-nano as it is trained: the three parts of SAM and a throw-away head for dense hints."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.fp16.storage import LARGE
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.nano_encoder import EMBEDDING_CHANNELS, NanoEncoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from training.sam_nano.batches import DENSE_CHANNELS, Batch, Questions
from training.sam_nano.devices import full
from training.sam_nano.training_decoder import Exchanged, exchange

FREQUENCIES = (0.5, 4.0)
"""Deviation of the Fourier projection, spread over this range: coarse and fine places."""

KIND_SCALE = 0.3
LOCAL_GAIN = 1.5
EMBEDDING_SCALE = 0.3


class SamNano(nn.Module):
    """The network whose state dict is the checkpoint; prefixes and names are SAM's."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.image_encoder = NanoEncoder()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()
        projection = self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        low, high = FREQUENCIES
        projection *= low * (high / low) ** torch.rand(projection.shape[1])
        start_local(self)

    def answer(
        self, embedding: Tensor, questions: Questions, corner: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, 4, 4 * grid, 4 * grid) and scores (N, 4), float32."""
        logits, scores = self.mask_decoder(embedding, *self._encoded(embedding, questions, corner))
        return logits.float(), scores.float()

    def consider(
        self, embedding: Tensor, questions: Questions, corner: tuple[int, int]
    ) -> tuple[Exchanged, Tensor]:
        """The same before masks are drawn, fast to train: tokens and image, and scores (N, 4)."""
        encoded = self._encoded(embedding, questions, corner)
        exchanged = exchange(self.mask_decoder, embedding, *encoded)
        scores = self.mask_decoder.iou_prediction_head(exchanged.tokens[:, 0])
        return exchanged, scores.float()

    def _encoded(
        self, embedding: Tensor, questions: Questions, corner: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The positions of a window's tokens, and its prompts, sparse and dense."""
        grid = embedding.shape[-1]
        x, y = corner
        everywhere = self.prompt_encoder.dense_positions()
        positions = everywhere[:, :, y : y + grid, x : x + grid]
        with full(embedding.device):  # places need all their digits
            sparse, dense = self.prompt_encoder(questions.coords, questions.labels, questions.rough)
        return positions, sparse, dense


@torch.no_grad()
def start_local(network: SamNano) -> None:
    """Let attention begin as "look at what is near", which a usual start takes long to find.

    Queries and keys of the cross attentions share one projection, so that equal places attend to
    each other, and what says only which kind a token is gets small beside where it is. The
    embedding starts small too, for the same reason.
    """
    encoder, transformer = network.prompt_encoder, network.mask_decoder.transformer
    kinds = [*encoder.point_embeddings, encoder.not_a_point_embed, encoder.no_mask_embed]
    for kind in [*kinds, network.mask_decoder.mask_tokens, network.mask_decoder.iou_token]:
        kind.weight *= KIND_SCALE
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


class Hints(nn.Module):
    """Reads what the encoder knows about every mask pixel off the embedding; training only."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Conv2d(EMBEDDING_CHANNELS, DENSE_CHANNELS * 16, 1)
        nn.init.zeros_(self.read.weight)  # it learns to read before the encoder follows it

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (B, 256, g, g) to (B, DENSE_CHANNELS, 4 * g, 4 * g)."""
        return functional.pixel_shuffle(self.read(embedding), 4)


@torch.no_grad()
def fold_statistics(network: SamNano) -> None:
    """Multiply every batch normalisation into its convolution, in place; the function stays.

    What remains of the normalisation divides by one and adds a bias.
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

    What ``fold_statistics`` leaves are kernels of any length, for which no step size fits: the
    optimiser's steps are of one size for all. The length goes to the normalisation.
    """
    for pair in network.image_encoder.modules():
        if isinstance(pair, nn.Sequential) and isinstance(pair[-1], nn.BatchNorm2d):
            convolution, norm = pair
            length = convolution.weight.flatten(1).norm(dim=1).clamp(min=1e-3)
            convolution.weight /= length[:, None, None, None]
            norm.weight *= length


def compact(network: SamNano) -> dict[str, Tensor]:
    """The weights with the large ones as float16, which is how the model folder stores them."""
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


class Average:
    """A slowly following copy of a network: smoother than the last step, and what is kept."""

    def __init__(self, network: SamNano) -> None:
        self.network = copy.deepcopy(network).eval()
        self.updates = 0

    @torch.no_grad()
    def follow(self, network: SamNano) -> None:
        """Move towards ``network``; quickly at first, then over about 200 steps."""
        self.updates += 1
        share = max(1 / 200, 1 / (self.updates + 1))
        theirs = network.state_dict()
        for name, mine in self.network.state_dict().items():
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs[name], share)
            else:
                mine.copy_(theirs[name])


def discs(batch: Batch, random: torch.Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Noise instead of an embedding, and simple answers: discs about clicks, ellipses in boxes."""
    images, side = batch.images.shape[0], batch.images.shape[-1]
    device = batch.images.device
    embedding = torch.randn(images, EMBEDDING_CHANNELS, side // 16, side // 16, generator=random)
    steps = (torch.arange(side // 4, device=device) + 0.5) * 4
    corner = torch.tensor(batch.corner, device=device) * 16.0
    answers = []
    for questions in batch.questions:
        coords = questions.coords - corner
        middle = coords[:, :2].mean(dim=1) if questions.boxed else coords[:, 0]
        reach = (
            (coords[:, 1] - coords[:, 0]).abs() / 2 + 2
            if questions.boxed
            else torch.full_like(middle, 40)
        )
        x = (steps[None] - middle[:, :1]) / reach[:, :1]
        y = (steps[None] - middle[:, 1:]) / reach[:, 1:]
        answers.append(((x[:, None] ** 2 + y[:, :, None] ** 2) < 1).float())
    return EMBEDDING_SCALE * embedding.to(device), tuple(answers)
