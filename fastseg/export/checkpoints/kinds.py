"""The kinds of promptable networks that are exported, told apart by names and shapes of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias

import torch
from torch import Tensor

from fastseg.contract import guided_network
from fastseg.export.networks import (
    deeplab,
    efficient_sam,
    efficient_vit,
    hiera,
    rep_vit,
    ritm,
    sam2,
    sam_adapter,
    sam_hq,
    sam_med2d,
)
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.nano_encoder import NanoEncoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from fastseg.export.networks.tiny_vit import LITE_MEDSAM, MOBILE_SAM, TinyViT, TinyViTShape

Modules: TypeAlias = SamModules | GuidedModules
"""The torch modules of a network of either family."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One network: its modules, the names of its weights, and the preparations that fit it."""

    name: str
    """``source.kind`` of the model folder."""

    title: str
    build: Callable[[], Modules]
    """Makes the modules; on the meta device they take no memory."""

    preparations: tuple[str, ...]
    """Keys of ``PREPARATIONS`` that networks of this shape are trained with."""

    certain: bool = False
    """True if the shape alone tells the preparation."""

    unused: tuple[str, ...] = ()
    """Beginnings of names of weights that a file may hold and no mask depends on."""

    published_name: Callable[[str], str] = str
    """Turns the name of a module's weight into that of the checkpoint."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every weight by its name in a checkpoint."""
        return _shapes(self)

    def mismatch(self, weights: Mapping[str, Tensor]) -> Mismatch:
        """Compare the names and shapes of weights with those of this kind."""
        wanted = self.shapes()
        return Mismatch(
            missing=sorted(set(wanted) - set(weights)),
            extra=sorted(
                name for name in set(weights) - set(wanted) if not name.startswith(self.unused)
            ),
            misshapen=[
                f"{name} {tuple(weights[name].shape)} instead of {wanted[name]}"
                for name in sorted(set(wanted) & set(weights))
                if tuple(weights[name].shape) != wanted[name]
            ],
            shared=sum(
                tuple(weights[name].shape) == shape
                for name, shape in wanted.items()
                if name in weights
            ),
        )

    def fill(self, weights: Mapping[str, Tensor]) -> Modules:
        """Build the modules around weights that fit, widened to float32."""
        with torch.device("meta"):
            modules = self.build()
        for prefix, module in modules.by_prefix().items():
            own = {
                name: weights[self.published_name(f"{prefix}.{name}")].detach().float()
                for name in _stored(module)
            }
            module.load_state_dict(own, assign=True, strict=False)
        return modules


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The differences of a file's weights from those of a kind."""

    missing: list[str]
    extra: list[str]
    misshapen: list[str]
    shared: int
    """Weights of the same name and shape."""

    def __bool__(self) -> bool:
        """Return True if there is any difference."""
        return bool(self.missing or self.extra or self.misshapen)


@cache
def _shapes(kind: Kind) -> Mapping[str, tuple[int, ...]]:
    with torch.device("meta"):
        modules = kind.build()
    return {
        kind.published_name(f"{prefix}.{name}"): tuple(tensor.shape)
        for prefix, module in modules.by_prefix().items()
        for name, tensor in _stored(module).items()
    }


def _stored(module: torch.nn.Module) -> Mapping[str, Tensor]:
    """Return the state of a module, without the counters of batch normalisation."""
    state: Mapping[str, Tensor] = module.state_dict()
    return {name: each for name, each in state.items() if not name.endswith(COUNTER)}


COUNTER = "num_batches_tracked"
"""End of the names of counters, which are no weights."""


def _vit(kind: str) -> SamModules:
    shape = SHAPES[kind]
    return SamModules(ImageEncoder(shape), PromptEncoder(shape.grid, shape.side), MaskDecoder())


def _tiny_vit(shape: TinyViTShape) -> SamModules:
    return SamModules(TinyViT(shape), PromptEncoder(shape.grid, shape.side), MaskDecoder())


def _nano() -> SamModules:
    return SamModules(NanoEncoder(), PromptEncoder(), MaskDecoder())


def _deeplab() -> GuidedModules:
    return GuidedModules(deeplab.DeepLab(), guided_network(1, size=(deeplab.SIDE, deeplab.SIDE)))


def _ritm(shape: ritm.RitmShape) -> GuidedModules:
    return GuidedModules(ritm.Ritm(shape), guided_network(ritm.SIDE_CHANNELS))


_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""The classifier that TinyViT was first trained with, which MobileSAM's file still holds."""

KINDS = (
    Kind("sam-nano", "sam-nano", _nano, ("sam",), certain=True),
    *(
        Kind(name, f"SAM ViT-{name[-1].upper()}", partial(_vit, name), ("sam", "medsam"))
        for name in SHAPES
    ),
    Kind("mobile-sam", "MobileSAM", partial(_tiny_vit, MOBILE_SAM), ("sam",), unused=_CLASSIFIER),
    Kind(
        "lite-medsam",
        "LiteMedSAM",
        partial(_tiny_vit, LITE_MEDSAM),
        ("lite-medsam",),
        certain=True,
        unused=_CLASSIFIER,
    ),
    *(
        Kind(
            f"sam2-hiera-{size.replace('_', '-')}",
            f"SAM 2 or 2.1, Hiera {size.replace('_', '-')}",
            partial(sam2.build, shape),
            ("sam2",),
            unused=sam2.MEMORY,
            published_name=sam2.published_name,
        )
        for size, shape in hiera.SHAPES.items()
    ),
    *(
        Kind(
            f"sam-adapter-{name.replace('_', '-')}",
            f"SAM-Adapter ViT-{name[-1].upper()}",
            partial(sam_adapter.build, shape),
            ("sam-adapter",),
            certain=True,
            published_name=sam_adapter.published_name,
        )
        for name, shape in SHAPES.items()
    ),
    Kind(
        "light-hq-sam",
        "Light HQ-SAM",
        partial(sam_hq.build_light, MOBILE_SAM),
        ("sam-hq",),
        certain=True,
        unused=_CLASSIFIER,
        published_name=sam_hq.published_name,
    ),
    *(
        Kind(
            f"sam-hq-{name.replace('_', '-')}",
            f"SAM-HQ ViT-{name[-1].upper()}",
            partial(sam_hq.build, shape),
            ("sam-hq",),
            certain=True,
            published_name=sam_hq.published_name,
        )
        for name, shape in SHAPES.items()
    ),
    Kind("sam-med2d", "SAM-Med2D", sam_med2d.build, ("sam-med2d",), certain=True),
    *(
        Kind(
            f"efficientvit-sam-{size}",
            f"EfficientViT-SAM {size.upper()}",
            partial(efficient_vit.build, shape),
            # The larger ones take images as SAM does.
            ("efficientvit-sam" if shape.is_large else "sam",),
            certain=True,
        )
        for size, shape in efficient_vit.SHAPES.items()
    ),
    Kind(
        "edge-sam",
        "EdgeSAM",
        partial(rep_vit.build, rep_vit.EDGE_SAM),
        ("sam",),
        certain=True,
        unused=("rpn",),
    ),
    *(
        Kind(
            f"efficient-sam-{size}",
            f"EfficientSAM {size.capitalize()}",
            partial(efficient_sam.build, shape),
            ("efficient-sam",),
            certain=True,
            published_name=efficient_sam.published_name,
        )
        for size, shape in efficient_sam.SHAPES.items()
    ),
    *(
        Kind(name, f"RITM, HRNet-W{name[6:]}", partial(_ritm, shape), ("ritm",), certain=True)
        for name, shape in ritm.SHAPES.items()
    ),
    Kind(
        "deeplabv3plus-box",
        "DeepLabV3+ (ResNet-50) with a box channel",
        _deeplab,
        ("deeplab-box",),
        certain=True,
    ),
)
"""Every kind that is exported, smaller ones of a family first."""
