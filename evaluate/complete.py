"""Computes the units of a run that are not in its store, and gathers what is known of all results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec

from evaluate import results
from evaluate.launchers.base import Failure, Launcher, combined
from evaluate.portions import Portion
from evaluate.results import Result
from evaluate.stores import Store
from evaluate.timings import Timings
from evaluate.units import Unit
from evaluate.work import Missing, Work

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Run(msgspec.Struct, kw_only=True, eq=False):
    """What is known of the results of a run, beside where they are kept.

    Attributes:
        unkept: Results that could not be kept, by name.
        batch_sizes: Views at a time, by the key of the network.
        timings: How long units took.
    """

    unkept: dict[str, Result] = {}
    batch_sizes: dict[str, set[int]] = {}
    timings: Timings = msgspec.field(default_factory=Timings)

    def note(self, unit: Unit, result: Result) -> None:
        """One more result."""
        self.batch_sizes.setdefault(unit.network.key, set()).add(result.batch_size)
        self.timings.add(unit, result.took)


def complete(work: Work, launcher: Launcher, store: Store, progress: Progress | None) -> Run:
    """Computes what is not in the store. How long units took is kept there at the end too.

    Args:
        work: All units of the run.
        launcher: Where those that are missing are computed.
        store: Where results are kept.
        progress: Called as units come.

    Raises:
        MelanomaZooError: Units failed; the others are kept.
        MachineError: Results cannot be kept: no more are computed.
    """
    run = Run()
    missing = Missing(work, store, run.note)
    done, total = missing.kept, len(work.images) * len(work.networks)
    if progress:
        progress("predicting", done, total)
    failures: dict[Unit, Failure] = {}
    at_work: dict[str, Unit] = {}

    def handed_out() -> Iterator[Portion]:
        for portion in missing.portions(launcher.slots):
            at_work.update({unit.name: unit for unit in portion})
            yield portion

    with closing(launcher.run(handed_out(), store)) as computed:
        for each in computed:
            unit = at_work.pop(each.name, None)
            if unit is None:  # Told of before: by another run that computes the same, say.
                continue
            if each.result is None:
                assert each.failure
                failures[unit] = each.failure
                continue
            run.note(unit, each.result)
            if not each.kept and not results.keep(unit, each.result, store):
                run.unkept[unit.name] = each.result
            done += len(unit.images) * missing.times(unit)
            if progress:
                progress("predicting", done, total)
    run.timings.keep(store)
    if failures:
        raise combined(failures, missing.count)
    return run
