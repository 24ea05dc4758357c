"""A fresh process that counts or times networks.

It reads requests from stdin and answers each on stdout, in one line of JSON. If it cannot answer
it ends, with the reason as the last line on stderr. Nothing heavy is imported before the first
request, and one half of this module is the side that asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, TYPE_CHECKING, Literal

import msgspec

from benchmarks.results import Operations
from zoo.card import Member

if TYPE_CHECKING:
    from torch import nn

STANDARD = "zoo.networks:assemble"
"""The standard assembly, as requests name builders: module and function."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
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


class Count(msgspec.Struct, frozen=True, tag=True):
    """Asks for the operations of a network of the standard assembly."""

    member: Member

    def answer(self) -> Operations:
        """Counts it."""
        from benchmarks.counters import count

        return count(self.member)


class Time(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Asks for the time of single forward passes of batch 1.

    Attributes:
        member: Whose network.
        builder: What makes it, as `module:function`.
        device: Where it runs.
        threads: Threads of an operator on the CPU.
        seed: Seed of weights and pixels.
        warm_up_s: How long to warm up after the first pass; at least one pass does.
        samples: How many samples to take at least.
        seconds: How long to go on taking samples.
    """

    member: Member
    builder: str = STANDARD
    device: Literal["cpu", "cuda"]
    threads: int
    seed: int = 0
    warm_up_s: float
    samples: int
    seconds: float

    def answer(self) -> Timing:
        """Times it."""
        from benchmarks.stopwatch import time

        return time(self)


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


def ask(request: Time, limit_s: float) -> subprocess.CompletedProcess[bytes]:
    """Asks a process of its own.

    Raises:
        subprocess.TimeoutExpired: It did not answer in time, and was killed.
    """
    return subprocess.run(  # noqa: S603
        _COMMAND,
        env=_environment(request.threads),
        input=msgspec.json.encode(request) + b"\n",
        capture_output=True,
        timeout=limit_s,
        check=False,
    )


@contextmanager
def running(threads: int) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A process for many requests: where they are written, and where the answers are read."""
    process = subprocess.Popen(  # noqa: S603
        _COMMAND,
        env=_environment(threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


# The import path is handed on as it is, without the working directory that -m would add.
_COMMAND = (sys.executable, "-P", "-m", "benchmarks.worker")


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


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
