"""How long a run of `predict` takes and what it moves: arithmetic on the times of units, nothing is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from evaluate.launchers.opening import Name
from evaluate.portions import size
from evaluate.preprocess import Geometry
from evaluate.units import SHARD

Basis = Literal["predict", "profile", "operations"]
"""Where a time comes from: units of `predict`, readings of `profile`, or an estimate from operations."""

BEST_FIRST: tuple[Basis, ...] = ("predict", "profile", "operations")
"""The surest first."""


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher adds to computing.

    Attributes:
        unit_s: Seconds of a process for each unit: names, files, messages.
        start_s: Seconds until a process computes.
        source: How it is known.
    """

    unit_s: float
    start_s: float
    source: str


OVERHEADS: dict[Name, Overhead] = {
    "local": Overhead(unit_s=0.007, start_s=15.0, source="measured: benchmarks/results/scaling.md"),
    "ray": Overhead(unit_s=0.007, start_s=15.0, source="measured: benchmarks/results/scaling.md"),
    "slurm": Overhead(
        unit_s=0.007,
        start_s=20.0,
        source="measured with submitit on one machine, not on a cluster: benchmarks/results/scaling.md",
    ),
}
"""Rounded up, of two cores that other work shared."""


class Networks(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a system, in all its folds.

    Attributes:
        member: Its name.
        folds: Its trainings.
        classes: What it tells apart.
        geometry: The pixels that it needs of an image.
        weight_bytes: Of one training.
        image_s: Seconds for all views of one image.
        loading_s: Seconds of making it; None where that was not measured.
        basis: Where both come from.
        scaled_from: Threads of a CPU that `image_s` was measured with, where those that are planned are others.
        source: The same in words.
    """

    member: str
    folds: int
    classes: int
    geometry: Geometry
    weight_bytes: int
    image_s: float
    loading_s: float | None
    basis: Basis
    source: str
    scaled_from: int | None = None


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has.

    Attributes:
        launcher: Where units run.
        nodes: Machines.
        processes: That compute at a time, on all nodes together.
        price: Of one machine for an hour; None where it is not known.
    """

    launcher: Name
    nodes: int = 1
    processes: int = 1
    price: float | None = None


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A run of one system.

    Attributes:
        system: Its name.
        images: Lesion images.
        units: Units of work.
        portions: Pieces that processes are handed.
        hours: From start to end.
        compute_hours: Of all processes, in networks: forward passes, and waiting for pixels.
        loading_hours: Of all processes, in making networks whose time was measured; None where none was.
        loading_members: How many members that is known of; the others are in no figure.
        overhead_hours: Of all processes, in what the launcher adds.
        node_hours: Machines × hours.
        cost: Node-hours × price; None where there is no price.
        read_bytes: Image files, each time that they are read; None where their size is not known.
        shipped_bytes: Trained files that go to nodes.
        written_bytes: Results of units, about.
        overhead: Where the launcher's share comes from.
        basis: The weakest basis of its networks.
        source: Where times come from, in words.
        threads: Of an operator in each process; None on a GPU.
        machines: What it is planned for.
        networks: Its members.
    """

    system: str
    images: int
    units: int
    portions: int
    hours: float
    compute_hours: float
    loading_hours: float | None
    loading_members: int
    overhead_hours: float
    node_hours: float
    cost: float | None
    read_bytes: float | None
    shipped_bytes: int
    written_bytes: int
    overhead: str
    basis: Basis
    source: str
    threads: int | None
    machines: Machines
    networks: tuple[Networks, ...]


def planned(
    system: str,
    networks: Sequence[Networks],
    images: int,
    machines: Machines,
    *,
    image_bytes: float | None = None,
    overhead: Overhead | None = None,
    threads: int | None = None,
) -> Planned:
    """Plans a run of one system: as many portions as `predict` would make, handed to processes in turn.

    Args:
        system: Its name.
        networks: Its members.
        images: How many.
        machines: What computes.
        image_bytes: Mean size of an image's file.
        overhead: What the launcher adds; that of `OVERHEADS` where None.
        threads: Of an operator in each process, that times of networks are for; None on a GPU.
    """
    overhead = overhead or OVERHEADS[machines.launcher]
    trainings = sum(each.folds for each in networks)
    shards = math.ceil(images / SHARD)
    pixels = SHARD * sum(geometry.bytes for geometry in {each.geometry for each in networks})
    cut = size(shards, trainings, pixels, machines.processes)
    groups = math.ceil(shards / cut.shards)
    portions = groups * cut.parts
    busy = min(machines.processes, portions)
    units = shards * trainings
    compute = images * sum(each.folds * each.image_s for each in networks)
    known = [each.folds * each.loading_s for each in networks if each.loading_s is not None]
    fitting = size(shards, trainings, pixels, 1).shards
    # A task of Slurm joins its portions into as large ones as memory has room for.
    joined = (
        math.ceil(math.ceil(groups / busy) * cut.shards / fitting) if machines.launcher == "slurm" else None
    )
    loading = sum(known) * makings(trainings, groups, busy, joined if cut.parts == 1 else None)
    added = units * overhead.unit_s
    seconds = overhead.start_s + longest(compute + loading + added, portions, busy)
    shipped_to = {"local": 0, "ray": machines.nodes, "slurm": machines.processes}[machines.launcher]
    node_hours = machines.nodes * seconds / 3600
    return Planned(
        system=system,
        images=images,
        units=units,
        portions=portions,
        hours=seconds / 3600,
        compute_hours=compute / 3600,
        loading_hours=loading / 3600 if known else None,
        loading_members=len(known),
        overhead_hours=added / 3600,
        node_hours=node_hours,
        cost=None if machines.price is None else node_hours * machines.price,
        # Once to check them, and once for each part that networks are divided into.
        read_bytes=None if image_bytes is None else images * image_bytes * (1 + cut.parts),
        shipped_bytes=shipped_to * sum(each.folds * each.weight_bytes for each in networks),
        written_bytes=sum(each.folds * result_bytes(images, each.classes) for each in networks),
        overhead=overhead.source,
        basis=max((each.basis for each in networks), key=BEST_FIRST.index),
        source=sources(networks),
        threads=threads,
        machines=machines,
        networks=tuple(networks),
    )


def makings(trainings: int, groups: int, processes: int, joined: int | None = None) -> float:
    """How often the network of each training is made, on average.

    A process keeps the network that a portion ended with where the next one begins with it: a single network
    always, and of several one for each pair of portions that follow each other in one process.

    Args:
        trainings: Networks.
        groups: Portions of each network.
        processes: That compute.
        joined: Portions of each network in every process, where a process has its own from the start.

    >>> makings(1, 334, 8), makings(5, 334, 8), makings(5, 334, 1)
    (8.0, 334.0, 267.4)
    >>> makings(5, 40, 8, joined=2)
    14.4
    """
    if trainings == 1:
        return float(processes)
    if joined is None and processes > 1:
        return float(groups)
    own = joined or groups
    return processes * (own - (own - 1) / trainings)


def longest(seconds: float, portions: int, processes: int) -> float:
    """Seconds of the process that has most to do, where equal portions are handed out in turn.

    >>> longest(100.0, 10, 4), longest(100.0, 10, 1)
    (30.0, 100.0)
    """
    return seconds * math.ceil(portions / processes) / portions


def result_bytes(images: int, classes: int) -> int:
    """About the size of one training's kept results: JSON with some 20 characters for a probability."""
    return images * (20 * classes + 3) + math.ceil(images / SHARD) * 190


def sources(networks: Sequence[Networks]) -> str:
    """Where the times of members come from, and of how many members where they differ."""
    counts: dict[str, int] = {}
    for each in networks:
        counts[each.source] = counts.get(each.source, 0) + 1
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{source} ({count} of {len(networks)} members)" for source, count in counts.items())
