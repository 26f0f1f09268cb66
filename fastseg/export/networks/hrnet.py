"""HRNet: branches of several resolutions that exchange their maps (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from fastseg.export.onnx.enlarge import enlarge

STEM = 64
"""Channels of the two convolutions that bring the image to a quarter of its side."""

EXPANSION = 4
"""Channels that leave a bottleneck, in multiples of those inside it."""


@dataclass(frozen=True, slots=True)
class HRNetShape:
    """Sizes of a network."""

    width: int
    """Channels of the finest branch; each further branch has twice as many."""

    blocks: int = 4
    """Residual blocks of a branch in a module, and bottlenecks of the first stage."""

    modules: tuple[int, int, int] = (1, 4, 3)
    """Modules of the stages with two, three and four branches."""

    def widths(self, branches: int) -> tuple[int, ...]:
        """Channels of each branch of a stage."""
        return tuple(self.width * 2**branch for branch in range(branches))

    @property
    def channels(self) -> int:
        """Channels of the four branches together."""
        return sum(self.widths(4))


class HRNet(nn.Module):
    """The trunk: an image to maps of four resolutions, joined at a quarter of its side.

    Names of weights are those of the published HRNetV2 files.
    """

    def __init__(self, shape: HRNetShape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM)
        first = STEM * EXPANSION
        bottlenecks = [Bottleneck(STEM if index == 0 else first) for index in range(shape.blocks)]
        self.layer1 = nn.Sequential(*bottlenecks)
        before: tuple[int, ...] = (first,)
        for branches, modules in zip((2, 3, 4), shape.modules, strict=True):
            widths = shape.widths(branches)
            self.add_module(f"transition{branches - 1}", _transition(before, widths))
            stage = [Exchange(widths, shape.blocks) for _ in range(modules)]
            self.add_module(f"stage{branches}", nn.Sequential(*stage))
            before = widths

    def forward(self, image: Tensor, guidance: Tensor) -> Tensor:
        """Compute the joined maps.

        Args:
            image: (batch, 3, height, width) normalised.
            guidance: (batch, 64, ...) at half the side, added after the first convolution.

        Returns:
            (batch, 15 * width, ...) at a quarter of the side.
        """
        x = torch.relu(self.bn1(self.conv1(image))) + guidance
        x = self.layer1(torch.relu(self.bn2(self.conv2(x))))
        maps = [x]
        for branches in (2, 3, 4):
            transition = self.get_submodule(f"transition{branches - 1}")
            maps = self.get_submodule(f"stage{branches}")(_enter(transition, maps))
        return torch.cat([maps[0], *(enlarge(each, maps[0]) for each in maps[1:])], dim=1)


class Exchange(nn.Module):
    """Residual blocks in each branch, then the sum of all branches in each of them."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map the list of branches, the finest first, to one of the same sizes."""
        own = [branch(each) for branch, each in zip(self.branches, maps, strict=True)]
        summed = []
        for target, fuses in enumerate(self.fuse_layers):
            parts = []
            for source, fuse in enumerate(fuses.children()):
                brought = own[source] if source == target else fuse(own[source])
                if source > target:
                    brought = enlarge(brought, own[target])
                parts.append(brought)
            summed.append(torch.relu(reduce(torch.add, parts)))
        return summed


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the block's input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map a branch to one of the same size."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, and the block's input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        out = STEM * EXPANSION
        self.conv1 = nn.Conv2d(channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM)
        self.conv3 = nn.Conv2d(STEM, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if channels != out:
            widen = nn.Conv2d(channels, out, 1, bias=False)
            self.downsample = nn.Sequential(widen, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, 256, h, w)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def convolved(channels: int, out: int, *, stride: int = 1, side: int = 3) -> nn.Sequential:
    """Make a convolution without bias, a batch norm and a ReLU."""
    conv = nn.Conv2d(channels, out, side, stride, side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


def _transition(before: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """Make the layers that bring the branches of a stage to those of the next."""
    layers: list[nn.Module] = []
    for branch, width in enumerate(widths):
        if branch >= len(before):
            layers.append(nn.Sequential(convolved(before[-1], width, stride=2)))
        elif before[branch] != width:
            layers.append(convolved(before[branch], width))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def _enter(transition: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    """Run a transition; a branch that did not exist is made from the coarsest one."""
    layers = list(transition.children())
    return [layer(maps[min(branch, len(maps) - 1)]) for branch, layer in enumerate(layers)]


def _fuse(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Make the layers that bring one branch to the channels, and down to the size, of another."""
    if source == target:
        return nn.Identity()
    if source > target:
        conv = nn.Conv2d(widths[source], widths[target], 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(widths[target]))
    steps: list[nn.Module] = []
    for step in range(target - source):
        last = step == target - source - 1
        out = widths[target] if last else widths[source]
        layer = convolved(widths[source], out, stride=2)
        steps.append(layer[:2] if last else layer)
    return nn.Sequential(*steps)
