"""Runs a program that may hang: it is ended at its time limit, with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

_GRACE_S = 5
"""How long what was printed is waited for after that: another process may have been handed the pipes."""


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        code: Its exit code; below 0 where a signal ended it.
        out: What it printed.
        err: What it printed to stderr.
        late: Whether it was ended at its time limit.
    """

    code: int
    out: str
    err: str
    late: bool


def run(command: Sequence[str], limit_s: float, **options: Any) -> Ended:
    """Runs a program for so many seconds at most.

    Args:
        command: The program and its arguments.
        limit_s: Seconds after which it is ended.
        options: Further ones of `subprocess.Popen`.
    """
    out = err = ""
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        process_group=0,
        **options,
    ) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            _end(process.pid)
            with suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=_GRACE_S)
            return Ended(process.wait(), out, err, late=True)
        except BaseException:
            _end(process.pid)
            raise
    return Ended(process.returncode, out, err, late=False)


def _end(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
