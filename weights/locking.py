"""One writer at a time in a folder, across processes."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import MachineError

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What network file systems without locks answer; there, work goes on unlocked."""


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Holds the lock that a file stands for; waits for whoever holds it now.

    The lock ends with the last process that has the file open, however it ends, so a killed one
    locks nobody out. The file is gone when the block ends.

    Args:
        path: The file; it is made, and its folder too.

    Yields:
        The descriptor; a child that is given it holds the lock as well, even after this process.

    Raises:
        MachineError: The file cannot be made.
    """
    descriptor = _open(path)
    told = False
    try:
        while True:
            while not _taken(descriptor):
                if not told:
                    _LOG.warning("%s: another fetch is at work there; waiting for it", path.parent)
                    told = True
                time.sleep(_POLL_S)
            if os.fstat(descriptor).st_nlink:
                break
            # Whoever held it removed the file: who comes now makes a new one, so that is the lock.
            os.close(descriptor)
            descriptor = _open(path)
        try:
            yield descriptor
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise MachineError(
            f"{path.parent}: cannot be written to ({error.strerror or error}); choose another folder"
        ) from error


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
