"""RITM written plainly in PyTorch from its description: the network by names, and its predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.ritm import RitmShape

Click = tuple[float, float, bool]
"""Row, column, and whether it is foreground."""


def random_weights(module: nn.Module, *, seed: int = 0, share: float = 0.93) -> nn.Module:
    """Give a network weights with which every term counts, and masks that are neither all nor none.

    The statistics of batch norms are random too; logits have a deviation of 3, and of a generated
    image about this share is below 0.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                deviation = (2 / part.weight[0].numel()) ** 0.5
                part.weight.copy_(deviation * torch.randn(part.weight.shape, generator=random))
                if part.bias is not None:
                    part.bias.copy_(0.1 * torch.randn(part.bias.shape, generator=random))
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(0.5 + torch.rand(part.weight.shape, generator=random))
                part.bias.copy_(0.1 * torch.randn(part.bias.shape, generator=random))
                part.running_mean.copy_(0.1 * torch.randn(part.bias.shape, generator=random))
                part.running_var.copy_(1 + torch.rand(part.bias.shape, generator=random))
        module.maps_transform[3].scale.fill_(-0.7)
        module.eval()
        coarse, guidance = torch.randn(1, 3, 8, 8, generator=random), torch.zeros(1, 3, 96, 96)
        guidance[:, 1, 40:49, 40:49] = 1
        image = functional.interpolate(coarse, (96, 96), mode="bilinear")
        logits, head = module(image, guidance), module.feature_extractor.cls_head
        gain = 3 / logits.std()
        head.weight.mul_(gain)
        head.bias.copy_((head.bias - logits.quantile(share)) * gain)
    return module.requires_grad_(False)


class Network:
    """The forward pass over a state dict of published names.

    Args:
        weights: The state dict.
        shape: Numbers of blocks and modules, and channels of the object attention.
    """

    def __init__(self, weights: Mapping[str, Tensor], shape: RitmShape) -> None:
        self.w = {name.removeprefix("feature_extractor."): each for name, each in weights.items()}
        self.blocks, self.modules, self.key = shape.trunk.blocks, shape.trunk.modules, shape.key

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.w[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return functional.conv2d(x, weight, self.w.get(f"{name}.bias"), stride, padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"]
        scale, shift = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return functional.batch_norm(x, mean, var, scale, shift, eps=1e-5)

    def step(self, conv: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
        return functional.relu(self.norm(norm, self.conv(conv, x, stride)))

    def basic(self, name: str, x: Tensor) -> Tensor:
        y = self.step(f"{name}.conv1", f"{name}.bn1", x)
        return functional.relu(self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y)) + x)

    def bottleneck(self, name: str, x: Tensor) -> Tensor:
        y = self.step(f"{name}.conv1", f"{name}.bn1", x)
        y = self.step(f"{name}.conv2", f"{name}.bn2", y)
        y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in self.w:
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x))
        return functional.relu(y + x)

    def exchange(self, name: str, maps: list[Tensor]) -> list[Tensor]:
        for branch in range(len(maps)):
            for block in range(self.blocks):
                maps[branch] = self.basic(f"{name}.branches.{branch}.{block}", maps[branch])
        mixed = []
        for i in range(len(maps)):
            total = torch.zeros_like(maps[i])
            for j in range(len(maps)):
                fuse = f"{name}.fuse_layers.{i}.{j}"
                y = maps[j]
                if j > i:
                    total = total + resize(self.norm(f"{fuse}.1", self.conv(f"{fuse}.0", y)), total)
                    continue
                for k in range(i - j):
                    y = self.norm(f"{fuse}.{k}.1", self.conv(f"{fuse}.{k}.0", y, 2))
                    y = functional.relu(y) if k < i - j - 1 else y
                total = total + y
            mixed.append(functional.relu(total))
        return mixed

    def trunk(self, image: Tensor, side: Tensor) -> Tensor:
        x = self.step("conv1", "bn1", image, 2) + side
        x = self.step("conv2", "bn2", x, 2)
        for block in range(self.blocks):
            x = self.bottleneck(f"layer1.{block}", x)
        maps = [
            self.step("transition1.0.0", "transition1.0.1", x),
            self.step("transition1.1.0.0", "transition1.1.0.1", x, 2),
        ]
        for stage, count in zip((2, 3, 4), self.modules, strict=True):
            for module in range(count):
                maps = self.exchange(f"stage{stage}.{module}", maps)
            if stage < 4:
                new = f"transition{stage}.{stage}.0"
                maps.append(self.step(f"{new}.0", f"{new}.1", maps[-1], 2))
        return torch.cat([resize(each, maps[0]) for each in maps], 1)

    def attention(self, name: str, x: Tensor, steps: int) -> Tensor:
        for at in range(0, 2 * steps, 2):
            x = self.step(f"{name}.{at}", f"{name}.{at + 1}.0", x)
        return x

    def __call__(self, image: Tensor, guidance: Tensor) -> Tensor:
        side = functional.leaky_relu(self.conv("maps_transform.0", guidance), 0.2)
        side = self.conv("maps_transform.2", side, 2) * self.w["maps_transform.3.scale"].abs()
        joined = self.trunk(image, side)
        rough = self.conv("aux_head.3", self.step("aux_head.0", "aux_head.1", joined))
        x = self.step("conv3x3_ocr.0", "conv3x3_ocr.1", joined)
        batch, channels, height, width = x.shape
        weights = functional.softmax(rough.reshape(batch, 1, -1), dim=2)
        objects = weights @ x.reshape(batch, channels, -1).transpose(1, 2)  # (batch, 1, channels)
        proxy = objects.transpose(1, 2).reshape(batch, channels, 1, 1)
        block = "ocr_distri_head.object_context_block"
        query = self.attention(f"{block}.f_pixel", x, 2).reshape(batch, self.key, -1)
        keys = self.attention(f"{block}.f_object", proxy, 2).reshape(batch, self.key, -1)
        values = self.attention(f"{block}.f_down", proxy, 1).reshape(batch, self.key, -1)
        relation = functional.softmax(query.transpose(1, 2) @ keys * self.key**-0.5, dim=-1)
        context = (relation @ values.transpose(1, 2)).transpose(1, 2)
        context = context.reshape(batch, self.key, height, width)
        context = self.attention(f"{block}.f_up", context, 1)
        after = "ocr_distri_head.conv_bn_dropout"
        y = self.step(f"{after}.0", f"{after}.1.0", torch.cat([context, x], 1))
        return resize(self.conv("cls_head", y), image)


def resize(x: Tensor, like: Tensor | tuple[int, int]) -> Tensor:
    size = like if isinstance(like, tuple) else tuple(like.shape[2:])
    return functional.interpolate(x, size, mode="bilinear", align_corners=True)


class Predictor:
    """Clicks one by one, as the description of the predictor tells: zoom-in, flip, sigmoid."""

    def __init__(self, network: Any, image: np.ndarray, zoom: Mapping[str, Any]) -> None:
        self.network, self.zoom = network, zoom
        self.image = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        self.previous = torch.zeros(1, 1, *image.shape[:2])
        self.probabilities: Tensor | None = None
        self.roi: tuple[int, int, int, int] | None = None
        self.clicks: list[Click] = []

    def click(self, row: float, column: float, positive: bool) -> np.ndarray:
        """Add a click, and return the probabilities (H, W)."""
        self.clicks.append((row, column, positive))
        inputs, clicks = torch.cat([self.image, self.previous], 1), list(self.clicks)
        zoomed = self._zoomed()
        if zoomed:
            assert self.roi is not None
            top, bottom, left, right = self.roi
            height, width = bottom - top + 1, right - left + 1
            scale = self.zoom["side"] / max(height, width)
            size = (round(height * scale), round(width * scale))
            inputs = resize(inputs[:, :, top : bottom + 1, left : right + 1], size)
            clicks = [
                (size[0] * (r - top) / height, size[1] * (c - left) / width, positive)
                for r, c, positive in clicks
            ]
        logits = self._averaged(inputs, clicks)
        probabilities = torch.sigmoid(logits)
        if zoomed:
            pasted = torch.zeros_like(self.previous)
            pasted[:, :, top : bottom + 1, left : right + 1] = resize(
                probabilities, (height, width)
            )
            probabilities = pasted
        self.previous = self.probabilities = probabilities
        return probabilities[0, 0].numpy()

    def _averaged(self, inputs: Tensor, clicks: Sequence[Click]) -> Tensor:
        width = inputs.shape[3]
        flipped = [(r, width - c - 1, positive) for r, c, positive in clicks]
        both = [self._logits(inputs, clicks), self._logits(inputs.flip(3), flipped).flip(3)]
        return 0.5 * (both[0] + both[1])

    def _logits(self, inputs: Tensor, clicks: Sequence[Click]) -> Tensor:
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        rows = torch.arange(inputs.shape[2], dtype=torch.float32)[:, None]
        columns = torch.arange(inputs.shape[3], dtype=torch.float32)[None]
        disks = []
        for sign in (True, False):
            nearest = torch.full((inputs.shape[2], inputs.shape[3]), 1e6)
            for r, c, positive in clicks:
                if positive == sign:
                    nearest = torch.minimum(nearest, (rows - r) ** 2 + (columns - c) ** 2)
            disks.append((nearest <= 25).float()[None, None])
        guidance = torch.cat([inputs[:, 3:], *disks], 1)
        return self.network((inputs[:, :3] - mean) / std, guidance)

    def _zoomed(self) -> bool:
        """Choose the region of interest; False for the whole image."""
        if len(self.clicks) <= 1 or self.probabilities is None:
            return False
        mask = (self.probabilities[0, 0] > 0.5).numpy()
        if not mask.any():
            return False
        mask = mask.copy()
        for r, c, positive in self.clicks:
            if positive:
                mask[int(r), int(c)] = True
        rows, columns = np.where(mask)
        ends = []
        for places, length in ((rows, mask.shape[0]), (columns, mask.shape[1])):
            first, last = int(places.min()), int(places.max())
            extent = max(1.4 * (last - first + 1), self.zoom["least"])
            middle = 0.5 * (first + last)
            ends += [
                max(0, round(middle - 0.5 * extent)),
                min(length - 1, round(middle + 0.5 * extent)),
            ]
        wanted = (ends[0], ends[1], ends[2], ends[3])
        if self.roi is None or self._left(self.roi) or _iou(wanted, self.roi) < 0.5:
            self.roi = wanted
        return True

    def _left(self, roi: tuple[int, int, int, int]) -> bool:
        return any(
            positive and not (roi[0] <= r < roi[1] and roi[2] <= c < roi[3])
            for r, c, positive in self.clicks
        )


def _iou(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    share = 1.0
    for low, high in ((0, 1), (2, 3)):
        both = max(0, min(one[high], other[high]) - max(one[low], other[low]) + 1)
        share *= both / (max(one[high], other[high]) - min(one[low], other[low]) + 1)
    return share
