"""Plain files, read and written so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import MachineError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    A link stays, and the file that it leads to is replaced.

    Raises:
        MachineError: The file cannot be written (no such folder, no permission, disk full), or what
            is there is no file (a folder, a device); what was there before is untouched.
    """
    place = Path(os.path.realpath(path))
    temporary: Path | None = None
    try:
        check_target(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        os.close(descriptor)
        temporary = Path(name)
        # mkstemp makes private files; a result is as readable as any file its owner makes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        temporary.replace(place)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Refuses to put a file in the place of a folder, a device such as `/dev/null`, or a pipe.

    Raises:
        MachineError: There is such a thing.
    """
    if path.exists() and not path.is_file():
        raise MachineError(f"{path}: cannot be written: what is there is not a file; choose another name")


def make_folder(path: Path) -> None:
    """Makes a folder, and makes sure that files can be written to it, before long work starts.

    Raises:
        MachineError: It cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written to ({error.strerror or error}); choose another folder"
        ) from error


def write(path: Path, content: bytes | str) -> None:
    """Writes a whole file at once (text as UTF-8).

    Raises:
        MachineError: It cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
