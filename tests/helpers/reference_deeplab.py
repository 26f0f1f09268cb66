"""DeepLabV3+ on ResNet-50 written plainly in PyTorch from its description, by names of weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


class Network:
    """The forward pass over a state dict of the names of segmentation-models-pytorch."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.w = weights

    def conv(self, name: str, x: Tensor, **how: int) -> Tensor:
        return functional.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), **how)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"]
        scale, shift = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return functional.batch_norm(x, mean, var, scale, shift, eps=1e-5)

    def step(self, conv: str, norm: str, x: Tensor, **how: int) -> Tensor:
        return functional.relu(self.norm(norm, self.conv(conv, x, **how)))

    def block(self, name: str, x: Tensor, stride: int, rate: int) -> Tensor:
        y = self.step(f"{name}.conv1", f"{name}.bn1", x)
        y = self.step(f"{name}.conv2", f"{name}.bn2", y, stride=stride, padding=rate, dilation=rate)
        y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in self.w:
            x = self.conv(f"{name}.downsample.0", x, stride=stride)
            x = self.norm(f"{name}.downsample.1", x)
        return functional.relu(y + x)

    def separable(self, name: str, norm: str, x: Tensor, rate: int = 1) -> Tensor:
        y = self.conv(f"{name}.0", x, padding=rate, dilation=rate, groups=x.shape[1])
        return functional.relu(self.norm(norm, self.conv(f"{name}.1", y)))

    def __call__(self, image: Tensor, guidance: Tensor) -> Tensor:
        x = torch.cat([image, guidance], 1)
        x = self.step("encoder.conv1", "encoder.bn1", x, stride=2, padding=3)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        detail = x
        # Output stride 16: the fourth stage keeps its size, and its 3 x 3 kernels are dilated.
        stages = ((3, 1, 1), (4, 2, 1), (6, 2, 1), (3, 1, 2))
        for number, (blocks, stride, rate) in enumerate(stages, start=1):
            for block in range(blocks):
                first = stride if block == 0 else 1
                x = self.block(f"encoder.layer{number}.{block}", x, first, rate)
            detail = x if number == 1 else detail
        aspp = "decoder.aspp.0"
        parts = [self.step(f"{aspp}.convs.0.0", f"{aspp}.convs.0.1", x)]
        for number, rate in ((1, 12), (2, 24), (3, 36)):
            name = f"{aspp}.convs.{number}"
            parts.append(self.separable(f"{name}.0", f"{name}.1", x, rate))
        pooled = functional.adaptive_avg_pool2d(x, 1)
        pooled = self.step(f"{aspp}.convs.4.1", f"{aspp}.convs.4.2", pooled)
        parts.append(pooled.expand_as(parts[0]))
        y = self.step(f"{aspp}.project.0", f"{aspp}.project.1", torch.cat(parts, 1))
        y = self.separable("decoder.aspp.1", "decoder.aspp.2", y)
        y = functional.interpolate(y, scale_factor=4, mode="bilinear", align_corners=True)
        fine = self.step("decoder.block1.0", "decoder.block1.1", detail)
        y = self.separable("decoder.block2.0", "decoder.block2.1", torch.cat([y, fine], 1))
        logits = self.conv("segmentation_head.0", y)
        return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)
