"""What all launchers have in common: what they are given, and what they hand out."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

import zoo
from evaluate.compute import Computed
from evaluate.folder import listed
from evaluate.portions import Portion
from evaluate.results import Result, keep
from evaluate.stores import Store
from evaluate.units import Unit
from zoo.errors import InputError, MachineError, MelanomaZooError, UsageError
from zoo.runtime import Device, Precision, check

_STICKY = (
    "cublas_status_execution_failed",
    "cublas_status_internal_error",
    "device-side assert",
    "hardware stack error",
    "illegal instruction",
    "illegal memory access",
    "invalid program counter",
    "launch timed out",
    "misaligned address",
    "operation not supported on global/shared address space",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "unspecified launch failure",
)
"""Errors of CUDA that leave the process in an inconsistent state: "the process must be terminated and relaunched"
(CUDA runtime API, cudaError); and what cuBLAS makes of such an error that it meets first."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What networks run on.

    Attributes:
        device: Its kind.
        name: `cpu`, or the name of the GPU.
    """

    device: Literal["cpu", "cuda"]
    name: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a unit has no result.

    Attributes:
        message: What was wrong, where, and the mend.
        exit_code: Of the kind of error (`zoo.errors`).
    """

    message: str
    exit_code: int


class Finished(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A unit that nothing more is done for.

    Attributes:
        name: The unit's name.
        result: What it came to.
        kept: Whether that is in the store already.
        failure: Why it came to nothing; with a result, why that could not be kept from there.
    """

    name: str
    result: Result | None = None
    kept: bool = False
    failure: Failure | None = None


class Launcher(Protocol):
    """Decides where units are computed.

    Attributes:
        slots: Processes that compute at a time.
    """

    slots: int

    def where(self, device: Device, precision: Precision) -> Where:
        """What its processes run networks on.

        Raises:
            MachineError: The device is not there, or has no such precision.
        """

    def run(self, portions: Iterable[Portion], store: Store) -> Generator[Finished]:
        """Computes portions; every unit is handed out once.

        Args:
            portions: The units, grouped. They are taken when they are needed.
            store: Where results are kept. A process that computes keeps them itself where it can reach
                the store; the others are kept by whoever takes them.

        Raises:
            MachineError: There is nothing to compute with.
        """


def here(device: Device, precision: Precision) -> Where:
    """What this process would run networks on.

    Raises:
        MachineError: The device is not there, or has no such precision.
    """
    found = check(device, precision)
    if found == "cpu":
        return Where(device=found, name="cpu")
    import torch

    return Where(device=found, name=torch.cuda.get_device_name())


def prepare(paths: Sequence[str], threads: int) -> None:
    """Makes a process that computes for another ready: it finds the same modules, and has its share of threads.

    Args:
        paths: Where the other process finds modules: builders of plugin folders are among them.
        threads: Of an operator on the CPU.
    """
    import torch

    sys.path += [path for path in paths if path not in sys.path]
    torch.set_num_threads(threads)


def other_code(theirs: str) -> MachineError:
    """What is said where a node computes with other code or packages than the process that asks it.

    Args:
        theirs: What is known of the node.
    """
    return MachineError(
        f"{theirs} has another version of melanoma-zoo (here {zoo.__version__}) or of a package that decides "
        "results (numpy, OpenCV, Pillow, simplejpeg, timm, torch, or those of the engine); install the same on all nodes"
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finished(computed: Iterable[Computed], store: Store | None = None) -> Iterator[Finished]:
    """Units as they leave the process that computed them.

    Args:
        computed: The units with their results.
        store: Where results are kept at once; nowhere where None.

    Raises:
        Exception: What ends this process (`ends_process`), as it came.
    """
    for each in computed:
        if each.error is not None:
            if ends_process(each.error):
                raise each.error
            _let_go(each.error)
            yield Finished(name=each.unit.name, failure=failure(each.error))
        elif each.result is not None:
            kept, why = False, None
            try:
                kept = store is not None and keep(each.unit, each.result, store)
            except MachineError as error:  # Whoever takes it may be able to.
                why = failure(error)
            yield Finished(name=each.unit.name, result=each.result, kept=kept, failure=why)


def _let_go(error: BaseException | None) -> None:
    """Frees what the functions that an error has left had in hand: pixels, and what is on a GPU."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def ends_process(error: Exception) -> bool:
    """Whether a process can compute no more after an error.

    After some errors of CUDA every call in the same process fails, whatever unit it is for, and another process
    is to compute those. After others (a GPU that somebody else holds, no memory) the next unit may well be computed.
    """
    said = str(error).lower()
    return "cuda error" in said and any(each in said for each in _STICKY)


def one_line(error: BaseException) -> str:
    """What an error says, as it travels between processes."""
    return " ".join(str(error).split())[:300]


def failure(error: Exception) -> Failure:
    """An error as it travels between processes."""
    if isinstance(error, MelanomaZooError):
        return Failure(message=str(error), exit_code=error.exit_code)
    return Failure(message=" ".join(f"internal error: {type(error).__name__}: {error}".split()), exit_code=1)


def combined(failures: Mapping[Unit, Failure], units: int) -> MelanomaZooError:
    """One error for all units that failed; what has one reason is named together.

    Args:
        failures: The units, and why.
        units: How many there were to compute.
    """
    reasons: dict[str, list[Unit]] = {}
    for unit, why in failures.items():
        reasons.setdefault(why.message, []).append(unit)
    named = [
        f"{same[0]}{f' and {len(same) - 1} more' if len(same) > 1 else ''}: {reason}"
        for reason, same in reasons.items()
    ]
    kind = {2: UsageError, 3: InputError, 4: MachineError}.get(next(iter(failures.values())).exit_code)
    return (kind or MelanomaZooError)(
        f"{len(failures)} of {units} units failed: {listed(named, '; ')}; "
        "the others are kept, and the same command computes these alone"
    )
