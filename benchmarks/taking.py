"""Takes readings: each in a process of its own, kept as soon as it is there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

from benchmarks import worker
from benchmarks.cells import HOMES, Cell, Variant, key
from benchmarks.results import Machine
from benchmarks.store import Store

_COMPILED = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
"""The first pass of a compiled network includes all of the compiling."""


class Taker:
    """Takes readings of cells, each reading once.

    A cell that fails answers with the reason, and is not tried again; nothing is raised. Where a
    process can copy itself, one that has imported torch and computed nothing waits for each number
    of threads, and every reading is taken in a copy of it; elsewhere in a new process.

    Args:
        machine: What this runs on.
        store: Where readings are kept.
        absent: Why a device or an engine is not there, or a kind of cell cannot be measured, by its name.
        resume: Take readings of an earlier run that were kept.
        limit_s: Seconds after which a process is given up.
        repeat: Which repeat of the whole run this is; each has readings of its own.
    """

    def __init__(
        self,
        machine: Machine,
        store: Store,
        *,
        absent: Mapping[str, str] | None = None,
        resume: bool = False,
        limit_s: int = 900,
        repeat: int = 0,
    ) -> None:
        self.machine, self._store = machine, store
        self._absent, self.resumes, self._limit_s = absent or {}, resume, limit_s
        self._repeat = repeat
        self._taken: dict[str, worker.Answer] = {}
        self._failed: dict[str, worker.Answer] = {}
        self._workers = ExitStack()
        self._asks: dict[tuple[int, bool], worker.Ask] = {}

    def of_repeat(self, repeat: int) -> Taker:
        """One that takes readings of another repeat of the same run."""
        return Taker(
            self.machine, self._store, absent=self._absent, resume=self.resumes, limit_s=self._limit_s, repeat=repeat
        )  # fmt: skip

    def __enter__(self) -> Taker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asks.clear()
        self._workers.close()

    def take(self, cell: Cell, turn: int = 0) -> worker.Answer:
        """A reading of a cell, in one of its rounds."""
        name = self.name(cell, turn)
        if name not in self._taken:
            answer = self._failed.get(self.name(cell)) or self._kept(name) or self._new(cell, name)
            self._taken[name] = answer
            if "error" in answer:
                self.give_up(cell, answer)
        return self._taken[name]

    def give_up(self, cell: Cell, answer: worker.Answer) -> None:
        """Answers for a cell from now on, without trying it."""
        self._failed[self.name(cell)] = answer

    def kept(self, cell: Cell, turn: int = 0) -> dict[str, Any] | None:
        """A reading of an earlier run, if there is one."""
        return self._store.load(self.name(cell, turn))

    def keep(self, cell: Cell, reading: dict[str, Any]) -> None:
        """Keeps what was made of readings, as one of its own."""
        self._store.keep(self.name(cell), reading)

    def name(self, cell: Cell, turn: int = 0) -> str:
        """The name of a reading; readings that would be the same share it."""
        return key(cell, self.machine, turn, self._repeat)

    def refusal(self, cell: Cell) -> str:
        """Why a cell cannot be measured here; empty where it can."""
        needed = cell.variant.device, cell.kind, cell.variant.engine
        absent = (self._absent.get(each) for each in needed)
        return cell.variant.impossible or next(filter(None, absent), "")

    def _kept(self, name: str) -> worker.Answer | None:
        found = self._store.load(name) if self.resumes else None
        return {"result": found} if found else None

    def _new(self, cell: Cell, name: str) -> worker.Answer:
        if refusal := self.refusal(cell):
            return {"error": refusal}
        answer = self._ask(cell)
        if "result" in answer:
            self._store.keep(name, answer["result"])
        return answer

    def _ask(self, cell: Cell) -> worker.Answer:
        call, fields = HOMES[cell.kind], cell.fields()
        if not worker.FORKS:
            with _running(cell.variant) as ask:
                return ask(call, fields, limit_s=self._limit_s)
        which = cell.variant.threads, cell.variant.compiled
        if which not in self._asks:
            self._asks[which] = self._workers.enter_context(_running(cell.variant))
        answer = self._asks[which](call, fields, limit_s=self._limit_s, copy=True)
        if answer.get("ended"):
            del self._asks[which]  # Not only the copy ended: the next cell gets a new process.
        return answer


def _running(variant: Variant) -> AbstractContextManager[worker.Ask]:
    return worker.running(variant.threads, **_COMPILED if variant.compiled else {})
