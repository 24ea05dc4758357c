"""What units came to: probabilities and how long they took, kept as soon as they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import msgspec
import numpy as np

from evaluate.stores import Store
from evaluate.units import Unit
from evaluate.views import Floats

_AT_A_TIME = 64
"""Results that are read from a URL at a time."""


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """What computing a unit took.

    Attributes:
        seconds: Waiting for pixels, forward passes, and averaging views.
        loading: Seconds of making the network; 0 where it was there from the unit before.
        processor: Model of the CPU or GPU.
        threads: Of an operator on the CPU.
    """

    seconds: float
    loading: float
    processor: str
    threads: int


class Result(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a unit came to.

    Attributes:
        probabilities: Of each class, shape (images, classes).
        batch_size: Views that were computed at a time.
        took: What it took; None where an earlier version kept it.
    """

    probabilities: Floats
    batch_size: int
    took: Took | None = None


class _Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result as a file has it."""

    probabilities: list[list[float]]
    batch_size: int
    took: Took | None = None


def recall(unit: Unit, store: Store) -> Result | None:
    """The kept result; None where there is none that fits."""
    content = store.read(unit.name)
    try:
        found = None if content is None else msgspec.json.decode(content, type=_Kept)
    except msgspec.DecodeError:
        return None
    if found is None or len(found.probabilities) != len(unit.images):
        return None
    classes = len(unit.network.training.member.classes)
    if any(len(row) != classes for row in found.probabilities):
        return None
    probabilities = np.array(found.probabilities, dtype=np.float64)
    return Result(probabilities=probabilities, batch_size=found.batch_size, took=found.took)


def recall_all(units: Iterable[Unit], store: Store) -> Iterator[tuple[Unit, Result | None]]:
    """Many units with their kept results, in their order; from a URL several at a time."""
    if not store.remote:
        yield from ((unit, recall(unit, store)) for unit in units)
        return
    left = iter(units)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        while some := list(islice(left, _AT_A_TIME)):
            yield from zip(some, pool.map(lambda unit: recall(unit, store), some), strict=True)


def encoded(result: Result) -> bytes:
    """A result as it is kept."""
    made = _Kept(probabilities=result.probabilities.tolist(), batch_size=result.batch_size, took=result.took)
    return msgspec.json.encode(made)


def keep(unit: Unit, result: Result, store: Store) -> bool:
    """Keeps a result at once; whether it could be."""
    return store.write(unit.name, encoded(result))
