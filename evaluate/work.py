"""What a run has to compute. Units are made when they are asked for: memory grows by a few bytes for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from evaluate.portions import Portion, grouped
from evaluate.results import Result, recall_all
from evaluate.stores import Store
from evaluate.testimages import TestImage
from evaluate.units import SHARD, Network, Unit, unit

_Known = Callable[[Unit, Result], None]


class Work(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All units of some networks on a test set.

    Attributes:
        images: Those of the test set.
        networks: Those of all systems, one after another.
        features: Metadata of the images for each network, (images, features); None where it reads none.
    """

    images: Sequence[TestImage]
    networks: tuple[Network, ...]
    features: tuple[npt.NDArray[np.float32] | None, ...]

    @property
    def starts(self) -> range:
        """Index of each shard's first image."""
        return range(0, len(self.images), SHARD)

    def units(self, index: int, start: int = 0, stop: int | None = None) -> Iterator[Unit]:
        """The units of a network, in the order of the images.

        Args:
            index: Which network.
            start: Index of the first image, at which a shard begins.
            stop: Index after the last image; all where None.
        """
        for first in range(start, len(self.images) if stop is None else stop, SHARD):
            yield self._unit(index, first, self._shard(first))

    def shard(self, start: int, indices: Sequence[int]) -> list[Unit]:
        """The units of some networks on one shard."""
        shard = self._shard(start)
        return [self._unit(index, start, shard) for index in indices]

    def _unit(self, index: int, start: int, shard: tuple[TestImage, ...]) -> Unit:
        return unit(self.networks[index], start, shard, self.features[index])

    def _shard(self, start: int) -> tuple[TestImage, ...]:
        return tuple(self.images[start : start + SHARD])


class Missing:
    """Which units are not in a store.

    A unit that occurs several times (systems may have a network in common, and shards the same images) is
    missing once.

    Args:
        work: All units.
        store: Where results are kept.
        known: Called with every unit whose result is there, once for each network.

    Attributes:
        count: How many are missing.
        kept: Images of all units whose results are there.
    """

    def __init__(self, work: Work, store: Store, known: _Known) -> None:
        self._work = work
        shape = len(work.starts), len(work.networks)
        names, there = np.zeros(shape, np.uint64), np.zeros(shape, bool)
        self.kept = 0
        every = (unit for start in work.starts for unit in work.shard(start, range(len(work.networks))))
        # A network that systems have in common is told of once.
        keys = [network.key for network in work.networks]
        own = [keys.index(key) == index for index, key in enumerate(keys)]
        for at, (each, result) in enumerate(recall_all(every, store)):
            names.flat[at] = _digest(each)
            if result is not None:
                there.flat[at] = True
                self.kept += len(each.images)
                if own[at % len(own)]:
                    known(each, result)
        self._names, first, self._times = np.unique(names.ravel(), return_index=True, return_counts=True)
        once = np.zeros(names.size, bool)
        once[first] = True
        self._missing = once.reshape(shape) & ~there
        self.count = int(self._missing.sum())

    def times(self, unit: Unit) -> int:
        """How often a unit occurs."""
        return int(self._times[np.searchsorted(self._names, _digest(unit))])

    def portions(self, slots: int) -> Iterator[Portion]:
        """The missing units, each in one portion.

        Args:
            slots: Processes that compute at a time.
        """
        if not self.count:
            return iter(())
        networks = [self._work.networks[index] for index in np.flatnonzero(self._missing.any(axis=0))]
        shards = np.flatnonzero(self._missing.any(axis=1))
        units = (
            self._work.shard(self._work.starts[shard], np.flatnonzero(self._missing[shard]).tolist())
            for shard in shards
        )
        return grouped(units, len(shards), networks, slots)


def _digest(unit: Unit) -> np.uint64:
    """A part of a unit's name. Two of a million units agree in it by chance once in 30 million runs."""
    return np.uint64(int(unit.name[-16:], 16))
