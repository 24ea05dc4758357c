"""Computes units, in whatever process this is: one network in memory at a time, each image decoded once.

The next portion's images are decoded while networks run on this one's, and a network stays for the next
portion where that begins with it. A GPU is given its next unit before the last one's results are waited for.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Literal

import msgspec

from evaluate import views
from evaluate.decoding import Wait, Wanted, decoding
from evaluate.forward import Forward, Logits
from evaluate.loading import network
from evaluate.portions import Portion
from evaluate.preprocess import Geometry
from evaluate.results import Result, Took
from evaluate.testimages import TestImage
from evaluate.units import SHARD, How, Network, Unit, builder
from zoo.errors import MachineError
from zoo.processor import processor
from zoo.runtime import tune_allocator

AHEAD: dict[Literal["cpu", "cuda"], int] = {"cpu": 0, "cuda": 1}
"""Units that a device has to do beyond the one whose result is waited for: what keeps a GPU busy meanwhile."""


class Computed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A unit with its result, or with what went wrong."""

    unit: Unit
    result: Result | None = None
    error: Exception | None = None


_Wait = Callable[[], Computed]


class Computer:
    """Computes portions one after another.

    Args:
        workers: Threads that decode images.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._last: tuple[str, Forward | Exception] | None = None
        self._free = 0.0
        tune_allocator()

    def __call__(self, portions: Iterable[Portion]) -> Generator[Computed]:
        """Each unit as soon as it is done. One that fails is handed out with its error, and the others go on."""
        with decoding(self.workers) as start:
            begun: deque[_Wait] = deque()
            for unit, pixels in _in_order(portions, start):
                # One network is in memory at a time, and the time of making one is nobody else's.
                while begun and self._last and self._last[0] != unit.network.key:
                    yield begun.popleft()()
                begun.append(self._begun(unit, pixels))
                while len(begun) > AHEAD[unit.network.how.device]:
                    yield begun.popleft()()
            while begun:
                yield begun.popleft()()

    def _begun(self, unit: Unit, pixels: Wait) -> _Wait:
        begun = time.perf_counter()
        new = self._last is None or self._last[0] != unit.network.key
        try:
            forward = self._forward(unit.network)
            made = time.perf_counter()
            geometry = unit.network.geometry
            squares = [pixels(index)[geometry] for index in range(unit.start, unit.stop)]
            logits = forward.start(squares, unit.network.views.transforms, unit.features)
        except Exception as error:  # Whatever it is, other units may be well.
            return partial(Computed, unit=unit, error=error)
        return partial(self._ended, unit, logits, forward.batch_size, made, made - begun if new else 0.0)

    def _ended(self, unit: Unit, logits: Logits, batch_size: int, begun: float, loading: float) -> Computed:
        try:
            probabilities = views.average(logits(), unit.network.views)
        except Exception as error:  # As above; what a GPU could not do shows here.
            return Computed(unit=unit, error=error)
        # A GPU begins with a unit when it is through with the one before.
        now = time.perf_counter()
        took = _took(unit.network.how, now - max(begun, self._free), loading)
        self._free = now
        return Computed(
            unit=unit, result=Result(probabilities=probabilities, batch_size=batch_size, took=took)
        )

    def _forward(self, wanted: Network) -> Forward:
        if self._last is None or self._last[0] != wanted.key:
            # The last one goes before the next is made.
            self._last = None
            self._last = wanted.key, _made(wanted)
        found = self._last[1]
        if isinstance(found, Exception):
            raise found
        return found


def _took(how: How, seconds: float, loading: float) -> Took:
    import torch

    return Took(
        seconds=seconds,
        loading=loading,
        processor=processor() if how.device == "cpu" else how.device_name,
        threads=torch.get_num_threads(),
    )


def _in_order(portions: Iterable[Portion], start: Callable[[Wanted], Wait]) -> Iterator[tuple[Unit, Wait]]:
    """Every unit, with what waits for its pixels; those of the next portion are being decoded by then."""
    now: tuple[Portion, Wait] | None = None
    for portion in portions:
        after = portion, start(_images(portion))
        if now:
            yield from ((unit, now[1]) for unit in now[0])
        now = after
    if now:
        yield from ((unit, now[1]) for unit in now[0])


def _images(portion: Portion) -> Wanted:
    """Each image once, with all that networks need of it."""
    found: dict[int, tuple[TestImage, set[Geometry]]] = {}
    for unit in portion:
        for index, image in enumerate(unit.images, unit.start):
            found.setdefault(index, (image, set()))[1].add(unit.network.geometry)
    return found


def _made(wanted: Network) -> Forward | Exception:
    """The network, ready to run; or why it cannot be, which its next unit need not find out again."""
    try:
        _check_gpu(wanted.how)
        return Forward(
            network(wanted.training, builder(wanted)),
            wanted.training.member,
            device=wanted.how.device,
            precision=wanted.how.precision,
            batch_size=wanted.how.batch_size,
            most=SHARD * wanted.views.distinct,
            engine=wanted.how.engine,
            compiled=wanted.how.compiled,
        )
    except Exception as error:
        return error


def _check_gpu(how: How) -> None:
    """Refuses a GPU of another kind: results would be kept under the name of one that computes differently."""
    if how.device == "cpu":
        return
    import torch

    found = torch.cuda.get_device_name()
    if found != how.device_name:
        raise MachineError(
            f"{socket.gethostname()} has the GPU {found}, and the run is on {how.device_name}; "
            "choose machines of one kind"
        )
