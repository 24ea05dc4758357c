"""The CPU's clock before and after a run, where Linux tells it.

It changes from moment to moment, so it stands beside the machine and is no part of it: figures are
ranked, and kept readings taken again, whatever it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """The CPU's clock around a run, in MHz: of the slowest and the fastest processor.

    Attributes:
        start_mhz: Before it.
        end_mhz: After it.
        most_mhz: The highest that the hardware allows.
        governor: What chooses it; empty where that is not told.
        reasons: Why a figure is missing, by its name.
    """

    start_mhz: tuple[int, int] | None = None
    end_mhz: tuple[int, int] | None = None
    most_mhz: int | None = None
    governor: str = ""
    reasons: dict[str, str] = field(default_factory=dict)


def before() -> Clocks:
    """The clock now, and its limit, before a run."""
    now = _now()
    most = _cpufreq("cpuinfo_max_freq")
    reasons = {} if now else dict.fromkeys(("start_mhz", "end_mhz"), "this system does not tell it")
    if not most:
        reasons["most_mhz"] = "there is no cpufreq, as in most virtual machines"
    return Clocks(
        start_mhz=now, most_mhz=max(most, default=0) // 1000 or None, governor=_governor(), reasons=reasons
    )


def after(clocks: Clocks) -> Clocks:
    """The same with the clock now, after the run."""
    return replace(clocks, end_mhz=_now())


def _now() -> tuple[int, int] | None:
    found = [khz // 1000 for khz in _cpufreq("scaling_cur_freq")] or list(_cpuinfo())
    return (min(found), max(found)) if found else None


def _cpuinfo() -> Iterator[int]:
    for line in _text(CPUINFO).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            yield round(float(value))


def _cpufreq(name: str) -> list[int]:
    """A figure of every processor, in kHz."""
    texts = [_text(path).strip() for path in CPUS.glob(f"cpu[0-9]*/cpufreq/{name}")]
    return [int(text) for text in texts if text.isdecimal()]


def _governor() -> str:
    found = {_text(path).strip() for path in CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(filter(None, found)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
