"""What a run of `predict` on many images takes, from what earlier runs measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import msgspec

from benchmarks.cells import Cell, Device, Engine, Precision, Variant
from benchmarks.estimate import kept_rate, pass_s
from benchmarks.lines import Network, Target, lines
from benchmarks.machine import default_threads, gpu_model, resolve
from evaluate import timings
from evaluate.jobs import untrained
from evaluate.planning import BEST_FIRST, Basis, Machines, Networks, Planned, planned
from evaluate.preprocess import Geometry
from evaluate.stores import Store
from evaluate.units import How, networks
from reports.base import Base, targets
from reports.profiling import Asked, prepare
from zoo.card import System
from zoo.processor import processor


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How networks would run.

    Attributes:
        device: Where; it need not be here.
        precision: What they compute in.
        engine: What runs them.
        batch_size: Views at a time; chosen by device and memory where None.
        threads: Of an operator on the CPU; as many as were timed where None.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    engine: Engine = "torch"
    batch_size: int | None = None
    threads: int | None = None

    @property
    def where(self) -> Device:
        """The kind of device that is meant."""
        return "cuda" if self.device == "cuda" else resolve(self.device)

    @property
    def processor(self) -> str:
        """The model of this machine's."""
        if self.where == "cpu":
            return processor()
        return gpu_model()


class _Time(NamedTuple):
    """What one image takes in all views, as it was measured.

    Attributes:
        image_s: Seconds.
        loading_s: Of making the network; None where that was not measured.
        threads: Of an operator on the CPU.
        basis: What measured it.
        group: The same, and where; times of one group differ in their threads alone, or in how well they are known.
        images: How many it is the mean of; 0 for a profile.
        source: All of that in words.
    """

    image_s: float
    loading_s: float | None
    threads: int
    basis: Basis
    group: str
    images: int
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
        MelanomaZooError: There is no such member, or no system has a network.
    """
    found = []
    cards = {entry["card"]["name"]: entry["card"] for entry in base["entries"]}
    for target in targets(base, member=member, **({"builder": builder} if builder else {})):
        card = msgspec.convert(cards[target.name], System)
        known = _kept_timings(card, target, way, store)
        times = [
            [
                *_of_units(known.get(network.member["name"], ()), way),
                *_of_record(base, target, network, way, card.views.distinct),
                *_of_readings(target, network, way, card.views.distinct),
            ]
            for network in target.networks
        ]
        threads = _threads(times, way)
        own = [
            _networks(card, target, network, each, way, threads)
            for network, each in zip(target.networks, times, strict=True)
        ]
        measured = [one for each in known.values() for one in each]
        size = image_bytes
        if size is None and measured:
            size = sum(one.file_bytes for one in measured) / sum(one.images for one in measured)
        found.append(
            planned(
                card.name, own, images, machines, image_bytes=size,
                threads=threads if way.where == "cpu" else None,
            )
        )  # fmt: skip
    return found


def _threads(times: Sequence[Sequence[_Time]], way: Way) -> int:
    """Those that are asked for; or those of the best time, as a run like that one is planned."""
    best = min(
        (each[0] for each in times if each),
        key=lambda one: (BEST_FIRST.index(one.basis), -one.images),
        default=None,
    )
    return way.threads or (best.threads if best else default_threads())


def _networks(
    card: System, target: Target, network: Network, times: Sequence[_Time], way: Way, threads: int
) -> Networks:
    member = card.member(network.member["name"])
    time = _best(times, threads) if times else _estimated(network, way, card.views.distinct, threads)
    others = way.where == "cpu" and time.threads != threads
    return Networks(
        member=member.name,
        folds=target.folds,
        classes=len(member.classes),
        geometry=Geometry.of(member, card.views),
        weight_bytes=network.weight_bytes,
        image_s=time.image_s * time.threads / threads if others else time.image_s,
        loading_s=time.loading_s,
        basis=time.basis,
        source=f"{time.source}, scaled to {_in_words(threads)}" if others else time.source,
        scaled_from=time.threads if others else None,
    )


def _best(times: Sequence[_Time], threads: int) -> _Time:
    """The first; or another that differs from it in having the right number of threads."""
    same = (one for one in times if one.group == times[0].group and one.threads == threads)
    return next(same, times[0])


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


def _of_units(known: Sequence[timings.Timing], way: Way) -> list[_Time]:
    """By units of `predict`: on such a processor first, then those of the most images."""
    found = []
    for one in sorted(known, key=lambda each: (each.processor == way.processor, each.images), reverse=True):
        elsewhere = f" on {one.processor}" if one.processor != way.processor else ""
        threads = f", {_in_words(one.threads)}" if way.where == "cpu" else ""
        images = round(one.images / one.trainings)
        found.append(
            _Time(
                image_s=one.seconds / one.images,
                loading_s=one.loading / one.loads if one.loads else None,
                threads=one.threads,
                basis="predict",
                group=f"predict{elsewhere}",
                images=images,
                source=f"measured: predict of {images:,} images{threads}{elsewhere}",
            )
        )
    return found


def _of_record(base: Base, target: Target, network: Network, way: Way, views: int) -> Iterator[_Time]:
    """By the profile of the record, the best first.

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
            yield _profiled(
                way, views, scenario, row["images_per_s"], row["threads"], row["flags"], elsewhere
            )


def _of_readings(target: Target, network: Network, way: Way, views: int) -> list[_Time]:
    """By kept readings of `profile`, the best first."""
    found: list[_Time] = []
    for quick in (False, True):
        asked = Asked(
            scenarios=("throughput",),
            devices=(way.where,),
            precisions=(way.precision,),
            memory_formats=("channels-last", "contiguous"),
            threads=("1", "all"),
            engines=(way.engine,),
            batch=way.batch_size,
            quick=quick,
        )
        options, taker = prepare(asked)
        rates = [
            (rate, line.cell.variant.threads)
            for line in lines([replace(target, networks=(network,))], options)
            if (rate := kept_rate(line, options, taker))
        ]
        for rate, threads in sorted(rates, reverse=True):
            found.append(_profiled(way, views, "throughput", rate, threads, ["quick"] if quick else []))
    return found


def _profiled(
    way: Way, views: int, scenario: str, rate: float, threads: int, flags: Sequence[str], elsewhere: str = ""
) -> _Time:
    """A time by images per second."""
    said = [scenario, *([_in_words(threads)] if way.where == "cpu" else []), *flags]
    return _Time(
        image_s=views / rate,
        loading_s=None,
        threads=threads,
        basis="profile",
        group=scenario + elsewhere,
        images=0,
        source=f"measured: profile, {', '.join(said)}{elsewhere}",
    )


def _estimated(network: Network, way: Way, views: int, threads: int) -> _Time:
    variant = Variant(device=way.where, precision=way.precision, threads=threads)
    one_pass = pass_s(Cell(kind="throughput", variant=variant), network.macs, None)
    return _Time(
        image_s=views * one_pass,
        loading_s=None,
        threads=threads,
        basis="operations",
        group="",
        images=0,
        source="estimated from operations",
    )


def _in_words(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"
