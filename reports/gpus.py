"""What the driver told of a GPU while it was timed, as columns and notes of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.results import Row


def _told(key: str, shown: Callable[[Any], str]) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        if "reason" in row.gpu:
            return f"n/a ({row.gpu['reason']})"
        value = row.gpu.get(key)
        return "n/a" if value is None else shown(value)

    return text


COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("SM clock, MHz", _told("clock_mhz", lambda clock: "–".join(map(str, clock)))),
    ("°C", _told("temperature_c", str)),
    ("Slowed by", _told("throttled", lambda reasons: ", ".join(reasons) or "nothing")),
)
"""Headers, and the text of a row's cell."""


def notes(rows: Sequence[Row]) -> list[str]:
    """Which GPUs they were, how they were set up, and why a figure is missing."""
    reasons = {f"{name}: {why}" for row in rows for name, why in row.gpu.get("reasons", {}).items()}
    which = dict.fromkeys(filter(None, map(_which, rows)))
    return [*which, *([f"n/a: {'; '.join(sorted(reasons))}."] if reasons else [])]


def _which(row: Row) -> str:
    """A GPU as far as the driver told; empty in records of older versions."""
    gpu = {key: value for key, value in row.gpu.items() if value is not None}
    if "uuid" not in gpu:
        return ""
    parts = [
        f"GPU {gpu['index']} ({gpu['uuid']})" if "index" in gpu else f"GPU {gpu['uuid']}",
        f"power limit {gpu['power_limit_w']:.0f} W" if "power_limit_w" in gpu else "",
        f"persistence mode {'on' if gpu['persistence'] else 'off'}" if "persistence" in gpu else "",
        f"compute mode {gpu['compute_mode']}" if "compute_mode" in gpu else "",
    ]
    return f"{', '.join(filter(None, parts))}."
