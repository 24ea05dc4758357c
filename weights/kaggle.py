"""Trained files of a system from Kaggle, through `kagglehub` (extra `kaggle`) with the user's own credentials."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from weights.locking import locked
from weights.store import folder as data_folder
from zoo.errors import InputError, MachineError
from zoo.files import make_folder, write

if TYPE_CHECKING:
    from types import ModuleType

    from zoo.card import System

MARKER = ".kaggle"
"""The file in a fetched folder that names the data set it came from."""

_CACHE = "KAGGLEHUB_CACHE"
_LOG_IN = "log in to Kaggle (KAGGLE_API_TOKEN, or ~/.kaggle/kaggle.json) and accept the data set's terms at"


def fetch(system: System, output: Path | None = None) -> Path:
    """Fetches the trained files of a system.

    The work is done in a folder beside the last one, which takes its place when all is there. An
    interrupted fetch goes on: kagglehub resumes its archive, and checks it.

    Args:
        system: The card of the system; its `checkpoints.kaggle` names the data set.
        output: Where the files go; by default `weights/` and the system's name in the data folder.

    Returns:
        The folder that holds them; where Kaggle has mounted the data set already, as in its
        notebooks, that mount.

    Raises:
        InputError: The system's files are not public, there is no such data set, or the folder
            holds something else.
        MachineError: kagglehub is not installed, Kaggle cannot be reached or asks for credentials,
            or the folder cannot be written.
    """
    handle = system.checkpoints.kaggle if system.checkpoints else ""
    if not handle:
        raise InputError(
            f"{system.name}: its trained files are not public, so there is nothing to fetch; "
            "ask its authors, and give the folder with --weights"
        )
    folder = (output or data_folder("weights") / system.name).absolute()
    staging, lock = (folder.with_name(f".{folder.name}.{what}") for what in ("part", "lock"))
    if _fetched(folder, handle):
        return folder
    kagglehub = _kagglehub()
    with locked(lock):
        if _fetched(folder, handle):
            return folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: holds other files than {handle}; name another folder, or empty it")
        make_folder(staging)
        found = _download(kagglehub, handle, staging)
        if not found.is_relative_to(staging):
            return found
        write(found / MARKER, f"{handle}\n")
        try:
            found.rename(folder)
        except OSError as error:
            raise MachineError(
                f"{folder}: cannot be put in place: {error.strerror or error}; all of it is in {found}"
            ) from error
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _fetched(folder: Path, handle: str) -> bool:
    try:
        return (folder / MARKER).read_text(encoding="utf-8").strip() == handle
    except OSError:
        return False


def _kagglehub() -> ModuleType:
    try:
        with redirect_stdout(sys.stderr):  # Where it reports to is decided when it is imported.
            import kagglehub
    except ImportError as error:
        raise MachineError("kagglehub is not installed; run: pip install 'melanoma-zoo[kaggle]'") from error
    return kagglehub  # type: ignore[no-any-return]


def _download(kagglehub: ModuleType, handle: str, staging: Path) -> Path:
    # With an `output_dir` kagglehub starts anew after an interruption; in its cache it goes on.
    with _environment(_CACHE, str(staging)), redirect_stdout(sys.stderr):
        try:
            return Path(kagglehub.dataset_download(handle)).absolute()
        except Exception as error:
            # Its errors have no common base: its own kinds, requests', and plain ValueErrors.
            raise _translated(error, handle) from error


def _translated(error: Exception, handle: str) -> InputError | MachineError:
    page = f"https://www.kaggle.com/datasets/{handle}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if status == 404:
        return InputError(f"Kaggle has no data set {handle} (any more): {page}")
    if status in (401, 403) or kind in ("CredentialError", "UnauthenticatedError"):
        return MachineError(f"Kaggle does not give {handle} to this user: {_LOG_IN} {page}")
    reason = (str(error).strip() or kind).splitlines()[0][:300]
    if kind == "DataCorruptionError":
        return InputError(
            f"{handle}: came with other bytes than Kaggle announced; the same command fetches it anew"
        )
    return MachineError(
        f"{handle}: kagglehub could not fetch it: {reason}; what has come is kept, the same command goes on"
    )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
