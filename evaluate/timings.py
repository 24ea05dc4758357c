"""How long the units of networks took, summed up beside their results, so that a longer run can be planned."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from evaluate.results import Took
from evaluate.stores import Store
from evaluate.units import Network, Unit, code
from zoo import cache
from zoo.errors import MachineError


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a network that processes of one kind computed.

    Attributes:
        processor: Model of the CPU or GPU.
        threads: Of an operator on the CPU.
        trainings: Folds, or other trained files, that they are of.
        images: Images of the units; one that went through several trainings counts as often.
        file_bytes: Bytes of their files.
        seconds: Of all units, without making the network.
        loads: How often the network was made.
        loading: Seconds of that.
    """

    processor: str
    threads: int
    trainings: int = 0
    images: int = 0
    file_bytes: int = 0
    seconds: float = 0.0
    loads: int = 0
    loading: float = 0.0

    def with_unit(self, unit: Unit, took: Took, trainings: int) -> Timing:
        """It with one more unit, and the trainings that they all are of."""
        return Timing(
            processor=self.processor,
            threads=self.threads,
            trainings=trainings,
            images=self.images + len(unit.images),
            file_bytes=self.file_bytes + sum(image.size for image in unit.images),
            seconds=self.seconds + took.seconds,
            loads=self.loads + (took.loading > 0),
            loading=self.loading + took.loading,
        )


class Timings:
    """Gathers what units took, by network; folds of a member count together."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, int], Timing]] = {}
        self._trainings: dict[tuple[str, str, int], set[str]] = {}
        self._names: dict[str, str] = {}

    def add(self, unit: Unit, took: Took | None) -> None:
        """One more unit; nothing is known of one that an earlier version computed."""
        if took is not None:
            key = unit.network.key
            if key not in self._names:
                self._names[key] = name(unit.network)
            own = self._found.setdefault(self._names[key], {})
            kind = took.processor, took.threads
            trainings = self._trainings.setdefault((self._names[key], *kind), set())
            trainings.add(key)
            before = own.get(kind) or Timing(processor=took.processor, threads=took.threads)
            own[kind] = before.with_unit(unit, took, len(trainings))

    def keep(self, store: Store) -> None:
        """Keeps them, where they can be kept; what a run of more images on such processors has left stays."""
        with suppress(MachineError):  # No run fails for want of how long it took.
            self._keep(store)

    def _keep(self, store: Store) -> None:
        for each, own in self._found.items():
            before = _read(each, store)
            merged = {(one.processor, one.threads): one for one in before}
            for kind, one in own.items():
                if kind not in merged or merged[kind].images <= one.images:
                    merged[kind] = one
            found = sorted(merged.values(), key=lambda one: (one.processor, one.threads))
            if found != before:
                store.write(each, msgspec.json.encode(found))


def read(network: Network, store: Store) -> list[Timing]:
    """What earlier runs measured of a network, with whatever weights, by processor and threads."""
    return _read(name(network), store)


def name(network: Network) -> str:
    """What timings of a network are kept under: what decides the time, which weights do not."""
    how = network.how
    return cache.key(
        "unit-times",
        cache.specification(network.training.member),
        network.training.member.preprocess,
        network.views,
        network.builder,
        (how.device, how.precision, how.batch_size, how.engine, how.compiled),
        code(),
        code=(),
    )


def _read(kept: str, store: Store) -> list[Timing]:
    content: bytes | None = store.read(kept)
    try:
        found = msgspec.json.decode(content or b"[]", type=list[Timing])
    except msgspec.DecodeError:
        return []
    # One of no images would be a division by zero for whoever reckons with it.
    return [each for each in found if each.images > 0 and each.trainings > 0]
