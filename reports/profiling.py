"""From the words of a command to a profile, its record and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import clocks, figures
from benchmarks.allowance import usable_processors
from benchmarks.cells import Device, Engine, MemoryFormat, Precision, Scenario, Variant
from benchmarks.estimate import Entry, together
from benchmarks.estimate import plan as entries
from benchmarks.lines import Options, Target
from benchmarks.machine import default_threads, fingerprint, resolve
from benchmarks.profile import Progress, profile
from benchmarks.results import Profile, Row
from benchmarks.store import Store
from benchmarks.taking import Taker
from benchmarks.timing import FULL, QUICK
from reports import pixels, render
from reports.base import Base, targets
from reports.figures import megabytes
from reports.profile import tables
from reports.ranking import apart
from reports.table_files import write_tables
from zoo.errors import MachineError, UsageError
from zoo.files import replacing, write

_WHOLE_S = {False: 20.0, True: 2.0}
"""Seconds that a lesion image may take for its protocol to be measured as a whole, if quick or not."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command asks for.

    Attributes:
        scenarios: The scenarios.
        devices: Devices; `auto` is CUDA where there is a GPU that torch can use.
        precisions: Precisions.
        memory_formats: Memory formats.
        threads: Numbers of threads on the CPU, `all` for its physical cores; one thread and all where
            empty, and all alone where quick.
        compiled: Run each network under torch.compile too.
        engines: What runs networks.
        batch: Images per batch; None lets a sweep choose.
        member: Only this member of the system.
        images: Folder of real images.
        quick: Shorten everything.
        resume: Take readings of an earlier run that were kept.
        seed: Seed of weights, pixels and order.
        limit_s: Seconds after which a process is given up.
        readings: Folder where readings are kept; the user's cache where None.
        repeat: Which repeat of the whole run this is.
    """

    scenarios: tuple[Scenario, ...] = ("latency",)
    devices: tuple[str, ...] = ("auto",)
    precisions: tuple[Precision, ...] = ("fp32",)
    memory_formats: tuple[MemoryFormat, ...] = ("contiguous",)
    threads: tuple[str, ...] = ()
    compiled: bool = False
    engines: tuple[Engine, ...] = ("torch",)
    batch: int | None = None
    member: str | None = None
    images: Path | None = None
    quick: bool = False
    resume: bool = False
    seed: int = 0
    limit_s: int = 900
    readings: Path | None = None
    repeat: int = 0


def prepare(asked: Asked, *, planned: bool = False) -> tuple[Options, Taker]:
    """What there is to measure, and what measures it: looks for the devices and images that are meant.

    A device or an engine that is not there is told in the rows that needed it, so that the rest goes on; so is a
    package that is missing to read images, where they are timed. Images that a run would make up are named, and
    not made, where it is only `planned`.

    Raises:
        InputError: The folder of images holds none, or one that cannot be read.
        MachineError: There is a folder of images and nothing to read them with, and no row could say so.
        UsageError: There are fewer processors that this process may use than threads.
    """
    folder = asked.readings or _cache()
    present: dict[Device, str] = {}
    for each in asked.devices:
        try:
            present[resolve(each)] = ""  # type: ignore[arg-type]
        except MachineError as error:
            present["cuda"] = str(error).partition(";")[0].removeprefix("device cuda: ")
    timed = "end-to-end" in asked.scenarios
    unread = pixels.lacking() if asked.images or timed else ""
    if unread and not timed:
        raise MachineError(f"--images {asked.images}: {unread}; leave it out")
    options = Options(
        scenarios=asked.scenarios,
        variants=tuple(_variants(asked, list(present))),
        batch=asked.batch,
        images=() if unread else _images(asked, folder, made=not planned),
        made_up=asked.images is None,
        reader=pixels.READER,
        seed=asked.seed,
        rules=QUICK if asked.quick else FULL,
        whole_s=_WHOLE_S[asked.quick],
    )
    absent: dict[str, str] = {device: reason for device, reason in present.items() if reason}
    absent |= {"end-to-end": unread} if unread else {}
    absent |= {engine: why for engine in asked.engines if (why := _missing(engine))}
    taker = Taker(
        fingerprint(),
        Store(folder),
        absent=absent,
        resume=asked.resume,
        limit_s=asked.limit_s,
        repeat=asked.repeat,
    )
    return options, taker


def run(
    base: Base,
    asked: Asked,
    *,
    builder: Callable[[str], str | None] | None = None,
    progress: Progress | None = None,
) -> tuple[Profile, list[dict[str, Any]]]:
    """Profiles the systems of a record.

    Args:
        base: The record, with cards and counts.
        asked: What is asked for.
        builder: What makes a system's networks (`reports.base.targets`).
        progress: Called as the work goes on.

    Returns:
        The profile, and the raw samples.

    Raises:
        MelanomaZooError: Something asked for does not exist.
    """
    wanted, (options, taker) = _targets(base, asked, builder), prepare(asked)
    clock = clocks.before()
    with taker:
        rows, ceilings, samples = profile(wanted, options, taker, progress)
    clock = clocks.after(clock)
    read = options.images if asked.images or "end-to-end" in asked.scenarios else ()
    found = Profile(
        rows=tuple(rows),
        ceilings=tuple(ceilings),
        machine=fingerprint(),
        seed=asked.seed,
        rounds=options.rules.rounds,
        quick=asked.quick,
        images=len(read),
        images_real=asked.images is not None and bool(read),
        images_sha256=pixels.digest(read),
        weights=", or ".join(dict.fromkeys(map(_weights, wanted))),
        clocks=clock,
    )
    return found, samples


def plan(
    base: Base, asked: Asked, *, builder: Callable[[str], str | None] | None = None, runs: int = 1
) -> list[Entry]:
    """What a profile would measure, one entry per row of all `runs` together, without measuring anything.

    Raises:
        MelanomaZooError: Something asked for does not exist.
    """
    wanted = _targets(base, asked, builder)
    options, taker = prepare(asked, planned=True)
    each_run = [entries(wanted, options, taker.of_repeat(repeat)) for repeat in range(runs)]
    return [together(same) for same in zip(*each_run, strict=True)]


def planned(found: Sequence[Entry], *, resume: bool, runs: int = 1) -> render.Table:
    """A plan as a table; where there are several `runs`, of all of them together."""
    kept = "taken" if resume else "measured again; --resume takes them"
    variants, common = apart([each.variant for each in found])
    return render.Table(
        f"Plan: {amount(found, runs)}",
        ("Scenario", "Network", "Variant", "Batch", "Rounds", "Kept", "About, s", "Memory, MB"),
        tuple(
            (
                each.scenario,
                each.network or "–",
                variant,
                "sweep" if each.batch is None else str(each.batch),
                _rounds(each.rounds, runs) if each.rounds else "summed",
                str(each.kept),
                f"n/a ({each.refused})" if each.refused else f"{each.seconds:,.0f}",
                megabytes(each.memory),
            )
            for each, variant in zip(found, variants, strict=True)
        ),
        (
            *([f"All rows: {common}."] if common else []),
            *([f"Kept, seconds and minutes: of all {runs} runs."] if runs > 1 else []),
            f"Kept: rounds of an earlier run with the same code on the same machine ({kept}).",
            "Time and memory are estimated from operations and sizes, or from kept readings; the time of a row holds "
            "the sweep of its batch and the passes for memory, energy and accuracy.",
        ),
        align="lllrrrrr",
    )


def amount(found: Sequence[Entry], runs: int = 1) -> str:
    """How much there is to measure, in words."""
    several = f" in each of {runs} runs" if runs > 1 else ""
    minutes = sum(each.seconds for each in found) / 60
    about = f"about {minutes:,.0f} min" if minutes >= 1 else "less than a minute"
    rows = sum(each.scenario != "ceilings" for each in found)
    return f"{rows} rows{several}, {about}"


def _rounds(together: int, runs: int) -> str:
    return str(together) if runs == 1 else f"{together // runs} × {runs} runs"


def record(base: Base, found: Profile) -> Base:
    """The record with what was measured, as plain data."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {**base, "created": created, "machine": asdict(found.machine), "profile": asdict(found)}


def write_all(
    base: Base,
    found: Profile,
    samples: Sequence[dict[str, Any]],
    folder: Path,
    earlier: Mapping[str, Profile] | None = None,
) -> list[Path]:
    """Writes the record, the tables in every format, and the raw samples.

    Args:
        base: The record that it started from.
        found: The profile.
        samples: Its raw samples.
        folder: Where to.
        earlier: Others of the same machine, by what they are called, for the ranking.

    Raises:
        MachineError: The folder cannot be written.
    """
    raw = _write_samples(samples, folder) if samples else ""
    found = replace(found, samples=raw)
    path = folder / "record.json"
    write(path, json.dumps(record(base, found), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    written = write_tables(tables(found, earlier), _csv(found.rows), folder, "profile")
    return [path, *written, *([folder / raw] if raw else [])]


def _targets(base: Base, asked: Asked, builder: Callable[[str], str | None] | None) -> list[Target]:
    return targets(base, member=asked.member, **({"builder": builder} if builder else {}))


def _weights(target: Target) -> str:
    own = any(network.member.get("file") for network in target.networks)
    return figures.OWN if own else figures.RANDOM


def _variants(asked: Asked, devices: Sequence[Device]) -> list[Variant]:
    everything = default_threads()
    numbers = asked.threads or (("all",) if asked.quick else ("1", "all"))
    threads = list(dict.fromkeys(everything if each == "all" else int(each) for each in numbers))
    processors = usable_processors()
    if max(threads) > processors:
        raise UsageError(
            f"--threads {max(threads)}: this process may use {processors} processor{'s' * (processors > 1)}; ask for no more"
        )
    ways: list[dict[str, Any]] = []
    for engine in asked.engines:
        # Others than torch order memory by themselves, and compile by themselves.
        orders = asked.memory_formats if engine == "torch" else ("contiguous",)
        compiled = (False, True) if asked.compiled and engine == "torch" else (False,)
        ways += [
            {"memory_format": order, "compiled": each, "engine": engine}
            for order, each in product(orders, compiled)
        ]
    return [
        Variant(device=device, precision=precision, threads=number, **way)
        for device, precision, way in product(devices, asked.precisions, ways)
        for number in (threads if device == "cpu" else [everything])
    ]


def _missing(engine: Engine) -> str:
    """What an engine lacks here; empty where nothing."""
    if engine == "torch":
        return ""
    from zoo import engines  # a machine that only times torch may lack what it needs

    return engines.missing(engine)


def _images(asked: Asked, folder: Path, *, made: bool) -> tuple[str, ...]:
    if asked.images:
        return pixels.images_in(asked.images)
    return pixels.made_up(folder, asked.seed, made=made) if "end-to-end" in asked.scenarios else ()


def _cache() -> Path:
    from zoo import cache

    return cache.folder() / "readings"


def _write_samples(samples: Sequence[dict[str, Any]], folder: Path) -> str:
    """Writes raw samples as Parquet, or as CSV where pyarrow is not installed; returns the file's name."""
    import pandas as pd

    frame = pd.DataFrame(samples)
    try:
        with replacing(folder / "samples.parquet") as path:
            frame.to_parquet(path, index=False)
        return "samples.parquet"
    except ImportError:
        with replacing(folder / "samples.csv.gz") as path:
            frame.to_csv(path, index=False, compression="gzip")
        return "samples.csv.gz"


def _csv(rows: Sequence[Row]) -> str:
    """A line per row, a column per figure."""
    names = [field.name for field in fields(Row)]
    lines = [[_cell(getattr(row, name)) for name in names] for row in rows]
    return render.delimited(names, lines)


def _cell(value: object) -> object:
    if isinstance(value, tuple):
        return "; ".join(value)
    return json.dumps(value) if isinstance(value, dict) else value
