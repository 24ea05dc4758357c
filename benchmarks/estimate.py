"""How long a profile takes and how much memory it needs, before anything is measured: roughly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any, NamedTuple

from benchmarks import rapl, sweep, worker
from benchmarks.cells import Cell, Variant
from benchmarks.figures import pass_ms
from benchmarks.lines import (
    Line,
    Network,
    Options,
    Target,
    ceiling_cells,
    lines,
    passes,
    protocol_line,
    sweeps,
)
from benchmarks.profile import fits
from benchmarks.taking import Taker

_RATE = {"cpu": 15e9, "cuda": 1e12}
"""Multiply-accumulates per second that a network reaches: of one thread, and of a GPU."""

_LEAST_S = {"cpu": 1e-3, "cuda": 1e-2}
_START_S = 1.5 if worker.FORKS else 8.0
"""Building a network, in a copy of a process that has imported torch or in a new one."""

_COMPILE_S = 60.0
_ENERGY = 1.4
"""Seconds for each second over which energy is read: with idle power before and after it, and the pauses."""

_TRAFFIC_S = 2.0
_DRIFT_IMAGES = 8
_TORCH_BYTES = 600 << 20
_CEILING_BYTES = {"cpu": 600 << 20, "cuda": 5 << 30}
_MAPS = 40
"""Feature maps in memory at once, in multiples of the input image."""

_SWEPT = (1, 2, 4, 8, 16)
"""Batches that a sweep tries, usually."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the plan: a row of the profile, or the ceilings of the machine.

    Attributes:
        scenario: The scenario; `protocol`, or `ceilings`.
        network: Whose it is; empty for ceilings.
        variant: How it is run.
        batch: Images per pass; None where a sweep looks for it.
        rounds: Fresh processes; none where a protocol will be summed.
        kept: Those that were kept from an earlier run.
        seconds: All of its processes, those of memory, energy and accuracy too, but for what a row
            before it has measured already.
        memory: Bytes of one process, on its device.
        refused: Why it cannot be measured here.
    """

    scenario: str
    network: str
    variant: Variant
    batch: int | None
    rounds: int
    kept: int
    seconds: float
    memory: int
    refused: str


class _Process(NamedTuple):
    cell: Cell
    turn: int
    seconds: float


def plan(targets: Sequence[Target], options: Options, taker: Taker) -> list[Entry]:
    """Estimates every row, from readings of its cell where some were kept."""
    asked = [_with_batch(line, options, taker) for line in lines(targets, options)]
    counted: set[str] = set()

    def entry(cell: Cell, title: str, processes: Iterable[_Process], memory: int) -> Entry:
        own = list(processes)
        rounds = [each for each in own if each.cell == cell]
        refused = taker.refusal(cell)
        seconds = 0.0
        for each in own:
            name = taker.name(each.cell, each.turn)
            done = name in counted or (taker.resumes and taker.kept(each.cell, each.turn) is not None)
            seconds += 0.0 if done or refused else each.seconds
            counted.add(name)
        return Entry(
            scenario=cell.kind,
            network=title,
            variant=cell.variant,
            batch=None if cell.kind == "throughput" and sweeps(cell, options) else cell.batch,
            rounds=len(rounds),
            kept=sum(taker.kept(cell, each.turn) is not None for each in rounds),
            seconds=seconds,
            memory=memory + (_TORCH_BYTES if cell.variant.device == "cpu" else 0),
            refused=refused,
        )

    found = [
        entry(cell, "", [_Process(cell, 0, _ceilings_s(cell))], _CEILING_BYTES[cell.variant.device])
        for cell in ceiling_cells(asked, options)
    ]
    for line in asked:
        assert line.network is not None
        memory = _bytes(line.network, line.cell.batch if line.swept or not sweeps(line.cell, options) else 16)
        found.append(entry(line.cell, line.row.title, _processes(line, options, taker), memory))
    if "latency" in options.scenarios:
        for target, variant in product((each for each in targets if each.whole), options.variants):
            line = protocol_line(target, variant, options)
            memory = target.folds * sum(_bytes(network, 1) for network in target.networks)
            found.append(entry(line.cell, target.title, _protocol(line, options, taker), memory))
    return found


def together(same: Sequence[Entry]) -> Entry:
    """The same row of several runs as one: all of their rounds and seconds."""
    first = same[0]
    return replace(
        first,
        batch=first.batch if len({each.batch for each in same}) == 1 else None,
        rounds=sum(each.rounds for each in same),
        kept=sum(each.kept for each in same),
        seconds=sum(each.seconds for each in same),
        memory=max(each.memory for each in same),
    )


def _processes(line: Line, options: Options, taker: Taker) -> Iterator[_Process]:
    """All that a row starts."""
    assert line.network is not None
    cell, start = line.cell, _start_s(line.cell)
    step = pass_s(cell, line.network.macs, taker.kept(cell))
    for turn in range(cell.rules.rounds):
        yield _Process(cell, turn, start + _round_s(cell, step))
    if sweeps(cell, options) and not (taker.resumes and line.swept):
        for batch in line.swept.found if line.swept else _SWEPT:
            tried = sweep.step_of(cell, batch)
            for turn in range(sweep.times(cell.rules)):
                yield _Process(tried, turn, start + _round_s(tried, step * batch / cell.batch))
    # With both readings of idle power; a process that finds no counter ends at once.
    counted = cell.variant.device == "cuda" or rapl.readable()
    energy = _ENERGY * cell.rules.energy_s if counted else 0.0
    drift = 2 * len(options.images or range(_DRIFT_IMAGES)) * step / cell.batch
    more = {"memory": _TRAFFIC_S + 3 * step, "energy": energy, "drift": start + drift}
    for each in passes([line], options):
        yield _Process(each, 0, start + more[each.kind])


def _protocol(line: Line, options: Options, taker: Taker) -> Iterator[_Process]:
    """The rounds of a whole protocol, where one is measured."""
    alone = replace(options, scenarios=("latency",), variants=(line.cell.variant,))
    lesion = line.target.folds * line.target.views * sum(
        pass_s(each.cell, each.network.macs, taker.kept(each.cell))
        for each in lines([line.target], alone) if each.network
    )  # fmt: skip
    if not fits(line, lesion, options):
        return
    networks = line.target.folds * len(line.target.networks)
    for turn in range(line.cell.rules.rounds):
        yield _Process(line.cell, turn, networks * _start_s(line.cell) + _round_s(line.cell, lesion))


def _with_batch(line: Line, options: Options, taker: Taker) -> Line:
    """The line with the batch that an earlier sweep chose, where one did."""
    found = sweep.kept(line.cell, taker) if sweeps(line.cell, options) else None
    return replace(line, swept=found, cell=replace(line.cell, batch=found.batch)) if found else line


def _start_s(cell: Cell) -> float:
    return _START_S + (_COMPILE_S if cell.variant.compiled else 0.0)


def _round_s(cell: Cell, step: float) -> float:
    """Seconds of the first step, the warm-up and the sampling of one round."""
    rules = cell.rules
    sample = max(rules.block_s, step) if cell.kind in ("throughput", "sweep") else step
    steps = rules.warm_steps * step
    if rules.long_s is not None:
        steps = min(steps, max(rules.long_s, step))
    warm = min(rules.warm_most_s, max(rules.warm_s, steps))
    sampling = min(rules.most_s, max(rules.seconds, rules.samples / rules.rounds * sample))
    return step + warm + sampling


def _ceilings_s(cell: Cell) -> float:
    return _START_S + 3 * (cell.rules.warm_s + cell.rules.seconds)


def _bytes(network: Network, batch: int) -> int:
    return network.weight_bytes + batch * 3 * int(network.member["size"]) ** 2 * 4 * _MAPS


def pass_s(cell: Cell, macs: int, reading: Mapping[str, Any] | None) -> float:
    """Seconds of one forward pass: measured, or what its operations would take."""
    if reading:
        return pass_ms(cell, reading) / 1e3
    variant = cell.variant
    rate = _RATE[variant.device] * (variant.threads if variant.device == "cpu" else 1)
    return max(_LEAST_S[variant.device], macs * cell.batch / rate)


def kept_rate(line: Line, options: Options, taker: Taker) -> float | None:
    """Images per second of a row, by readings of an earlier run; None where none was kept."""
    cell = _with_batch(line, options, taker).cell
    kept = [reading for turn in range(cell.rules.rounds) if (reading := taker.kept(cell, turn))]
    if not kept:
        return None
    return 1e3 * cell.batch / median(pass_ms(cell, reading) for reading in kept)
