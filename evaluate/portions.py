"""How units are grouped: what one process computes in one go, with each image decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice

import msgspec

from evaluate.units import SHARD, Network, Unit

PORTION_BYTES = 2**29
"""Memory for the decoded pixels of a portion, unless a single shard needs more."""

MOST_SHARDS = 128
"""Shards of a portion at most, however small the pixels are: what is known of each image takes memory too."""

PER_SLOT = 4
"""Portions for each process, so that a slow or a dead one leaves little to wait for."""

Portion = tuple[Unit, ...]
"""Units that are computed together, in this order, images decoded once for all of them."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is cut.

    Attributes:
        shards: Of a portion, at most.
        parts: Into how many groups the networks are divided, each with portions of its own.
    """

    shards: int
    parts: int


def size(shards: int, networks: int, shard_bytes: int, slots: int) -> Size:
    """How a run is cut, so that pixels fit in memory and every process has something to do.

    Images are cut first: each is then decoded once. Networks are divided only where there are too
    few images for all processes. A single process gets portions as large as memory allows.

    Args:
        shards: Number of shards.
        networks: Number of networks.
        shard_bytes: Pixels of a shard, in all geometries that the networks need.
        slots: Processes that compute at a time.

    >>> size(25_000, 5, 7_077_888, 1)
    Size(shards=75, parts=1)
    >>> size(38, 5, 7_077_888, 2)
    Size(shards=4, parts=1)
    >>> size(2, 90, 7_077_888, 8)
    Size(shards=1, parts=16)
    """
    fitting = min(max(1, PORTION_BYTES // max(shard_bytes, 1)), MOST_SHARDS)
    if slots == 1:
        return Size(shards=fitting, parts=1)
    wanted = slots * PER_SLOT
    parts = 1 if shards >= wanted else min(networks, math.ceil(wanted / max(shards, 1)))
    return Size(shards=max(1, min(fitting, shards // wanted)), parts=parts)


def portions(units: Sequence[Unit], slots: int) -> list[Portion]:
    """All units, each in one portion; in a portion network after network.

    A portion begins with the network that the one before it ended with, which need not be made again then.

    Args:
        units: Those that are to be computed.
        slots: Processes that compute at a time.
    """
    networks = {unit.network.key: unit.network for unit in units}
    by_start = sorted(units, key=lambda unit: unit.start)
    shards = [list(shard) for _, shard in groupby(by_start, key=lambda unit: unit.start)]
    return list(grouped(shards, len(shards), list(networks.values()), slots))


def grouped(
    shards: Iterable[Sequence[Unit]], count: int, networks: Sequence[Network], slots: int
) -> Iterator[Portion]:
    """As `portions`, of units that are made when they are asked for.

    Args:
        shards: The units of each shard.
        count: Number of shards.
        networks: Those of the units, in their order.
        slots: Processes that compute at a time.
    """
    keys = list(dict.fromkeys(network.key for network in networks))
    pixels = SHARD * sum(geometry.bytes for geometry in {network.geometry for network in networks})
    cut = size(count, len(keys), pixels, slots)
    parts = [
        keys[len(keys) * part // cut.parts : len(keys) * (part + 1) // cut.parts] for part in range(cut.parts)
    ]
    left, number = iter(shards), 0
    while some := list(islice(left, cut.shards)):
        by_network: dict[str, list[Unit]] = {}
        for unit in chain.from_iterable(some):
            by_network.setdefault(unit.network.key, []).append(unit)
        for part in parts:
            order = reversed(part) if number % 2 else part
            if portion := tuple(unit for key in order for unit in by_network.get(key, ())):
                yield portion
        number += 1
