"""How results and progress reach whoever started a command: a person, a log, or another program."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from reports.render import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from reports.render import Table

LINE_EVERY_S = 10
"""Seconds between lines of progress where there is no terminal for a bar."""

Step = tuple[float, int]
"""When, and how much of the work was done then."""

_SPEED_S = 3600
"""Seconds of finished steps that the time left is estimated from."""

WIDE = 200
"""Cells of a line where no terminal has a width."""


def print_tables(tables: Sequence[Table]) -> None:
    """Prints tables as wide as the terminal; of `WIDE` where there is none, as in a file or a log."""
    _console().print(terminal(tables), crop=False)


def print_json(value: object) -> None:
    """Prints a record, a frame's rows or anything made of them as JSON."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2).decode(), flush=True)  # noqa: T201


def _plain(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(type(value))


def fields(value: object) -> dict[str, Any]:
    """A struct as a dictionary, to be printed beside others."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Shows how far long work is: a bar on a terminal, elsewhere a plain line now and then.

    Both go to stderr, so that stdout holds results alone.

    Yields:
        What is called with what is being done, how much of it is done, and how much there is.
    """
    if not sys.stderr.isatty():
        told: dict[str, deque[Step]] = defaultdict(deque)

        def line(what: str, done: int, total: int) -> None:
            now, steps = time.monotonic(), told[what]
            if done == total or not steps or now - steps[-1][0] > LINE_EVERY_S:
                steps.append((now, done))
                left = time_left(steps, total) if done < total else None
                more = "" if left is None else f", about {_clock(left)} left"
                print(f"{what}: {done} of {total}{more}", file=sys.stderr, flush=True)  # noqa: T201

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Steps may take minutes: with rich's 30 s none of them would tell a speed.
    with Progress(
        *columns, console=_console(stderr=True), transient=True, speed_estimate_period=_SPEED_S
    ) as bars:
        tasks: dict[str, Any] = {}

        def bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield bar


def time_left(steps: deque[Step], total: int) -> float | None:
    """Seconds that the rest takes at the speed of the steps that were finished lately; None before there are two.

    Args:
        steps: When how many were done, in order; those of long ago are taken out.
        total: How many there are.

    >>> time_left(deque([(0.0, 1), (10.0, 3), (20.0, 5)]), 11)
    30.0
    """
    now, done = steps[-1]
    while len(steps) > 2 and now - steps[0][0] > _SPEED_S:
        steps.popleft()
    start, before = steps[0]
    return (total - done) * (now - start) / (done - before) if done > before else None


def _clock(seconds: float) -> str:
    """A duration as the bar shows it.

    >>> _clock(3725.4)
    '1:02:05'
    """
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    # Progress is told to rich, which follows a terminal whose size changes.
    width = None if stderr and _columns(os.environ.get("COLUMNS", "1")) else _width(stderr)
    return Console(stderr=stderr, highlight=False, width=width)


def _columns(said: str) -> int:
    """Cells of a line that a variable says; 0 where it says nothing."""
    return int(said) if said.isdecimal() else 0


def _width(stderr: bool = False) -> int:
    """Cells of a line: by `COLUMNS`, or of the terminal."""
    if columns := _columns(os.environ.get("COLUMNS", "")):
        return columns
    stream = sys.stderr if stderr else sys.stdout
    with suppress(OSError, ValueError):
        if stream.isatty():
            return os.get_terminal_size(stream.fileno()).columns or WIDE
        # A pipe to `tee` or `less` is read on the terminal that shows the progress.
        if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode) and sys.stderr.isatty():
            return os.get_terminal_size(sys.stderr.fileno()).columns or WIDE
    return WIDE
