"""Test-time views of one image: symmetries of the square, and square crops along the long side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from zoo.card import Views
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]

_ROWS, _COLUMNS = -3, -2
"""Dimensions of pixels (..., rows, columns, channels)."""


def transform(pixels: Tensor, view: str) -> Tensor:
    """One of `zoo.card.VIEWS` of square images: the transpose first, then the flips that it names.

    "rows" puts the rows in reverse order (top to bottom), "columns" the columns.

    Args:
        pixels: (..., side, side, channels).
        view: Its name.

    Returns:
        The same shape; shares memory where nothing has to be copied.
    """
    steps = view.split("+")
    if "transpose" in steps:
        pixels = pixels.transpose(_ROWS, _COLUMNS)
    flipped = [axis for name, axis in (("rows", _ROWS), ("columns", _COLUMNS)) if name in steps]
    return pixels.flip(flipped) if flipped else pixels


def crops(height: int, width: int, most: int) -> list[tuple[int, int, int]]:
    """Squares of the short side that slide along the long side in even steps.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        most: The largest number of squares; a square image has one.

    Returns:
        Top, left and side of each, in order; where the long side is only a few pixels longer there
        are fewer than `most`, none twice.

    >>> crops(100, 100, 10)
    [(0, 0, 100)]
    >>> crops(100, 130, 4)
    [(0, 0, 100), (0, 10, 100), (0, 20, 100), (0, 30, 100)]
    >>> crops(102, 100, 10)
    [(0, 0, 100), (1, 0, 100), (2, 0, 100)]
    """
    side, room = min(height, width), abs(height - width)
    offsets = sorted({round(step * room / max(most - 1, 1)) for step in range(most)})
    return [(offset, 0, side) if height > width else (0, offset, side) for offset in offsets]


def first(views: Views, number: int) -> Views:
    """The first views of the published sequence, which comes back to repeated ones after all others.

    Raises:
        UsageError: There are not so many.

    >>> first(Views(transforms=("identity", "rows"), weights=(2, 1)), 3) == Views(
    ...     transforms=("identity", "rows"), weights=(2, 1))
    True
    >>> first(Views(transforms=("identity", "rows"), weights=(2, 1)), 1).transforms
    ('identity',)
    """
    weights = views.weights or (1,) * len(views.transforms)
    sequence = [
        view
        for repeat in range(max(weights))
        for view, weight in zip(views.transforms, weights, strict=True)
        if weight > repeat
    ]
    if not 1 <= number <= len(sequence):
        raise UsageError(f"views: {number} of {len(sequence)}; the procedure has 1 to {len(sequence)}")
    taken = tuple(dict.fromkeys(sequence[:number]))
    counts = tuple(sequence[:number].count(view) for view in taken)
    return msgspec.structs.replace(views, transforms=taken, weights=counts)


def average(logits: Sequence[Floats], views: Views) -> Floats:
    """Class probabilities of each image from the logits of its views.

    A single class is a sigmoid output, several are a softmax. Where the card averages logits, they
    become probabilities after that.

    Args:
        logits: Of each image, shape (crops × transforms, classes), crops outermost.
        views: The card's.

    Returns:
        Shape (images, classes).
    """
    weights = np.asarray(views.weights or (1,) * len(views.transforms), dtype=np.float64)
    found = []
    for each in logits:
        values = np.asarray(each, dtype=np.float64)
        crops = len(values) // len(weights)
        if views.average == "probabilities":
            values = probabilities(values)
        mean = np.average(values, axis=0, weights=np.tile(weights, crops))[None]
        found.append(mean if views.average == "probabilities" else probabilities(mean))
    return np.concatenate(found)


def probabilities(logits: Floats) -> Floats:
    """Softmax over several classes; a sigmoid of a single one.

    Args:
        logits: Shape (n, classes).

    >>> probabilities(np.array([[0.0, 0.0]])).tolist(), probabilities(np.array([[0.0]])).tolist()
    ([[0.5, 0.5]], [[0.5]])
    """
    if logits.shape[1] == 1:
        both: Floats = probabilities(np.concatenate([np.zeros_like(logits), logits], axis=1))[:, 1:]
        return both
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalised: Floats = powers / powers.sum(axis=1, keepdims=True)
    return normalised
