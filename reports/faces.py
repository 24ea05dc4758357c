"""The faces of a record: what `report` writes or prints, and under which name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from reports.comment import comment
from reports.gate.judge import Outcome, judge
from reports.gate.pairs import Files
from reports.gate.rules import read_rules
from reports.leaderboard import Board, Named, leaderboard
from reports.modelcard import write_cards
from reports.outputs import FORMATS, text
from reports.record import Record, load
from reports.render import delimited, latex, markdown
from reports.thumbnails import with_thumbnails
from zoo.errors import InputError, UsageError
from zoo.files import replacing, write


def find_record(path: Path) -> Path:
    """A record, or the `record.json` of a folder.

    Raises:
        InputError: The folder has none.
    """
    if not path.is_dir():
        return path
    if not (path / "record.json").is_file():
        raise InputError(f"{path}: holds no record.json; make one with compare --output {path}")
    return path / "record.json"


def read(path: Path, images: Path | None = None, profile: Path | None = None) -> Record:
    """A record; with small pictures of its most disputed lesions where images are at hand.

    Args:
        path: The record, or the folder it is in.
        images: Folder of the test images.
        profile: Another record, whose profile takes the place of its own.

    Raises:
        InputError: It is no record, there is no such folder of images, or the profile is of other networks.
        UsageError: Images are given and the record names no lesions.
    """
    record = load(find_record(path))
    if profile:
        record = _with_profile(record, profile)
    if images is None:
        return record
    if record.disagreements is None:
        raise UsageError(
            f"--images: {path} names no lesions on which systems disagree; make the record anew with two systems or more"
        )
    return msgspec.structs.replace(record, disagreements=with_thumbnails(record.disagreements, images))


def _with_profile(record: Record, path: Path) -> Record:
    """The record with the profile of another, if that is of the same networks."""
    other = load(find_record(path))
    if other.profile is None:
        raise InputError(f"{path}: holds no profile; make one with profile --output {path}")
    names = {row.system for row in other.profile.rows}
    both = [entry for entry in record.entries if entry.card.name in names]
    if not both:
        raise InputError(f"{path}: no system of its profile is in the record")
    for entry in both:
        theirs = other.entry(entry.card.name)
        if theirs is None or [each.operations for each in theirs.members] != [
            each.operations for each in entry.members
        ]:
            raise InputError(
                f"{path}: its {entry.card.name} is of other networks than the record's; profile it anew"
            )
    return msgspec.structs.replace(record, profile=other.profile)


def write_page(record: Record, path: Path) -> list[Path]:
    """Writes the page."""
    from reports.page.build import page

    write(path, page(record))
    return [path]


def write_figures(record: Record, folder: Path) -> list[Path]:
    """Writes every figure as PNG, SVG and PDF."""
    from reports.charts.all import charts
    from reports.charts.printed import write_figures as draw

    return draw(charts(record), folder)


def write_parquet(record: Record, path: Path) -> list[Path]:
    """Writes the frame as Parquet."""
    from reports.rows import frame

    with replacing(path) as temporary:
        frame(record).to_parquet(temporary)
    return [path]


WRITTEN: dict[str, tuple[str, Callable[[Record, Path], list[Path]]]] = {
    "html": ("page.html", write_page),
    "figures": ("figures", write_figures),
    "card": ("cards", write_cards),
    "parquet": ("comparison.parquet", write_parquet),
}
"""Faces that are files, the name each has beside the record, and how it is written."""

PRINTED: dict[str, Callable[[Record], str]] = {
    **{style: partial(text, style=style) for style in FORMATS},
    "pr": comment,
}
"""Faces that are text: printed, or written where a file is named."""


def board(paths: Sequence[Path], figures: Sequence[str] = ()) -> Board:
    """The leaderboard of several records, each called as the folder it is in.

    Args:
        paths: The records.
        figures: Names of the figures that are shown; all where empty.

    Raises:
        InputError: One is no record.
        UsageError: Two have the same name.
    """
    files = [find_record(path) for path in paths]
    return leaderboard([Named(_name(file), load(file)) for file in files], figures)


def _name(file: Path) -> str:
    folder = file.resolve().parent.name
    return folder if file.name == "record.json" and folder else file.stem


SHORT = ("roc_auc", "average_precision", "specificity")
"""Figures of a leaderboard on a terminal, which is narrow; every other form has all."""


def board_as(found: Board, style: str) -> str:
    """The leaderboard as `html`, `markdown`, `latex` or `csv`.

    Raises:
        UsageError: It has no such form.
    """
    if style == "html":
        from reports.page.build import board_page

        return board_page(found)
    if style == "markdown":
        return markdown(found.tables)
    if style == "latex":
        return latex(found.tables)
    if style == "csv":
        return "\n".join(delimited(each.headers, [(each.title,), *each.rows]) for each in found.tables)
    raise UsageError(
        f"several records make a leaderboard, which has no form {style}; take terminal, html, markdown, latex or csv"
    )


def gated(
    record: Record, path: Path, against: Path, rules: Path | None, predictions: Sequence[Path]
) -> tuple[Record, Outcome]:
    """The old record, and what the gate says of the new one.

    Raises:
        InputError: The old record or the rules cannot be read.
        UsageError: A rule is on a figure that does not exist.
    """
    old = load(find_record(against))
    beside = find_record(against).parent, find_record(path).parent
    return old, judge(record, old, read_rules(rules), Files(predictions), beside=beside)
