"""Computes in this process, as simply as it can be done."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing

from evaluate.compute import Computer
from evaluate.launchers.base import Finished, Where, cores, here
from evaluate.portions import Portion
from evaluate.stores import Store
from zoo.runtime import Device, Precision


class Local:
    """One process: this one. A unit that fails ends the run with its own error.

    Args:
        workers: Threads that decode images; the cores where None.
    """

    slots = 1

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()

    def where(self, device: Device, precision: Precision) -> Where:
        """As of `Launcher`."""
        return here(device, precision)

    def run(self, portions: Iterable[Portion], store: Store) -> Generator[Finished]:  # noqa: ARG002
        """As of `Launcher`; results travel with their units."""
        with closing(Computer(self.workers)) as computer, closing(computer(portions)) as computed:
            for each in computed:
                if each.error is not None:
                    raise each.error
                yield Finished(name=each.unit.name, result=each.result)
