"""A process that counts or times networks for another.

It reads requests from stdin and answers each on stdout, in one line of JSON. Nothing heavy is
imported before the first request. The asking side is here too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from benchmarks.results import Operations
from zoo.card import Member

if TYPE_CHECKING:
    from torch import nn

FORKS = sys.platform == "linux"
"""Whether a worker can time each network in a fresh copy of itself. Elsewhere it must be asked only once."""

STANDARD = "zoo.networks:assemble"
"""The standard assembly, as requests name builders: module and function."""


class Timing(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a stopwatch read.

    Attributes:
        load_ms: Building the network and moving it to the device.
        first_ms: The first forward pass.
        samples_ms: Forward passes after the warm-up, in order.
        settings: Threads and precision that they ran with.
    """

    load_ms: float
    first_ms: float
    samples_ms: tuple[float, ...]
    settings: dict[str, str]


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Why there is no figure, on one line."""

    reason: str


Reply = Timing | Failure


class Count(msgspec.Struct, frozen=True, tag=True):
    """Asks for the operations of a network of the standard assembly."""

    member: Member

    def answer(self) -> Operations:
        """Counts it."""
        from benchmarks.counters import count

        return count(self.member)


class Time(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Asks for the time of single forward passes of batch 1.

    Only of a worker that has counted nothing: a copy of a process whose threads have run can hang.

    Attributes:
        member: Whose network.
        builder: What makes it, as `module:function`.
        device: Where it runs.
        threads: Threads of an operator on the CPU.
        seed: Seed of weights and pixels.
        warm_up_s: How long to warm up; the first pass is part of it.
        samples: How many samples to take at least.
        seconds: How long to go on taking samples.
        limit_s: When to give up.
    """

    member: Member
    builder: str = STANDARD
    device: Literal["cpu", "cuda"]
    threads: int
    seed: int = 0
    warm_up_s: float
    samples: int
    seconds: float
    limit_s: int

    def answer(self) -> Reply:
        """Times it in a process that has computed nothing before."""
        if not FORKS:
            return self._timed()
        # What is imported here need not be imported again; what fails here fails in the copy too.
        with suppress(Exception):
            import_module("benchmarks.stopwatch")
            imported(self.builder)
        return _in_a_copy(self._timed)

    def _timed(self) -> Reply:
        # Ends the process, whatever library it hangs in.
        signal.alarm(self.limit_s)
        try:
            from benchmarks.stopwatch import time

            return time(self)
        except Exception as error:
            return Failure(" ".join(f"{type(error).__name__}: {error}".split())[:200])
        finally:
            signal.alarm(0)


def name(build: Callable[[Member], nn.Module]) -> str | None:
    """What requests call a builder; None where a fresh process could not import it."""
    module, function = getattr(build, "__module__", ""), getattr(build, "__qualname__", "")
    if module == "__main__" or getattr(sys.modules.get(module), function, None) is not build:
        return None
    return f"{module}:{function}"


def imported(builder: str) -> Callable[[Member], nn.Module]:
    """The builder of a name such as `zoo.networks:assemble`."""
    module, _, function = builder.partition(":")
    found: Callable[[Member], nn.Module] = getattr(import_module(module), function)
    return found


@contextmanager
def running(threads: int) -> Iterator[Callable[[Count | Time], bytes]]:
    """Starts a worker, and ends it with the block.

    Args:
        threads: Threads of an operator on the CPU.

    Yields:
        What asks it and returns its answer; an empty one if it ended.
    """
    with subprocess.Popen(  # noqa: S603
        _COMMAND,
        env=_environment(threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, replies = process.stdin, process.stdout

        def ask(request: Count | Time) -> bytes:
            # The pipes break when the worker ends, and are closed when the block does.
            with suppress(BrokenPipeError, ValueError):
                requests.write(msgspec.json.encode(request) + b"\n")
                requests.flush()
                return replies.readline()
            return b""

        try:
            yield ask
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


# The import path is handed on as it is; -m alone would put the working directory before it.
_COMMAND = (sys.executable, "-P", "-m", "benchmarks.worker")


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def _in_a_copy(work: Callable[[], Reply]) -> Reply:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writer, "wb") as replies:
                replies.write(msgspec.json.encode(work()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as replies:
        encoded = replies.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return msgspec.json.decode(encoded, type=Reply) if encoded else Failure(_ending(code))


def _ending(code: int) -> str:
    """Why a process ended without an answer.

    >>> _ending(-9)
    'ended by SIGKILL (out of memory?)'
    """
    hints = {-signal.SIGKILL: " (out of memory?)", -signal.SIGALRM: " (over the time limit)"}
    return f"ended by {signal.Signals(-code).name}{hints.get(code, '')}" if code < 0 else "ended early"


def main() -> None:
    """Answers requests until there are no more."""
    # What libraries print goes to stderr: stdout carries answers only.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin.buffer:
            request = msgspec.json.decode(line, type=Count | Time)
            answers.write(msgspec.json.encode(request.answer()) + b"\n")
            answers.flush()


if __name__ == "__main__":
    main()
