"""What a run of a system came to, read from where units are kept: at once, or so many images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from evaluate.jobs import Job
from evaluate.prediction_file import write_rows
from evaluate.predictions import Predictions
from evaluate.provenance import notes
from evaluate.results import Result, recall_all
from evaluate.stores import Store
from evaluate.testset import TestSet
from evaluate.units import SHARD
from evaluate.views import Floats
from evaluate.work import Work
from zoo.errors import MachineError

AT_A_TIME = 512 * SHARD
"""Images whose rows are in memory at a time while a file is written."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The scores of a system.

    Attributes:
        job: The system.
        test_set: The images.
        metadata: What the scores say of themselves.
        work: All units of the run.
        indices: The system's networks among those of `work`.
        store: Where results are.
        unkept: Those that could not be kept, by name.
    """

    job: Job
    test_set: TestSet
    metadata: dict[str, Any]
    work: Work
    indices: range
    store: Store
    unkept: Mapping[str, Result]

    def predictions(self) -> Predictions:
        """All of them in memory."""
        parts = list(self.parts(max(1, len(self.test_set.images))))
        table = pd.concat([part.table for part in parts], ignore_index=True)
        return self._predictions(table)

    def write(self, path: Path) -> None:
        """Writes the file that `write_predictions` would write, without all of it in memory.

        Raises:
            InputError: A score is not a number.
            MachineError: The file cannot be written, or results have gone.
        """
        write_rows(
            (part.table for part in self.parts(AT_A_TIME)),
            path,
            system=self.job.card.name,
            kind="probability",
            metadata=self.metadata,
        )

    def parts(self, most: int) -> Iterator[Predictions]:
        """The rows of one network after another, of so many images at a time; skipped ones are the last."""
        for index in self.indices:
            for start in range(0, max(1, len(self.test_set.images)), most):
                yield self._predictions(self._table(index, start, start + most))

    def _predictions(self, table: pd.DataFrame) -> Predictions:
        return Predictions(
            system=self.job.card.name,
            kind="probability",
            table=table,
            path=self.job.card.title,
            metadata=self.metadata,
            notes=notes(self.job.card.name, self.metadata),
        )

    def _table(self, index: int, start: int, stop: int) -> pd.DataFrame:
        """Rows of one network. A skipped image has a row too, without a score."""
        training = self.work.networks[index].training
        images = self.test_set.images[start:stop]
        skipped = list(self.test_set.skipped) if stop >= len(self.test_set.images) else []
        ids = [*(image.id for image in images), *skipped]
        known = self.test_set.table.loc[ids] if self.test_set.table is not None else None
        score = np.full(len(ids), np.nan)
        for at, probabilities in self._probabilities(index, start, start + len(images)):
            score[at - start : at - start + len(probabilities)] = probabilities[:, training.member.melanoma]
        columns = {
            "image": ids,
            "lesion": None if known is None else known["lesion"].to_numpy(),
            "patient": None if known is None else known["patient"].to_numpy(),
            "member": training.member.name,
            "fold": training.fold,
            "score": score,
        }
        return pd.DataFrame(columns)

    def _probabilities(self, index: int, start: int, stop: int) -> Iterator[tuple[int, Floats]]:
        """Results with the index of their first image."""
        for unit, kept in recall_all(self.work.units(index, start, stop), self.store):
            found = kept or self.unkept.get(unit.name)
            if found is None:
                raise MachineError(f"{unit}: its result has gone while others were computed; run again")
            yield unit.start, found.probabilities
