"""How long a cell takes and how much memory it needs, before it is measured: roughly."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from benchmarks.cells import Cell
from benchmarks.figures import per_pass
from benchmarks.lines import Line, Options, sweeps
from benchmarks.taking import Taker

_RATE = {"cpu": 12e9, "cuda": 1e12}
"""Multiply-accumulates per second that a network reaches: of one thread, and of a GPU."""

_LEAST_S = {"cpu": 1e-3, "cuda": 1e-2}
_START_S = 8.0
"""Starting Python and torch, and building a network."""

_TORCH_BYTES = 600 << 20
_MAPS = 40
"""Feature maps in memory at once, in multiples of the input image."""

_SWEEPS = 5
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
    cell, rules = line.cell, options.rules
    kept = sum(taker.kept(cell, turn) is not None for turn in range(rules.rounds))
    step = pass_s(cell, line.network.macs, taker.kept(cell))
    sampling = min(rules.most_s, max(rules.seconds, rules.samples / rules.rounds * step))
    warm = min(rules.warm_most_s, max(rules.warm_s, rules.warm_steps * step))
    seconds = (rules.rounds - kept if taker.resumes else rules.rounds) * (_START_S + warm + sampling)
    if sweeps(cell, options):
        seconds += _SWEEPS * (_START_S + 4)
    if cell.kind != "end-to-end":
        energy = 1.2 * rules.energy_s if cell.variant.device == "cuda" else 0.0
        seconds += 2 * _START_S + energy
    if not cell.variant.reference:
        seconds += _START_S
    size = line.network.member["size"]
    batch = cell.batch if not sweeps(cell, options) else 16
    memory = line.network.weight_bytes + batch * 3 * size**2 * 4 * _MAPS
    return Estimate(
        seconds=0.0 if taker.refusal(cell) else seconds,
        memory=memory + (_TORCH_BYTES if cell.variant.device == "cpu" else 0),
        kept=kept,
        rounds=rules.rounds,
    )


def pass_s(cell: Cell, macs: int, reading: Mapping[str, Any] | None) -> float:
    """Seconds of one forward pass: measured, or what its operations would take."""
    if reading:
        return median(per_pass(reading, reading["samples_ms"])) / 1e3
    variant = cell.variant
    rate = _RATE[variant.device] * (variant.threads if variant.device == "cpu" else 1)
    return max(_LEAST_S[variant.device], macs * cell.batch / rate)
