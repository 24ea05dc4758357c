"""What NVIDIA's driver tells of a GPU: clocks, temperature, energy, memory, and why it slows down.

Called through ctypes, so that a machine needs no package for it. Names and numbers are those of
NVML's nvml.h.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
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

_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
_NOT_TOLD = (1 << 64) - 1
"""What stands for the memory of a process where the driver does not tell it."""

_POLL_S = 0.5


class _Process(Structure):
    _fields_ = (
        ("pid", c_uint),
        ("used", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


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
        self.uuid = f"GPU-{uuid.removeprefix('GPU-')}"
        try:
            self._find()
        except Unavailable as error:
            # Perhaps a slice of one: torch prints both without their kind. If not, what is wrong with the GPU counts.
            self.uuid = f"MIG-{uuid.removeprefix('GPU-')}"
            try:
                self._find()
            except Unavailable:
                raise error from None

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

    def index(self) -> int:
        """Its place among the GPUs of the machine, as nvidia-smi counts them."""
        return self._number("nvmlDeviceGetIndex", c_uint())

    def power_limit_w(self) -> float:
        """Power above which the driver slows it down."""
        return self._number("nvmlDeviceGetEnforcedPowerLimit", c_uint()) / 1e3

    def persistence(self) -> bool:
        """Whether the driver keeps it ready while nobody uses it."""
        return bool(self._number("nvmlDeviceGetPersistenceMode", c_uint()))

    def compute_mode(self) -> str:
        """Who may use it at the same time."""
        found = self._number("nvmlDeviceGetComputeMode", c_uint())
        return _COMPUTE_MODES.get(found, str(found))

    def settings(self) -> dict[str, Any]:
        """Which GPU it is and how it is set up; None with its reason, in `reasons`, for what the driver does not say."""
        return _each(
            uuid=lambda: self.uuid,
            index=self.index,
            power_limit_w=self.power_limit_w,
            persistence=self.persistence,
            compute_mode=self.compute_mode,
        )

    def processes(self) -> dict[int, int | None]:
        """Bytes that each process with a compute context uses, by its id; None where the driver does not tell."""
        count = c_uint(64)
        found = (_Process * 64)()
        self._call("nvmlDeviceGetComputeRunningProcesses_v3", self._handle, byref(count), found)
        return {each.pid: None if each.used == _NOT_TOLD else int(each.used) for each in found[: count.value]}

    def _find(self) -> None:
        self._call("nvmlDeviceGetHandleByUUID", c_char_p(self.uuid.encode()), byref(self._handle))

    def _number(self, function: str, found: Any, *which: Any) -> int:
        self._call(function, self._handle, *which, byref(found))
        return int(found.value)

    def _call(self, function: str, *given: Any) -> None:
        try:
            status = getattr(self._nvml, function)(*given)
        except AttributeError as error:
            raise Unavailable(f"this driver has no {function}") from error
        except ValueError as error:
            raise Unavailable(f"{function}: {error}") from error
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

    What the driver does not say leaves its own figure out, and the others are read all the same.

    Args:
        device: The device.
        library: NVML; found by its name where None.
    """

    def __init__(self, device: torch.device, library: Any = None) -> None:
        self._looks: list[dict[str, Any]] = []
        self._reason = ""
        self._over = Event()
        self._gpu: Gpu | None = None
        try:
            self._gpu = gpu_of(device, library)
        except Unavailable as error:
            self._reason = str(error) if device.type == "cuda" else ""
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
        """Which GPU it was, and what it did.

        Returns:
            `uuid`, `index`, `power_limit_w`, `persistence`, `compute_mode`; `clock_mhz` (lowest and
            highest), `temperature_c` (highest), `slowed` (bits of the reasons for low clocks) and `throttled` (those
            that make a figure doubtful, in words), `shared` (whether others were on it). What the driver
            does not say is None, and `reasons` says why. `reason` alone where nothing can be asked; empty on a CPU.
        """
        if self._gpu is None:
            return {"reason": self._reason} if self._reason else {}
        return together([self._gpu.settings(), *map(_told, self._looks)])

    def _poll(self) -> None:
        assert self._gpu is not None
        gpu = self._gpu
        while True:
            self._looks.append(
                _each(
                    clock_mhz=gpu.clock_mhz,
                    temperature_c=gpu.temperature_c,
                    slowed=gpu.slowed,
                    shared=lambda: _shared(gpu),
                )
            )
            if self._over.wait(_POLL_S):
                return


def together(accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One account of what `Watch.seen` told several times, as in the rounds of a row."""
    told = [each for each in accounts if each and "reason" not in each]
    if not told:
        return dict(next(filter(None, accounts), {}))
    found: dict[str, Any] = {}
    for name in (name for name in _JOINED if any(name in each for each in told)):
        joined = _JOINED[name]
        known = [each[name] for each in told if each.get(name) is not None]
        found[name] = joined(known) if known else None
    reasons = {name: why for each in told for name, why in each.get("reasons", {}).items()}
    return {**found, "reasons": {name: why for name, why in reasons.items() if found.get(name) is None}}


def _last(known: Sequence[Any]) -> Any:
    return known[-1]


_JOINED: dict[str, Callable[[Sequence[Any]], Any]] = {
    **dict.fromkeys(("uuid", "index", "power_limit_w", "persistence", "compute_mode"), _last),
    "clock_mhz": lambda known: [min(low for low, _ in known), max(high for _, high in known)],
    "temperature_c": max,
    "slowed": lambda known: hex(_bits(known)),
    "throttled": lambda known: list(dict.fromkeys(why for each in known for why in each)),
    "shared": any,
}
"""What one account says of each figure of several."""


def _bits(known: Sequence[str]) -> int:
    found = 0
    for each in known:
        found |= int(each, 16)
    return found


def _told(look: Mapping[str, Any]) -> dict[str, Any]:
    """One look as an account."""
    clock, slowed = look["clock_mhz"], look["slowed"]
    return {
        **look,
        "clock_mhz": None if clock is None else [clock, clock],
        "slowed": None if slowed is None else hex(slowed),
        "throttled": None if slowed is None else [why for bit, why in SLOWED.items() if slowed & bit],
    }


def _each(**asked: Callable[[], Any]) -> dict[str, Any]:
    """What the driver says to each question; None and its reason, in `reasons`, where it does not."""
    found: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except Unavailable as error:
            found[name], reasons[name] = None, str(error)
    return {**found, "reasons": reasons}


def _shared(gpu: Gpu) -> bool:
    processes = gpu.processes()
    if os.getpid() not in processes:
        # In a container the driver's process ids are not ours; then nobody can be told apart.
        raise Unavailable("the driver does not know this process by its id (a container?)")
    return len(processes) > 1
