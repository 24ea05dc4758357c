"""Computes under Slurm, by way of submitit: one array job, whose tasks each compute a part of the units.

Tasks keep results themselves, in a folder that all nodes see. A task that comes back after a time limit or a
preemption goes on where it was; what a task that died has left is given to another array job.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from evaluate.compute import Computer
from evaluate.launchers.base import Finished, Where, failure, finished, here, other_code, prepare
from evaluate.launchers.queue import RETRIES, Queue
from evaluate.portions import Portion, portions
from evaluate.results import recall
from evaluate.stores import Store
from evaluate.units import Unit, code
from zoo import cache
from zoo.errors import MachineError, UsageError
from zoo.files import make_folder
from zoo.runtime import Device, Precision

POLL_S = 2.0
"""How often it is looked at what tasks have finished."""

MINUTES = 240
"""Time limit of a task, unless told otherwise."""


class Slurm:
    """An array job.

    Args:
        slots: Tasks of the array, which run at the same time where Slurm lets them.
        cpus: Cores of a task.
        gpus: GPUs of a task.
        retries: How often a unit is begun again after its task died.
        options: Further options of sbatch, by the names that submitit has for them: `partition`, `account`,
            `time` (minutes), `mem`, `constraint` and so on.
        workers: Threads that decode images in each task; its cores where None.
        cluster: `slurm`, or `local` for processes of this machine in its place.
    """

    def __init__(
        self,
        slots: int,
        *,
        cpus: int = 1,
        gpus: int = 0,
        retries: int = RETRIES,
        options: Mapping[str, str] | None = None,
        workers: int | None = None,
        cluster: str = "slurm",
    ) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise MachineError(
                "launcher slurm is not installed; pip install 'melanoma-zoo[slurm]', or choose --launcher local"
            ) from error
        if cluster == "slurm" and not shutil.which("sbatch"):
            raise MachineError(
                "launcher slurm: there is no sbatch here; run it on a login node of the cluster"
            )
        self.slots, self.cpus, self.gpus, self.retries = slots, cpus, gpus, retries
        self.options, self.workers, self.cluster = dict(options or {}), workers, cluster

    def where(self, device: Device, precision: Precision) -> Where:
        """As of `Launcher`; a job of its own asks a node for the name of its GPU."""
        if not self.gpus:
            return here("cpu", precision)
        with self._executor() as executor:
            try:
                found: Where = executor.submit(here, device, precision).result()
            except Exception as error:
                raise MachineError(
                    f"launcher slurm: a first job for the GPU's name failed: {_last(error)}"
                ) from error
        return found

    def run(self, portions: Iterable[Portion], store: Store) -> Generator[Finished]:
        """As of `Launcher`; tasks keep all results. Whoever stops listening cancels the array."""
        whole = list(portions)
        every = [chain.from_iterable(whole[number :: self.slots]) for number in range(self.slots)]
        queue = Queue([units for units in map(_in_order, every) if units], self.retries)
        with self._executor() as executor:
            while not queue.empty:
                tasks = [queue.take(number) for number in range(queue.waiting)]
                yield from self._array(executor, queue, tasks, store.here())

    def _array(
        self, executor: Any, queue: Queue, tasks: Sequence[Portion], store: Store
    ) -> Iterator[Finished]:
        """One array job: units as they are finished, and what is left of tasks that died back in the queue."""
        asked = [
            Task(
                units=units,
                store=store,
                threads=self.cpus,
                workers=self.workers,
                paths=tuple(sys.path),
                code=code_of(units),
            )
            for units in tasks
        ]
        from submitit.core.utils import FailedJobError

        try:
            with executor.batch():
                jobs = [executor.submit(task) for task in asked]
        except FailedJobError as error:
            raise MachineError(
                f"launcher slurm: the array job was not taken: {_last(error)}; look at --slurm, --cpus, --gpus and "
                "--processes"
            ) from error
        seen: list[set[str]] = [set() for _ in tasks]
        at_work = dict(enumerate(jobs))
        try:
            while at_work:
                time.sleep(POLL_S)
                for number, job in list(at_work.items()):
                    ended = job.done()
                    yield from _new(tasks[number], seen[number], store, ended)
                    if not ended:
                        continue
                    del at_work[number]
                    failures, why = _outcome(job)
                    yield from failures
                    seen[number] |= {each.name for each in failures}
                    if len(seen[number]) == len(tasks[number]):
                        queue.done(number)
                    else:
                        yield from queue.died(number, seen[number], why)
        finally:
            for job in at_work.values():
                job.cancel()

    def _executor(self) -> _Executor:
        return _Executor(self)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a task of the array is handed."""

    units: Portion
    store: Store
    threads: int
    workers: int | None = None
    paths: tuple[str, ...]
    code: str

    def __call__(self) -> list[Finished]:
        """Computes and keeps what is not kept yet; the units that failed."""
        if self.code != code_of(self.units):
            wrong = failure(other_code(f"node {socket.gethostname()}"))
            return [Finished(name=unit.name, failure=wrong) for unit in self.units]
        prepare(self.paths, self.threads)
        left = {unit.name: unit for unit in self.units if recall(unit, self.store) is None}
        failed: list[Finished] = []
        with (
            closing(Computer(self.workers or self.threads)) as computer,
            closing(computer(portions(list(left.values()), 1))) as computed,
        ):
            for each in finished(computed, self.store):
                if each.result is not None and not each.kept:
                    # The others would be computed for nothing too.
                    unwritten = MachineError(f"{self.store.location}: cannot be written from a node; name a folder "
                                             "that all nodes see with --results or MELANOMA_ZOO_CACHE")  # fmt: skip
                    why = each.failure or failure(unwritten)
                    return [*failed, *(Finished(name=name, failure=why) for name in left)]
                del left[each.name]
                if each.failure:
                    failed.append(each)
        return failed

    def checkpoint(self) -> Any:
        """What Slurm is to run again after a time limit or a preemption: the same, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Executor:
    """submitit's executor, with a folder for its files that is gone at the end unless something failed."""

    def __init__(self, own: Slurm) -> None:
        self.own = own

    def __enter__(self) -> Any:
        import submitit

        make_folder(cache.folder() / "slurm")
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=cache.folder().absolute() / "slurm"))
        executor = submitit.AutoExecutor(folder=self.folder, cluster=self.own.cluster)
        shared: dict[str, Any] = {
            "name": "melanoma-zoo",
            "cpus_per_task": self.own.cpus,
            "timeout_min": MINUTES,
        }
        if self.own.gpus:
            shared["gpus_per_node"] = self.own.gpus
        try:
            executor.update_parameters(
                **shared,
                slurm_array_parallelism=self.own.slots,
                **{f"slurm_{name}": value for name, value in self.own.options.items()},
            )
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise UsageError(f"--slurm: {' '.join(str(error).split())}") from error
        return executor

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)


def code_of(units: Portion) -> str:
    """Digest of the code that computes units in this process."""
    return code(*sorted({unit.network.how.engine for unit in units}))


def _in_order(units: Iterator[Unit]) -> Portion:
    return tuple(chain.from_iterable(portions(list(units), 1)))


def _new(units: Portion, seen: set[str], store: Store, ended: bool) -> Iterator[Finished]:
    """Units that have come into the store. They come in order: until the task has ended none is looked for in vain."""
    for unit in units:
        if unit.name in seen:
            continue
        result = recall(unit, store)
        if result is None:
            if ended:
                continue
            return
        seen.add(unit.name)
        yield Finished(name=unit.name, result=result, kept=True)


def _outcome(job: Any) -> tuple[list[Finished], str]:
    """The units that a task says have failed, and how it ended if it says nothing."""
    try:
        return list(job.result()), "ended early"
    except Exception as error:  # submitit's own, or what the task could not catch.
        return [], f"ended without a result ({_last(error)})"


def _last(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:300] if lines else type(error).__name__
