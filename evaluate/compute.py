"""Computes units, in whatever process this is: one network in memory at a time, each image decoded once.

The next portion's images are decoded while networks run on this one's, and a network stays for the next
portion where that begins with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Iterable

import msgspec

from evaluate import views
from evaluate.decoding import Wait, Wanted, decoding
from evaluate.forward import Forward
from evaluate.loading import network
from evaluate.portions import Portion
from evaluate.preprocess import Geometry
from evaluate.results import Result, Took
from evaluate.testimages import TestImage
from evaluate.units import How, Network, Unit, builder
from zoo.errors import MachineError
from zoo.processor import processor
from zoo.runtime import tune_allocator


class Computed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A unit with its result, or with what went wrong."""

    unit: Unit
    result: Result | None = None
    error: Exception | None = None


class Computer:
    """Computes portions one after another.

    Args:
        workers: Threads that decode images.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._last: tuple[str, Forward | Exception] | None = None
        tune_allocator()

    def __call__(self, portions: Iterable[Portion]) -> Generator[Computed]:
        """Each unit as soon as it is done. One that fails is handed out with its error, and the others go on."""
        with decoding(self.workers) as start:
            now: tuple[Portion, Wait] | None = None
            for portion in portions:
                after = portion, start(_images(portion))
                if now:
                    yield from (self._computed(unit, now[1]) for unit in now[0])
                now = after
            if now:
                yield from (self._computed(unit, now[1]) for unit in now[0])

    def _computed(self, unit: Unit, pixels: Wait) -> Computed:
        begun = time.perf_counter()
        new = self._last is None or self._last[0] != unit.network.key
        try:
            forward = self._forward(unit.network)
            made = time.perf_counter()
            geometry = unit.network.geometry
            squares = [pixels(index)[geometry] for index in range(unit.start, unit.stop)]
            logits = forward(squares, unit.network.views.transforms, unit.features)
            probabilities = views.average(logits, unit.network.views)
        except Exception as error:  # Whatever it is, other units may be well.
            return Computed(unit=unit, error=error)
        took = _took(unit.network.how, time.perf_counter() - made, made - begun if new else 0.0)
        result = Result(probabilities=probabilities, batch_size=forward.batch_size, took=took)
        return Computed(unit=unit, result=result)

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
            engine=wanted.how.engine,
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
