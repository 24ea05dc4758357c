"""Profiles systems: in which order cells are measured, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import Any

from benchmarks import figures, sweep, worker
from benchmarks.cells import Cell, Variant
from benchmarks.lines import (
    Line,
    Options,
    Target,
    ceiling_cells,
    ceiling_variant,
    drift_cell,
    lines,
    passes,
    protocol_line,
    sweeps,
)
from benchmarks.results import Ceiling, Row
from benchmarks.samples import UNKNOWN, Scatter, pooled
from benchmarks.sweep import Sweep, Turn
from benchmarks.taking import Taker
from benchmarks.timing import interleaved

Alike = tuple[str, str, int]
"""Scenario, device and threads: rows that agree in them scatter as far as each other."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def profile(
    targets: Sequence[Target], options: Options, taker: Taker, progress: Progress | None = None
) -> tuple[list[Row], list[Ceiling], list[dict[str, Any]]]:
    """Measures everything that is asked for.

    A cell that cannot be measured is a row that says why, and the rest goes on.

    Args:
        targets: The systems.
        options: What is asked for.
        taker: Takes the readings.
        progress: Called as the work goes on.

    Returns:
        The rows, the machine's ceilings, and the raw samples, one each.
    """
    step = progress or (lambda *_: None)
    asked = lines(targets, options)
    ceilings = {
        cell.variant: figures.ceiling(cell, taker.take(cell))
        for cell in _each("ceilings", ceiling_cells(asked, options), step)
    }
    asked = _with_batches(asked, options, taker, step)
    wholes = _take_rounds(targets, asked, options, taker, step)
    working = [line for line in asked if "error" not in taker.take(line.cell)]
    used = [_as_used(line, options, taker) for line in working]
    for cell in _each("memory, energy, accuracy", _distinct(passes(used, options), taker), step):
        taker.take(cell)
    machine = _scatters([*asked, *wholes], options, taker)
    rows = [_row(line, options, taker, ceilings, machine) for line in asked]
    sums = _sums(targets, rows, options)
    protocols = [
        figures.whole(_timed(line, options, taker, machine), total) if line in wholes else total
        for line, total in sums
    ]
    return [*rows, *protocols], list(ceilings.values()), raw_samples([*asked, *wholes], options, taker)


def raw_samples(asked: Iterable[Line], options: Options, taker: Taker) -> list[dict[str, Any]]:
    """Every sample of every row, in the order in which it was taken."""
    found = []
    for line in asked:
        about = {name: getattr(line.row, name) for name in _ABOUT}
        for turn in range(options.rules.rounds):
            reading = taker.take(line.cell, turn).get("result", {})
            device_ms = reading.get("device_ms") or [None] * len(reading.get("samples_ms", []))
            for index, sample in enumerate(reading.get("samples_ms", [])):
                found.append(
                    {
                        **about,
                        "batch": reading["batch"],
                        "round": turn,
                        "sample": index,
                        "images": reading["images"],
                        "ms": sample,
                        "device_ms": device_ms[index],
                    }
                )
    return found


_ABOUT = (
    "system",
    "network",
    "scenario",
    "device",
    "precision",
    "memory_format",
    "threads",
    "compiled",
    "engine",
)


def _with_batches(asked: list[Line], options: Options, taker: Taker, step: Progress) -> list[Line]:
    """The lines with the best batch of each cell whose batch is looked for."""
    cells = [line.cell for line in asked if sweeps(line.cell, options) and not taker.refusal(line.cell)]
    found: dict[str, Sweep] = {}
    turns: dict[str, list[Turn]] = {}
    wanted = []
    for cell in _distinct(cells, taker):
        if taker.resumes and (before := sweep.kept(cell, taker)):
            found[taker.name(cell)] = before
        else:
            wanted.append(cell)
    every = list(interleaved(wanted, sweep.times(options.rules), options.seed))
    for turn, cell in _each("batches", every, step):
        turns.setdefault(taker.name(cell), []).append(
            sweep.once(cell, turn, taker.take, sweep.available_memory())
        )
    for cell in wanted:
        found[taker.name(cell)] = result = sweep.merged(turns[taker.name(cell)])
        if result.found:
            sweep.keep(cell, result, taker)
        else:
            taker.give_up(cell.of("throughput", batch=result.batch), {"error": result.end})
    return [
        replace(line, swept=chosen, cell=replace(line.cell, batch=chosen.batch))
        if (chosen := found.get(taker.name(line.cell)) if sweeps(line.cell, options) else None)
        else line
        for line in asked
    ]


def _take_rounds(
    targets: Sequence[Target], asked: Sequence[Line], options: Options, taker: Taker, step: Progress
) -> list[Line]:
    """Times all rows in shuffled rounds, and among them the whole protocols.

    Which of these are short enough to be measured is known from the latencies of the first round; so they
    come last in that, and anywhere in the further ones.

    Returns:
        The whole protocols that were measured.
    """
    rounds, seed = options.rules.rounds, options.seed
    cells = _distinct((line.cell for line in asked), taker)
    for turn, cell in _each("timing, round 1", list(interleaved(cells, 1, seed)), step):
        taker.take(cell, turn)
    first = [figures.timed(line.row, line.cell, [taker.take(line.cell)]) for line in asked]
    wholes = [
        line
        for line, total in _sums(targets, first, options)
        if total.ms is not None and fits(line, total.ms / 1e3, options)
    ]
    added = _distinct((line.cell for line in wholes), taker)
    for turn, cell in _each("whole protocols, round 1", list(interleaved(added, 1, seed)), step):
        taker.take(cell, turn)
    further = [each for each in interleaved([*cells, *added], rounds, seed) if each[0]]
    for turn, cell in _each("timing, further rounds", further, step):
        taker.take(cell, turn)
    return wholes


def _row(
    line: Line, options: Options, taker: Taker, ceilings: dict[Variant, Ceiling], machine: Mapping[Alike, Scatter]
) -> Row:  # fmt: skip
    assert line.network is not None
    row = _timed(line, options, taker, machine)
    if row.error:
        return row
    cell = _as_used(line, options, taker).cell
    if cell.kind != "end-to-end":
        row = figures.with_memory(row, taker.take(cell.of("memory")))
        row = figures.with_energy(row, taker.take(cell.of("energy")), quick=cell.rules.quick)
        row = figures.with_roofline(row, line.network.macs, ceilings.get(ceiling_variant(cell.variant)))
    if not cell.variant.reference:
        weights = figures.OWN if line.network.member.get("file") else figures.RANDOM
        drift = taker.take(drift_cell(cell, options))
        row = figures.with_drift(row, drift, made_up=options.made_up, weights=weights)
    return row


def _as_used(line: Line, options: Options, taker: Taker) -> Line:
    """The line with the batch that it was timed at, which is smaller than asked for where memory did not suffice."""
    batch = _timed(line, options, taker).batch
    return replace(line, cell=replace(line.cell, batch=batch)) if batch else line


def _timed(
    line: Line, options: Options, taker: Taker, machine: Mapping[Alike, Scatter] = MappingProxyType({})
) -> Row:  # fmt: skip
    known = machine.get(_alike(line), UNKNOWN)
    return figures.timed(line.row, line.cell, _answers(line, options, taker), known)


def _answers(line: Line, options: Options, taker: Taker) -> list[worker.Answer]:
    return [taker.take(line.cell, turn) for turn in range(options.rules.rounds)]


def _scatters(asked: Iterable[Line], options: Options, taker: Taker) -> dict[Alike, Scatter]:
    """How far rounds lie apart on this machine: those of a single row are too few to tell."""
    found: dict[Alike, dict[str, Scatter]] = {}
    for line in asked:
        one = figures.scatter(line.cell, _answers(line, options, taker))
        found.setdefault(_alike(line), {})[taker.name(line.cell)] = one
    return {alike: pooled(list(each.values())) for alike, each in found.items()}


def _alike(line: Line) -> Alike:
    return line.cell.kind, line.cell.variant.device, line.cell.variant.threads


def _sums(targets: Sequence[Target], rows: Sequence[Row], options: Options) -> list[tuple[Line, Row]]:
    """The whole protocol of each system, and the row that it is as the sum of the latencies among `rows`."""
    if "latency" not in options.scenarios:
        return []
    whole = [target for target in targets if target.whole]
    found = []
    for target, variant in product(whole, options.variants):
        line = protocol_line(target, variant, options)
        parts = [
            row
            for row in rows
            if (row.system, row.scenario) == (target.name, "latency") and Variant.of(row) == variant
        ]
        found.append((line, figures.summed(line.row, parts, target.folds * target.views)))
    return found


def fits(line: Line, seconds: float, options: Options) -> bool:
    """Whether a protocol is measured as a whole: it takes little enough time, its networks little enough memory.

    Memory is asked for on a CPU only, where a process that fills it is killed, or the machine swaps. A GPU refuses
    what does not fit into it, and the row is summed and says so.
    """
    if seconds > options.whole_s or line.cell.variant.device == "cuda":
        return seconds <= options.whole_s
    weights = line.target.folds * sum(network.weight_bytes for network in line.target.networks)
    memory = sweep.available_memory()
    return memory is None or 2 * weights < memory


def _distinct(cells: Iterable[Cell], taker: Taker) -> list[Cell]:
    return list({taker.name(cell): cell for cell in cells}.values())


def _each(what: str, items: Sequence[Any], step: Progress) -> Iterator[Any]:
    for done, item in enumerate(items, start=1):
        yield item
        step(what, done, len(items))
