"""Tables as files, in every format."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from reports import render
from zoo.files import write


def write_tables(shown: Sequence[render.Table], csv: str, folder: Path, name: str) -> list[Path]:
    """Writes tables as LaTeX, plain text and Markdown, and the figures that they show as CSV.

    Markdown is left out where tabulate is not installed: a machine that only measures may lack it.

    Args:
        shown: The tables.
        csv: The figures.
        folder: Where to.
        name: The files' name, before their endings.

    Returns:
        The files written.

    Raises:
        MachineError: The folder cannot be written.
    """
    contents = {"csv": csv, "tex": render.latex(shown), "txt": _plain(shown)}
    with suppress(ModuleNotFoundError):
        contents["md"] = render.markdown(shown)
    files = {folder / f"{name}.{ending}": content for ending, content in contents.items()}
    for path, content in files.items():
        write(path, content)
    return list(files)


def _plain(shown: Sequence[render.Table]) -> str:
    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=200, highlight=False).print(render.terminal(shown))
    return buffer.getvalue()
