"""What else runs on the machine while a figure is taken."""

from __future__ import annotations

import os
import time


class Others:
    """Processor time that other processes (and other guests of the same host) take from now on."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._busy, self._own = _busy_s(), _own_s()

    def share(self) -> float | None:
        """It as a share of all processors; None where psutil is not installed, which counts it."""
        busy = _busy_s()
        if busy is None or self._busy is None:
            return None
        capacity = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        return max(0.0, busy - self._busy - (_own_s() - self._own)) / max(capacity, 1e-9)


def _busy_s() -> float | None:
    try:
        import psutil
    except ModuleNotFoundError:
        return None
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is in user time already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def _own_s() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system
