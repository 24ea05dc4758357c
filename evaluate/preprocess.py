"""From a decoded image to a network's input: crop, resize, central crop, normalise.

Pixels stay 8-bit until they are normalised, as in the published procedures, so that members which
differ only in mean and standard deviation share them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from evaluate.images import Pixels
from evaluate.views import crops
from zoo.card import Member, Preprocess, Views
from zoo.errors import CardError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a network's 8-bit input pixels. Members that agree in it share them.

    Attributes:
        resize: Side of the square that the image is resized to.
        side: Side of the central crop taken after that.
        interpolation: OpenCV's interpolation.
        antialias: Whether the resize smooths before it shrinks.
        keep_shape: Whether `resize` is the short side, and the image keeps its shape.
        crops: The largest number of square crops of the image, each resized on its own.
    """

    resize: int
    side: int
    interpolation: str
    antialias: bool
    keep_shape: bool = False
    crops: int

    @classmethod
    def of(cls, member: Member, views: Views) -> Geometry:
        """That of a member under its system's views."""
        preprocess = member.preprocess
        return cls(
            resize=preprocess.resize or member.size,
            side=preprocess.crop or member.size,
            interpolation=preprocess.interpolation,
            antialias=preprocess.antialias,
            keep_shape=preprocess.keep_shape,
            crops=views.crops,
        )

    @property
    def bytes(self) -> int:
        """Memory of one image's pixels, at most."""
        return self.crops * self.side * self.side * 3


def shape(image: Pixels, geometry: Geometry) -> Pixels:
    """A network's 8-bit input pixels.

    Args:
        image: Decoded RGB, (height, width, 3).
        geometry: What they become.

    Returns:
        (crops, side, side, 3).

    Raises:
        CardError: The card asks for an antialiased area interpolation, which there is none of.
    """
    squares = [image]
    if geometry.crops > 1:
        squares = [
            image[top : top + side, left : left + side]
            for top, left, side in crops(image.shape[0], image.shape[1], geometry.crops)
        ]
    return np.stack([_centre(_resize(square, geometry), geometry) for square in squares])


def _centre(image: Pixels, geometry: Geometry) -> Pixels:
    side = geometry.side
    if geometry.keep_shape:
        # As torchvision's center_crop rounds, which is what timm's own transform calls.
        top, left = (round((length - side) / 2.0) for length in image.shape[:2])
    else:
        top = left = (geometry.resize - side) // 2
    return image[top : top + side, left : left + side]


def resized(image: Pixels, geometry: Geometry) -> tuple[int, int]:
    """Width and height after the resize; the long side is cut to whole pixels, as torchvision does."""
    height, width = image.shape[:2]
    if not geometry.keep_shape or height == width:
        return geometry.resize, geometry.resize
    long = int(geometry.resize * max(height, width) / min(height, width))
    return (geometry.resize, long) if width < height else (long, geometry.resize)


def _resize(image: Pixels, geometry: Geometry) -> Pixels:
    """Without antialiasing as OpenCV does it, with it as Pillow does; neither changes the right size."""
    size = resized(image, geometry)
    if image.shape[1::-1] == size:
        return image
    if geometry.antialias:
        from PIL import Image

        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        if geometry.interpolation not in filters:
            raise CardError(
                f"preprocess: interpolation {geometry.interpolation!r} takes no antialias; "
                "an area interpolation smooths by itself"
            )
        smoothed: Pixels = np.asarray(Image.fromarray(image).resize(size, filters[geometry.interpolation]))
        return smoothed
    import cv2

    flags = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
    return np.asarray(cv2.resize(image, size, interpolation=flags[geometry.interpolation]), dtype=np.uint8)


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """`(pixels / 255 - mean) / std` per channel, as one multiplication and one addition.

    Args:
        pixels: 8-bit, (n, side, side, 3).
        preprocess: Mean and standard deviation.

    Returns:
        fp32 of shape (n, 3, side, side), channels last in memory.
    """
    import torch

    scale, offset = _factors(preprocess, pixels.device)
    return torch.addcmul(offset, pixels.to(torch.float32), scale).permute(0, 3, 1, 2)


@cache
def _factors(preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and offset of each channel; kept, since a copy of them to a GPU waits for all that it has begun."""
    import torch

    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (preprocess.mean, preprocess.std))
    return (1 / (255 * std)).to(device, torch.float32), (-mean / std).to(device, torch.float32)
