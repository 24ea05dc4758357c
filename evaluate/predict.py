"""From images and trained networks to predictions: every system, member, fold and view.

The work is cut into units (`evaluate.units`), which are kept on disk as soon as they are done. A launcher
(`evaluate.launchers`) decides where those that are missing are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from evaluate import units
from evaluate.complete import Progress, Run, complete
from evaluate.drifting import measure, sample
from evaluate.features import metadata_features
from evaluate.jobs import Job
from evaluate.launchers.base import Launcher, Where
from evaluate.launchers.local import Local
from evaluate.outcome import AT_A_TIME, Outcome
from evaluate.predictions import Predictions
from evaluate.provenance import describe
from evaluate.stores import Store
from evaluate.testset import TestSet
from evaluate.units import How, Network
from evaluate.work import Work
from zoo.engines import Choice, Engine, choose
from zoo.engines import check as check_engine
from zoo.runtime import Device, Precision

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
    return [each.predictions() for each in _computed(jobs, test_set, settings, progress, launcher, store)]


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
    """Computes what is not in the store, and measures drift where that is asked for."""
    where = launcher.where(settings.device, settings.precision)
    check_engine(settings.engine, where.device, settings.precision, compiled=settings.compiled)
    plans = [_plan(job, test_set, settings, where) for job in jobs]
    each = [(plan, network) for plan in plans for network in plan.networks]
    work = Work(
        images=test_set.images,
        networks=tuple(network for _, network in each),
        features=tuple(plan.features if network.training.member.metadata else None for plan, network in each),
    )
    run = complete(work, launcher, store, progress)
    found, first = [], 0
    for plan in plans:
        indices = range(first, first := first + len(plan.networks))
        found.append(
            Outcome(
                job=plan.job, test_set=test_set, metadata=_metadata(plan, test_set, settings, where, run),
                work=work, indices=indices, store=store, unkept=run.unkept,
            )
        )  # fmt: skip
    if settings.drift_images and test_set.images:
        return _with_drift(found, jobs, test_set, settings, progress, launcher, store)
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


def _with_drift(
    finished: Sequence[Outcome],
    jobs: Sequence[Job],
    test_set: TestSet,
    settings: Settings,
    progress: Progress | None,
    launcher: Launcher,
    store: Store,
) -> list[Outcome]:
    """The scores, which say how far they are from single precision in torch."""
    exactly = msgspec.structs.replace(settings, precision="fp32", engine="torch", drift=0, compiled=False)
    some = sample(test_set, settings.drift_images)
    said = progress and (lambda _, done, total: progress("measuring drift", done, total))
    exact = predict(jobs, some, exactly, said, launcher=launcher, store=store)
    told = []
    for found, reference in zip(finished, exact, strict=True):
        rows = (part.table for part in found.parts(AT_A_TIME))
        moved = measure(rows, reference, test_set.labels)
        metadata = {**found.metadata, "drift": msgspec.to_builtins(moved)}
        told.append(msgspec.structs.replace(found, metadata=metadata))
    return told


def _metadata(plan: _Plan, test_set: TestSet, settings: Settings, where: Where, run: Run) -> dict[str, Any]:
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
