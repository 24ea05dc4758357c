"""Systems of other packages and folders: their cards, found without importing any of their code.

A package says in its metadata where its cards are, under the entry-point group
`melanoma_zoo.systems`; a folder is named for one command, or for all in the environment variable
`MELANOMA_ZOO_PATH`. A card that cannot be taken is named on
the log and left out, and the others are taken.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from zoo.card import System
from zoo.errors import CardError, InputError
from zoo.reading import read

GROUP = "melanoma_zoo.systems"
"""The entry-point group. The value of an entry is a package whose folder holds cards, in itself or in `cards`."""

ENVIRONMENT = "MELANOMA_ZOO_PATH"
"""The environment variable with folders of cards, separated as those of PATH are."""

_NOT_CARDS = ("pyproject.toml",)

_log = logging.getLogger(__name__)

Found = tuple[System, str]
"""A card, and where it comes from."""


def installed() -> Iterator[Found]:
    """The cards of all installed packages that have some, in the order of their names."""
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        where = f"plugin {entry.name} ({entry.value})"
        try:
            folder = _folder(entry)
            files = cards_in(folder)
            if not files:
                raise InputError(f"no card (.toml) in {folder}")
        except Exception as error:  # Metadata of somebody else's.
            leave_out(where, error)
            continue
        yield from _read(files, where)


def in_environment() -> Iterator[Found]:
    """The cards of the folders that `ENVIRONMENT` names."""
    for name in filter(None, os.environ.get(ENVIRONMENT, "").split(os.pathsep)):
        try:
            yield from in_folder(Path(name).expanduser())
        except InputError as error:
            leave_out(ENVIRONMENT, error)


def in_folder(folder: Path) -> Iterator[Found]:
    """The cards of a folder. Builders in files beside them can be imported from then on.

    Raises:
        InputError: There is no such folder, or no card in it.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: " + ("is not a folder" if folder.exists() else "there is no such folder")
        )
    files = cards_in(folder)
    if not files:
        raise InputError(f"{folder}: no card (.toml) in it; melanoma-zoo new NAME writes one")
    # At the end, so that a file there shadows nothing; worker processes get the same path.
    if str(folder.absolute()) not in sys.path:
        sys.path.append(str(folder.absolute()))
    yield from _read(files, str(folder))


def cards_in(folder: Path) -> list[Path]:
    """The cards of a folder, sorted; those in a folder `cards` inside it where there are none."""
    for place in (folder, folder / "cards"):
        if place.is_dir():
            files = sorted(path for path in place.glob("*.toml") if path.name not in _NOT_CARDS)
            if files:
                return files
    return []


def add(found: Iterable[Found], take: Callable[[System, str], None]) -> None:
    """Takes what was found, and names what is refused."""
    for system, where in found:
        try:
            take(system, where)
        except Exception as error:  # One of them must not stop the others.
            leave_out(where, error)


def leave_out(where: str, error: Exception) -> None:
    """Names what is left out, on one line; the traceback is for those who debug."""
    reason = str(error) if isinstance(error, InputError) or str(error).strip() else type(error).__name__
    text = "".join(c if c.isprintable() else "?" for c in " ".join(f"{where}: {reason}".split()))
    _log.warning("left out: %s", text, exc_info=error if _log.isEnabledFor(logging.DEBUG) else None)


def _read(files: Iterable[Path], where: str) -> Iterator[Found]:
    for path in files:
        try:
            system = read(path)
            if not re.fullmatch(r"[a-z][a-z0-9_]*", system.name):
                raise CardError(f"{path}: the name {system.name!r} is kept for systems without a card")
            yield system, f"{where}, {path.name}"
        except CardError as error:
            leave_out(where, error)


def _folder(entry: EntryPoint) -> Path:
    """The folder of an entry's package; only its top package is looked up, and nothing is imported."""
    top, *rest = entry.module.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"there is no package {top!r}; install it again")
    for place in spec.submodule_search_locations:
        folder = Path(place, *rest)
        if folder.is_dir():
            return folder
    raise InputError(f"package {top!r} has no folder {'/'.join(rest)!r}")
