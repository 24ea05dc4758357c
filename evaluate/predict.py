"""From images and trained networks to predictions: every system, member, fold and view.

The work is cut into units (`evaluate.units`), which are kept on disk as soon as they are done. A launcher
(`evaluate.launchers`) decides where those that are missing are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import msgspec
import numpy as np
import pandas as pd

from evaluate import units
from evaluate.drifting import measure, sample
from evaluate.features import metadata_features
from evaluate.jobs import Job
from evaluate.launchers.base import Failure, Launcher, Where, combined
from evaluate.launchers.local import Local
from evaluate.portions import portions
from evaluate.predictions import Predictions
from evaluate.provenance import describe, notes
from evaluate.stores import Store
from evaluate.testset import TestSet
from evaluate.units import How, Network, Result, Unit
from evaluate.views import Floats
from zoo.engines import Choice, Engine, choose
from zoo.engines import check as check_engine
from zoo.errors import MachineError
from zoo.runtime import Device, Precision

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

DRIFT_IMAGES = 8
"""Images that the drift of a lower precision or of a compiler is measured on, unless told otherwise."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How networks are run.

    Attributes:
        device: `auto` is CUDA where there is a GPU that torch can use.
        precision: What networks compute in.
        batch_size: Views at a time; chosen by device and memory where None.
        workers: Threads that decode images; all cores that this process may use where None.
        engine: What runs networks; `auto` chooses for each system (`zoo.engines.choose`).
        drift: Images that networks see in single precision in torch too, to tell how far a lower
            precision moves their probabilities (`evaluate.drifting`); where None, 8 in a lower
            precision or compiled, and else none.
        compiled: Run networks under `torch.compile`; torch only.
    """

    device: Device = "auto"
    precision: Precision = "fp32"
    batch_size: int | None = None
    workers: int | None = None
    engine: Engine = "torch"
    drift: int | None = None
    compiled: bool = False

    @property
    def drift_images(self) -> int:
        """How many images drift is measured on."""
        if self.drift is not None:
            return self.drift
        return DRIFT_IMAGES if self.compiled or self.precision in ("bf16", "fp16") else 0


class _Plan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A system and its units, network after network."""

    job: Job
    choice: Choice
    units: dict[Network, list[Unit]]


def predict(
    jobs: Sequence[Job],
    test_set: TestSet,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    *,
    launcher: Launcher | None = None,
    store: Store = Store(),  # noqa: B008 (frozen)
) -> list[Predictions]:
    """Runs systems on a test set.

    What was computed before with the same weights, card, images and settings is taken from the
    folder of kept results.

    Args:
        jobs: The systems.
        test_set: The images, and the table that members with metadata read.
        settings: How networks are run.
        progress: Called as images go through networks.
        launcher: Where they are run; in this process where None.
        store: Where results are kept.

    Returns:
        One row per image, member and fold, for each system: the probability of melanoma.

    Raises:
        MachineError: The device or engine is not there or has no such precision, an engine's
            probabilities are not those of torch, or memory does not suffice.
        InputError: A trained file does not fit, or the table lacks what metadata are made of.
    """
    launcher = launcher or Local(settings.workers)
    where = launcher.where(settings.device, settings.precision)
    check_engine(settings.engine, where.device, settings.precision, compiled=settings.compiled)
    plans = [_plan(job, test_set, settings, where) for job in jobs]
    unkept = _complete(plans, launcher, store, progress)
    finished = [_predictions(plan, test_set, settings, where, store, unkept) for plan in plans]
    if settings.drift_images and test_set.images:
        return _with_drift(finished, jobs, test_set, settings, progress, launcher, store)
    return finished


def _plan(job: Job, test_set: TestSet, settings: Settings, where: Where) -> _Plan:
    reads = any(training.member.metadata for training in job.trainings)
    features = metadata_features(job.card, test_set) if reads else None
    choice = choose(
        settings.engine, where.device, settings.precision, len(test_set.images) * job.card.views.distinct,
        compiled=settings.compiled,
    )  # fmt: skip
    how = How(
        device=where.device,
        device_name=where.name,
        precision=settings.precision,
        batch_size=settings.batch_size,
        engine=choice.engine,
        compiled=settings.compiled,
    )
    found = {
        network: list(
            units.units(network, test_set.images, features if network.training.member.metadata else None)
        )
        for network in units.networks(job, how)
    }
    return _Plan(job=job, choice=choice, units=found)


def _complete(
    plans: Sequence[_Plan], launcher: Launcher, store: Store, progress: Progress | None
) -> dict[str, Result]:
    """Computes what is not in the store; the results that could not be kept there."""
    every = [unit for plan in plans for same in plan.units.values() for unit in same]
    missing = {
        unit.name: unit
        for unit, kept in zip(every, units.recall_all(every, store), strict=True)
        if kept is None
    }
    # Systems may have a network in common; it is computed once.
    times = Counter(unit.name for unit in every)
    total = sum(len(unit.images) for unit in every)
    done = total - sum(len(unit.images) for unit in every if unit.name in missing)
    if progress:
        progress("predicting", done, total)
    failures: dict[Unit, Failure] = {}
    unkept: dict[str, Result] = {}
    with closing(launcher.run(portions(list(missing.values()), launcher.slots), store)) as computed:
        for each in computed:
            unit = missing[each.name]
            if each.failure:
                failures[unit] = each.failure
                continue
            if each.result and not units.keep(unit, each.result, store):
                unkept[unit.name] = each.result
            done += len(unit.images) * times[unit.name]
            if progress:
                progress("predicting", done, total)
    if failures:
        raise combined(failures, len(missing))
    return unkept


def _with_drift(
    finished: Sequence[Predictions],
    jobs: Sequence[Job],
    test_set: TestSet,
    settings: Settings,
    progress: Progress | None,
    launcher: Launcher,
    store: Store,
) -> list[Predictions]:
    """The predictions, which say how far they are from single precision in torch."""
    exactly = msgspec.structs.replace(settings, precision="fp32", engine="torch", drift=0, compiled=False)
    some = sample(test_set, settings.drift_images)
    said = progress and (lambda _, done, total: progress("measuring drift", done, total))
    exact = predict(jobs, some, exactly, said, launcher=launcher, store=store)
    told = []
    for found, reference in zip(finished, exact, strict=True):
        moved = measure(found, reference, test_set.labels)
        metadata = {**found.metadata, "drift": msgspec.to_builtins(moved)}
        told.append(msgspec.structs.replace(found, metadata=metadata, notes=notes(found.system, metadata)))
    return told


def _predictions(
    plan: _Plan, test_set: TestSet, settings: Settings, where: Where, store: Store, unkept: dict[str, Result]
) -> Predictions:
    """The scores of one system. A skipped image has a row too, without a score."""
    ids = [*(image.id for image in test_set.images), *test_set.skipped]
    known = test_set.table.loc[ids] if test_set.table is not None else None
    without = np.full(len(test_set.skipped), np.nan)
    tables = []
    batch_sizes: dict[str, set[int]] = {}
    for network, own in plan.units.items():
        member = network.training.member
        scores: list[Floats] = []
        for result in _results(own, store, unkept):
            scores.append(result.probabilities[:, member.melanoma])
            batch_sizes.setdefault(member.name, set()).add(result.batch_size)
        columns = {
            "image": ids,
            "lesion": None if known is None else known["lesion"].to_numpy(),
            "patient": None if known is None else known["patient"].to_numpy(),
            "member": member.name,
            "fold": network.training.fold,
            "score": np.concatenate([*scores, without]),
        }
        tables.append(pd.DataFrame(columns))
    metadata = describe(
        plan.job,
        test_set,
        {
            "device": where.name,
            "precision": settings.precision,
            "batch_size": settings.batch_size or "auto",
            "batch_sizes": {member: sorted(sizes) for member, sizes in batch_sizes.items()},
            "engine": msgspec.to_builtins(plan.choice),
            **({"compiled": True} if settings.compiled else {}),
            "software": units.software(plan.choice.engine),
        },
    )
    return Predictions(
        system=plan.job.card.name,
        kind="probability",
        table=pd.concat(tables, ignore_index=True),
        path=plan.job.card.title,
        metadata=metadata,
        notes=notes(plan.job.card.name, metadata),
    )


def _results(own: Sequence[Unit], store: Store, unkept: dict[str, Result]) -> Iterator[Result]:
    for unit, kept in zip(own, units.recall_all(own, store), strict=True):
        found = kept or unkept.get(unit.name)
        if found is None:
            raise MachineError(f"{unit}: its result has gone while others were computed; run again")
        yield found
