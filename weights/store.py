"""Data that is fetched: what there is, where it lies, and whether it is what it must be.

`manifest.toml` is the only home of addresses, sizes and checksums.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import platformdirs
from msgspec import Meta

from weights import archive
from weights.download import USUAL, Transport, client, download, within
from weights.locking import locked
from zoo.errors import InputError, UnknownNameError, UsageError
from zoo.files import make_folder, sha256

ENVIRONMENT = "MELANOMA_ZOO_DATA"
"""The environment variable that names another folder for fetched data."""

MIRROR = "MELANOMA_ZOO_MIRROR"
"""The environment variable that names another server to fetch files from."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Text = Annotated[str, Meta(min_length=1)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    title: Text
    origin: Text
    licence: Text


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of a set.

    Attributes:
        path: Where it is under the set's base URL.
        to: Where it goes in the set's folder.
        bytes: Its length.
        sha256: Its checksum, in hexadecimal.
    """

    path: Text
    to: Text
    bytes: Annotated[int, Meta(ge=1)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class FileSet(_Table, frozen=True, tag_field="kind", tag="files"):
    """A set that is fetched file by file.

    Attributes:
        title: What it is.
        origin: Who publishes it, and which state of it is meant.
        licence: Under which terms.
        base: The URL that the files' paths follow.
        files: Its files.
        predictions: Its folder of per-image scores, where it has one.
        labels: Its table of diagnoses, where it has one.
    """

    base: Annotated[str, Meta(pattern="^https://")]
    files: Annotated[tuple[File, ...], Meta(min_length=1)]
    predictions: str = ""
    labels: str = ""

    @property
    def bytes(self) -> int:
        """The length of all files."""
        return sum(file.bytes for file in self.files)


class Collection(_Table, frozen=True, tag_field="kind", tag="collection"):
    """A collection of images in the ISIC Archive.

    Attributes:
        title: What it is.
        origin: Its name in the archive.
        licence: Under which terms.
        collection: Its number in the archive.
        images: How many images it has.
        table: The file that describes them.
    """

    collection: Annotated[int, Meta(ge=1)]
    images: Annotated[int, Meta(ge=1)]
    table: Text


DataSet = FileSet | Collection


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a set.

    Attributes:
        folder: Where it is, or would be.
        present: How many of its files (or images) are there, and right.
        total: How many it has.
        wrong: Files that are there with other bytes than they must have.
    """

    folder: Path
    present: int
    total: int
    wrong: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self.present == self.total


@cache
def data_sets() -> dict[str, DataSet]:
    """What can be fetched, by name.

    >>> list(data_sets())
    ['published-scores', 'proveai']
    """
    raw = tomllib.loads((resources.files("weights") / "manifest.toml").read_text(encoding="utf-8"))
    return msgspec.convert(raw["data"], dict[str, DataSet])


def data_set(name: str) -> DataSet:
    """What can be fetched under a name.

    Raises:
        UnknownNameError: There is no such set; the message has the nearest name, or all names.
    """
    if name in data_sets():
        return data_sets()[name]
    near = difflib.get_close_matches(name, data_sets(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"sets: {', '.join(data_sets())}"
    raise UnknownNameError(f"no data set is called {name!r}; {hint}")


def folder(name: str = "") -> Path:
    """Where fetched data are: the user's data folder, or what `MELANOMA_ZOO_DATA` says.

    Args:
        name: A set; its own folder is meant.
    """
    chosen = os.environ.get(ENVIRONMENT)
    return (Path(chosen) if chosen else platformdirs.user_data_path("melanoma-zoo")) / name


def fetched_weights() -> Path | None:
    """The folder of fetched trained files, a folder of each system in it; None where there is none."""
    found = folder("weights")
    return found if found.is_dir() else None


def state(name: str, where: Path | None = None) -> State:
    """What is there of a set: files of known checksums are read and checked, of a collection images are counted.

    Args:
        name: The set.
        where: Its folder, if it is not in the usual place.

    Raises:
        UnknownNameError: There is no such set.
    """
    wanted, where = data_set(name), where or folder(name)
    if isinstance(wanted, Collection):
        there = len(archive.images(where)) if (where / wanted.table).is_file() else 0
        return State(folder=where, present=min(there, wanted.images), total=wanted.images)
    found = {file.to: _right(where / file.to, file) for file in wanted.files}
    return State(
        folder=where,
        present=sum(right is True for right in found.values()),
        total=len(found),
        wrong=tuple(to for to, right in found.items() if right is False),
    )


def published_scores() -> tuple[Path, Path] | None:
    """The folder of the published per-image scores and the table of labels, if they were fetched.

    Every file is checked. None where one of them is missing or has other bytes than it must; if
    the others are there, the log says so.
    """
    name, wanted = next(
        (name, each) for name, each in data_sets().items() if isinstance(each, FileSet) and each.predictions
    )
    found = state(name)
    if found.complete:
        return found.folder / wanted.predictions, found.folder / wanted.labels
    if found.present or found.wrong:
        logging.getLogger(__name__).warning(
            "the published scores in %s are left out: %d of %d files are missing or wrong; run: melanoma-zoo data fetch %s",
            found.folder,
            found.total - found.present,
            found.total,
            name,
        )
    return None


def fetch(
    name: str,
    output: Path | None = None,
    *,
    base: str | None = None,
    transport: Transport = USUAL,
    max_time: float | None = None,
    progress: Progress = lambda *_: None,
) -> State:
    """Fetches what is missing of a set, or wrong.

    What was fetched before is left as it is; an interrupted fetch goes on. Of two fetches into
    one folder the later waits, and finds the work done.

    Args:
        name: The set.
        output: Its folder, if not in the usual place.
        base: The URL of a mirror, which has the files under the same paths; it may be plain http.
            By default what `MELANOMA_ZOO_MIRROR` says, else the set's own.
        transport: How patiently each connection is used.
        max_time: Seconds after which the whole of it is given up.
        progress: Called as the work goes on.

    Raises:
        UnknownNameError: There is no such set.
        UsageError: A mirror is not a URL, or was named for a set that has none.
        InputError: The server has no such file, or other bytes than it must.
        MachineError: The server cannot be reached, an extra is missing, the folder cannot be
            written, or the time is over.
    """
    wanted, where = data_set(name), output or folder(name)
    if isinstance(wanted, Collection) and base:
        raise UsageError(f"{name} comes from the ISIC Archive by the archive's own tool: it has no mirror")

    def work(check: Callable[[], None]) -> None:
        def step(what: str, done: int, total: int) -> None:
            check()
            progress(what, done, total)

        if isinstance(wanted, Collection):
            archive.fetch(wanted.collection, where, wanted.images, wanted.table, progress=step)
        else:
            _fetch_files(name, wanted, where, base or os.environ.get(MIRROR), transport, step)

    within(max_time, work)
    return state(name, where)


def _fetch_files(
    name: str, wanted: FileSet, where: Path, mirror: str | None, transport: Transport, progress: Progress
) -> None:
    base = (mirror or wanted.base).rstrip("/")
    if not base.startswith(("https://", "http://")):
        raise UsageError(f"{base!r} is not the URL of a mirror: it must begin with https:// or http://")
    transport = msgspec.structs.replace(transport, plain=base.startswith("http://"))
    make_folder(where)
    with locked(where / ".lock"), client(transport) as pool:
        done = 0
        for file in wanted.files:
            path = where / file.to
            if not _right(path, file):
                make_folder(path.parent)

                def step(have: int, before: int = done) -> None:
                    progress(f"fetching {name}, kB", (before + have) // 1000, wanted.bytes // 1000)

                url = f"{base}/{file.path}"
                download(
                    pool, url, path, size=file.bytes, digest=file.sha256, transport=transport, progress=step
                )
            done += file.bytes


def _right(path: Path, file: File) -> bool | None:
    """Whether a file has the bytes it must have; None where there is none.

    Raises:
        InputError: It cannot be read.
    """
    try:
        if not path.is_file():
            return None
        return path.stat().st_size == file.bytes and sha256(path) == file.sha256
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
