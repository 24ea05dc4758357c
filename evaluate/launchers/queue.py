"""What is left to compute, where processes may die: no unit is lost, and none is begun for ever."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from itertools import islice

from evaluate.launchers.base import Failure, Finished
from evaluate.portions import Portion
from zoo.errors import MachineError

RETRIES = 2
"""How often a unit is begun again after its process died, unless told otherwise."""

_UNITS_IN_VAIN = 10
"""When so many units in a row would have been given up with none done between, most likely all others would be."""

_MEND = (
    "where there is too little memory, take a smaller --batch-size, fewer processes at a time, or --members without "
    "those that need most"
)


class Queue:
    """Portions that wait, and those that are being computed.

    Args:
        portions: What is to be computed; taken when it is needed.
        retries: How often a unit is begun again after its process died.
        ahead: Workers that there may be; no more portions wait than that, beside those that are promised and those
            of processes that died. All do where None.
    """

    def __init__(self, portions: Iterable[Portion], retries: int, ahead: int | None = None) -> None:
        self.retries = retries
        self._coming = iter(portions)
        self._ahead = ahead
        self._next: deque[Portion] = deque()
        self._promised: dict[int, Portion] = {}
        self._again: deque[Portion] = deque()
        self._at_work: dict[int, Portion] = {}
        self._deaths: Counter[str] = Counter()
        self._in_vain = 0

    @property
    def waiting(self) -> int:
        """How many portions there are to take."""
        wanted = None if self._ahead is None else max(0, self._ahead - len(self._next))
        self._next.extend(islice(self._coming, wanted))
        return len(self._next) + len(self._promised) + len(self._again)

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is being computed."""
        return not self._at_work and not self.waiting

    def take(self, worker: int) -> Portion:
        """The next portion, for a worker that has none.

        Those of processes that died come last, and then what was promised to others that are not done yet.
        """
        assert self.waiting
        if worker in self._promised:
            portion = self._promised.pop(worker)
        elif self._next or self._again:
            portion = (self._next or self._again).popleft()
        else:
            portion = self._promised.popitem()[1]
        self._at_work[worker] = portion
        return portion

    def promise(self, worker: int) -> Portion:
        """What a worker that was given a portion gets after it, so that it may decode the images; empty if nothing.

        Others that have nothing to do come first, now and when it is time.
        """
        without = (self._ahead or 0) - len(self._at_work)
        if self.waiting and len(self._next) > max(0, without):
            self._promised[worker] = self._next.popleft()
        return self._promised.get(worker, ())

    def done(self, worker: int) -> None:
        """A worker has computed all of its portion."""
        del self._at_work[worker]
        self._in_vain = 0

    def back(self, worker: int, why: str) -> None:
        """A worker was gone before it began with what it was given: no unit of that is to blame.

        Raises:
            MachineError: One after another is gone, and nothing is done.
        """
        if worker in self._promised:
            self._next.appendleft(self._promised.pop(worker))
        self._again.appendleft(self._at_work.pop(worker))
        self._another_in_vain(why)

    def died(self, worker: int, finished: Iterable[str], why: str) -> list[Finished]:
        """A worker has died; what it has not finished is computed by others.

        The unit that was in work then, the first unfinished one, is taken to be the cause: it waits alone,
        so that it takes no others with it next time.

        Args:
            worker: Which.
            finished: Names of the units that it had finished.
            why: What is known of its death.

        Returns:
            The unit that is given up, if it was begun too often.

        Raises:
            MachineError: One after another dies, and nothing is done.
        """
        known = set(finished)
        if known:
            self._in_vain = 0
        else:
            self._another_in_vain(why)
        if worker in self._promised:
            self._next.appendleft(self._promised.pop(worker))
        left = [unit for unit in self._at_work.pop(worker, ()) if unit.name not in known]
        if not left:
            return []
        suspect, *others = left
        if others:
            self._again.append(tuple(others))
        self._deaths[suspect.name] += 1
        if self._deaths[suspect.name] <= self.retries:
            self._again.append((suspect,))
            return []
        times = self._deaths[suspect.name]
        message = f"the process that computed it {why}, {f'{times} times' if times > 1 else 'once'}; {_MEND}"
        return [Finished(name=suspect.name, failure=Failure(message=message, exit_code=4))]

    def _another_in_vain(self, why: str) -> None:
        """Ends a run whose processes all die; where all start at once (`ahead` is None) units end it by themselves."""
        self._in_vain += 1
        if self._ahead is not None and self._in_vain > max(_UNITS_IN_VAIN, self._ahead) * (self.retries + 1):
            raise MachineError(
                f"{self._in_vain} processes in a row computed nothing: the last {why}; what was finished is kept; {_MEND}"
            )
