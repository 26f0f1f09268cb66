"""What the contenders run: the same weights in every form, and a photograph in several sizes."""

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
from tests.helpers.reference_sam import NANO_WEIGHTS, nano_reference
from tests.helpers.standins import segment_anything

VIEW, CHANNELS, CLASSES = "a4c", 3, 5
WIDTHS = {"unet-32": 32, "unet-16": 16}
"""The published network's width, and that of the one that comes with fastseg."""

FRAMES = 32


@dataclass(frozen=True)
class Thresholds:
    """Of everything mode, the same for every contender."""

    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95


class Material:
    """A folder that is filled once; every process finds what it needs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def model(self, name: str) -> Path | str:
        """What ``fastseg.load`` takes."""
        embedded = {"sam-nano": "sam-nano", "unet-16": f"echo-{VIEW}"}
        return embedded.get(name) or self.folder / name / "model"

    def official(self, name: str) -> Path:
        """The folder of the official export."""
        return self.folder / name

    def reference(self, name: str) -> Any:
        """The model in the reference package."""
        if name == "sam-nano":
            return nano_reference()
        registry = segment_anything().sam_model_registry
        return registry["vit_b"](checkpoint=str(self.folder / name / "checkpoint.pth")).eval()

    def thresholds(self, name: str) -> Thresholds:
        """What keeps a realistic number of masks."""
        return Thresholds(**json.loads((self.folder / name / "thresholds.json").read_text()))

    def photograph(self, megapixels: int) -> Path:
        """The photograph enlarged to about so many million pixels, as a PNG file."""
        path = self.folder / f"photograph-{megapixels}.png"
        if not path.is_file():
            with atomic_file(path) as file:
                enlarged(megapixels).save(file, compress_level=1)
        return path

    def frames(self) -> NDArray[np.float32]:
        """Generated four-chamber frames, (n, 256, 256, 3), luma and chroma."""
        from training.echo.phantom import generate

        random = np.random.default_rng(2026)
        channels_first = np.stack([generate(random, VIEW).frame for _ in range(FRAMES)])
        return np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1))

    def prepare(self) -> None:
        """Write what is not there yet: checkpoints, exports of either kind, thresholds."""
        for name in ("vit-b", "sam-nano"):
            place = self.folder / name
            place.mkdir(parents=True, exist_ok=True)
            if not (place / "thresholds.json").is_file():
                if name == "vit-b":
                    self._vit_b()
                official_onnx.export(self.reference(name), self.official(name))
                self._choose_thresholds(name)
        if not (self.folder / "unet-32").exists():
            write_unet_folder(network(32), self.folder / "unet-32" / "model", VIEW, Card("random"))

    def _vit_b(self) -> None:
        """ViT-B with a random encoder and sam-nano's decoder, which draws about its clicks."""
        checkpoint = self.folder / "vit-b" / "checkpoint.pth"
        torch.manual_seed(0)
        weights = segment_anything().sam_model_registry["vit_b"]().state_dict()
        trained = load_file(NANO_WEIGHTS).items()
        weights |= {name: value for name, value in trained if not name.startswith("image_encoder.")}
        torch.save(weights, checkpoint)
        export_sam(checkpoint, checkpoint.with_name("model"), name="vit-b-random-encoder")

    def _choose_thresholds(self, name: str) -> None:
        """Such that half of the masks pass each: with SAM's own, these networks keep hardly any."""
        wide = {"pred_iou_thresh": -1e9, "stability_score_thresh": -1.0, "box_nms_thresh": 1.0}
        with fastseg.load(self.model(name), precision="fp32") as model:
            masks = model.everything(self.photograph(1), points_per_side=8, **wide)
        medians = Thresholds(float(np.median(masks.scores)), float(np.median(masks.stability)))
        (self.folder / name / "thresholds.json").write_text(json.dumps(asdict(medians)))


def enlarged(megapixels: int) -> Image.Image:
    """A cup of coffee (``skimage.data.coffee``, 600 x 400, CC0), 3:2."""
    from skimage.data import coffee

    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return Image.fromarray(coffee()).resize((round(1.5 * height), height), Image.Resampling.BICUBIC)


def network(width: int) -> UNet:
    """The published U-Net's layers at some width, with random weights."""
    torch.manual_seed(0)
    return UNet(CHANNELS, CLASSES, width).eval().requires_grad_(False)


if __name__ == "__main__":
    Material(Path(sys.argv[1])).prepare()
