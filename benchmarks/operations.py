"""Operations of many networks: each distinct one counted once, in parallel, and kept for the next run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import msgspec
import psutil

from benchmarks import worker
from benchmarks.allowance import memory_left
from benchmarks.machine import default_threads
from benchmarks.results import Operations
from zoo import cache
from zoo.card import Member

if TYPE_CHECKING:
    from torch import nn

_CODE = ("benchmarks.counters", "benchmarks.explain", "zoo.networks", "zoo.attention")
_PACKAGES = ("torch", "timm", "fvcore", "thop")

_Results = Generator[tuple[str, Operations], None, None]
"""Counts by the name they are kept under, as they come."""

_PER_WORKER = 3
"""For fewer networks it does not pay that another process imports torch."""

_BYTES_PER_WORKER = 4 << 30
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
        workers: Processes to count in; 0 is this one, and None is as many as pay off.
        progress: Called with each member when its figures are there.

    Returns:
        One count per member, in their order.

    Raises:
        CardError: A card asks for a network that cannot be built.
        InputError: A network cannot read an input of its card's size.
    """
    done = progress or (lambda _: None)
    standard = build is None or worker.name(build) == worker.STANDARD
    names = [_key(member, standard) for member in members]
    networks = dict(zip(names, members, strict=True))
    return cache.recall(
        names,
        Operations,
        lambda missing: _counted(
            {name: networks[name] for name in missing}, None if standard else build, workers
        ),
        fresh=not standard,
        lasting=lambda _: standard,
        done=lambda index: done(members[index]),
    )


def _key(member: Member, standard: bool) -> str:
    network = cache.specification(member) if standard else member
    return cache.key("operations", network, code=_CODE, packages=_PACKAGES)


def _workers(networks: int) -> int:
    free, left = psutil.virtual_memory().available, memory_left()
    memory = free if left is None else min(free, left)
    return max(1, min(default_threads(), networks // _PER_WORKER, memory // _BYTES_PER_WORKER))


def _counted(
    networks: Mapping[str, Member], build: Callable[[Member], nn.Module] | None, workers: int | None
) -> _Results:
    # The heaviest first, so that no worker is left alone with one at the end.
    left = dict(sorted(networks.items(), key=lambda item: item[1].size, reverse=True))
    if workers is None:
        workers = _workers(len(left))
    if build is None and workers:
        for name, operations in _in_workers(left.items(), workers):
            del left[name]
            yield name, operations
    if left:
        from benchmarks.counters import count

        # With workers, what is left is what one of them failed at; here its error shows.
        for name, member in left.items():
            yield name, count(member, build)


def _in_workers(networks: Iterable[tuple[str, Member]], workers: int) -> _Results:
    """Counts in processes of one thread each; those that a process failed at are left out."""
    todo = deque(networks)
    answers: SimpleQueue[tuple[str, Operations] | None] = SimpleQueue()

    def converse(ask: worker.Ask) -> None:
        with suppress(IndexError):
            while True:
                name, member = todo.popleft()
                answer = ask("benchmarks.counters:count_fields", msgspec.to_builtins(member))
                if "error" in answer:
                    break
                answers.put((name, msgspec.convert(answer["result"], Operations)))
        answers.put(None)

    with ExitStack() as processes:
        for _ in range(workers):
            ask = processes.enter_context(worker.running(threads=1))
            Thread(target=converse, args=[ask], daemon=True).start()
        for _ in range(workers):
            yield from iter(answers.get, None)
