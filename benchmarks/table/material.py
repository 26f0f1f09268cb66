"""Inputs of the contenders: the same weights in every form, a photograph in several sizes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

import fastseg
from benchmarks.table import official_onnx
from fastseg.export.model_folder import Card
from fastseg.export.networks.unet import UNet
from fastseg.export.sam import export_sam
from fastseg.export.unet import write_unet_folder
from fastseg.storage.atomic import atomic_file
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import NANO_WEIGHTS, nano_reference

VIEW, CHANNELS, CLASSES = "a4c", 3, 5
WIDTHS = {"unet-32": 32, "unet-16": 16}
"""The published network's width, and that of the one that comes with fastseg."""

FRAMES = 32


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of everything mode, the same for every contender."""

    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95


class Material:
    """A folder of models and images, filled once and shared by all processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def model(self, name: str) -> Path | str:
        """Return the argument of ``fastseg.load``."""
        embedded = {"sam-nano": "sam-nano", "unet-16": f"echo-{VIEW}"}
        return embedded.get(name) or self.folder / name / "model"

    def official(self, name: str) -> Path:
        """Return the folder of the official export."""
        return self.folder / name

    def reference(self, name: str) -> Any:
        """Load the model in the reference package."""
        if name == "sam-nano":
            return nano_reference()
        registry = segment_anything().sam_model_registry
        return registry["vit_b"](checkpoint=str(self.folder / name / "checkpoint.pth")).eval()

    def thresholds(self, name: str) -> Thresholds:
        """Read the thresholds that keep a realistic number of masks."""
        return Thresholds(**json.loads((self.folder / name / "thresholds.json").read_text()))

    def photograph(self, megapixels: int) -> Path:
        """Return a PNG file of the photograph, enlarged to about so many million pixels."""
        path = self.folder / f"photograph-{megapixels}.png"
        if not path.is_file():
            with atomic_file(path) as file:
                enlarged(megapixels).save(file, compress_level=1)
        return path

    def frames(self) -> NDArray[np.float32]:
        """Generate four-chamber frames, (n, 256, 256, 3), luma and chroma."""
        from training.echo.phantom import generate

        random = np.random.default_rng(2026)
        channels_first = np.stack([generate(random, VIEW).frame for _ in range(FRAMES)])
        return np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1))

    def prepare(self) -> None:
        """Write missing files: checkpoints, exports of either kind, thresholds."""
        for name in ("vit-b", "sam-nano"):
            folder = self.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "thresholds.json").is_file():
                if name == "vit-b":
                    self._vit_b()
                official_onnx.export(self.reference(name), self.official(name))
                self._choose_thresholds(name)
        if not (self.folder / "unet-32").exists():
            write_unet_folder(network(32), self.folder / "unet-32" / "model", VIEW, Card("random"))

    def _vit_b(self) -> None:
        """Write ViT-B with a random encoder and sam-nano's decoder, whose masks surround points."""
        checkpoint = self.folder / "vit-b" / "checkpoint.pth"
        torch.manual_seed(0)
        weights = segment_anything().sam_model_registry["vit_b"]().state_dict()
        trained = load_file(NANO_WEIGHTS).items()
        weights |= {name: value for name, value in trained if not name.startswith("image_encoder.")}
        torch.save(weights, checkpoint)
        export_sam(checkpoint, checkpoint.with_name("model"), name="vit-b-random-encoder")

    def _choose_thresholds(self, name: str) -> None:
        """Write thresholds that half of the masks pass: SAM's own keep hardly any of them."""
        wide = {"pred_iou_thresh": -1e9, "stability_score_thresh": -1.0, "box_nms_thresh": 1.0}
        with fastseg.load(self.model(name), precision="fp32") as model:
            masks = model.everything(self.photograph(1), points_per_side=8, **wide)
        medians = Thresholds(float(np.median(masks.scores)), float(np.median(masks.stability)))
        (self.folder / name / "thresholds.json").write_text(json.dumps(asdict(medians)))


def enlarged(megapixels: int) -> Image.Image:
    """Enlarge a photograph, ``skimage.data.coffee`` (600 x 400, CC0), 3:2."""
    from skimage.data import coffee

    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return Image.fromarray(coffee()).resize((round(1.5 * height), height), Image.Resampling.BICUBIC)


def network(width: int) -> UNet:
    """Build the published U-Net's layers at some width, with random weights."""
    torch.manual_seed(0)
    return UNet(CHANNELS, CLASSES, width).eval().requires_grad_(False)


if __name__ == "__main__":
    Material(Path(sys.argv[1])).prepare()
