"""Tables as lines within a width: folded between words, and cut into blocks where that is not enough.

A block holds some of the columns and repeats the names of the rows, so nothing is left out. A word of a
heading, a figure and its interval stay in one piece wherever they fit beside those names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

NARROWEST = 12
"""Cells of a line in the narrowest terminal that tables are made for; a narrower one folds their lines itself."""

_WIDE_LETTER = 2
"""Cells of the widest letter."""

_GAP = 2
"""Spaces between two columns."""

_LONG = 28
"""Letters up to which a cell stays on one line in a table that is cut anyway."""

_SHORT = 12
"""Letters up to which words of a cell stay on one line."""

_READABLE = 18
"""Letters that a column of longer cells has at least."""

_NAME = 18
"""Letters up to which a name is never folded; a longer one may be, behind a mark such as `_`."""

_GLUE = "\N{NO-BREAK SPACE}"
_WHOLE = re.compile(
    r"(?:\(\S+ to \S+\)\S*|\bp (?:n/a|<?\d\S*))(?: (?!p )(?:[a-z]{1,4}|[*†])(?= |$))*|\S+ [*†](?= |$)"
)
"""An interval, a p-value or a word, with the letters and marks behind it."""

_PIECE = re.compile(r".+?(?:[_/\\=:@,;+-]+|$)")


class Block(NamedTuple):
    """Some columns of a table: the lines of their headings, and those of their cells."""

    head: list[str]
    body: list[str]


def blocks(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str, width: int) -> list[Block]:
    """A table in lines of at most `width` cells of a terminal.

    Args:
        headers: One per column.
        rows: As many strings each.
        align: A letter per column, `l` or `r`.
        width: Cells of a line; `NARROWEST` at least.
    """
    width = max(width, NARROWEST)
    cells = list(zip(*rows, strict=True)) or [()] * len(headers)
    columns = [_Column(*each) for each in zip(headers, align, cells, strict=True)]
    columns[0].least = max(columns[0].least, min(columns[0].longest, _NAME))
    return [_drawn([columns[i] for i in block], widths) for block, widths in _cut(columns, width)]


def fold(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells (two at least), folded between words.

    A word that is longer than a line is folded behind a mark, and cut only where it has none.

    >>> fold("0.815 (0.773 to 0.857) ab", 20)
    ['0.815', '(0.773 to 0.857) ab']
    >>> fold("a 9c_meta_b3_768_512_ext_18ep", 20)
    ['a', '9c_meta_b3_768_512_', 'ext_18ep']
    """
    lines = []
    width = max(width, _WIDE_LETTER)
    for paragraph in text.split("\n"):
        line = ""
        for word in _words(paragraph, width):
            if line and cell_len(line) + 1 + cell_len(word) <= width:
                line = f"{line} {word}"
                continue
            *full, last = _folded(word, width)
            lines += [*([line] if line else []), *full]
            line = last
        lines.append(line)
    return [line.replace(_GLUE, " ") for line in lines]


@dataclass
class _Column:
    heading: str
    side: str
    cells: Sequence[str]
    lengths: list[int] = field(init=False)
    longest: int = field(init=False)
    least: int = field(init=False)
    word: int = field(init=False)

    def __post_init__(self) -> None:
        """Finds the letters of its cells, its longest word, and the least that it can do with."""
        self.lengths = [max(map(cell_len, cell.split("\n"))) for cell in self.cells]
        self.longest = max(self.lengths, default=0)
        self.word = max(cell_len(piece) for text in (self.heading, *self.cells) for piece in _pieces(text))
        least = _READABLE if self.longest > _LONG else 1
        if self.side == "l" and self.longest <= _SHORT:
            least = self.longest
        self.least = max(1, least, self.word)

    @property
    def easy(self) -> int:
        """The width at which only long cells are folded."""
        return max(self.least, min(self.longest, _LONG))

    def folds(self, width: int) -> tuple[int, int]:
        """Lines too many of its cells and of its heading at some width, about."""
        cells = sum(max(0, (length - 1) // width) for length in self.lengths)
        return cells, max(0, (cell_len(self.heading) - 1) // width)


def _cut(columns: Sequence[_Column], width: int) -> Iterator[tuple[list[int], list[int]]]:
    """The columns of each block, and their widths."""
    everything = list(range(len(columns)))
    least = [column.least for column in columns]
    if _total(least) <= width or len(columns) == 1:
        yield everything, _shared(columns, [min(each, width) for each in least], width)
        return
    names = _names(columns, width)
    keys, others = everything[:names], everything[names:]
    named = least[:names]
    if names == 1:  # Torn only where a line is shorter than two words, and then not alone.
        beside = width - _GAP - max(least[1:])
        named[0] = min(named[0], beside if beside >= columns[0].word else max(beside, (width - _GAP) // 2))
    room = width - _total(named)
    filled = _filled(columns, others, room)
    # As even as they may be, so that the last is not left with a single column.
    even = _filled(columns, others, room, most=-(-len(others) // len(filled)))
    for block in even if len(even) == len(filled) else filled:
        widths = [*named, *(min(columns[i].easy, room - _GAP) for i in block)]
        yield [*keys, *block], _shared([columns[i] for i in (*keys, *block)], widths, width)


def _names(columns: Sequence[_Column], width: int) -> int:
    """How many columns name the row and stand in every block.

    The words before the first figure, as far as any other column finds room beside them; a number
    and the word behind it; where there are words alone, the first.
    """
    sides = "".join(column.side for column in columns)
    if "r" not in sides:
        return 1
    most = 2 if sides.startswith("rl") else len(sides) - len(sides.lstrip("l"))
    for names in range(min(most, len(columns) - 1), 1, -1):
        beside = max(column.easy for column in columns[names:])
        if _total([*(column.least for column in columns[:names]), beside]) <= width:
            return names
    return 1


def _filled(
    columns: Sequence[_Column], others: Sequence[int], room: int, most: int | None = None
) -> list[list[int]]:
    """Columns in blocks, as many in each as find room and are allowed; at least one."""
    found: list[list[int]] = []
    used = 0
    for index in others:
        needed = _GAP + columns[index].easy
        if not found or used + needed > room or len(found[-1]) == most:
            found.append([])
            used = 0
        found[-1].append(index)
        used += needed
    return found


def _total(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _shared(columns: Sequence[_Column], widths: Sequence[int], width: int) -> list[int]:
    """Widths with what is left over, a letter at a time to the column that is folded most."""
    found = list(widths)
    for _ in range(width - _total(found)):
        folds = [column.folds(each) for column, each in zip(columns, found, strict=True)]
        most = max(folds)
        if most == (0, 0):
            break
        found[folds.index(most)] += 1
    return found


def _drawn(columns: Sequence[_Column], widths: Sequence[int]) -> Block:
    heads = [fold(column.heading, width) for column, width in zip(columns, widths, strict=True)]
    # Headings stand on the rule below them.
    highest = max(map(len, heads))
    heads = [[*[""] * (highest - len(head)), *head] for head in heads]
    body = []
    for row in zip(*(column.cells for column in columns), strict=True):
        folded = [fold(cell, width) for cell, width in zip(row, widths, strict=True)]
        body += _lines(folded, columns, widths)
    return Block(_lines(heads, columns, widths), body)


def _lines(cells: Sequence[list[str]], columns: Sequence[_Column], widths: Sequence[int]) -> list[str]:
    return [
        (" " * _GAP).join(
            _justified(text, width, column.side)
            for text, width, column in zip(line, widths, columns, strict=True)
        )
        for line in zip_longest(*cells, fillvalue="")
    ]


def _justified(text: str, width: int, side: str) -> str:
    space = " " * (width - cell_len(text))
    return text + space if side == "l" else space + text


def _words(text: str, width: int | None = None) -> list[str]:
    """Words; an interval or a p-value is one of them, where it has room on a line."""

    def whole(found: re.Match[str]) -> str:
        fits = width is None or cell_len(found[0]) <= width
        return found[0].replace(" ", _GLUE) if fits else found[0]

    return _WHOLE.sub(whole, text).split(" ")


def _pieces(text: str) -> Iterator[str]:
    """What stays in one piece: words, and the parts of long names."""
    for word in re.split(r"[ \n]", " ".join(_words(text))):
        yield from _parts(word)


def _parts(word: str) -> list[str]:
    name = cell_len(word) > _NAME and _GLUE not in word and any(letter.isalpha() for letter in word)
    return _PIECE.findall(word) if name else [word]


def _folded(word: str, width: int) -> list[str]:
    """A word in lines, of which the last may have room for more."""
    if cell_len(word) <= width:
        return [word]
    lines = [""]
    for part in _parts(word):
        for piece in chop_cells(part, width) if cell_len(part) > width else [part]:
            if cell_len(lines[-1] + piece) <= width:
                lines[-1] += piece
            else:
                lines.append(piece)
    return [line for line in lines if line]
