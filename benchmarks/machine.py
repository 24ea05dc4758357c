"""What figures are measured on: enough to tell two machines apart, nothing that names their owner."""

from __future__ import annotations

import os
import platform
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import suppress
from ctypes import CDLL, byref, c_int
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from benchmarks.allowance import cpu_quota, environment, usable_cores, usable_processors
from benchmarks.results import Machine
from zoo import runtime
from zoo.processor import output as _output
from zoo.processor import processor

Device = Literal["auto", "cpu", "cuda"]

_NEWER = ("usable_processors", "cpu_quota", "power_limits", "environment")
"""What records of older versions do not know of their machine."""

_ASKED_S = 300
"""Seconds that a fresh process may take to import torch and to start CUDA."""

KERNEL = Path("/proc/driver/nvidia/version")
"""What the driver tells of itself where its tools are missing."""


@cache
def fingerprint() -> Machine:
    """The machine and the software that this process runs on, without importing torch."""
    gpus, limits, driver, cuda = _nvidia()
    return Machine(
        cpu=processor(),
        cores=_cores(),
        logical_cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=version("torch"),
        timm=version("timm"),
        usable_processors=usable_processors(),
        cpu_quota=cpu_quota(),
        power_limits=limits,
        environment=environment(os.environ),
    )


def default_threads() -> int:
    """As many threads as there are physical cores that this process may use, and time of them that it may have."""
    quota = cpu_quota()
    cores = min(_cores(), usable_cores())
    return max(1, min(cores, int(quota) if quota else cores))


def differences(a: Machine, b: Machine) -> list[str]:
    """In what two machines differ, such as `cpu: A / B`; empty where their figures may be compared.

    Settings, and what older records lack, are compared only where both are known.
    """
    left, right = _known(a), _known(b)
    return [
        f"{field}: {value} / {right[field]}"
        for field, value in left.items()
        if field in right and value != right[field]
    ]


def _known(machine: Machine) -> dict[str, Any]:
    found = asdict(machine)
    settings = found.pop("settings") or {}
    return {
        name: value for name, value in found.items() if name not in _NEWER or value is not None
    } | settings


def resolve(device: Device) -> Literal["cpu", "cuda"]:
    """The device that is meant.

    Raises:
        MachineError: It is not there.
    """
    if device == "auto" and _cuda() is None:
        return "cpu"  # told without torch, which takes seconds to import
    return runtime.resolve(device)


@cache
def gpus_of_torch() -> tuple[str, ...]:
    """Model and memory of each GPU that torch can use, that which networks run on first; none without CUDA.

    nvidia-smi counts GPUs in another order, knows nothing of `CUDA_VISIBLE_DEVICES`, and is missing in some containers.
    A fresh process asks torch: this one shall hold no part of a GPU that others are timed on.
    """
    if _cuda() is None:
        return ()  # told without torch, which takes seconds to import
    # Not above: `python -m benchmarks.worker` imports this module before.
    from benchmarks.worker import running

    with running(1) as ask:
        answer = ask("benchmarks.machine:visible_gpus", {}, limit_s=_ASKED_S)
    return tuple(answer.get("result", {}).get("gpus", ()))


def visible_gpus(_: Mapping[str, Any]) -> dict[str, Any]:
    """What `gpus_of_torch` asks a worker for."""
    import torch

    seen = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return {"gpus": [f"{each.name}, {each.total_memory >> 20} MiB" for each in seen]}


def gpu_model() -> str:
    """The GPU that networks run on; empty where torch finds none."""
    return next(iter(gpus_of_torch()), "").rpartition(",")[0]


def _cores() -> int:
    """Physical cores: sets of hardware threads that share one."""
    topology = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = len({siblings.read_text(encoding="ascii") for siblings in topology})
    return cores or int(_output("sysctl", "-n", "hw.physicalcpu").strip() or os.cpu_count() or 1)


def _nvidia() -> tuple[tuple[str, ...], tuple[str, ...] | None, str | None, str | None]:
    """Model and memory of each NVIDIA GPU, their power limits if told, the driver's version, and its CUDA version."""
    try:
        report = ET.fromstring(_output("nvidia-smi", "-q", "-x"))  # noqa: S314 (written by the driver)
    except ET.ParseError:
        # There is none; or its tools are missing, as in some containers.
        gpus = gpus_of_torch()
        return (gpus, None, _driver(), _cuda()) if gpus else ((), (), None, None)
    gpus = tuple(
        f"{gpu.findtext('product_name')}, {gpu.findtext('fb_memory_usage/total')}"
        for gpu in report.iter("gpu")
    )
    limits = tuple(_power_limit(gpu) for gpu in report.iter("gpu"))
    return gpus, limits, report.findtext("driver_version"), report.findtext("cuda_version")


def _power_limit(gpu: ET.Element) -> str:
    # Drivers name it in one of these ways, by their age.
    named = ("gpu_power_readings/current_power_limit", "power_readings/power_limit")
    return next(filter(None, map(gpu.findtext, named)), "n/a")


def _cuda() -> str | None:
    """Newest CUDA version that the driver serves; None where there is no driver."""
    found = c_int()
    with suppress(OSError, AttributeError):
        CDLL("libcuda.so.1").cuDriverGetVersion(byref(found))
    return f"{found.value // 1000}.{found.value % 1000 // 10}" if found.value else None


def _driver() -> str | None:
    """The driver's version, as the kernel tells it."""
    with suppress(OSError):
        told = re.search(r"\b\d+\.\d+(\.\d+)?\b", KERNEL.read_text(encoding="utf-8"))
        return told[0] if told else None
    return None
