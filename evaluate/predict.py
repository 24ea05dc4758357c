"""From images and trained networks to predictions: every system, member, fold and view.

The unit of work is kept on disk as soon as it is done (`evaluate.units`). Images are taken in
chunks that fit in memory; within a chunk each image is decoded once for all networks, and one
network is in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

import zoo
from evaluate import units, views
from evaluate.decoding import decoding
from evaluate.drifting import measure, sample
from evaluate.features import metadata_features
from evaluate.forward import Forward
from evaluate.jobs import Job
from evaluate.loading import network
from evaluate.predictions import Predictions
from evaluate.preprocess import Geometry
from evaluate.provenance import describe, notes
from evaluate.testset import TestSet
from evaluate.units import SHARD, Unit
from zoo.engines import Choice, Engine, choose, versions
from zoo.engines import check as check_engine
from zoo.runtime import Device, Precision, check, tune_allocator

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

CHUNK_BYTES = 2**30
"""Memory for decoded pixels, unless a single unit needs more."""

DRIFT_IMAGES = 8
"""Images that the drift of a lower precision is measured on, unless told otherwise."""


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
            precision and else none.
    """

    device: Device = "auto"
    precision: Precision = "fp32"
    batch_size: int | None = None
    workers: int | None = None
    engine: Engine = "torch"
    drift: int | None = None

    @property
    def drift_images(self) -> int:
        """How many images drift is measured on."""
        if self.drift is not None:
            return self.drift
        return DRIFT_IMAGES if self.precision in ("bf16", "fp16") else 0


class _Work(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A unit with what is needed to compute it."""

    job: Job
    choice: Choice
    unit: Unit
    features: npt.NDArray[np.float32] | None

    @property
    def geometry(self) -> Geometry:
        return Geometry.of(self.unit.training.member, self.job.card.views)

    @property
    def network(self) -> tuple[str, str, int]:
        """Which network it needs: system, member and fold."""
        return self.job.card.name, self.unit.training.member.name, self.unit.training.fold


def predict(
    jobs: Sequence[Job],
    test_set: TestSet,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> list[Predictions]:
    """Runs systems on a test set.

    What was computed before with the same weights, card, images and settings is taken from the
    folder of kept results.

    Args:
        jobs: The systems.
        test_set: The images, and the table that members with metadata read.
        settings: How networks are run.
        progress: Called as images go through networks.

    Returns:
        One row per image, member and fold, for each system: the probability of melanoma.

    Raises:
        MachineError: The device or engine is not there or has no such precision, an engine's
            probabilities are not those of torch, or memory does not suffice.
        InputError: A trained file does not fit, or the table lacks what metadata are made of.
    """
    device = check(settings.device, settings.precision)
    check_engine(settings.engine, device, settings.precision)
    tune_allocator()
    works = [work for job in jobs for work in _works(job, test_set, settings, device)]
    found: dict[str, units.Result] = {}
    for work in works:
        kept = units.recall(work.unit)
        if kept is not None:
            found[work.unit.name] = kept
    total = sum(work.unit.stop - work.unit.start for work in works)
    missing = {work.unit.name: work for work in works if work.unit.name not in found}
    done = total - sum(work.unit.stop - work.unit.start for work in missing.values())
    if progress:
        progress("predicting", done, total)
    for chunk in _chunks(list(missing.values())):
        for unit, result in _computed(chunk, test_set, settings, device):
            units.keep(unit, result)
            found[unit.name] = result
            done += unit.stop - unit.start
            if progress:
                progress("predicting", done, total)
    finished = [
        _predictions([work for work in works if work.job is job], found, test_set, settings, device)
        for job in jobs
    ]
    if settings.drift_images and test_set.images:
        return _with_drift(finished, jobs, test_set, settings, progress)
    return finished


def _with_drift(
    finished: Sequence[Predictions],
    jobs: Sequence[Job],
    test_set: TestSet,
    settings: Settings,
    progress: Progress | None,
) -> list[Predictions]:
    """The predictions, which say how far they are from single precision in torch."""
    exactly = msgspec.structs.replace(settings, precision="fp32", engine="torch", drift=0)
    some = sample(test_set, settings.drift_images)
    exact = predict(
        jobs, some, exactly, progress and (lambda _, done, total: progress("measuring drift", done, total))
    )
    told = []
    for found, reference in zip(finished, exact, strict=True):
        moved = measure(found, reference, test_set.labels)
        metadata = {**found.metadata, "drift": msgspec.to_builtins(moved)}
        told.append(msgspec.structs.replace(found, metadata=metadata, notes=notes(found.system, metadata)))
    return told


def _works(
    job: Job, test_set: TestSet, settings: Settings, device: Literal["cpu", "cuda"]
) -> Iterator[_Work]:
    reads = any(training.member.metadata for training in job.trainings)
    features = metadata_features(job.card, test_set) if reads else None
    choice = choose(
        settings.engine, device, settings.precision, len(test_set.images) * job.card.views.distinct
    )
    for training in job.trainings:
        own = features if training.member.metadata else None
        for start in range(0, len(test_set.images), SHARD):
            unit = units.unit(
                job.card,
                training,
                test_set.images,
                own,
                start,
                device=_device_name(device),
                precision=settings.precision,
                batch_size=settings.batch_size,
                engine=(choice.engine, versions(choice.engine)),
            )
            yield _Work(job=job, choice=choice, unit=unit, features=own)


def _chunks(works: Sequence[_Work]) -> Iterator[list[_Work]]:
    """The work in order of images, as much at a time as pixels fit in memory."""
    chunk: list[_Work] = []
    held = 0
    for _, shard in groupby(sorted(works, key=lambda w: w.unit.start), key=lambda w: w.unit.start):
        same = list(shard)
        needed = SHARD * sum(geometry.bytes for geometry in {work.geometry for work in same})
        if chunk and held + needed > CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk += same
        held += needed
    if chunk:
        yield chunk


def _computed(
    chunk: Sequence[_Work], test_set: TestSet, settings: Settings, device: Literal["cpu", "cuda"]
) -> Iterator[tuple[Unit, units.Result]]:
    """The results of a chunk: network after network, each over all shards while images are decoded."""
    wanted: dict[int, set[Geometry]] = {}
    for work in chunk:
        for index in range(work.unit.start, work.unit.stop):
            wanted.setdefault(index, set()).add(work.geometry)
    position = {index: place for place, index in enumerate(wanted)}
    images = [test_set.images[index] for index in wanted]
    by_network: dict[tuple[str, str, int], list[_Work]] = {}
    for work in chunk:
        by_network.setdefault(work.network, []).append(work)
    with decoding(images, list(wanted.values()), settings.workers or _cores()) as pixels:
        for same in by_network.values():
            job, training = same[0].job, same[0].unit.training
            forward = Forward(
                network(training, zoo.builder(job.card.name)),
                training.member,
                device=device,
                precision=settings.precision,
                batch_size=settings.batch_size,
                engine=same[0].choice.engine,
            )
            for work in same:
                indexes = range(work.unit.start, work.unit.stop)
                squares = [pixels(position[index])[work.geometry] for index in indexes]
                rows = None if work.features is None else work.features[work.unit.start : work.unit.stop]
                logits = forward(squares, job.card.views.transforms, rows)
                probabilities = views.average(logits, job.card.views)
                yield work.unit, units.Result(probabilities=probabilities, batch_size=forward.batch_size)


def _predictions(
    works: Sequence[_Work],
    found: dict[str, units.Result],
    test_set: TestSet,
    settings: Settings,
    device: str,
) -> Predictions:
    """The scores of one system. A skipped image has a row too, without a score."""
    job = works[0].job
    ids = [*(image.id for image in test_set.images), *test_set.skipped]
    known = test_set.table.loc[ids] if test_set.table is not None else None
    without = np.full(len(test_set.skipped), np.nan)
    tables = []
    batch_sizes: dict[str, set[int]] = {}
    for (_, member, fold), same in groupby(works, key=lambda work: work.network):
        parts = [(found[work.unit.name], work.unit.training.member.melanoma) for work in same]
        batch_sizes.setdefault(member, set()).update(result.batch_size for result, _ in parts)
        scores = [result.probabilities[:, melanoma] for result, melanoma in parts]
        columns = {
            "image": ids,
            "lesion": None if known is None else known["lesion"].to_numpy(),
            "patient": None if known is None else known["patient"].to_numpy(),
            "member": member,
            "fold": fold,
            "score": np.concatenate([*scores, without]),
        }
        tables.append(pd.DataFrame(columns))
    metadata = describe(
        job,
        test_set,
        {
            "device": _device_name(device),
            "precision": settings.precision,
            "batch_size": settings.batch_size or "auto",
            "batch_sizes": {member: sorted(sizes) for member, sizes in batch_sizes.items()},
            "engine": msgspec.to_builtins(works[0].choice),
            "software": units.software(works[0].choice.engine),
        },
    )
    return Predictions(
        system=job.card.name,
        kind="probability",
        table=pd.concat(tables, ignore_index=True),
        path=job.card.title,
        metadata=metadata,
        notes=notes(job.card.name, metadata),
    )


def _device_name(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
