"""Tables in the width there is: no word of a heading and no figure is torn, and nothing is left out."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from reports.fitting import NARROWEST, blocks, fold
from reports.outputs import tables_on_screen
from reports.render import Table, terminal

ROOT = Path(__file__).parents[1]
WORDS = st.text("abcdefgh", min_size=1, max_size=12)
HEADINGS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
NUMBERS = st.decimals(-9999, 9999, places=3, allow_nan=False).map(str)
CELLS = st.one_of(
    NUMBERS,
    st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["", " ab", " a †"])).map(
        lambda each: f"{each[0]} ({each[1]} to {each[2]}){each[3]}"
    ),
    HEADINGS.map(lambda reason: f"n/a ({reason})"),
    st.lists(WORDS, min_size=5, max_size=30).map(" ".join),
    st.lists(WORDS, min_size=3, max_size=9).map("_".join),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str]:
    count = draw(st.integers(1, 9))
    headers = draw(st.lists(HEADINGS, min_size=count, max_size=count))
    rows = draw(st.lists(st.lists(CELLS, min_size=count, max_size=count), max_size=5))
    sides = draw(st.lists(st.sampled_from("lr"), min_size=count, max_size=count))
    return headers, rows, "".join(sides)


def shown(table: Table, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(terminal([table]))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def whole(text: str) -> list[str]:
    """What must stand on one line: words of up to 18 letters, and intervals."""
    interval = text[text.index("(") :].split(")")[0] + ")" if " to " in text else ""
    return [
        word for word in [interval, *text.replace(interval, "").split()] if len(word) <= 18 or " to " in word
    ]


@given(tables(), st.integers(60, 200))
def test_no_heading_and_no_figure_is_torn(table: tuple[list[str], list[list[str]], str], width: int) -> None:
    headers, rows, align = table
    found = blocks(headers, rows, align, width)
    heads = "\n".join(line for block in found for line in block.head)
    body = "\n".join(line for block in found for line in block.body)
    assert max(cell_len(line) for line in (*heads.split("\n"), *body.split("\n"))) <= width
    for header in headers:
        assert all(word in heads.split() for word in header.split())
    for piece in (piece for row in rows for cell in row for piece in whole(cell)):
        assert piece in body


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 3), st.integers(14, 200))
def test_each_cell_is_shown_once_and_names_in_each_block(
    columns: int, rows: int, words: int, width: int
) -> None:
    cells = [[f"{row}x{column}y" for column in range(columns)] for row in range(rows)]
    names = min(words, columns)
    align = "l" * names + "r" * (columns - names)
    found = blocks([f"h{column}" for column in range(columns)], cells, align, width)
    shown = [word for block in found for line in block.body for word in line.split()]
    for row in cells:
        assert shown.count(row[0]) == len(found)
        assert all(
            shown.count(cell) in ((1, len(found)) if column < names else (1,))
            for column, cell in enumerate(row)
            if column
        )


LETTERS = st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from(
    " 1測量あ한\ufe0f\u0301❤"
)


@given(st.text(LETTERS), st.integers(-3, 60))
def test_folding_loses_nothing(text: str, width: int) -> None:
    lines = fold(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(map(cell_len, lines)) <= max(width, 2)


WIDE = st.lists(st.text("測量結果あいう한국어ab1.", min_size=1, max_size=14), min_size=1, max_size=5).map(
    " ".join
)


@given(st.data(), st.integers(-3, 120))
def test_lines_are_no_longer_than_the_terminal_and_nothing_is_left_out(
    data: st.DataObject, width: int
) -> None:
    """Of wide letters too, and in terminals that have no room for words."""
    count = data.draw(st.integers(1, 6))
    one_row = st.lists(WIDE | CELLS, min_size=count, max_size=count)
    headers, *rows = data.draw(st.lists(one_row, min_size=1, max_size=4))
    align = "".join(data.draw(st.lists(st.sampled_from("lr"), min_size=count, max_size=count)))
    found = blocks(headers, rows, align, width)
    lines = [line for block in found for line in (*block.head, *block.body)]
    assert max(map(cell_len, lines)) <= max(width, NARROWEST)
    letters = Counter("".join(lines))
    for letter, times in Counter("".join(cell for row in (headers, *rows) for cell in row)).items():
        assert letter == " " or letters[letter] >= times, letter


@pytest.mark.parametrize("width", range(1, 13))
def test_a_terminal_of_few_letters_loses_none(width: int) -> None:
    table = Table("A title", ("Name", "A"), (("first", "1.234"),), ("a note",), align="lr")
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(terminal([table]), crop=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert {"A", "title", "Name", "first", "1.234", "a", "note"} <= set(text.split())


@pytest.mark.parametrize("width", [30, 40, 60, 70])
def test_a_checksum_does_not_shred_the_name_beside_it(width: int) -> None:
    (block,) = blocks(["System", "SHA-256"], [["First place", "0123456789abcdef" * 4]], "ll", width)
    text = "\n".join(block.body)
    assert "First place" in text
    assert "".join(line[13:] for line in block.body).replace(" ", "") == "0123456789abcdef" * 4
    assert max(map(cell_len, block.body)) <= width


def test_an_interval_that_has_no_room_is_folded_between_its_figures() -> None:
    assert fold("(0.773 to 0.857) ab", 10) == ["(0.773 to", "0.857) ab"]


def test_what_fits_is_one_block_on_single_lines() -> None:
    (block,) = blocks(["Name", "One", "Two"], [["a b", "1 of 2", "n/a (none)"]], "lrr", 40)
    assert block.head == ["Name     One         Two"]
    assert block.body == ["a b   1 of 2  n/a (none)"]


def test_cells_fold_before_the_table_is_cut() -> None:
    row = [
        "Second place",
        "0.787 (0.736 to 0.832) a",
        "-0.057 (-0.107 to -0.009) *",
        "0.209 (0.116 to 0.366) †",
    ]
    (block,) = blocks(["System", "ROC-AUC", "Less that of First place", "Specificity"], [row], "lrrr", 79)
    assert [line.split() for line in block.body] == [
        ["Second", "place", "0.787", "-0.057", "0.209"],
        ["(0.736", "to", "0.832)", "a", "(-0.107", "to", "-0.009)", "*", "(0.116", "to", "0.366)", "†"],
    ]


def test_a_table_that_is_cut_has_even_blocks_and_no_folded_figures() -> None:
    headers = ["System", *(f"Metric {number}" for number in range(5))]
    found = blocks(headers, [["First place", *["0.844 (0.796 to 0.888) ab"] * 5]], "l" + "r" * 5, 79)
    assert [line.count("0.844") for block in found for line in block.body] == [2, 2, 1]
    found = blocks(headers, [["First place", *["0.844 (0.796 to 0.888) ab"] * 5]], "l" + "r" * 5, 105)
    assert [line.count("0.844") for block in found for line in block.body] == [3, 2]


def test_a_number_and_the_name_behind_it_stand_in_every_block() -> None:
    row = ["1", "First place", "out", *["0.844 (0.796 to 0.888)"] * 3]
    first, second = blocks(["Rank", "System", "Record", "A", "B", "C"], [row], "rllrrr", 70)
    assert first.body == ["   1  First place  out     0.844 (0.796 to 0.888)"]
    assert second.body[0].split()[:3] == ["1", "First", "place"]
    assert second.body[0].count("0.844") == 2


def test_a_number_and_a_name_alone_fit_too() -> None:
    """Both name the row, and there is nothing beside them."""
    found = blocks(["Rank", "System"], [["1", "a" * 30]], "rl", 20)
    assert "".join(line for block in found for line in block.body).count("a") == 30


def test_names_fold_behind_marks() -> None:
    name = "EfficientNetB6_256x256_2019-2020_epoch25_auc_0.95"
    (block,) = blocks(["Network", "GMACs"], [[name, "3.09"]], "lr", 40)
    assert [line.split()[0] for line in block.body] == [
        "EfficientNetB6_256x256_2019-2020_",
        "epoch25_auc_0.95",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_all_tables_of_a_record_are_shown_whole(record, width: int) -> None:
    for table in tables_on_screen(record):
        lines = shown(table, width)
        assert max(map(len, lines)) <= width
        words = {word for line in lines for word in line.split()}
        for header in table.headers:
            assert set(header.split()) <= words, header
        for value in (value for row in table.rows for value in row):
            assert {word for word in value.split() if len(word) <= 18} <= words, value


def run(words: list[str], *, columns: str = "", **streams: object) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    env |= {"COLUMNS": columns} if columns else {}
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words], text=True, env=env, check=True, **streams
    )  # type: ignore[call-overload, no-any-return]


def test_where_there_is_no_terminal_tables_are_wide() -> None:
    words = ["show", "first_place"]
    wide = run(words, capture_output=True).stdout.splitlines()
    assert 120 < max(map(len, wide)) <= 200
    assert 60 < max(map(len, run(words, columns="80", capture_output=True).stdout.splitlines())) <= 80
    assert run(words, columns="0", capture_output=True).stdout.splitlines() == wide, "it says nothing"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_a_pipe_is_as_wide_as_the_terminal_it_is_read_on() -> None:
    """As in `melanoma-zoo show first_place | tee`: stdout is a pipe, stderr the terminal."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 91, 0, 0))
        piped = run(["show", "first_place"], stdout=subprocess.PIPE, stderr=theirs).stdout.splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert 80 < max(map(len, piped)) <= 91
