"""Operations of many networks: each distinct one counted once, in parallel, and kept for the next run."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from queue import SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING

import msgspec

from benchmarks import cache, worker
from benchmarks.machine import default_threads, fingerprint
from benchmarks.results import Operations
from zoo.card import Member

if TYPE_CHECKING:
    from torch import nn

_CODE = ("benchmarks.counters", "benchmarks.explain", "zoo.networks", "zoo.attention")
_PACKAGES = ("torch", "timm", "fvcore", "thop")

_Results = Generator[tuple[str, Operations], None, None]
"""Counts by the name they are kept under, as they come."""

_PER_WORKER = 3
"""Fewer networks are counted sooner than another process has imported torch."""

_GIB_PER_WORKER = 4
"""What the largest forward pass of the zoo needs, and some."""


def count_all(
    members: Sequence[Member],
    build: Callable[[Member], nn.Module] | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[Member], None] | None = None,
) -> list[Operations]:
    """Counts many members, each distinct network once, and keeps the results for the next run.

    Results of builders other than the standard assembly are not kept: nothing says when such a
    builder's code changed. Stopped with Ctrl-C, the next call goes on where this one was.

    Args:
        members: Networks of cards.
        build: Makes them; the standard assembly where None.
        workers: Processes to count in; as many as pay off where None.
        progress: Called with each member when its figures are there.

    Returns:
        One count per member, in their order.

    Raises:
        CardError: A card asks for a network that cannot be built.
        InputError: A network cannot read an input of its card's size.
    """
    done = progress or (lambda _: None)
    if build is not None and worker.name(build) != worker.STANDARD:
        return [_counted_here(member, build, done) for member in members]
    names = [_key(member) for member in members]
    found: dict[str, Operations] = {}
    with closing(_results(dict(zip(names, members, strict=True)), workers)) as results:
        for name, operations in results:
            found[name] = operations
            for member in itertools.compress(members, [each == name for each in names]):
                done(member)
    return [found[name] for name in names]


def _key(member: Member) -> str:
    return cache.key("operations", cache.specification(member), code=_CODE, packages=_PACKAGES)


def _counted_here(
    member: Member, build: Callable[[Member], nn.Module], done: Callable[[Member], None]
) -> Operations:
    from benchmarks.counters import count

    operations = count(member, build)
    done(member)
    return operations


def _results(networks: Mapping[str, Member], workers: int | None) -> _Results:
    """Counts by name: those that were kept, then the others, heaviest first."""
    left: dict[str, Member] = {}
    for name, member in sorted(networks.items(), key=lambda item: item[1].size, reverse=True):
        if kept := cache.load(name, Operations):
            yield name, kept
        else:
            left[name] = member
    for name, operations in _counted(left, _workers(len(left)) if workers is None else workers):
        cache.keep(name, operations)
        yield name, operations


def _workers(networks: int) -> int:
    machine = fingerprint()
    return min(default_threads(), networks // _PER_WORKER, machine.memory_gib // _GIB_PER_WORKER)


def _counted(networks: dict[str, Member], workers: int) -> _Results:
    left = dict(networks)
    if workers > 1:
        for name, operations in _in_workers(networks, workers):
            del left[name]
            yield name, operations
    if left:
        from benchmarks.counters import count

        # With workers, what is left is what one of them failed at; here its error shows.
        for name, member in left.items():
            yield name, count(member)


def _in_workers(networks: Mapping[str, Member], workers: int) -> _Results:
    """Counts in processes of one thread each; those that a process failed at are left out."""
    todo = deque(networks.items())
    answers: SimpleQueue[tuple[str, Operations] | None] = SimpleQueue()

    def converse(requests: IO[bytes], replies: IO[bytes]) -> None:
        # A process that ended replies with an empty line, or its pipes are closed.
        with suppress(IndexError, OSError, ValueError, msgspec.DecodeError):
            while True:
                name, member = todo.popleft()
                requests.write(msgspec.json.encode(worker.Count(member)) + b"\n")
                requests.flush()
                answers.put((name, msgspec.json.decode(replies.readline(), type=Operations)))
        answers.put(None)

    with ExitStack() as processes:
        for _ in range(workers):
            pipes = processes.enter_context(worker.running(threads=1))
            Thread(target=converse, args=pipes, daemon=True).start()
        for _ in range(workers):
            yield from iter(answers.get, None)
