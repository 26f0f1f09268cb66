"""A network in fine-tuning: the weights that are trained, and what is saved of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastseg.export.networks.sam import SamModules
from fastseg.export.networks.sam_adapter import GENERATOR
from training.finetune.low_rank import LowRankPair, add_pairs
from training.finetune.settings import Settings
from training.finetune.squares import Points

NO_MASK = "prompt_encoder.no_mask_embed.weight"
"""Embedding that stands for no mask prompt; without any prompt it is trained too."""

SMALL_PARTS = ("mask_tokens.", "output_hypernetworks_mlps.", "iou_prediction_head.")
"""Parts of the decoder that ``lora`` trains whole: they turn tokens to masks and scores."""


class TunedNetwork:
    """Modules of SAM's shape of which a part is trained.

    Args:
        modules: Changed in place.
        settings: Method, prompt and seed.
        published_name: Turns the name of a module's weight into that of a checkpoint.
        device: Of torch.
    """

    def __init__(
        self,
        modules: SamModules,
        settings: Settings,
        published_name: Callable[[str], str],
        device: torch.device,
    ) -> None:
        self.modules = modules
        self.settings = settings
        self.device = device
        self._published_name = published_name
        for module in modules.by_prefix().values():
            module.eval().requires_grad_(False).to(device)
        self.pairs: list[LowRankPair] = []
        if settings.method == "lora":
            self.pairs = add_pairs(modules, settings.rank, settings.seed, published_name)
        for name, weight in self._named():
            weight.requires_grad_(self._is_trained(name))

    @property
    def encoder_is_frozen(self) -> bool:
        """True if an image's embedding stays the same throughout training."""
        return not any(weight.requires_grad for weight in self.modules.image_encoder.parameters())

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by their names in the modules."""
        return {name: weight for name, weight in self._named() if weight.requires_grad}

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Run the encoder on (1, 3, side, side); embedding first, then further maps."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_is_frozen):
            return tuple(self.modules.encode(pixels.to(self.device)).values())

    def decode(self, encoded: tuple[Tensor, ...], points: Points | None) -> tuple[Tensor, Tensor]:
        """Return logits (prompts, slots, h, w) and scores (prompts, slots); one prompt if None."""
        encoder, decoder = self.modules.prompt_encoder, self.modules.mask_decoder
        embedding, *maps = encoded
        if points is None:
            sparse = embedding.new_zeros(1, 0, embedding.shape[1])
        else:
            coords, labels = points.coords.to(self.device), points.labels.to(self.device)
            sparse = encoder.embed_points(coords, labels)
        logits, scores = decoder(
            embedding, encoder.dense_positions(), sparse, encoder.embed_mask(), *maps
        )
        return logits, scores

    def saved(self) -> dict[str, Tensor]:
        """Return what ``fastseg export`` takes over the base, by names of checkpoints."""
        found: dict[str, Tensor] = {}
        if self.settings.method != "lora":  # an export takes whole decoders alone
            decoder = self.modules.mask_decoder.state_dict()
            found = {self._published_name(f"mask_decoder.{n}"): each for n, each in decoder.items()}
        if self.settings.method == "adapter":  # and the positions of the tuned file
            positions = self.modules.prompt_encoder.pe_layer.state_dict()
            for name, each in positions.items():
                found[self._published_name(f"prompt_encoder.pe_layer.{name}")] = each
        if self.settings.method == "lora":
            found = {
                name: side
                for pair in self.pairs
                for name, side in (
                    (pair.down_name, pair.change.down),
                    (pair.up_name, pair.change.up),
                )
            }
        for name, weight in self.trained().items():
            if ".parametrizations." not in name:
                found[self._published_name(name)] = weight
        return {name: each.detach().cpu().contiguous().clone() for name, each in found.items()}

    def state(self) -> dict[str, Tensor]:
        """Return copies of the trained parameters."""
        return {name: weight.detach().clone() for name, weight in self.trained().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Set the trained parameters."""
        for name, weight in self.trained().items():
            weight.copy_(state[name])

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        for prefix, module in self.modules.by_prefix().items():
            for name, weight in module.named_parameters():
                yield f"{prefix}.{name}", weight

    def _is_trained(self, name: str) -> bool:
        if name == NO_MASK:
            return self.settings.prompt == "none"
        if self.settings.method != "lora":
            return name.startswith(("mask_decoder.", GENERATOR))
        part = name.removeprefix("mask_decoder.")
        return name.endswith((".down", ".up")) or part.startswith(SMALL_PARTS)
