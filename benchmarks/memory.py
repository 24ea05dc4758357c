"""Memory of a cell: a pass of its own in a fresh process, in which nothing is timed."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import from_fields
from benchmarks.nvml import Unavailable, gpu_of
from benchmarks.subject import Subject, prepare
from benchmarks.traffic import traffic_bytes

_PASSES = 3
"""Forward passes: allocators have reached their highest mark after the second."""


def measure(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Peak memory of loading a network and passing a batch through it: too little memory for that batch is an error.

    Returns:
        `peak_rss` of the process in bytes, `before` (what it was before the network was built);
        on a GPU also `allocated` and `reserved` (torch's, at their peak after the first pass) and
        `nvml` (the process's, from the driver) or `nvml_reason`; `batch`; `traffic` (bytes that the
        operators of one pass read and write).
    """
    cell = from_fields(fields)
    before = peak_rss()
    subject = prepare(cell)
    with torch.inference_mode():
        found = _passes(subject, cell.batch)
    found |= {"peak_rss": peak_rss(), "before": before, "batch": cell.batch, "settings": subject.settings}
    found["traffic"] = traffic_bytes(cell, cell.batch)
    return found


def peak_rss() -> int:
    """The most memory that this process has had resident, in bytes."""
    # Linux hands ru_maxrss on from the process that starts another; the same mark in /proc begins anew.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _passes(subject: Subject, batch: int) -> dict[str, Any]:
    network = subject.networks[0]
    inputs = subject.pixels(subject.cell.members[0], batch)
    subject.forward(network, inputs)
    subject.synchronize()
    if subject.device.type != "cuda":
        for _ in range(_PASSES - 1):
            subject.forward(network, inputs)
        return {}
    torch.cuda.reset_peak_memory_stats(subject.device)
    for _ in range(_PASSES - 1):
        subject.forward(network, inputs)
    subject.synchronize()
    return {
        "allocated": torch.cuda.max_memory_allocated(subject.device),
        "reserved": torch.cuda.max_memory_reserved(subject.device),
        **_driver(subject),
    }


def _driver(subject: Subject) -> dict[str, Any]:
    try:
        processes = gpu_of(subject.device).processes()
    except Unavailable as error:
        return {"nvml_reason": str(error)}
    if os.getpid() not in processes:
        return {"nvml_reason": "the driver does not know this process by its id (a container?)"}
    used = processes[os.getpid()]
    return (
        {"nvml_reason": "the driver does not tell the memory of a process"}
        if used is None
        else {"nvml": used}
    )
