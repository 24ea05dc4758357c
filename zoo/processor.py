"""What the processor of this machine is called."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """Its model, as the system says it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return (
        output("sysctl", "-n", "machdep.cpu.brand_string").strip()
        or platform.processor()
        or platform.machine()
    )


def output(*command: str) -> str:
    """What a program prints; nothing where it is missing, fails or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
