"""Computes on a Ray cluster: one that is there, or one that is started on this machine for the run.

A process (an actor) has one portion at a time, and decodes the images of the next one meanwhile: no more is in
flight. Trained files go to each node once, through Ray's object store. Results come back unit by unit, or are
kept by the nodes themselves where the store is a URL.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluate.launchers.base import Finished, Where, cores, here, one_line, other_code
from evaluate.launchers.node import Files, Worker, where
from evaluate.launchers.queue import RETRIES, Queue
from evaluate.portions import Portion
from evaluate.stores import Store
from evaluate.units import code
from zoo.engines import Library
from zoo.errors import MachineError, UsageError
from zoo.runtime import Device, Precision

LOOK_S = 10.0
"""How often it is looked whether nodes have come or gone."""

_REACHABLE_S = 10

STORE_BYTES = 2**28
"""Object store of a cluster that is started for the run; what does not fit goes to its disk."""


class Ray:
    """A cluster. It is connected to, or started, with the block, and left with it.

    Args:
        address: Of a cluster that is there, such as `auto` or `host:6379`; one is started where None.
        slots: Processes at most; as many as the cluster has room for where None.
        cpus: Cores of a process.
        gpus: GPUs of a process; a share such as 0.5 lets two have one.
        retries: How often a unit is begun again after its process or node died.
        workers: Threads that decode images in each process; its cores where None.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        slots: int | None = None,
        cpus: int = 1,
        gpus: float = 0,
        retries: int = RETRIES,
        workers: int | None = None,
    ) -> None:
        self.workers = workers
        self.address, self.most, self.cpus, self.gpus, self.retries = address, slots, cpus, gpus, retries
        self.slots = 0
        self._shipped: dict[Path, Any] = {}

    def __enter__(self) -> Ray:
        # It would say at each start what it counts, and send that away.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise MachineError(
                "launcher ray is not installed; pip install 'melanoma-zoo[ray]', or choose --launcher local"
            ) from error
        more: dict[str, Any] = {}
        _check_address(self.address)
        if self.address is None:
            # Ray lets its processes give way to all others; this cluster is here for nothing but the run.
            os.environ.setdefault("RAY_worker_niceness", "0")
            more = {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
        try:
            ray.init(
                self.address or "local",
                log_to_driver=False,
                configure_logging=False,
                logging_level="error",
                **more,
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise MachineError(f"Ray cluster {self.address or 'on this machine'}: {reason}") from error
        self.slots = self._room()
        if not self.slots:
            ray.shutdown()
            raise MachineError(
                f"Ray cluster {self.address or 'on this machine'}: no node has {self._needs()}; ask for less for each process"
            )
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        self._shipped.clear()
        ray.shutdown()

    def where(self, device: Device, precision: Precision) -> Where:
        """As of `Launcher`; a node says the name of its GPU."""
        if not self.gpus:
            return here("cpu", precision)
        import ray

        asked = ray.remote(num_cpus=0, num_gpus=self.gpus, max_retries=0)(where)
        found: Where | str = ray.get(asked.remote(device, precision))
        if isinstance(found, str):
            raise MachineError(found)
        return found

    def run(self, portions: Iterable[Portion], store: Store) -> Generator[Finished]:
        """As of `Launcher`; processes keep results themselves where the store is a URL."""
        queue = Queue(portions, self.retries, ahead=self.slots)
        pool = _Pool(self, store if store.remote else None)
        try:
            looked = -LOOK_S
            while not queue.empty:
                if time.monotonic() - looked > LOOK_S:
                    self.slots, looked = self._room(), time.monotonic()
                if not self.slots:
                    raise MachineError(
                        f"no node of the Ray cluster is left that has {self._needs()}; what was finished is kept"
                    )
                pool.grow(min(self.slots, queue.waiting + pool.busy))
                yield from pool.step(queue)
        finally:
            pool.end()

    def shipped(self, portion: Portion) -> Files:
        """The trained files of a portion, in the object store."""
        import ray

        found: Files = {}
        for network in {unit.network.key: unit.network for unit in portion}.values():
            path = network.training.path
            if path is not None:
                if path not in self._shipped:
                    self._shipped[path] = ray.put(path.read_bytes())
                found[network.training.sha256] = path.name, [self._shipped[path]]
        return found

    def _room(self) -> int:
        """How many processes the nodes that are alive have room for."""
        import ray

        room = 0
        for node in ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                fits = has.get("CPU", 0) // self.cpus
                room += int(min(fits, has.get("GPU", 0) // self.gpus) if self.gpus else fits)
        return min(room, self.most) if self.most else room

    def _needs(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{gpus}"


class _Pool:
    """Processes of a cluster: those that are starting, and those that wait or compute."""

    def __init__(self, own: Ray, store: Store | None) -> None:
        import ray

        self.own, self.store = own, store
        self.number = 0
        self.actors: dict[int, Any] = {}
        self.starting: dict[Any, int] = {}
        self.nodes: dict[int, tuple[str, dict[Library, str]]] = {}
        self.idle: list[int] = []
        self.at_work: dict[Any, tuple[int, list[str]]] = {}
        self.begun: set[int] = set()
        self._remote = ray.remote(
            num_cpus=own.cpus,
            num_gpus=own.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Worker)

    @property
    def busy(self) -> int:
        """How many compute."""
        return len(self.at_work)

    def grow(self, count: int) -> None:
        """Starts processes until there are so many."""
        while len(self.actors) < count:
            self.number += 1
            actor = self._remote.remote(tuple(sys.path), self.own.cpus, self.own.workers, self.store)
            self.actors[self.number] = actor
            self.starting[actor.ready.remote()] = self.number

    def step(self, queue: Queue) -> Iterator[Finished]:
        """Gives work to those that wait, and hands out what has come back; waits for something to happen."""
        import ray

        while self.idle and queue.waiting:
            number = self.idle.pop()
            portion = queue.take(number)
            self._check(number, portion)
            compute = self.actors[number].compute.options(num_returns="streaming")
            stream = compute.remote(portion, self.own.shipped(portion), queue.promise(number))
            self.at_work[stream] = number, []
        waited = [*self.starting, *self.at_work]
        ready, _ = ray.wait(waited, num_returns=1, timeout=LOOK_S, fetch_local=False)
        if ready:
            ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0, fetch_local=False)
        for each in ready:
            if each in self.starting:
                self._started(each)
            else:
                yield from self._came(each, queue)

    def end(self) -> None:
        """Ends all processes."""
        import ray

        for actor in self.actors.values():
            with suppress(Exception):
                ray.kill(actor)

    def _started(self, ready: Any) -> None:
        import ray

        number = self.starting.pop(ready)
        try:
            self.nodes[number] = ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise MachineError(f"a process on the Ray cluster does not start: {_reason(error)}") from error
        except ray.exceptions.RayError:
            del self.actors[number]  # Its node went away; another is started.
            return
        self.idle.append(number)

    def _check(self, number: int, portion: Portion) -> None:
        """Refuses a node that would compute a portion otherwise than its results are named."""
        node, theirs = self.nodes[number]
        for engine in {unit.network.how.engine for unit in portion}:
            if theirs[engine] != code(engine):
                raise other_code(f"node {node}")

    def _came(self, stream: Any, queue: Queue) -> Iterator[Finished]:
        import ray

        number, names = self.at_work[stream]
        try:
            found: Finished | None = ray.get(next(stream))
        except StopIteration:
            del self.at_work[stream]
            self.begun.discard(number)
            queue.done(number)
            self.idle.append(number)
        except ray.exceptions.RayError as error:
            del self.at_work[stream], self.actors[number]
            logging.getLogger(__name__).info("a process of the Ray cluster died: %s", _reason(error))
            # One that waited for work on a node that went away is noticed when it is given some.
            why = "died with its node or by itself"
            if isinstance(error, ray.exceptions.RayTaskError):  # It could compute no more, and says why.
                why = f"ended after {one_line(error.cause)}"
            if number not in self.begun and isinstance(error, ray.exceptions.RayActorError):
                queue.back(number, why)
            else:
                yield from queue.died(number, names, why)
        else:
            if found is None:
                self.begun.add(number)
            else:
                names.append(found.name)
                yield found


def _check_address(address: str | None) -> None:
    """Says at once that nothing listens at an address; Ray would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if "://" in host:
        raise UsageError(f"{address}: give host:port of the cluster, and start this on one of its nodes")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACHABLE_S).close()
    except OSError as error:
        raise MachineError(f"Ray cluster {address}: cannot be reached ({error.strerror or error})") from error


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:300] if lines else type(error).__name__
