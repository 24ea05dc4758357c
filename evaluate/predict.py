"""From images and trained networks to predictions: every system, member, fold and view.

The work is cut into units (`evaluate.units`), which are kept on disk as soon as they are done. A launcher
(`evaluate.launchers`) decides where those that are missing are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from evaluate import results, units
from evaluate.drifting import measure, sample
from evaluate.features import metadata_features
from evaluate.jobs import Job
from evaluate.launchers.base import Failure, Launcher, Where, combined
from evaluate.launchers.local import Local
from evaluate.outcome import Outcome
from evaluate.portions import Portion
from evaluate.predictions import Predictions, write_predictions
from evaluate.provenance import describe, notes
from evaluate.results import Result
from evaluate.stores import Store
from evaluate.testset import TestSet
from evaluate.timings import Timings
from evaluate.units import How, Network, Unit
from evaluate.work import Missing, Work
from zoo.engines import Choice, Engine, choose
from zoo.engines import check as check_engine
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
    """A system and its networks."""

    job: Job
    choice: Choice
    networks: list[Network]
    features: npt.NDArray[np.float32] | None


class _Run(msgspec.Struct, kw_only=True, eq=False):
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
    finished = [each.predictions() for each in _computed(jobs, test_set, settings, progress, launcher, store)]
    if settings.drift_images and test_set.images:
        return _with_drift(finished, jobs, test_set, settings, progress, launcher, store)
    return finished


def predict_to_file(
    path: Path,
    job: Job,
    test_set: TestSet,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    *,
    launcher: Launcher | None = None,
    store: Store = Store(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """As `predict`, of one system and into a Parquet file, without all rows in memory.

    Where drift is measured (`Settings.drift`) they are in memory after all: thresholds come from all scores.

    Args:
        path: The file; the same to the byte as `write_predictions` makes of what `predict` returns.
        job: The system.
        test_set: As of `predict`.
        settings: As of `predict`.
        progress: As of `predict`.
        launcher: As of `predict`.
        store: As of `predict`.

    Returns:
        What the file says of itself (`Predictions.metadata`).

    Raises:
        MachineError: As of `predict`, or the file cannot be written.
        InputError: As of `predict`.
    """
    if settings.drift_images and test_set.images:
        (found,) = predict([job], test_set, settings, progress, launcher=launcher, store=store)
        write_predictions(found, path)
        return found.metadata
    launcher = launcher or Local(settings.workers)
    (outcome,) = _computed([job], test_set, settings, progress, launcher, store)
    outcome.write(path)
    return outcome.metadata


def _computed(
    jobs: Sequence[Job],
    test_set: TestSet,
    settings: Settings,
    progress: Progress | None,
    launcher: Launcher,
    store: Store,
) -> list[Outcome]:
    """Computes what is not in the store."""
    where = launcher.where(settings.device, settings.precision)
    check_engine(settings.engine, where.device, settings.precision, compiled=settings.compiled)
    plans = [_plan(job, test_set, settings, where) for job in jobs]
    each = [(plan, network) for plan in plans for network in plan.networks]
    work = Work(
        images=test_set.images,
        networks=tuple(network for _, network in each),
        features=tuple(plan.features if network.training.member.metadata else None for plan, network in each),
    )
    run = _complete(work, launcher, store, progress)
    run.timings.keep(store)
    found, first = [], 0
    for plan in plans:
        indices = range(first, first := first + len(plan.networks))
        found.append(
            Outcome(
                job=plan.job, test_set=test_set, metadata=_metadata(plan, test_set, settings, where, run),
                work=work, indices=indices, store=store, unkept=run.unkept,
            )
        )  # fmt: skip
    return found


def _plan(job: Job, test_set: TestSet, settings: Settings, where: Where) -> _Plan:
    reads = any(training.member.metadata for training in job.trainings)
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
    return _Plan(
        job=job,
        choice=choice,
        networks=units.networks(job, how),
        features=metadata_features(job.card, test_set) if reads else None,
    )


def _complete(work: Work, launcher: Launcher, store: Store, progress: Progress | None) -> _Run:
    """Computes what is not in the store."""
    run = _Run()
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
            if each.failure:
                failures[unit] = each.failure
                continue
            assert each.result
            run.note(unit, each.result)
            if not each.kept and not results.keep(unit, each.result, store):
                run.unkept[unit.name] = each.result
            done += len(unit.images) * missing.times(unit)
            if progress:
                progress("predicting", done, total)
    if failures:
        run.timings.keep(store)
        raise combined(failures, missing.count)
    return run


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


def _metadata(plan: _Plan, test_set: TestSet, settings: Settings, where: Where, run: _Run) -> dict[str, Any]:
    """What the scores of a system say of themselves."""
    sizes: dict[str, set[int]] = {}
    for network in plan.networks:
        sizes.setdefault(network.training.member.name, set()).update(run.batch_sizes.get(network.key, ()))
    return describe(
        plan.job,
        test_set,
        {
            "device": where.name,
            "precision": settings.precision,
            "batch_size": settings.batch_size or "auto",
            "batch_sizes": {member: sorted(each) for member, each in sizes.items()},
            "engine": msgspec.to_builtins(plan.choice),
            **({"compiled": True} if settings.compiled else {}),
            "software": units.software(plan.choice.engine),
        },
    )
