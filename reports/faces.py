"""The faces of a record: what `report` writes or prints, and under which name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from reports.outputs import FORMATS, text
from reports.record import Record, load
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


def read(path: Path, images: Path | None = None) -> Record:
    """A record; with small pictures of its most disputed lesions where images are at hand.

    Raises:
        InputError: It is no record, or there is no such folder of images.
        UsageError: Images are given and the record names no lesions.
    """
    record = load(find_record(path))
    if images is None:
        return record
    if record.disagreements is None:
        raise UsageError(
            f"--images: {path} names no lesions on which systems disagree; make the record anew with two systems or more"
        )
    return msgspec.structs.replace(record, disagreements=with_thumbnails(record.disagreements, images))


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
    "parquet": ("comparison.parquet", write_parquet),
}
"""Faces that are files, the name each has beside the record, and how it is written."""

PRINTED: dict[str, Callable[[Record], str]] = {style: partial(text, style=style) for style in FORMATS}
"""Faces that are text: printed, or written where a file is named."""
