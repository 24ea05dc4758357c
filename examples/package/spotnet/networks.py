"""The network of Spotnet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from zoo.card import Member


class Block(nn.Module):
    """A depthwise-separable convolution at half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(inputs, inputs, 3, stride=2, padding=1, groups=inputs, bias=False)
        self.point = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, H/2, W/2)."""
        activated: Tensor = self.act(self.norm(self.point(self.depth(x))))
        return activated


class Spotnet(nn.Module):
    """Four blocks, global average pooling and a linear head.

    Args:
        classes: Number of outputs.
        width: Channels of the first block; every block doubles them.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        channels = [3, *(width * 2**stage for stage in range(4))]
        self.blocks = nn.Sequential(*map(Block, channels[:-1], channels[1:]))
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, size, size)."""
        logits: Tensor = self.head(self.blocks(image).mean((2, 3)))
        return logits


def build(member: Member) -> nn.Module:
    """Makes the network of a member of the card, with random weights."""
    return Spotnet(len(member.classes), width=int(member.options.get("width", 16)))
