"""DeepLabV3+ on ResNet-50 with the box as a fourth channel (Chen et al. 2018; Ma et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.onnx.enlarge import enlarge

SIDE = 224
"""Height and width of the input of the network that MedSAM is compared with."""

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1))
"""Inner channels, blocks and stride of the stages; the last keeps a sixteenth of the side."""

EXPANSION = 4
RATES = (12, 24, 36)
"""Dilations of the pyramid."""

CONTEXT, DETAIL = 256, 48
"""Channels of the pyramid, and of the finer map that joins it."""


class DeepLab(nn.Module):
    """The whole network; names of weights are those of ``segmentation-models-pytorch``."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.encoder = ResNet(channels)
        self.decoder = Decoder()
        self.segmentation_head = nn.Sequential(nn.Conv2d(CONTEXT, 1, 1))

    def forward(self, image: Tensor, guidance: Tensor) -> Tensor:
        """Compute logits.

        Args:
            image: (batch, 3, height, width) in 0..1.
            guidance: (batch, 1, height, width) ones in the box.

        Returns:
            (batch, 1, height, width).
        """
        detail, deep = self.encoder(torch.cat([image, guidance], dim=1))
        logits: Tensor = enlarge(self.segmentation_head(self.decoder(detail, deep)), image)
        return logits


class ResNet(nn.Module):
    """ResNet-50 whose last stage is dilated instead of strided."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        width = 64
        for number, (inner, blocks, stride) in enumerate(STAGES, start=1):
            dilation = 2 if number == len(STAGES) else 1
            out = inner * EXPANSION
            stage = [Bottleneck(width, inner, stride, dilation)]
            stage += [Bottleneck(out, inner, 1, dilation) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            width = out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the maps at a quarter (256 channels) and a sixteenth (2048) of the side."""
        x = functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        detail = x = self.get_submodule("layer1")(x)
        for number in (2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
        return detail, x


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, and the block's input."""

    def __init__(self, channels: int, inner: int, stride: int, dilation: int) -> None:
        super().__init__()
        out = inner * EXPANSION
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if channels != out:
            widen = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(widen, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, 4 * inner, h / stride, w / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Decoder(nn.Module):
    """The pyramid of dilated convolutions, joined with the finer map."""

    def __init__(self) -> None:
        super().__init__()
        deep = STAGES[-1][0] * EXPANSION
        self.aspp = nn.Sequential(Pyramid(deep), *separable(CONTEXT, CONTEXT))
        self.block1 = pointwise(STAGES[0][0] * EXPANSION, DETAIL)
        self.block2 = separable(CONTEXT + DETAIL, CONTEXT)

    def forward(self, detail: Tensor, deep: Tensor) -> Tensor:
        """Compute (batch, 256, ...) at a quarter of the side."""
        context = enlarge(self.aspp(deep), detail)
        joined: Tensor = self.block2(torch.cat([context, self.block1(detail)], dim=1))
        return joined


class Pyramid(nn.Module):
    """One point, three dilated neighbourhoods and the whole image, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        dilated = [separable(channels, CONTEXT, rate) for rate in RATES]
        whole = nn.Sequential(nn.Identity(), *pointwise(channels, CONTEXT))
        self.convs = nn.ModuleList([pointwise(channels, CONTEXT), *dilated, whole])
        self.project = pointwise(CONTEXT * len(self.convs), CONTEXT)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 2048, h, w) to (batch, 256, h, w)."""
        *local, whole = self.convs
        mean = whole(x.mean((2, 3), keepdim=True))
        parts = [*(part(x) for part in local), enlarge(mean, x)]
        projected: Tensor = self.project(torch.cat(parts, dim=1))
        return projected


def pointwise(channels: int, out: int) -> nn.Sequential:
    """Make a 1 x 1 convolution, a batch norm and a ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


def separable(channels: int, out: int, rate: int = 1) -> nn.Sequential:
    """Make a 3 x 3 convolution a channel and one of 1 x 1 over them, a batch norm and a ReLU."""
    each = nn.Conv2d(channels, channels, 3, 1, rate, rate, groups=channels, bias=False)
    across = nn.Conv2d(channels, out, 1, bias=False)
    return nn.Sequential(nn.Sequential(each, across), nn.BatchNorm2d(out), nn.ReLU())
