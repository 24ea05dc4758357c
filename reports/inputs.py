"""What a comparison scores: predictions from files, or those of networks run on a test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

import weights
import zoo
from evaluate.jobs import Job, trained
from evaluate.jobs import untrained as random
from evaluate.labels import Labels, read_labels
from evaluate.launchers.base import cores
from evaluate.launchers.opening import Launching, opened
from evaluate.loading import check as check_files
from evaluate.overlap import TrainingTable, read_training_table
from evaluate.predict import Settings, predict
from evaluate.predictions import Kind, Predictions, check_kinds, find, read_elsewhere
from evaluate.testset import read_test_set
from zoo.card import System
from zoo.engines import Engine
from zoo.engines import check as check_engine
from zoo.errors import CardError, InputError, UsageError
from zoo.networks import assemble
from zoo.runtime import Device, Precision, check

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Inputs(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is scored, and against what.

    Attributes:
        predictions: Scores of each system.
        labels: What they are scored against.
        left_out: Files that were left out, and why.
        training: Tables of images that systems were trained on.
        diagnoses: A table of the user's own that says which diagnoses are melanoma.
        missing: Systems without scores, where there is more to say of why.
        cards: Cards as their trained files have them, by name, of systems that were run.
        test_set: Folder and digest of the images, where systems were run.
    """

    predictions: tuple[Predictions, ...]
    labels: Labels
    left_out: dict[str, str] = {}
    training: tuple[TrainingTable, ...] = ()
    diagnoses: Path | None = None
    missing: dict[str, str] = {}
    cards: dict[str, System] = {}
    test_set: tuple[str, str] | None = None


def read_inputs(
    predictions: Sequence[Path],
    labels: Path | None,
    *,
    columns: Mapping[str, str] | None = None,
    diagnoses: Path | None = None,
    extra: bool = False,
    training: Sequence[Path] = (),
    elsewhere: Sequence[System] = (),
    kinds: Mapping[str, Kind] | None = None,
) -> Inputs | None:
    """Reads predictions (files or folders) and labels; None where neither is given.

    Args:
        predictions: Files or folders.
        labels: The table of labels.
        columns: Names of its columns, by role (`evaluate.labels.COLUMNS`).
        diagnoses: A table of your own that says which diagnoses are melanoma.
        extra: Keep files that match no card, as systems of their own.
        training: Tables of images that systems were trained on.
        elsewhere: Systems without networks, whose scores are in files of their own (`csv:PATH`).
        kinds: Whether scores are probabilities or ranks, by system (`evaluate.predictions.find`).

    Raises:
        UsageError: One is given without the other, or a way to read labels without labels.
        InputError: A file is broken, or none holds scores of a known system.
    """
    if labels is None and (columns or diagnoses):
        raise UsageError("--column and --diagnoses say how a table is read; give the table with --labels")
    if not predictions and not elsewhere and labels is None and not training:
        return None
    if not (predictions or elsewhere) or labels is None:
        raise UsageError("predictions and labels go together: give --predictions DIR and --labels TABLE")
    found, left_out = find(predictions, extra=extra, kinds=kinds or {}) if predictions else ([], {})
    check_kinds(kinds or {}, [each.system for each in found])
    return Inputs(
        predictions=(*found, *map(read_elsewhere, elsewhere)),
        labels=read_labels(labels, columns=columns, diagnoses=diagnoses),
        left_out=left_out,
        training=tuple(read_training_table(table) for table in training),
        diagnoses=diagnoses,
    )


def run_systems(
    systems: Sequence[System],
    test_set: Path,
    folder: Path | None,
    *,
    labels: Path | None = None,
    columns: Mapping[str, str] | None = None,
    diagnoses: Path | None = None,
    training: Sequence[Path] = (),
    untrained: int | None = None,
    views: int | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    limit: int | None = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: int | None = None,
    workers: int | None = None,
    engine: Engine = "torch",
    drift: int | None = None,
    compiled: bool = False,
    launching: Launching = Launching(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> Inputs:
    """Runs the systems that have all their trained files on a test set; the others stay without scores.

    With `untrained` the others run too, with random weights, and their scores say so.

    Args:
        systems: What is compared.
        test_set: Folder of images.
        folder: Folder of trained files, of each system there or in a folder of its name. Systems
            whose networks come whole need none, and of scores made elsewhere the file is read.
        labels: Table of the images, where it is not the test set's own.
        columns: As of `read_test_set`.
        diagnoses: As of `read_test_set`.
        training: Tables of images that systems were trained on.
        untrained: Seed of random weights, for trials, of systems that have no trained files in the folder.
        views: The first views of the published sequence only; all where None.
        on_error: As of `read_test_set`.
        limit: As of `read_test_set`.
        device: Where networks run.
        precision: What they compute in.
        batch_size: Views at a time; chosen by device and memory where None.
        workers: Threads that read and decode images; the cores where None.
        engine: As of `evaluate.predict.Settings`.
        drift: As of `evaluate.predict.Settings`.
        compiled: As of `evaluate.predict.Settings`.
        launching: Where networks run, and where finished work is kept.
        progress: Called as images are checked and go through networks.

    Raises:
        MelanomaZooError: No system has its trained files, images are damaged, or the table does not
            say which are melanomas, both of them.
    """
    launching.check()
    if launching.launcher == "local":
        check_engine(engine, check(device, precision), precision, compiled=compiled)
    # Before anything is computed: what is wrong with a file shall not be told after all networks have run.
    elsewhere = [read_elsewhere(system) for system in systems if not system.members]
    tables = tuple(read_training_table(table) for table in training)
    found, missing = weights.available(systems, folder)
    if untrained is not None:
        missing = {}
    elif not found:
        raise InputError(
            f"no system has all its trained files: {'; '.join(missing.values())}; --untrained SEED runs such "
            "systems with random weights, for a trial"
        )
    jobs = [
        trained(card, found[card.name], number_of_views=views)
        if card.name in found
        else random(card, untrained or 0, number_of_views=views)
        for card in systems
        if card.members and card.name not in missing
    ]
    jobs, broken = _buildable(jobs)
    missing |= broken
    if not jobs:
        raise InputError("; ".join(missing.values()))
    images = read_test_set(
        test_set, labels, columns=columns, diagnoses=diagnoses, on_error=on_error, limit=limit,
        workers=workers or cores(), progress=progress,
    )  # fmt: skip
    truth = images.labels
    if truth is None:
        raise InputError(
            f"{images.table_path or images.path}: no table says which images are melanomas; "
            "give one with --labels TABLE"
        )
    if truth.table["melanoma"].nunique() < 2:
        raise InputError(
            f"{truth.path}: all {len(truth.table)} lesion images are of one class; scores need both"
            + (", take a larger --limit" if limit else "")
        )
    settings = Settings(
        device=device, precision=precision, batch_size=batch_size, workers=workers, engine=engine, drift=drift,
        compiled=compiled,
    )  # fmt: skip
    with opened(launching, device, workers) as launcher:
        found_scores = predict(jobs, images, settings, progress, launcher=launcher, store=launching.store)
    return Inputs(
        predictions=(*found_scores, *elsewhere),
        labels=truth,
        training=tables,
        diagnoses=diagnoses,
        missing=missing,
        cards={job.card.name: job.card for job in jobs},
        test_set=(images.path, images.digest),
    )


def _buildable(jobs: Sequence[Job]) -> tuple[list[Job], dict[str, str]]:
    """The jobs whose networks can be made and take their files; why those of others cannot be made.

    Raises:
        CheckpointError: A trained file does not fit.
        CardError: A network of this package cannot be made.
    """
    kept, broken = [], {}
    for job in jobs:
        name = job.card.name
        try:
            if job.untrained and zoo.origin(name) != "melanoma-zoo":
                for member in {each.member.name: each.member for each in job.trainings}.values():
                    (zoo.builder(name) or assemble)(member)
            check_files(job, zoo.builder(name))
        except CardError as error:
            if zoo.origin(name) == "melanoma-zoo":
                raise
            broken[name] = f"cannot be built: {error}"
            continue
        kept.append(job)
    return kept, broken
