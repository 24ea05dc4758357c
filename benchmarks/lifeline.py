"""Ends a process with the one that started it, however that ended: a kill leaves nothing running."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from threading import Thread

_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h: the signal that a process gets when its parent has ended."""

_LOOK_S = 0.5


def follow(parent: int) -> None:
    """Ends this process with its parent: by the kernel on Linux, elsewhere by a thread that looks now and then.

    The kernel takes the thread that started a process for its parent; that thread has to live as long as
    the process is needed. A fork is not followed by its own forks: each has to ask for itself.

    Args:
        parent: Its process id, as the parent knows it.
    """
    if not _by_the_kernel():
        Thread(target=_watch, args=[parent], daemon=True).start()
    if os.getppid() != parent:  # It ended before anything watched it.
        _end()


def _by_the_kernel() -> bool:
    if sys.platform != "linux":
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return bool(prctl(_PR_SET_PDEATHSIG, *map(ctypes.c_ulong, (signal.SIGKILL, 0, 0, 0))) == 0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
