"""Attention modules that stand between the stages of a backbone.

Every module maps a feature map (N, C, H, W) to one of the same shape, for any H and W of at
least 1. Attribute names are part of the contract: published files are keyed by them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn


class SpatialGroupEnhance(nn.Module):
    """Spatial group-wise enhancement (SGE).

    In each group of channels a position is weighted by how much it resembles the group's
    global average, compared with the other positions.

    Li, Hu & Yang 2019, https://arxiv.org/abs/1905.09646. As published with it, the standard
    deviation is the unbiased one, with 1e-5 added to it. On a map of one position, which
    resembles the average exactly, the normalised similarity is 0.

    Args:
        channels: Channels of the map.
        groups: Groups they are divided into.

    Raises:
        ValueError: `channels` is not a multiple of `groups`.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
        self.channels = channels
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Weights each position of each group: (N, C, H, W) → (N, C, H, W)."""
        images, channels, height, width = x.shape
        grouped = x.reshape(images, self.groups, channels // self.groups, height, width)
        similarity = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)
        deviation = similarity - similarity.mean((2, 3), keepdim=True)
        unbiased = 1 if height * width > 1 else 0
        spread = similarity.std((2, 3), correction=unbiased, keepdim=True) + 1e-5
        gate = torch.sigmoid(deviation / spread * self.weight + self.bias)
        return (grouped * gate.unsqueeze(2)).flatten(1, 2)


class ChannelGate(nn.Module):
    """CBAM's channel half: a weight in (0, 1) per channel, (N, C, H, W) → (N, C, 1, 1)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction = {reduction} must be at least 1")
        hidden = max(1, channels // reduction)
        self.se = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weighs the channels by their largest and their mean value."""
        maximum, average = x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)
        gate: Tensor = torch.sigmoid(self.se(maximum) + self.se(average))
        return gate


class SpatialGate(nn.Module):
    """CBAM's spatial half: a weight in (0, 1) per position, (N, C, H, W) → (N, 1, H, W)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size = {kernel_size} must be odd, so that the map keeps its size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Weighs the positions by the largest and the mean value of their neighbourhood."""
        gate: Tensor = torch.sigmoid(self.conv(torch.cat((x.amax(1, True), x.mean(1, True)), dim=1)))
        return gate


class SpatialAttention(nn.Module):
    """Spatial attention: the spatial half of CBAM, multiplied onto its input.

    Woo et al. 2018, https://arxiv.org/abs/1807.06521, section 3.

    Args:
        channels: Channels of the map; any number will do.
        kernel_size: Side of its convolution, odd.

    Raises:
        ValueError: `kernel_size` is even.
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:  # noqa: ARG002 (all modules are made alike)
        super().__init__()
        self.sa = SpatialGate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Weights each position: (N, C, H, W) → (N, C, H, W)."""
        out: Tensor = x * self.sa(x)
        return out


class CBAM(nn.Module):
    """Convolutional block attention module, with a residual connection around it.

    Woo et al. 2018, https://arxiv.org/abs/1807.06521. The paper uses a 7x7 kernel; 49x49 is
    the default of the widely copied public block.

    Args:
        channels: Channels of the map.
        reduction: How much narrower the hidden layer of its channel half is (at least 1 channel stays).
        kernel_size: Side of the convolution of its spatial half, odd.

    Raises:
        ValueError: `kernel_size` is even, or `reduction` below 1.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 49) -> None:
        super().__init__()
        self.ca = ChannelGate(channels, reduction)
        self.sa = SpatialGate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Weights channels, then positions, and adds the input: (N, C, H, W) → (N, C, H, W)."""
        weighted: Tensor = x * self.ca(x)
        weighted = weighted * self.sa(weighted)
        return x + weighted


class SplitAttention(nn.Module):
    """Softmax-weighted sum of `splits` maps, per channel: (N, splits, H, W, C) → (N, H, W, C)."""

    def __init__(self, channels: int, splits: int) -> None:
        super().__init__()
        self.splits = splits
        self.mlp1 = nn.Linear(channels, channels, bias=False)
        self.gelu = nn.GELU()
        self.mlp2 = nn.Linear(channels, splits * channels, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Sums the maps, each channel of each map weighted."""
        scores: Tensor = self.mlp2(self.gelu(self.mlp1(maps.sum((1, 2, 3)))))
        shares = scores.reshape(maps.shape[0], self.splits, 1, 1, -1).softmax(1)
        return (shares * maps).sum(1)


class S2MLPv2(nn.Module):
    """One spatial-shift MLP block, version 2.

    Three linear maps of the input, two of them shifted by one pixel in four directions (one
    per quarter of the channels), recombined by split attention. Shifts are out of place and
    repeat the border, as the paper defines them.

    Yu et al. 2021, https://arxiv.org/abs/2108.01072. Its split attention is as wide as the map.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp1 = nn.Linear(channels, 3 * channels)
        self.mlp2 = nn.Linear(channels, channels)
        self.split_attention = SplitAttention(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes each position with its neighbours: (N, C, H, W) → (N, C, H, W)."""
        rows_first, columns_first, still = self.mlp1(x.permute(0, 2, 3, 1)).chunk(3, dim=3)
        maps = (
            _shift_quarters(rows_first, ((1, 1), (1, -1), (2, 1), (2, -1))),
            _shift_quarters(columns_first, ((2, 1), (2, -1), (1, 1), (1, -1))),
            still,
        )
        out: Tensor = self.mlp2(self.split_attention(torch.stack(maps, dim=1))).permute(0, 3, 1, 2)
        return out


def _shift_quarters(x: Tensor, moves: tuple[tuple[int, int], ...]) -> Tensor:
    """Shifts each quarter of the channels of a map (N, H, W, C) by its own (dimension, step)."""
    channels = x.shape[3]
    ends = (0, channels // 4, channels // 2, channels * 3 // 4, channels)
    quarters = [x[..., start:stop] for start, stop in pairwise(ends)]
    return torch.cat([_shift(part, *move) for part, move in zip(quarters, moves, strict=True)], dim=3)


def _shift(x: Tensor, dim: int, step: int) -> Tensor:
    """Moves a map by one position forwards (step 1) or backwards (step -1); the border is repeated."""
    size = x.shape[dim]
    if step > 0:
        return torch.cat((x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)), dim)
    return torch.cat((x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)), dim)


MODULES: dict[str, Callable[..., nn.Module]] = {
    "sge": SpatialGroupEnhance,
    "spatial": SpatialAttention,
    "s2_mlp_v2": S2MLPv2,
    "cbam": CBAM,
}
"""The modules by the names that cards use; each is called with the channels and the card's options."""
