"""Computes in several processes of this machine: one for each GPU, or as many as are asked for.

Each process computes units on its own and sends results back; nothing is shared between them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from evaluate.compute import Computer
from evaluate.launchers.base import Finished, Where, cores, ends_process, finished, here, one_line, prepare
from evaluate.launchers.queue import RETRIES, Queue
from evaluate.portions import Portion
from evaluate.stores import Store
from zoo.runtime import Device, Precision

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_THREADS = "OMP_NUM_THREADS"


class Processes:
    """Several processes of this machine. One that dies is replaced.

    Args:
        slots: How many; on a machine with GPUs they take those in turn.
        workers: Threads of each that decode images; its share of the cores where None.
        retries: How often a unit is begun again after its process died.
    """

    def __init__(self, slots: int, workers: int | None = None, retries: int = RETRIES) -> None:
        self.slots = slots
        self.threads = min(max(1, cores() // slots), _allowed())
        self.workers = workers or self.threads
        self.retries = retries

    def where(self, device: Device, precision: Precision) -> Where:
        """As of `Launcher`; all GPUs are taken to be like the first."""
        return here(device, precision)

    def run(self, portions: Iterable[Portion], store: Store) -> Generator[Finished]:
        """As of `Launcher`; processes keep results themselves where the store is a URL."""
        queue = Queue(portions, self.retries, ahead=self.slots)
        there = store if store.remote else None
        gpus = visible_gpus()
        workers: dict[Connection, _Worker] = {}
        try:
            while not queue.empty:
                while queue.waiting and (free := _idle(workers) or self._another(workers, there, gpus)):
                    free.begin(queue.take(free.slot), queue.promise(free.slot))
                for connection in wait(list(workers)):
                    assert isinstance(connection, Connection)
                    worker = workers[connection]
                    try:
                        said = connection.recv()
                    except (EOFError, OSError):
                        del workers[connection]
                        yield from queue.died(worker.slot, worker.finished, worker.end())
                        continue
                    if said is None:
                        queue.done(worker.slot)
                        worker.busy = False
                    elif isinstance(said, str):
                        worker.why = said
                    else:
                        worker.finished.append(said.name)
                        yield said
        finally:
            for worker in workers.values():
                worker.process.terminate()
            for worker in workers.values():
                worker.end()

    def _another(
        self, workers: dict[Connection, _Worker], store: Store | None, gpus: Sequence[str]
    ) -> _Worker | None:
        """One more process, where there are fewer than there may be."""
        slots = set(range(self.slots)) - {worker.slot for worker in workers.values()}
        if not slots:
            return None
        slot = min(slots)
        mine, its = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_work, args=(its, self.workers, self.threads, store), daemon=True)
        more = {_THREADS: str(self.threads)}
        if gpus:
            more[_VISIBLE] = gpus[slot % len(gpus)]
        with _environment(more):
            process.start()
        its.close()
        workers[mine] = _Worker(slot, process, mine)
        return workers[mine]


_CONTEXT = multiprocessing.get_context("spawn")
"""Not a fork: a copy of a process whose threads have run can hang, and one cannot use its GPU."""


class _Worker:
    """A process, seen from the one that started it."""

    def __init__(self, slot: int, process: SpawnProcess, connection: Connection) -> None:
        self.slot, self.process, self.connection = slot, process, connection
        self.busy = False
        self.finished: list[str] = []
        self.why = ""

    def begin(self, portion: Portion, after: Portion) -> None:
        self.busy, self.finished = True, []
        # One that died in the meantime is noticed when it is listened to.
        with suppress(OSError):
            self.connection.send((portion, after))

    def end(self) -> str:
        """Waits for the end; how it came."""
        self.connection.close()
        self.process.join()
        if self.why:
            return f"ended after {self.why}"
        code = self.process.exitcode or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _allowed() -> int:
    """Threads by `OMP_NUM_THREADS`, of which the first level counts (`4,2`); the cores where it says no number."""
    first = os.environ.get(_THREADS, "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else cores()


def _idle(workers: dict[Connection, _Worker]) -> _Worker | None:
    return next((worker for worker in workers.values() if not worker.busy), None)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; none without CUDA."""
    import torch

    count = torch.cuda.device_count()
    named = [each.strip() for each in os.environ.get(_VISIBLE, "").split(",") if each.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, workers: int, threads: int, store: Store | None) -> None:
    """What a process does: portions in, each with what is likely to be next, finished units out, None after each
    portion; until nobody asks, or until it can compute no more, and says why."""
    # Ctrl-C reaches all processes of a terminal; the one that was started decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare((), threads)
    ended = suppress(EOFError, BrokenPipeError, ConnectionResetError)
    with ended, closing(Computer(workers)) as computer:
        while True:
            portion, after = connection.recv()
            try:
                with closing(computer([portion], after)) as computed:
                    for each in finished(computed, store):
                        connection.send(each)
            except Exception as error:
                if not ends_process(error):
                    raise
                connection.send(one_line(error))
                return
            connection.send(None)
