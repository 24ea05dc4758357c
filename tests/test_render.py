"""Tables as text: nothing that a file or a user brings may become markup, a formula or a control code."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reports.render import SAMPLE, Table, delimited, latex, markdown, printable, terminal

NASTY = "a|b <script>x</script> & _c_ [d](e) *f* `g` \\ {h} $i$ %j #k ^l ~m\x1b[31m\n= 1+1"


def shown(*tables: Table, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(terminal(tables))
    return console.file.getvalue()  # type: ignore[attr-defined]


def nasty(value: str = NASTY) -> Table:
    return Table(title=value, headers=("name", value), rows=((value, "1"),), notes=(value,))


def test_the_terminal_shows_markup_as_text_and_no_control_codes() -> None:
    text = shown(nasty("[bold]x[/bold] \x1b[2J\x07"))
    assert "[bold]x[/bold]" in text
    assert "\x07" not in text
    assert "\x1b[2J" not in text


def test_markdown_cells_stay_cells() -> None:
    lines = markdown([nasty()]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in table)
    assert "<script>" not in "\n".join(lines)
    assert "\\[d\\](e)" in table[2]


@given(st.text(min_size=1))
def test_any_text_is_one_markdown_cell(text: str) -> None:
    table = [line for line in markdown([Table("T", ("a",), ((text,),))]).split("\n") if line.startswith("|")]
    assert len(table) == 3


@given(
    st.lists(st.lists(st.one_of(st.none(), st.text(), st.floats(allow_nan=False)), min_size=2, max_size=2))
)
def test_csv_survives_a_round_trip_and_has_no_formulas(rows: list[list[object]]) -> None:
    read = list(csv.reader(io.StringIO(delimited(["a", "b"], rows), newline="")))
    assert len(read) == len(rows) + 1
    for written, found in zip(rows, read[1:], strict=True):
        for value, text in zip(written, found, strict=True):
            if isinstance(value, str):
                assert text in (printable(value), f"'{printable(value)}")
                assert not text.startswith(("=", "+", "-", "@"))


def test_rows_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="has not 2 columns"):
        Table("T", ("a", "b"), (("1",),))


def test_every_format_shows_the_same_cells() -> None:
    for cell in ("10.71", "618.1", "0.815 (0.77 to 0.86)", "n/a (no predictions)"):
        for text in (shown(*SAMPLE), markdown(SAMPLE), latex(SAMPLE)):
            assert cell in text


def test_letters_beyond_latin_are_not_lost() -> None:
    """pdfLaTeX shows their code points, XeLaTeX and LuaLaTeX the letters."""
    text = latex([Table("Ж", ("name",), (("Łódź λ 痣",),))])
    assert r"\caption{\beyondlatin{Ж}{0416}}" in text
    assert r"Łódź \beyondlatin{λ}{03BB} \beyondlatin{痣}{75E3}" in text
    assert "?" not in text


def test_tables_of_sentences_or_many_rows_may_break_over_pages() -> None:
    sentences = Table("Caveats", ("who", "what"), (("a", "word " * 30),), align="ll")
    many = Table("Many", ("n", "m"), tuple((str(n), "1") for n in range(60)))
    for table in (sentences, many):
        text = latex([table])
        assert r"\begin{longtable}" in text
        assert r"\begin{table}" not in text
    assert "longtable}" not in latex(SAMPLE).replace("graphicx,longtable}", "")


@pytest.mark.parametrize("cell", ["[2] mine", "*mine", " [x]"])
def test_a_latex_row_is_no_argument_of_what_stands_before_it(cell: str) -> None:
    """A line break or a rule takes a bracket or star that follows it for its own."""
    text = latex([Table("T", (cell, "n"), ((cell, "1"), (cell, "2")))])
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 3
    assert all(row.startswith("{}" + cell) for row in rows)


@pytest.mark.slow
def test_latex_compiles(tmp_path: Path, record) -> None:
    from reports.outputs import tables

    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    letters = Table("Жλ", ("n",), tuple((letter,) for letter in "Łódź λ 痣 ∞ Ж"))
    brackets = Table("[T]", ("[h]", "n"), (("[a]", "1"), ("*b", "[2]"), ("[c", "3")), ("[note]",))
    body = latex([*SAMPLE, nasty(), letters, brackets, *tables(record)])
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{array,booktabs,graphicx,longtable}"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 10_000
    assert "Float too large" not in run.stdout
