"""What there is to measure: a line per row, and the cells that its figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from benchmarks import worker
from benchmarks.cells import Cell, Variant
from benchmarks.results import Row
from benchmarks.sweep import Sweep
from benchmarks.timing import FULL, WHOLE, Rules

BATCH = {"cpu": 8, "cuda": 64}
"""Images per batch of the end-to-end scenario."""

CEILINGS = Rules(rounds=1, warm_steps=3, warm_s=1.0, settled=None, seconds=2.0, samples=10)
"""Ceilings are the best of a few samples."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A member to profile.

    Attributes:
        member: The fields of its card.
        macs: Multiply-accumulates for one image.
        weight_bytes: Bytes of its parameters and buffers.
    """

    member: dict[str, Any]
    macs: int
    weight_bytes: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """A system to profile.

    Attributes:
        name: Its name.
        title: Its name in tables.
        networks: Its members, or some of them.
        folds: Trainings of each member.
        views: Distinct views of a lesion image.
        builder: What makes the networks, as `module:function`.
        whole: Whether all of its members are there.
    """

    name: str
    title: str
    networks: tuple[Network, ...]
    folds: int = 1
    views: int = 1
    builder: str = worker.STANDARD
    whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for.

    Attributes:
        scenarios: Some of `benchmarks.cells.SCENARIOS`.
        variants: How each network is run.
        batch: Images per batch; None lets a sweep choose.
        images: Image files.
        made_up: Whether they were made up, and are no real ones.
        reader: What makes a network's input of one, as `module:function`.
        seed: Seed of weights, pixels and order.
        rules: How long to measure.
        whole_s: A protocol is measured as a whole where one lesion image takes no longer, by its sum.
    """

    scenarios: tuple[str, ...] = ("latency",)
    variants: tuple[Variant, ...] = (Variant(),)
    batch: int | None = None
    images: tuple[str, ...] = ()
    made_up: bool = False
    reader: str = ""
    seed: int = 0
    rules: Rules = FULL
    whole_s: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row to be: whose it is, and the cell that gives its times.

    Attributes:
        target: The system.
        network: The member; None for the whole protocol.
        cell: What is measured.
        swept: How its batch was chosen; None where it was given.
    """

    target: Target
    network: Network | None
    cell: Cell
    swept: Sweep | None = None

    @property
    def row(self) -> Row:
        """The row, still without figures."""
        variant, networks = self.cell.variant, self.target.networks
        network = self.network.member["name"] if self.network else ""
        several = self.network and (len(networks) > 1 or not self.target.whole)
        batch = self.cell.batch if self.cell.kind in ("throughput", "end-to-end") else None
        return Row(
            system=self.target.name,
            title=f"{self.target.title}: {network}" if several else self.target.title,
            network=network,
            scenario=self.cell.kind,
            device=variant.device,
            precision=variant.precision,
            memory_format=variant.memory_format,
            threads=variant.threads,
            compiled=variant.compiled,
            engine=variant.engine,
            batch_asked=None if self.swept else batch,
            sweep=self.swept.found if self.swept else {},
            sweep_end=self.swept.end if self.swept else "",
        )


def lines(targets: Sequence[Target], options: Options) -> list[Line]:
    """All rows to be but those of whole protocols: by scenario, then system, member and variant."""
    found = []
    for scenario, target in product(options.scenarios, targets):
        for network, variant in product(target.networks, options.variants):
            images = options.images if scenario == "end-to-end" else ()
            cell = Cell(
                kind=scenario,
                members=(network.member,),
                builder=target.builder,
                variant=variant,
                batch=1 if scenario == "latency" else options.batch or BATCH[variant.device],
                images=images,
                reader=options.reader if images else "",
                seed=options.seed,
                rules=options.rules.of(scenario),
            )
            found.append(Line(target=target, network=network, cell=cell))
    return found


def ceiling_cells(asked: Iterable[Line], options: Options) -> list[Cell]:
    """A cell for each device, precision and number of threads."""
    variants = dict.fromkeys(ceiling_variant(line.cell.variant) for line in asked)
    rules = replace(options.rules, samples=CEILINGS.samples) if options.rules.quick else CEILINGS
    return [Cell(kind="ceilings", variant=variant, seed=options.seed, rules=rules) for variant in variants]


def passes(asked: Iterable[Line], options: Options) -> Iterator[Cell]:
    """Cells that read something else than time, each in a process of its own."""
    for line in asked:
        cell = line.cell
        if cell.kind != "end-to-end":
            yield cell.of("memory")
            yield cell.of("energy")
        if not cell.variant.reference:
            yield drift_cell(cell, options)


def drift_cell(cell: Cell, options: Options) -> Cell:
    """The cell that says how far a variant's probabilities move."""
    return cell.of(
        "drift", batch=1, images=options.images, reader=options.reader if options.images else "", rules=FULL
    )


def protocol_line(target: Target, variant: Variant, options: Options) -> Line:
    """The whole protocol of a system for one lesion image."""
    rules = options.rules if options.rules.quick else WHOLE
    cell = Cell(
        kind="protocol",
        members=tuple(network.member for network in target.networks),
        builder=target.builder,
        variant=variant,
        folds=target.folds,
        views=target.views,
        seed=options.seed,
        rules=rules,
    )
    return Line(target=target, network=None, cell=cell)


def sweeps(cell: Cell, options: Options) -> bool:
    """Whether a cell's batch is looked for."""
    return cell.kind == "throughput" and options.batch is None


def ceiling_variant(variant: Variant) -> Variant:
    """The variant whose ceilings hold for it."""
    return replace(variant, memory_format="contiguous", compiled=False, engine="torch")
