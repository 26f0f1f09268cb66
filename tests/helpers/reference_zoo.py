"""Reference packages of published networks, importable where their own needs have no build.

Substitutes stand for the functions of torchvision and timm that they use, with the same semantics;
for hydra, which only builds from configuration files, stands nothing that does anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.reference_package import batched_nms, box_area, resize, to_pil_image


class DropPath(nn.Identity):
    """Stochastic depth, which does nothing outside of training."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


class Resize(nn.Module):
    """A bilinear resize of a float tensor (3, H, W), with antialiasing."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, image: Tensor) -> Tensor:
        size = [self.height, self.width]
        return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


class Normalize(nn.Module):
    """Subtract a mean and divide by a deviation, each a colour."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean[:, None, None]) / self.std[:, None, None]


class ToTensor:
    """uint8 (H, W, 3), or a Pillow image, to float (3, H, W) in 0..1."""

    def __call__(self, image: Any) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class _Step(nn.Module):
    """Any callable as a part of a sequence."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: Any) -> Any:
        return self.function(value)


class _GlobalHydra:
    @staticmethod
    def instance() -> _GlobalHydra:
        return _GlobalHydra()

    @staticmethod
    def is_initialized() -> bool:
        return True


_SUBSTITUTES: Mapping[str, Mapping[str, Any]] = {
    "torchvision": {},
    "torchvision.transforms": {
        "Resize": Resize,
        "Normalize": Normalize,
        "ToTensor": ToTensor,
        "Compose": lambda steps: nn.Sequential(*map(_Step, steps)),
    },
    "torchvision.transforms.functional": {"resize": resize, "to_pil_image": to_pil_image},
    "torchvision.ops": {},
    "torchvision.ops.boxes": {"batched_nms": batched_nms, "box_area": box_area},
    "timm": {},
    "timm.models": {},
    "timm.models.layers": {
        "DropPath": DropPath,
        "to_2tuple": lambda value: value if isinstance(value, tuple) else (value, value),
        "trunc_normal_": lambda *_, **__: None,
    },
    "timm.models.registry": {"register_model": lambda function: function},
    "hydra": {"initialize_config_module": lambda *_, **__: None},
    "hydra.core": {},
    "hydra.core.global_hydra": {"GlobalHydra": _GlobalHydra},
    "iopath": {},
    "iopath.common": {},
    "iopath.common.file_io": {"g_pathmgr": None},
}


@contextmanager
def substitutes() -> Iterator[None]:
    """Put a substitute where a package is missing; they leave ``sys.modules`` again."""
    roots = {name.partition(".")[0] for name in _SUBSTITUTES}
    missing = {name for name in roots if importlib.util.find_spec(name) is None}
    put = [name for name in _SUBSTITUTES if name.partition(".")[0] in missing]
    for name in put:
        module = ModuleType(name)
        vars(module).update(_SUBSTITUTES[name])
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in put:
            del sys.modules[name]


def imported(name: str) -> ModuleType:
    """Import a reference package or a module of it, or skip the test."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"the reference, {name.partition('.')[0]}, is not installed")
    with substitutes():
        return importlib.import_module(name)


def mobile_sam() -> ModuleType:
    """Import the reference of MobileSAM."""
    return imported("mobile_sam")


def efficient_vit_sam(size: str) -> Any:
    """Build EfficientViT-SAM as its own builder does: size ``"l0"`` to ``"xl1"``."""
    zoo = imported("efficientsam.sam_model_zoo")
    with substitutes():
        return zoo.create_efficientvit_sam_model(f"efficientvit-sam-{size}", pretrained=False)


def sam2_model(size: str, version: str = "2.1") -> Any:
    """Build SAM 2 as its configuration file states: size ``"t"``, ``"s"``, ``"b+"`` or ``"l"``."""
    yaml = pytest.importorskip("yaml", reason="configurations of sam2 are YAML")
    package = imported("sam2")
    folder = Path(str(package.__file__)).parent / "configs" / f"sam{version}"
    text = (folder / f"sam{version}_hiera_{size}.yaml").read_text()
    with substitutes():
        model = _built(yaml.safe_load(text)["model"])
    # The package's own builder adds these to the file.
    decoder = model.sam_mask_decoder
    decoder.dynamic_multimask_via_stability = True
    decoder.dynamic_multimask_stability_delta = 0.05
    decoder.dynamic_multimask_stability_thresh = 0.98
    return model


def _built(node: Any) -> Any:
    if isinstance(node, list):
        return [_built(each) for each in node]
    if not isinstance(node, dict):
        return float(node) if node == "1e-6" else node  # YAML 1.1 reads it as text
    arguments = {name: _built(each) for name, each in node.items() if name != "_target_"}
    if "_target_" not in node:
        return arguments
    module, _, name = node["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**arguments)
