"""Computes units, in whatever process this is: one network on the device at a time, each image decoded once.

The next portion's images are decoded while networks run on this one's, and a network stays for the next
portion where that begins with it. A GPU is given its next units before the last ones' results are waited for.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, groupby, zip_longest
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from evaluate import views
from evaluate.decoding import Decoder, Decoding, Wanted
from evaluate.forward import Forward, Logits
from evaluate.loading import network, unchanged
from evaluate.portions import Portion
from evaluate.preprocess import Geometry
from evaluate.results import Result, Took
from evaluate.testimages import TestImage
from evaluate.units import SHARD, How, Network, Unit, builder, identity
from zoo.errors import MachineError
from zoo.export import Kept, recalled
from zoo.processor import processor
from zoo.runtime import tune_allocator

if TYPE_CHECKING:
    from torch import nn

AHEAD: dict[Literal["cpu", "cuda"], int] = {"cpu": 0, "cuda": 1}
"""What a device has to do beyond the units whose results are waited for: what keeps a GPU busy meanwhile."""

TOGETHER: dict[Literal["cpu", "cuda"], bool] = {"cpu": False, "cuda": True}
"""Whether a batch is filled across units. A CPU needs no large ones, and its results are the same to the last bit
whatever is computed beside them."""

MADE_AHEAD: dict[Literal["cpu", "cuda"], bool] = {"cpu": False, "cuda": True}
"""Whether the next network is made on the CPU while this one computes. It takes a good half of a second, in which a
GPU would wait; on a CPU it would take the cores from this one."""


class Computed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A unit with its result, or with what went wrong."""

    unit: Unit
    result: Result | None = None
    error: Exception | None = None


_Wait = Callable[[], list[Computed]]


class Computer:
    """Computes portions one after another.

    Args:
        workers: Threads that decode images.
    """

    def __init__(self, workers: int) -> None:
        self._decoder = Decoder(workers)
        self._ahead: tuple[Wanted, Decoding] | None = None
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="make")
        self._next: tuple[str, Future[nn.Module | Kept]] | None = None
        self._last: tuple[str, Forward | Exception] | None = None
        self._loading = 0.0
        self._free = 0.0
        tune_allocator()

    def close(self) -> None:
        """Ends the threads that decode and make."""
        self._decoder.close()
        self._maker.shutdown(wait=True, cancel_futures=True)

    def __call__(self, portions: Iterable[Portion], after: Portion = ()) -> Generator[Computed]:
        """Each unit as soon as it is done. One that fails is handed out with its error, and the others go on.

        Args:
            portions: They are taken one before they are computed.
            after: What the next call is likely to be given: its images are decoded meanwhile.
        """
        begun: deque[_Wait] = deque()
        for portion, pixels in self._decoded(portions, after):
            runs = [tuple(same) for _, same in groupby(portion, key=lambda unit: unit.network.key)]
            for units, coming in zip_longest(runs, runs[1:]):
                # One network is on the device at a time, and the time of making one is nobody else's.
                while begun and self._last and self._last[0] != units[0].network.key:
                    yield from begun.popleft()()
                for some in self._batches(units, pixels):
                    begun.append(self._begun(some, pixels))
                    if coming:
                        self._make(coming[0].network)
                    while len(begun) > AHEAD[some[0].network.how.device]:
                        yield from begun.popleft()()
        while begun:
            yield from begun.popleft()()

    def _decoded(self, portions: Iterable[Portion], after: Portion) -> Iterator[tuple[Portion, Decoding]]:
        """Each portion, with what waits for its pixels; those of the next one are being decoded by then."""
        now: tuple[Portion, Decoding] | None = None
        for portion in portions:
            coming = portion, self._pixels(_images(portion))
            if now:
                yield now
            now = coming
        if after:
            wanted = _images(after)
            self._ahead = wanted, self._decoder.start(wanted)
        if now:
            yield now

    def _pixels(self, wanted: Wanted) -> Decoding:
        """What was begun ahead, where it was for these images; another process may have been given them."""
        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == wanted:
            return ahead[1]
        if ahead:
            ahead[1].cancel()
        return self._decoder.start(wanted)

    def _batches(self, units: Portion, pixels: Decoding) -> Iterator[Portion]:
        """Units of a network that go through it at once: no more than a batch holds, since the next would be filled up."""
        most = 0
        if TOGETHER[units[0].network.how.device]:
            with suppress(Exception):  # Each unit is told what is wrong with its network.
                most = self._forward(units[0].network).batch_size
        some: list[Unit] = []
        held = 0
        for unit in units:
            own = _views(unit, pixels) if most else 1
            if some and held + own > most:
                yield tuple(some)
                some, held = [], 0
            some.append(unit)
            held += own
        yield tuple(some)

    def _begun(self, units: Portion, pixels: Decoding) -> _Wait:
        network = units[0].network
        try:
            forward = self._forward(network)
            begun = time.perf_counter()
            indices = chain.from_iterable(range(unit.start, unit.stop) for unit in units)
            squares = [pixels(index)[network.geometry] for index in indices]
            features = [unit.features for unit in units if unit.features is not None]
            logits = forward.start(
                squares, network.views.transforms, np.concatenate(features) if features else None
            )
        except Exception as error:  # Whatever it is, other units may be well.
            return partial(self._failed, units, pixels, error)
        return partial(self._ended, units, pixels, logits, forward.batch_size, begun)

    def _ended(
        self, units: Portion, pixels: Decoding, logits: Logits, batch_size: int, begun: float
    ) -> list[Computed]:
        try:
            outputs = logits()
            if not all(np.isfinite(each).all() for each in outputs):
                raise MachineError(f"{units[0].network}: {_no_numbers(units[0].network.how)}")
            probabilities = views.average(outputs, units[0].network.views)
        except Exception as error:  # As above; what a GPU could not do shows here.
            return self._failed(units, pixels, error)
        # A GPU begins with units when it is through with those before.
        now = time.perf_counter()
        image_s, self._free = (now - max(begun, self._free)) / len(probabilities), now
        found, first = [], 0
        for unit in units:
            loading, self._loading = self._loading, 0.0
            took = _took(unit.network.how, image_s * len(unit.images), loading)
            own = probabilities[first : (first := first + len(unit.images))]
            result = Result(probabilities=own, batch_size=batch_size, took=took)
            found.append(Computed(unit=unit, result=result))
        return found

    def _failed(self, units: Portion, pixels: Decoding, error: Exception) -> list[Computed]:
        """The unit with its error; of several each alone, since one may have failed for all."""
        if len(units) == 1:
            return [Computed(unit=units[0], error=error)]
        return [computed for unit in units for computed in self._begun((unit,), pixels)()]

    def _forward(self, wanted: Network) -> Forward:
        if self._last is None or self._last[0] != wanted.key:
            begun = time.perf_counter()
            # The last one goes before the next is made.
            self._last = None
            self._last = wanted.key, self._made(wanted)
            self._loading = time.perf_counter() - begun
        found = self._last[1]
        if isinstance(found, Exception):
            # Its traceback would grow by each unit that it is raised for, and hold the pixels of all.
            raise found.with_traceback(None)
        return found

    def _make(self, wanted: Network) -> None:
        """Begins to make the network that comes next."""
        if MADE_AHEAD[wanted.how.device] and (self._next is None or self._next[0] != wanted.key):
            self._next = wanted.key, self._maker.submit(_network, wanted)

    def _made(self, wanted: Network) -> Forward | Exception:
        """The network, ready to run; or why it cannot be, which its next unit need not find out again."""
        ahead, self._next = self._next, None
        try:
            _check_gpu(wanted.how)
            return Forward(
                ahead[1].result() if ahead and ahead[0] == wanted.key else _network(wanted),
                wanted.training.member,
                device=wanted.how.device,
                precision=wanted.how.precision,
                batch_size=wanted.how.batch_size,
                most=None if TOGETHER[wanted.how.device] else SHARD * wanted.views.distinct,
                engine=wanted.how.engine,
                compiled=wanted.how.compiled,
            )
        except Exception as error:
            return error


def _network(wanted: Network) -> nn.Module | Kept:
    """The network, or for an engine that runs exports what is kept of it, which takes a second less."""
    make = partial(network, wanted.training, builder(wanted))
    if wanted.how.engine == "torch" or not (known := identity(wanted)):
        return make()
    unchanged(wanted.training)
    return recalled(make, wanted.training.member, known)


def _no_numbers(how: How) -> str:
    if how.precision == "fp32":
        return "outputs are no numbers (NaN or infinite); look at the trained file"
    return f"outputs are no numbers (NaN or infinite) in {how.precision}; choose --precision fp32"


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


def _views(unit: Unit, pixels: Decoding) -> int:
    """Views of a unit. Where images are cropped, that shows in their pixels: a square one has a single crop."""
    network = unit.network
    if network.geometry.crops > 1:
        with suppress(Exception):  # The unit is told so when it is computed.
            crops = sum(len(pixels(index)[network.geometry]) for index in range(unit.start, unit.stop))
            return crops * len(network.views.transforms)
    return len(unit.images) * network.views.distinct


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
