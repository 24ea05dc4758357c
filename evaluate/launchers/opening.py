"""From words of the command line to a launcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from evaluate.launchers.base import Launcher
from evaluate.launchers.local import Local
from evaluate.launchers.processes import Processes, visible_gpus
from evaluate.launchers.queue import RETRIES
from evaluate.stores import Store
from zoo.errors import UsageError
from zoo.runtime import Device, resolve
from zoo.urls import file_system

Name = Literal["local", "ray", "slurm"]


class Launching(msgspec.Struct, frozen=True, kw_only=True):
    """Where units are computed, and where results are kept.

    Attributes:
        launcher: `local`, `ray` or `slurm`.
        processes: How many compute at a time. Where None: locally one for each GPU (one without), on Ray as
            many as there is room for, and under Slurm 8.
        cpus: Cores of a process on a cluster; 1 where None.
        gpus: GPUs of a process on a cluster; where None, 1 for the device `cuda` and else none.
        retries: How often a unit is begun again after its process died.
        address: Of a Ray cluster that is there; one is started where empty.
        slurm: Further options of sbatch, by name.
        results: A folder or URL where results are kept; the user's cache folder where empty.
    """

    launcher: Name = "local"
    processes: int | None = None
    cpus: int | None = None
    gpus: float | None = None
    retries: int = RETRIES
    address: str = ""
    slurm: dict[str, str] = {}
    results: str = ""

    @property
    def store(self) -> Store:
        """Where results are kept."""
        return Store(location=self.results)

    def check(self) -> None:
        """Refuses options that the launcher does not have, and a place for results of a kind that is not known.

        Raises:
            UsageError: There is one.
            MachineError: The package for the place is not installed.
        """
        if self.store.remote:
            file_system(self.results)
        if self.address and self.launcher != "ray":
            raise UsageError("--address is that of a Ray cluster; add --launcher ray")
        if self.slurm and self.launcher != "slurm":
            raise UsageError("--slurm is an option of Slurm; add --launcher slurm")
        if self.launcher == "local" and (self.cpus is not None or self.gpus is not None):
            raise UsageError("--cpus and --gpus are for --launcher ray or slurm; here say --processes")
        if self.launcher == "slurm" and self.gpus is not None and self.gpus != int(self.gpus):
            raise UsageError(f"--gpus {self.gpus:g}: Slurm gives whole GPUs")


@contextmanager
def opened(asked: Launching, device: Device = "auto", workers: int | None = None) -> Iterator[Launcher]:
    """The launcher that is asked for; a cluster that was started for it ends with the block.

    Args:
        asked: Which, and how.
        device: Where networks run.
        workers: Threads that decode images in each process; its cores where None.

    Raises:
        UsageError: An option is not one of this launcher.
        MachineError: It is not installed, or not there.
    """
    asked.check()
    gpus = asked.gpus if asked.gpus is not None else float(device == "cuda")
    if asked.launcher == "ray":
        from evaluate.launchers.ray import Ray

        with Ray(
            asked.address or None,
            slots=asked.processes,
            cpus=asked.cpus or 1,
            gpus=gpus,
            retries=asked.retries,
            workers=workers,
        ) as ray:
            yield ray
    elif asked.launcher == "slurm":
        from evaluate.launchers.slurm import Slurm

        yield Slurm(
            asked.processes or 8,
            cpus=asked.cpus or 1,
            gpus=int(gpus),
            retries=asked.retries,
            options=asked.slurm,
            workers=workers,
        )
    else:
        count = asked.processes or (len(visible_gpus()) if resolve(device) == "cuda" else 1)
        yield Processes(count, workers, asked.retries) if count > 1 else Local(workers)
