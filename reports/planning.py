"""What a run of `predict` on many images takes, from what earlier runs measured: where times come from, and the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import msgspec

from benchmarks.cells import Cell, Device, Engine, Precision, Variant
from benchmarks.estimate import kept_rate, pass_s
from benchmarks.lines import Network, Target, lines
from benchmarks.machine import default_threads, fingerprint, resolve
from evaluate import timings
from evaluate.jobs import untrained
from evaluate.planning import Basis, Machines, Networks, Planned, planned
from evaluate.preprocess import Geometry
from evaluate.stores import Store
from evaluate.units import How, networks
from reports.base import Base, targets
from reports.profiling import Asked, prepare
from reports.render import Table
from zoo.card import System
from zoo.errors import UsageError
from zoo.processor import processor


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How networks would run.

    Attributes:
        device: Where; it need not be here.
        precision: What they compute in.
        engine: What runs them.
        batch_size: Views at a time; chosen by device and memory where None.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    engine: Engine = "torch"
    batch_size: int | None = None

    @property
    def where(self) -> Device:
        """The kind of device that is meant."""
        return "cuda" if self.device == "cuda" else resolve(self.device)

    @property
    def processor(self) -> str:
        """The model of this machine's."""
        if self.where == "cpu":
            return processor()
        return next(iter(fingerprint().gpus), "").partition(",")[0]


class _Time(NamedTuple):
    """What one image takes in all views, and where that is known from."""

    image_s: float
    loading_s: float
    basis: Basis
    source: str


def plan(
    base: Base,
    images: int,
    machines: Machines,
    way: Way,
    *,
    member: str | None = None,
    store: Store = Store(),  # noqa: B008 (frozen)
    image_bytes: float | None = None,
    builder: Callable[[str], str | None] | None = None,
) -> list[Planned]:
    """Plans a run of each system of a record.

    Args:
        base: The record, with cards and counts; its profile, where it has one, tells times too.
        images: How many images.
        machines: What computes.
        way: How networks run.
        member: Only this member of the system.
        store: Where earlier runs kept their results, and how long units took.
        image_bytes: Mean size of an image's file; that of earlier runs where None.
        builder: As of `reports.base.targets`.

    Raises:
        MelanomaZooError: There is no such member, or a system has no network.
    """
    found = []
    cards = {entry["card"]["name"]: msgspec.convert(entry["card"], System) for entry in base["entries"]}
    for target in targets(base, member=member, **({"builder": builder} if builder else {})):
        card = cards[target.name]
        if not target.networks:
            raise UsageError(f"{card.name} has no network to run, so there is nothing to plan")
        known = _kept_timings(card, target, way, store)
        own = [
            _networks(card, target, network, _time(base, card, target, network, way, known))
            for network in target.networks
        ]
        measured = [one for each in known.values() for one in each]
        size = image_bytes
        if size is None and measured:
            size = sum(one.file_bytes for one in measured) / sum(one.images for one in measured)
        found.append(planned(card.name, own, images, machines, image_bytes=size))
    return found


def _networks(card: System, target: Target, network: Network, time: _Time) -> Networks:
    member = card.member(network.member["name"])
    return Networks(
        member=member.name,
        folds=target.folds,
        classes=len(member.classes),
        geometry=Geometry.of(member, card.views),
        weight_bytes=network.weight_bytes,
        image_s=time.image_s,
        loading_s=time.loading_s,
        basis=time.basis,
        source=time.source,
    )


def _kept_timings(card: System, target: Target, way: Way, store: Store) -> dict[str, list[timings.Timing]]:
    """What `predict` measured of each member."""
    how = How(
        device=way.where,
        device_name="",
        precision=way.precision,
        batch_size=way.batch_size,
        engine=way.engine,
    )
    job = untrained(card, 0, members=[network.member["name"] for network in target.networks], folds=[0])
    return {each.training.member.name: timings.read(each, store) for each in networks(job, how)}


def _time(
    base: Base,
    card: System,
    target: Target,
    network: Network,
    way: Way,
    known: dict[str, list[timings.Timing]],
) -> _Time:
    """The best that is known of a member: units, a profile, or its operations."""
    views = card.views.distinct
    measured = known.get(network.member["name"])
    if measured:
        one = max(measured, key=lambda each: (each.processor == way.processor, each.images))
        elsewhere = f" on {one.processor}" if one.processor != way.processor else ""
        threads = f", {one.threads} thread{'s' * (one.threads > 1)}" if way.where == "cpu" else ""
        return _Time(
            one.seconds / one.images,
            one.loading / one.loads if one.loads else 0.0,
            "predict",
            f"measured: predict of {round(one.images / one.trainings):,} images{threads}{elsewhere}",
        )
    rates = [*_of_record(base, target, network, way, views), *_of_readings(target, network, way)]
    if rates:
        rate, source = rates[0]
        return _Time(views / rate, 0.0, "profile", f"measured: profile, {source}")
    variant = Variant(device=way.where, precision=way.precision, threads=default_threads())
    one_pass = pass_s(Cell(kind="throughput", variant=variant), network.macs, None)
    return _Time(views * one_pass, 0.0, "operations", "estimated from operations")


def _of_record(
    base: Base, target: Target, network: Network, way: Way, views: int
) -> Iterator[tuple[float, str]]:
    """Images per second by the profile of the record, the best first.

    A throughput is of passes alone; end-to-end is with decoding, which a further view does not need again.
    """
    profile: dict[str, Any] = base.get("profile") or {}
    cpu = profile.get("machine", {}).get("cpu", "")
    elsewhere = f" on {cpu}" if way.where == "cpu" and cpu != way.processor else ""
    order = ("end-to-end", "throughput") if views == 1 else ("throughput", "end-to-end")
    for scenario in order:
        rows = [
            row
            for row in profile.get("rows", ())
            if (row["system"], row["network"], row["scenario"]) == (target.name, network.member["name"], scenario)
            and (row["device"], row["precision"], row["engine"]) == (way.where, way.precision, way.engine)
            and not row["compiled"] and row["images_per_s"]
        ]  # fmt: skip
        for row in sorted(rows, key=lambda each: each["images_per_s"], reverse=True):
            # What makes the figure doubtful makes the plan doubtful.
            yield row["images_per_s"], ", ".join([scenario, *row["flags"]]) + elsewhere


def _of_readings(target: Target, network: Network, way: Way) -> list[tuple[float, str]]:
    """Images per second by kept readings of `profile`, the best first."""
    found = []
    for quick in (False, True):
        asked = Asked(
            scenarios=("throughput",),
            devices=(way.where,),
            precisions=(way.precision,),
            memory_formats=("channels-last", "contiguous"),
            threads=("all",),
            engines=(way.engine,),
            batch=way.batch_size,
            quick=quick,
        )
        options, taker = prepare(asked)
        rates = [
            kept_rate(line, options, taker) for line in lines([replace(target, networks=(network,))], options)
        ]
        mark = ", quick" if quick else ""
        found += [(rate, f"throughput{mark}") for rate in sorted(filter(None, rates), reverse=True)]
    return found


def tables(found: Sequence[Planned], machines: Machines) -> list[Table]:
    """Plans as tables: what they come to, and what that is made of."""
    images = f"{found[0].images:,} images" if found else "no images"
    nodes = f" on {machines.nodes} nodes" if machines.nodes > 1 else ""
    priced = machines.price is not None
    summary = Table(
        f"Plan: {images}, --launcher {machines.launcher}{nodes}",
        ("System", "Hours", "Node-hours", *(["Cost"] if priced else []), "Times are"),
        tuple(
            (
                each.system,
                hours(each.hours),
                hours(each.node_hours),
                *(
                    [f"{each.cost:,.0f}" if each.cost >= 100 else f"{each.cost:,.2f}"]
                    if each.cost is not None
                    else []
                ),
                each.source,
            )
            for each in found
        ),
        tuple(_notes(found, machines)),
        align="lrr" + "r" * priced + "l",
    )
    parts = Table(
        "Hours of all processes, and GB that are moved",
        ("System", "Units", "Compute", "Loading", "Overhead", "Read", "Shipped", "Kept"),
        tuple(
            (
                each.system,
                f"{each.units:,}",
                hours(each.compute_hours),
                hours(each.loading_hours) if each.loading_hours else "n/a",
                hours(each.overhead_hours),
                "n/a" if each.read_bytes is None else gigabytes(each.read_bytes),
                gigabytes(each.shipped_bytes),
                gigabytes(each.written_bytes),
            )
            for each in found
        ),
        tuple(_parts_notes(found)),
    )
    return [summary, parts]


def _notes(found: Sequence[Planned], machines: Machines) -> Iterator[str]:
    one = machines.processes == 1
    yield (
        f"{machines.processes} process{'' if one else 'es'} at a time, each as fast as the one that was timed; where a "
        "node has room for several, say --processes."
    )
    if any(each.basis == "profile" for each in found):
        yield (
            "profile times the passes of a network as it is: predict folds batch norms, which is quicker, and "
            "decodes images."
        )
    if any(each.basis == "operations" for each in found):
        yield "An estimate from operations may be wrong by several times; predict with --limit 128 measures."


def _parts_notes(found: Sequence[Planned]) -> Iterator[str]:
    if any(each.basis != "predict" for each in found):
        yield "Loading: making networks; n/a where predict has not measured it, and then not in the hours."
    yield from dict.fromkeys(f"Overhead: of the launcher; {each.overhead}." for each in found)
    if any(each.read_bytes is None for each in found):
        yield "Read, n/a: no run of predict says how large images are; give --image-mb."


def hours(value: float) -> str:
    """Hours with three digits that matter.

    >>> hours(1234.5), hours(12.34), hours(0.0123)
    ('1,234', '12.3', '0.012')
    """
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def gigabytes(value: float) -> str:
    """Bytes in GB (10**9).

    >>> gigabytes(43_200_000), gigabytes(43.2e9), gigabytes(0)
    ('0.043', '43.2', '0')
    """
    if value >= 10e9:
        return f"{value / 1e9:,.1f}"
    return f"{value / 1e9:.2f}" if value >= 0.1e9 else f"{value / 1e9:.3f}" if value else "0"
