"""What figures are measured on: enough to tell two machines apart, nothing that names their owner."""

from __future__ import annotations

import os
import platform
import xml.etree.ElementTree as ET
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from benchmarks.results import Machine
from zoo import runtime
from zoo.processor import output as _output
from zoo.processor import processor

Device = Literal["auto", "cpu", "cuda"]


@cache
def fingerprint() -> Machine:
    """The machine and the software that this process runs on, without importing torch."""
    gpus, driver, cuda = _nvidia()
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
    )


def default_threads() -> int:
    """As many threads as there are physical cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores()
    return min(_cores(), usable)


def differences(a: Machine, b: Machine) -> list[str]:
    """In what two machines differ, such as `cpu: A / B`; empty where their figures may be compared.

    Settings are compared only where both are known.
    """
    left, right = asdict(a), asdict(b)
    settings = left.pop("settings") or {}, right.pop("settings") or {}
    if all(settings):
        left |= settings[0]
        right |= settings[1]
    return [
        f"{field}: {left.get(field)} / {right.get(field)}"
        for field in {**left, **right}
        if left.get(field) != right.get(field)
    ]


def resolve(device: Device) -> Literal["cpu", "cuda"]:
    """The device that is meant.

    Raises:
        MachineError: It is not there.
    """
    if device == "auto" and not fingerprint().gpus:
        return "cpu"  # told without torch, which takes seconds to import
    return runtime.resolve(device)


def _cores() -> int:
    """Physical cores: sets of hardware threads that share one."""
    topology = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = len({siblings.read_text(encoding="ascii") for siblings in topology})
    return cores or int(_output("sysctl", "-n", "hw.physicalcpu").strip() or os.cpu_count() or 1)


def _nvidia() -> tuple[tuple[str, ...], str | None, str | None]:
    """Model and memory of each NVIDIA GPU, the driver's version, and its CUDA version."""
    try:
        report = ET.fromstring(_output("nvidia-smi", "-q", "-x"))  # noqa: S314 (written by the driver)
    except ET.ParseError:
        return (), None, None
    gpus = tuple(
        f"{gpu.findtext('product_name')}, {gpu.findtext('fb_memory_usage/total')}"
        for gpu in report.iter("gpu")
    )
    return gpus, report.findtext("driver_version"), report.findtext("cuda_version")
