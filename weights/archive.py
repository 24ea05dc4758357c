"""Collections of the ISIC Archive, fetched by the archive's own tool (`isic`, extra `isic`)."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from weights.locking import locked
from zoo.errors import InputError, MachineError
from zoo.files import make_folder

ENDINGS = frozenset({".jpg", ".jpeg", ".png"})
"""File names of images end in one of these, in small letters or capitals."""

ROUNDS = 3
"""The tool passes over an image that it could not get, and says nothing: it is run so often at most."""

_POLL_S = 0.5
_PATIENCE_S = 5
"""Seconds that the tool has to end when it is told to, before it is killed."""


def images(folder: Path) -> list[Path]:
    """The images of a folder that are not empty, by name."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and p.stat().st_size)


def fetch(
    collection: int,
    folder: Path,
    count: int,
    table: str,
    *,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> None:
    """Fetches a collection: its images, its table, its licences.

    The work is done in a folder beside `folder`, which takes its place when all is there; an
    interrupted fetch goes on with the images that are missing.

    Args:
        collection: Its number in the archive.
        folder: Where it goes; a folder that is there must be empty.
        count: How many images it has.
        table: The name of its table.
        progress: Called as images arrive.

    Raises:
        InputError: The folder holds something else, or the collection has changed.
        MachineError: The tool is not installed or did not get all images (what has come is kept), or
            the folder cannot be written.
    """
    folder = folder.absolute()
    staging, lock = (folder.with_name(f".{folder.name}.{what}") for what in ("part", "lock"))
    if _complete(folder, count, table):
        return
    tool = _tool()
    with locked(lock) as descriptor:
        if _complete(folder, count, table):
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder}: holds other files than the whole collection; name another folder, or empty it"
            )
        make_folder(staging)
        for _ in range(ROUNDS):
            _run([tool, "image", "download", "--collections", str(collection), str(staging)], staging, count, descriptor, progress)  # fmt: skip
            if not (missing := _missing(staging, count, table)):
                break
        else:
            raise MachineError(
                f"{len(missing)} of {count} images could not be fetched ({', '.join(missing[:3])}, ...); "
                f"the others are kept in {staging}, and the same command goes on"
            )
        for left in staging.glob(".isic-partial.*"):
            left.unlink(missing_ok=True)
        try:
            staging.rename(folder)
        except OSError as error:
            raise MachineError(
                f"{folder}: cannot be put in place: {error.strerror or error}; all of it is in {staging}"
            ) from error


def _complete(folder: Path, count: int, table: str) -> bool:
    return (folder / table).is_file() and len(images(folder)) >= count


def _tool() -> str:
    """The command, on the path or beside this interpreter."""
    found = shutil.which("isic") or shutil.which("isic", path=str(Path(sys.executable).parent))
    if found is None:
        raise MachineError(
            "the ISIC Archive's own tool, isic-cli, is not installed; run: pip install 'melanoma-zoo[isic]'"
        )
    return found


def _run(
    command: list[str], staging: Path, count: int, lock: int, progress: Callable[[str, int, int], None]
) -> None:
    """Runs the tool; what it says is shown only where it fails."""
    with tempfile.TemporaryFile() as said:
        # The child shares the lock: were this process killed, the next fetch would wait for the
        # child's end. Nothing to read for it, since it asks whether to send a report of an error.
        with subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, pass_fds=(lock,)
        ) as child:
            try:
                while child.poll() is None:
                    progress("fetching images", len(images(staging)), count)
                    try:
                        child.wait(_POLL_S)
                    except subprocess.TimeoutExpired:
                        continue
            except BaseException:
                _end(child)
                raise
        there = len(images(staging))
        progress("fetching images", there, count)
        if child.returncode:
            raise MachineError(
                f"isic-cli could not fetch the collection: {_reason(said)}; {there} of {count} images are "
                f"kept in {staging}, and the same command goes on"
            )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _reason(said: IO[bytes]) -> str:
    """The line that names the error, out of a traceback or a message; else the last line."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line)]
    return (named or lines or ["it said nothing"])[-1].removeprefix("Error: ").rstrip(".")[:300]


def _missing(staging: Path, count: int, table: str) -> list[str]:
    """Ids that the table lists and that have no image; the table's own name where it is missing.

    Raises:
        InputError: The table lists another number of images than the collection must have.
    """
    path = staging / table
    if not path.is_file():
        return [table]
    with path.open(newline="", encoding="utf-8") as file:
        listed = [row.get("isic_id") or "" for row in csv.DictReader(file)]
    if len(set(listed)) != count:
        raise InputError(
            f"{path}: lists {len(set(listed))} images, expected {count}: the archive's collection is not what it was"
        )
    there = {image.stem for image in images(staging)}
    return [each for each in listed if each not in there]
