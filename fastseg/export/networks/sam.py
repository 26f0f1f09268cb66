"""The networks of one SAM, and the graphs that they become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastseg.contract import MASK_SLOTS, DType, GraphSpec, TensorSpec
from fastseg.export.networks.image_encoder import ImageEncoder, VisionTransformer
from fastseg.export.networks.mask_decoder import EPSILON, HEADS, MaskDecoder
from fastseg.export.networks.plain_encoder import PlainEncoder
from fastseg.export.networks.prompt_encoder import WIDTH, NoPromptEncoder, PromptEncoder
from fastseg.export.networks.reassociated_decoder import (
    Decoder,
    ImageState,
    MaskHead,
    MaskPromptDecoder,
)
from fastseg.export.onnx.writer import Source

_NATIVE = (ImageEncoder, PlainEncoder)
"""Encoders that the native kernel knows; what is derived from them has further parts."""

NativeParts: TypeAlias = tuple[type[PromptEncoder], type[MaskDecoder]]

TRACED = {"images": 1, "prompts": 5, "points": 3, "survivors": 6, "masks": 2}
"""Sizes that modules are traced with; see ``onnx.writer.Source``."""


@dataclass(frozen=True, slots=True)
class SamModules:
    """An image encoder of any kind, with SAM's prompt encoder and mask decoder.

    The image encoder maps (B, 3, image_side, image_side) to (B, 256, grid, grid).
    """

    image_encoder: nn.Module
    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder

    native_parts: ClassVar[NativeParts] = (PromptEncoder, MaskDecoder)
    """Prompt encoder and decoder that the native kernel knows; derived ones have further parts."""

    input_side: int | None = None
    """Side of the encoder's input in pixels, where it is not that of the square of prompts."""

    @property
    def side(self) -> int:
        """Side of the square that prompts are placed in, in pixels."""
        return self.prompt_encoder.side

    @property
    def image_side(self) -> int:
        """Side of the square input of the encoder in pixels."""
        return self.side if self.input_side is None else self.input_side

    def by_prefix(self) -> Mapping[str, nn.Module]:
        """Return the modules by the prefix of their weights in a checkpoint."""
        return {
            "image_encoder": self.image_encoder,
            "prompt_encoder": self.prompt_encoder,
            "mask_decoder": self.mask_decoder,
        }

    def without_prompts(self) -> SamModules:
        """Return the network as one that takes no prompt; its weights are the same."""
        if isinstance(self.prompt_encoder, NoPromptEncoder):
            return self
        return replace(self, prompt_encoder=NoPromptEncoder.of(self.prompt_encoder))

    def decoder_weights(self) -> dict[str, NDArray[np.float32]] | None:
        """Collect every weight of prompt encoder and mask decoder, by its name in a checkpoint.

        None for a decoder or prompts that the native kernel does not know.
        """
        if (type(self.prompt_encoder), type(self.mask_decoder)) != self.native_parts:
            return None
        found = {
            f"{prefix}.{name}": tensor.detach().float().numpy()
            for prefix, module in self.by_prefix().items()
            if prefix != "image_encoder"
            for name, tensor in module.state_dict().items()
        }
        if self.mask_decoder.epsilon != EPSILON:
            epsilon = np.array([self.mask_decoder.epsilon], np.float32)
            found["mask_decoder.transformer.epsilon"] = epsilon
        return found

    def encoder_weights(self) -> dict[str, NDArray[np.float32]] | None:
        """Collect every weight of an image encoder that the native kernel knows; None for another.

        Names are those of a checkpoint, except that a linear layer's ``weight`` (out, in) is stored
        as its ``kernel`` (in, out), the operand of graphs and kernels.
        """
        encoder = self.image_encoder
        if not isinstance(encoder, VisionTransformer) or type(encoder) not in _NATIVE:
            return None
        return transformer_weights(encoder)

    def sources(self) -> Iterator[Source]:
        """Yield the source of each graph, in the order in which they run."""
        prompts, decoder = self.prompt_encoder, self.mask_decoder
        grid = prompts.grid
        length, channels = grid * grid, WIDTH // 2 // HEADS
        embedding = _port("embedding", "images", WIDTH, grid, grid)
        shared = (
            _port("shared_image", 1, 1, length, WIDTH),
            _port("shared_keys", 1, HEADS, channels, length),
            _port("shared_values", 1, HEADS, length, channels),
            _port("shared_queries", 1, HEADS, channels, length),
        )
        points = (
            _port("point_coords", "prompts", "points", 2),
            _port("point_labels", "prompts", "points", dtype="int32"),
        )
        mask_input = _port("mask_input", "prompts", 1, 4 * grid, 4 * grid)
        found = (
            _port("iou_predictions", "prompts", MASK_SLOTS),
            _port("mask_vectors", "prompts", MASK_SLOTS, decoder.vector),
            _port("image_tokens", "prompts", 1, length, WIDTH),
            *self.decoder_ports(),
        )
        survivors = (
            _port("image_tokens", "survivors", 1, length, WIDTH),
            _port("mask_vectors", "survivors", "masks", decoder.vector),
        )
        logits = _port("low_res_logits", "survivors", "masks", 4 * grid, 4 * grid)

        image = _port("image", "images", 3, self.image_side, self.image_side)
        maps = self.map_ports()
        encoder = _source(
            "encoder", self.image_encoder, (image,), (embedding, *maps), batch="images"
        )
        yield replace(
            encoder, blocks="blocks" if type(self.image_encoder) is ImageEncoder else None
        )
        one = (_port("embedding", 1, WIDTH, grid, grid),)
        yield _source("image_state", ImageState(prompts, decoder), one, shared)
        yield _source("decoder", Decoder(prompts, decoder), (*points, *shared), found)
        if prompts.takes_masks:
            masked = (*points, mask_input, shared[0])
            yield _source("decoder_mask", MaskPromptDecoder(prompts, decoder), masked, found)
        of_one = tuple(replace(port, shape=(1, *port.shape[1:])) for port in maps)
        yield _source("mask_head", self.mask_head(), (*survivors, *of_one), (logits,))

    def map_ports(self) -> tuple[TensorSpec, ...]:
        """Describe further outputs of the encoder, which the mask head takes; SAM has none."""
        return ()

    def decoder_ports(self) -> tuple[TensorSpec, ...]:
        """Describe further outputs of the decoder; SAM has none."""
        return ()

    def mask_head(self) -> MaskHead:
        """Build the second stage of the decoder."""
        return MaskHead(self.mask_decoder, self.prompt_encoder.grid)

    def encode(self, image: Tensor) -> dict[str, Tensor]:
        """Run the encoder; return its outputs by their names in the graph."""
        found = self.image_encoder(image)
        outputs = found if isinstance(found, tuple) else (found,)
        names = ("embedding", *(port.name for port in self.map_ports()))
        return dict(zip(names, outputs, strict=True))


def transformer_weights(encoder: VisionTransformer) -> dict[str, NDArray[np.float32]]:
    """Collect the weights of a vision transformer, named as ``encoder_weights`` says."""
    linear = {name for name, part in encoder.named_modules() if isinstance(part, nn.Linear)}
    found = {}
    for name, tensor in encoder.weights_as_published().items():
        weight = tensor.detach().float()
        owner, _, last = name.rpartition(".")
        if owner in linear and last == "weight":
            # Torch transposes in half the time that NumPy takes.
            found[f"{owner}.kernel"] = weight.t().contiguous().numpy()
        else:
            found[name] = weight.numpy()
    return found


def _port(name: str, *shape: int | str, dtype: DType = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


def _source(
    name: str,
    module: nn.Module,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    batch: str | None = None,
) -> Source:
    module.eval().requires_grad_(False)
    examples = tuple(_example(port) for port in inputs)
    return Source(GraphSpec(name, inputs, outputs), module, examples, batch)


def _example(port: TensorSpec) -> Tensor:
    shape = [size if isinstance(size, int) else TRACED[size] for size in port.shape]
    return torch.zeros(shape, dtype=getattr(torch, port.dtype))
