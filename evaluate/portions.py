"""How units are grouped: what one process computes in one go, with each image decoded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, groupby

import msgspec

from evaluate.units import SHARD, Unit

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
    networks = list(dict.fromkeys(unit.network.key for unit in units))
    geometries = {unit.network.key: unit.network.geometry for unit in units}
    # Units of one network may have several times the images of another's.
    largest = max([SHARD, *(len(unit.images) for unit in units)])
    by_start = sorted(units, key=lambda unit: unit.start)
    shards = [list(shard) for _, shard in groupby(by_start, key=lambda unit: unit.start // largest)]
    pixels = largest * sum(geometry.bytes for geometry in set(geometries.values()))
    cut = size(len(shards), len(networks), pixels, slots)
    parts = [
        networks[len(networks) * part // cut.parts : len(networks) * (part + 1) // cut.parts]
        for part in range(cut.parts)
    ]
    found = []
    for number, first in enumerate(range(0, len(shards), cut.shards)):
        by_network: dict[str, list[Unit]] = {}
        for unit in chain.from_iterable(shards[first : first + cut.shards]):
            by_network.setdefault(unit.network.key, []).append(unit)
        for part in parts:
            order = reversed(part) if number % 2 else part
            found.append(tuple(unit for key in order for unit in by_network.get(key, ())))
    return [portion for portion in found if portion]
