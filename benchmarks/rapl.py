"""The energy counters of processors (RAPL), where Linux shows them. Without torch, so that a plan can ask too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.nvml import Unavailable

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows them."""

Meter = Callable[[], float]
"""Joules since any fixed moment."""

_PLATFORM = "psys"
"""The domain of the whole platform stands beside the processors, and has them in it."""


def rapl(folder: Path) -> Meter:
    """Energy of all processor packages.

    The counters wrap around; the meter must be read more often than they do (minutes).

    Raises:
        Unavailable: There are none, or they may not be read.
    """
    packages = [each for each in sorted(folder.glob("intel-rapl:[0-9]*")) if each.name.count(":") == 1]
    packages = [each for each in packages if _name(each) != _PLATFORM]
    if not packages:
        raise Unavailable("this machine shows no energy counter (RAPL)")
    try:
        ranges = [int((each / "max_energy_range_uj").read_text()) for each in packages]
        last = [int((each / "energy_uj").read_text()) for each in packages]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Unavailable(f"the energy counter (RAPL) may not be read here ({why}); it needs root") from error
    total = 0

    def read() -> float:
        nonlocal total
        for index, package in enumerate(packages):
            now = int((package / "energy_uj").read_text())
            total += (now - last[index]) % (ranges[index] + 1)
            last[index] = now
        return total / 1e6

    return read


def readable() -> bool:
    """Whether there are counters here that this process may read."""
    try:
        rapl(POWERCAP)
    except Unavailable:
        return False
    return True


def _name(domain: Path) -> str:
    try:
        return (domain / "name").read_text().strip()
    except OSError:
        return ""
