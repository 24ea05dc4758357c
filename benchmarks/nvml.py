"""What NVIDIA's driver tells of a GPU: clocks, temperature, energy, memory, and why it slows down.

Called through ctypes, so that a machine needs no package for it. Names and numbers are those of
NVML's nvml.h.
"""

from __future__ import annotations

import os
from contextlib import suppress
from ctypes import CDLL, Structure, byref, c_char_p, c_uint, c_ulonglong, c_void_p
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SLOWED = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Reasons for low clocks that make a figure doubtful. Others (idle, clocks set by the owner) are recorded."""

_MIB = 1 << 20
_POLL_S = 0.5


class _Process(Structure):
    _fields_ = (
        ("pid", c_uint),
        ("used", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class _Memory(Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Unavailable(Exception):  # noqa: N818 (it is no error: a figure is n/a)
    """The driver does not say; the message says why."""


class Gpu:
    """A GPU as its driver sees it.

    Args:
        uuid: The device's UUID as torch prints it.
        library: NVML; found by its name where None.

    Raises:
        Unavailable: There is no driver, or it does not know the GPU.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:
        try:
            self._nvml = library or CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise Unavailable(f"the NVIDIA driver's library is missing ({error})") from error
        self._call("nvmlInit_v2")
        self._handle = c_void_p()
        name = c_char_p(f"GPU-{uuid.removeprefix('GPU-')}".encode())
        self._call("nvmlDeviceGetHandleByUUID", name, byref(self._handle))

    def energy_j(self) -> float:
        """Joules since the driver was loaded."""
        return self._number("nvmlDeviceGetTotalEnergyConsumption", c_ulonglong()) / 1e3

    def clock_mhz(self) -> int:
        """Clock of the multiprocessors now."""
        return self._number("nvmlDeviceGetClockInfo", c_uint(), c_uint(1))

    def temperature_c(self) -> int:
        """Temperature of the chip now, in °C."""
        return self._number("nvmlDeviceGetTemperature", c_uint(), c_uint(0))

    def slowed(self) -> int:
        """Bits of the reasons why clocks are lower than they could be now."""
        return self._number("nvmlDeviceGetCurrentClocksThrottleReasons", c_ulonglong())

    def used_bytes(self) -> int:
        """Memory that all processes use."""
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._handle, byref(memory))
        return int(memory.used)

    def processes(self) -> dict[int, int]:
        """Bytes that each process with a compute context uses, by its id."""
        count = c_uint(64)
        found = (_Process * 64)()
        self._call("nvmlDeviceGetComputeRunningProcesses_v3", self._handle, byref(count), found)
        return {each.pid: each.used for each in found[: count.value]}

    def _number(self, function: str, found: Any, *which: Any) -> int:
        self._call(function, self._handle, *which, byref(found))
        return int(found.value)

    def _call(self, function: str, *given: Any) -> None:
        try:
            status = getattr(self._nvml, function)(*given)
        except AttributeError as error:
            raise Unavailable(f"this driver has no {function}") from error
        if status:
            raise Unavailable(f"{function} answers with error {status}")


def gpu_of(device: torch.device, library: Any = None) -> Gpu:
    """The driver's view of a torch device.

    Raises:
        Unavailable: It has none.
    """
    if device.type != "cuda":
        raise Unavailable("not on an NVIDIA GPU")
    import torch

    return Gpu(str(torch.cuda.get_device_properties(device).uuid), library)


class Watch:
    """Looks at a GPU now and then while a block runs; on a CPU it sees nothing.

    Args:
        device: The device.
        library: NVML; found by its name where None.
    """

    def __init__(self, device: torch.device, library: Any = None) -> None:
        self._clocks: list[int] = []
        self._temperatures: list[int] = []
        self._slowed = 0
        self._others: set[int] = set()
        self._reason = ""
        self._over = Event()
        self._gpu: Gpu | None = None
        try:
            self._gpu = gpu_of(device, library)
        except Unavailable as error:
            self._reason = str(error)
        self._thread = Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Watch:
        if self._gpu:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._gpu:
            self._thread.join()

    def seen(self) -> dict[str, Any]:
        """Lowest and highest clock, highest temperature, reasons for slowing down, and others on the GPU."""
        if not self._clocks:
            return {"reason": self._reason} if self._gpu or "NVIDIA GPU" not in self._reason else {}
        return {
            "clock_mhz": [min(self._clocks), max(self._clocks)],
            "temperature_c": max(self._temperatures),
            "slowed": hex(self._slowed),
            "throttled": [reason for bit, reason in SLOWED.items() if self._slowed & bit],
            "shared": bool(self._others),
        }

    def _poll(self) -> None:
        assert self._gpu is not None
        while True:
            try:
                self._clocks.append(self._gpu.clock_mhz())
                self._temperatures.append(self._gpu.temperature_c())
                self._slowed |= self._gpu.slowed()
                # In a container the driver's process ids are not ours; then nobody can be told apart.
                with suppress(Unavailable):
                    processes = set(self._gpu.processes())
                    if os.getpid() in processes:
                        self._others |= processes - {os.getpid()}
            except Unavailable as error:
                self._reason = str(error)
                return
            if self._over.wait(_POLL_S):
                return
