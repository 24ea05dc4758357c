"""What a process was given to compute with: processors, a share of their time, memory, and its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
CPUS = Path("/sys/devices/system/cpu")

_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "NVIDIA_TF32_OVERRIDE",
)
_FAMILIES = (
    *("CUBLAS_", "CUDNN_", "DNNL_", "GOMP_", "KMP_", "MALLOC_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_"),
    *("PYTORCH_", "TORCH_", "TORCHINDUCTOR_"),
)
_OURS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Set anew for whatever computes."""

_OF_IMPORTS = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
"""Set by some packages, such as scikit-learn, as soon as they are imported."""

_USUAL = {"CUDA_MODULE_LOADING": "LAZY"}
"""What torch sets when it starts CUDA, where nothing else is set."""

_PLACES = ("_DIR", "_FILE", "_HOME", "_PATH", "_ROOT")
"""Endings of names of places, which change nothing but say whose machine it is."""

_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""What says how much memory a control group allows and has, and how much of it are files; in versions 2 and 1."""

_FOLDERS = re.compile(r"[^\s:;,=]*/")


def affinity() -> frozenset[int] | None:
    """Numbers of the logical processors that this process may use; None where the system does not tell them."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def usable_processors() -> int:
    """Logical processors that this process may use."""
    return len(affinity() or ()) or os.cpu_count() or 1


def usable_cores() -> int:
    """Physical cores that this process may use: hardware threads of one core are one.

    As many as processors, where the system does not tell which of them share a core.
    """
    try:
        shared = {
            (CPUS / f"cpu{number}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
            for number in affinity() or ()
        }
    except OSError:
        shared = set()
    return len(shared) or usable_processors()


def cpu_quota() -> float | None:
    """How many processors' time the control groups of this process allow; 0 where they set no limit.

    None where the system has no control groups.
    """
    if not CGROUPS.is_dir():
        return None
    return min((limit for folder in _groups("cpu") if (limit := _limit(folder))), default=0.0)


def memory_left() -> int | None:
    """Bytes that the control groups of this process let it fill yet; None where they set no limit.

    Files that were read and are no longer in use are counted as free: they give way before a limit is met.
    """
    left = [_memory_left(folder) for folder in _groups("memory")]
    return min((each for each in left if each is not None), default=None)


def environment(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that change results or speed, in order, without the folders in their values.

    >>> environment({"LD_PRELOAD": "/home/me/lib/libjemalloc.so.2", "OMP_NUM_THREADS": "4", "PWD": "/home/me"})
    ('LD_PRELOAD=libjemalloc.so.2',)
    """
    return tuple(
        f"{name}={_FOLDERS.sub('', value)}"
        for name, value in sorted(variables.items())
        if value
        and (name in _VARIABLES or name.startswith(_FAMILIES))
        and not (name in (*_OURS, *_OF_IMPORTS) or name.endswith(_PLACES) or _USUAL.get(name) == value)
    )


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, and of those around them, with what one controller says."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # A container sees its own group as the root, whatever its path is outside.
        root = CGROUPS / controller if controllers else CGROUPS
        inner = root / path.lstrip("/")
        yield from (inner, *(each for each in inner.parents if each.is_relative_to(root)))


def _limit(group: Path) -> float:
    """How many processors' time a control group allows; 0 where it sets no limit."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip()
                for name in ("quota", "period")
            )
    except (OSError, ValueError):
        return 0.0
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else 0.0


def _memory_left(group: Path) -> int | None:
    """Bytes that a control group still allows; None where it sets no limit."""
    for limit, used, files in _MEMORY:
        with suppress(OSError, ValueError):  # not this version; or "max", which is no limit
            most, now = (int((group / name).read_text(encoding="ascii")) for name in (limit, used))
            return max(0, most - now + _counted(group, files))
    return None


def _counted(group: Path, what: str) -> int:
    with suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == what:
                return int(count)
    return 0
