"""How long a cell takes and how much memory it needs, before it is measured: roughly."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from benchmarks import worker
from benchmarks.cells import Cell
from benchmarks.figures import per_pass
from benchmarks.lines import Line, Options, sweeps
from benchmarks.sweep import rules_of
from benchmarks.taking import Taker
from benchmarks.timing import Rules

_RATE = {"cpu": 12e9, "cuda": 1e12}
"""Multiply-accumulates per second that a network reaches: of one thread, and of a GPU."""

_LEAST_S = {"cpu": 1e-3, "cuda": 1e-2}
_START_S = 1.5 if worker.FORKS else 8.0
"""Building a network, in a copy of a process that has imported torch or in a new one."""

_COMPILE_S = 60.0

_TORCH_BYTES = 600 << 20
_MAPS = 40
"""Feature maps in memory at once, in multiples of the input image."""

_SWEPT = (1, 2, 4, 8, 16)
"""Batches that a sweep tries, usually."""


class Estimate(NamedTuple):
    """What a row will cost.

    Attributes:
        seconds: All of its processes, those for memory and energy too.
        memory: Bytes of one process, on its device.
        kept: Rounds that were kept from an earlier run.
        rounds: Rounds in all.
    """

    seconds: float
    memory: int
    kept: int
    rounds: int


def estimate(line: Line, options: Options, taker: Taker) -> Estimate:
    """Estimates a row, from a reading of its cell where one was kept."""
    assert line.network is not None
    cell, rules = line.cell, line.cell.rules
    kept = sum(taker.kept(cell, turn) is not None for turn in range(rules.rounds))
    step = pass_s(cell, line.network.macs, taker.kept(cell))
    start = _START_S + (_COMPILE_S if cell.variant.compiled else 0.0)
    block = max(rules.block_s, step) if cell.kind == "throughput" else step
    seconds = (rules.rounds - kept if taker.resumes else rules.rounds) * (
        start + _round_s(rules, step, block)
    )
    if sweeps(cell, options):
        steps = [step * batch / cell.batch for batch in _SWEPT]
        seconds += sum(start + _round_s(rules_of(cell), each, each) for each in steps)
    if cell.kind != "end-to-end":
        energy = 1.2 * rules.energy_s if cell.variant.device == "cuda" else 0.0
        seconds += 2 * start + energy
    if not cell.variant.reference:
        seconds += start
    size = line.network.member["size"]
    batch = cell.batch if not sweeps(cell, options) else 16
    memory = line.network.weight_bytes + batch * 3 * size**2 * 4 * _MAPS
    return Estimate(
        seconds=0.0 if taker.refusal(cell) else seconds,
        memory=memory + (_TORCH_BYTES if cell.variant.device == "cpu" else 0),
        kept=kept,
        rounds=rules.rounds,
    )


def _round_s(rules: Rules, step: float, block: float) -> float:
    """Seconds of the first pass, the warm-up and the sampling of one round."""
    warm = min(rules.warm_most_s, max(rules.warm_s, rules.warm_steps * step))
    sampling = min(rules.most_s, max(rules.seconds, rules.samples / rules.rounds * block))
    return step + warm + sampling


def pass_s(cell: Cell, macs: int, reading: Mapping[str, Any] | None) -> float:
    """Seconds of one forward pass: measured, or what its operations would take."""
    if reading:
        return median(per_pass(reading, reading["samples_ms"])) / 1e3
    variant = cell.variant
    rate = _RATE[variant.device] * (variant.threads if variant.device == "cpu" else 1)
    return max(_LEAST_S[variant.device], macs * cell.batch / rate)
