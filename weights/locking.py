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

_POLL_S = 0.1
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What network file systems without locks answer; there, work goes on unlocked."""


@contextmanager
def locked(path: Path, *, wait: float | None = None) -> Iterator[int]:
    """Holds the lock that a file stands for; waits for whoever holds it now.

    The lock ends with the last process that has the file open, however it ends, so a killed one
    leaves none behind. The file itself stays, empty: removing it would break the lock of a waiter.

    Args:
        path: The file; it is made, and its folder too.
        wait: Seconds to wait at most; for ever where None.

    Yields:
        The descriptor; a child that is given it holds the lock as well, even after this process.

    Raises:
        MachineError: The file cannot be made, or somebody else held the lock all the time.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise MachineError(
            f"{path.parent}: cannot be written to ({error.strerror or error}); choose another folder"
        ) from error
    try:
        end = None if wait is None else time.monotonic() + wait
        told = False
        while not _taken(descriptor):
            if not told:
                logging.getLogger(__name__).warning(
                    "%s: another fetch is at work there; waiting for it", path.parent
                )
                told = True
            if end is not None and time.monotonic() > end:
                raise MachineError(
                    f"{path.parent}: another fetch is at work there; try again when it is done"
                )
            time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
