"""How systems look: colours that colour-blind readers tell apart, and markers and lines that work in grey."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Style(msgspec.Struct, frozen=True):
    """A colour (hexadecimal), a marker and a line; markers and lines as both libraries call them.

    Attributes:
        colour: At least 3:1 against white and against the page's dark background (WCAG 2.2, 1.4.11).
        symbol: Marker of the page.
        marker: The same in print.
        dash: Line of the page.
        line: The same in print.
    """

    colour: str
    symbol: str
    marker: str
    dash: str
    line: str | tuple[float, tuple[float, ...]]


STYLES = (
    Style("#3b7dd8", "circle", "o", "solid", "-"),
    Style("#d55e00", "square", "s", "dash", (0, (5, 2))),
    Style("#0f9d76", "diamond", "D", "dot", (0, (1, 1.5))),
    Style("#c05a9b", "triangle-up", "^", "dashdot", (0, (5, 2, 1, 2))),
    Style("#7d8590", "x", "X", "longdash", (0, (9, 2))),
    Style("#a8790a", "triangle-down", "v", "longdashdot", (0, (9, 2, 1, 2))),
    Style("#0e8fa3", "pentagon", "p", "8px,2px,2px,2px,2px,2px", (0, (6, 1.5, 1, 1.5, 1, 1.5))),
    Style("#9a6240", "star", "*", "12px,3px,4px,3px", (0, (8, 2, 3, 2))),
)


def style_of(number: int) -> Style:
    """The style of a number; markers and lines shift against colours once all colours are used.

    >>> style_of(0) == style_of(8), style_of(0).colour == style_of(8).colour
    (False, True)
    """
    turn, place = divmod(number, len(STYLES))
    shape = STYLES[(place + turn) % len(STYLES)]
    return Style(STYLES[place].colour, shape.symbol, shape.marker, shape.dash, shape.line)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places moved apart as little as they need, so that labels at them do not overlap.

    Args:
        places: Where the labels belong, in any unit.
        gap: The least distance of two.

    >>> spread([10.0, 10.0, 50.0], 10.0)
    [5.0, 15.0, 50.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    blocks: list[tuple[float, list[int]]] = []
    for index in order:
        blocks.append((places[index], [index]))
        # Blocks that touch become one around the mean of what belongs in it.
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            (a, first), (b, second) = blocks[-2:]
            centre = (a * len(first) + b * len(second)) / (len(first) + len(second))
            blocks[-2:] = [(centre, first + second)]
    found = [0.0] * len(places)
    for block in blocks:
        for step, index in enumerate(block[1]):
            found[index] = _bottom(block, gap) + step * gap
    return found


def _bottom(block: tuple[float, list[int]], gap: float) -> float:
    return block[0] - gap * (len(block[1]) - 1) / 2


def _top(block: tuple[float, list[int]], gap: float) -> float:
    return block[0] + gap * (len(block[1]) - 1) / 2
