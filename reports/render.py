"""Tables as text: terminal, Markdown, LaTeX and CSV from the same strings.

Whatever comes from a file or a user (names, titles, notes) stays text in each of them.
`python -m reports.render` prints a sample in every format.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes:
        title: What it shows.
        headers: One per column; none for a title with notes alone.
        rows: As many strings each.
        notes: What a reader must know to read it right.
        align: A letter per column, `l` for words and `r` for figures; the first column is words
            and the rest figures where empty.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    align: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.headers) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.headers)} columns")

    @property
    def columns(self) -> str:
        """A letter per column."""
        return self.align or ("l" + "r" * (len(self.headers) - 1))[: len(self.headers)]


def terminal(tables: Sequence[Table]) -> RenderableType:
    """Tables for a terminal, through rich; as wide as it is, and in blocks where they do not fit."""
    return _Terminal(tables)


@dataclass(frozen=True)
class _Terminal:
    tables: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        for index, table in enumerate(self.tables):
            lines = _lines(table, options.max_width)
            for line, style in [("", ""), *lines] if index else lines:
                yield Text(line.rstrip(), style=style, no_wrap=True, overflow="ignore")


def _lines(table: Table, width: int) -> list[tuple[str, str]]:
    """A table's lines and the style of each: its title, its blocks, its notes."""
    from rich.cells import cell_len

    from reports.fitting import NARROWEST, blocks, fold

    width = max(width, NARROWEST)
    lines = [(line, "bold") for line in fold(printable(table.title), width)]
    headers = [printable(header) for header in table.headers]
    rows = [[printable(value) for value in row] for row in table.rows]
    for block in blocks(headers, rows, table.columns, width - 1) if headers else ():
        lines.append(("", ""))
        if any(headers):
            lines += [(f" {line}", "bold") for line in block.head]
            lines.append((" " + "─" * cell_len(block.head[0]), ""))
        lines += [(f" {line}", "") for line in block.body]
    if headers and table.notes:
        lines.append(("", ""))
    lines += [(f"  {line}", "dim") for note in table.notes for line in fold(printable(note), width - 2)]
    return lines


def markdown(tables: Sequence[Table]) -> str:
    """Tables as GitHub Markdown.

    >>> print(markdown([Table("T", ("name", "n"), (("a|b", "1"),), ("a note",))]), end="")
    ### T
    <BLANKLINE>
    | name   |   n |
    |:-------|----:|
    | a\\|b   |   1 |
    <BLANKLINE>
    - a note
    """
    from tabulate import tabulate

    parts = []
    for table in tables:
        grid = tabulate(
            [[markdown_text(value) for value in row] for row in table.rows],
            headers=[markdown_text(header) for header in table.headers],
            tablefmt="pipe",
            colalign=["left" if side == "l" else "right" for side in table.columns],
            disable_numparse=True,
        )
        notes = "".join(f"- {markdown_text(note)}\n" for note in table.notes)
        parts.append(f"### {markdown_text(table.title)}\n\n{grid}\n" + (f"\n{notes}" if notes else ""))
    return "\n".join(parts)


def latex(tables: Sequence[Table]) -> str:
    """Tables as LaTeX with booktabs rules.

    A table is scaled down where it is wider than the text; one of sentences or of many rows may run over
    several pages (longtable). Letters beyond Latin need XeLaTeX or LuaLaTeX and a font that has them;
    pdfLaTeX shows their code points.
    """
    return "\n".join([_PREAMBLE, *(_pages(table) if _is_long(table) else _float(table) for table in tables)])


_PREAMBLE = r"""% needs \usepackage{array,booktabs,graphicx,longtable}
\providecommand{\beyondlatin}[2]{\ifdefined\Umathcode #1\else [U+#2]\fi}
"""

_SENTENCE = 60
"""A cell of more letters is set as a paragraph."""

_ROWS_OF_A_PAGE = 35


def _is_long(table: Table) -> bool:
    return len(table.rows) > _ROWS_OF_A_PAGE or any(
        side == "l" and length > _SENTENCE
        for side, length in zip(table.columns, _longest(table), strict=True)
    )


def _float(table: Table) -> str:
    header, *body = _rows(table)
    grid = "\n".join(
        (
            rf"\begin{{tabular}}{{{table.columns}}}",
            r"\toprule",
            header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        )
    )
    return (
        "\\begin{table}[htbp]\n\\centering\n"
        f"\\caption{{{_latex_text(table.title)}}}\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"{grid}}}{_latex_notes(table)}\n\\end{{table}}\n"
    )


def _pages(table: Table) -> str:
    """Columns share the width by their longest cell, within bounds that keep short ones readable."""
    weights = [min(max(length, 6), _SENTENCE) for length in _longest(table)]
    shares = [weight / sum(weights) for weight in weights]
    columns = "".join(
        rf">{{\{'raggedright' if side == 'l' else 'raggedleft'}\arraybackslash}}"
        rf"p{{\dimexpr {share:.3f}\linewidth-2\tabcolsep}}"
        for side, share in zip(table.columns, shares, strict=True)
    )
    header, *body = _rows(table)
    grid = "\n".join(
        (
            rf"\begin{{longtable}}{{{columns}}}",
            rf"\caption{{{_latex_text(table.title)}}}\\",
            r"\toprule",
            header,
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *body,
            r"\end{longtable}",
        )
    )
    return f"{{\\footnotesize\n{grid}{_latex_notes(table)}\n\\par}}\n"


def _rows(table: Table) -> list[str]:
    return [_row(cells) for cells in (table.headers, *table.rows)]


def _row(cells: Sequence[str]) -> str:
    """A row; a bracket or star that begins it would be an argument of the line break or rule above it."""
    row = " & ".join(map(_latex_text, cells)) + r" \\"
    return "{}" + row if row.lstrip().startswith(("[", "*")) else row


def _longest(table: Table) -> list[int]:
    """Letters of the longest cell of each column."""
    cells = zip(table.headers, *table.rows, strict=True)
    return [max(len(value) for value in column) for column in cells]


def _latex_notes(table: Table) -> str:
    return "".join(f"\n\\par\\footnotesize {_latex_text(note)}" for note in table.notes)


def delimited(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values; text that a spreadsheet would run as a formula gets a leading quote.

    >>> print(delimited(["a", "b"], [["=1+1", -0.5], [None, "x,y"]]), end="")
    a,b
    '=1+1,-0.5
    ,"x,y"
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_spreadsheet_text(value) for value in row] for row in rows])
    return buffer.getvalue()


def printable(text: str) -> str:
    """The text without control characters, which could move a terminal's cursor or hide lines."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def markdown_text(text: str) -> str:
    """Text that stays text in Markdown."""
    flat = html.escape(printable(text).replace("\n", " "), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", flat)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "×": r"$\times$", "–": "--", "≥": r"$\geq$", "≤": r"$\leq$", "−": "$-$",
    "†": r"\dag{}", "→": r"$\to$", "∞": r"$\infty$", "�": "?",
}  # fmt: skip


def _latex_text(text: str) -> str:
    flat = printable(text).replace("\n", " ")
    return "".join(map(_latex_letter, flat))


def _latex_letter(character: str) -> str:
    if character in _LATEX or character < "\u0180":
        return _LATEX.get(character, character)
    return rf"\beyondlatin{{{character}}}{{{ord(character):04X}}}"


def _spreadsheet_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


SAMPLE = (
    Table(
        "Two systems that do not exist",
        ("System", "Parameters (M)", "ROC-AUC"),
        (
            ("Small & <light>", "10.71", "0.815 (0.77 to 0.86)"),
            ("Large | heavy_1", "618.1", "n/a (no predictions)"),
        ),
        ("Figures are made up.",),
    ),
)

if __name__ == "__main__":
    from rich.console import Console

    Console().print(terminal(SAMPLE))
    print(markdown(SAMPLE), latex(SAMPLE), delimited(SAMPLE[0].headers, SAMPLE[0].rows), sep="\n")  # noqa: T201
