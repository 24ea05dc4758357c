"""One system on one test set, from names and paths to a file of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from sklearn.metrics import average_precision_score, roc_auc_score

import zoo
from evaluate.alignment import align
from evaluate.complete import Progress
from evaluate.images import ENDINGS
from evaluate.jobs import Job, trained
from evaluate.jobs import untrained as random
from evaluate.labels import Labels
from evaluate.launchers.base import cores
from evaluate.launchers.opening import Launching, opened
from evaluate.loading import check as check_files
from evaluate.predict import Settings, predict_to_file
from evaluate.predictions import read_predictions
from evaluate.provenance import notes
from evaluate.published import write_published
from evaluate.skipped import without_skipped
from evaluate.testset import read_test_set
from weights.files import given, whole
from weights.store import fetched_weights
from zoo.engines import Engine
from zoo.engines import check as check_engine
from zoo.errors import UsageError
from zoo.files import check_target, make_folder
from zoo.runtime import Device, Precision, check
from zoo.urls import is_url


class Written(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a run came to.

    Attributes:
        system: The system.
        files: Those that were written, that of the predictions first.
        metadata: What they say of themselves.
        labels: What the images are, where a table says so.
    """

    system: str
    files: tuple[Path, ...]
    metadata: dict[str, Any]
    labels: Labels | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the predictions must know."""
        skipped = [f"{image} was skipped: {why}." for image, why in self.metadata["skipped"].items()]
        return (*notes(self.system, self.metadata), *skipped)


def predict_to(
    output: Path,
    system: str,
    test_set: Path,
    labels: Path | None = None,
    *,
    weights: Path | None = None,
    untrained: int | None = None,
    members: Sequence[str] = (),
    folds: Sequence[int] = (),
    stage: str | None = None,
    views: int | None = None,
    columns: Mapping[str, str] | None = None,
    diagnoses: Path | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    limit: int | None = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: int | None = None,
    workers: int | None = None,
    engine: Engine = "torch",
    drift: int | None = None,
    compiled: bool = False,
    as_csv: bool = False,
    launching: Launching = Launching(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> Written:
    """Runs a system on a test set and writes its predictions.

    Everything that can be wrong with the words, the device, the trained files and the images is
    found before the first network runs.

    Args:
        output: The Parquet file. With `as_csv` there is a file of the published layout beside it.
        system: Its name.
        test_set: The folder of images.
        labels: Their table, where it is not the folder's own.
        weights: The folder of trained files, one that has a folder of the system's name, or the one file of
            a system that has one; where None and `untrained` is None too, what `weights fetch` has fetched.
        untrained: Seed of random weights, instead of trained ones.
        members: Members that take part; all where empty.
        folds: Folds that take part; all where empty.
        stage: The only stage of trained files wanted.
        views: The first views of the published sequence only; all where None.
        columns: As of `read_test_set`.
        diagnoses: As of `read_test_set`.
        on_error: As of `read_test_set`.
        limit: As of `read_test_set`.
        device: As of `Settings`.
        precision: As of `Settings`.
        batch_size: As of `Settings`.
        workers: Threads that read and decode images; the cores where None.
        engine: As of `evaluate.predict.Settings`.
        drift: As of `evaluate.predict.Settings`.
        compiled: As of `evaluate.predict.Settings`.
        as_csv: Write the published layout too.
        launching: Where networks run, and where finished work is kept.
        progress: Called as images are checked and go through networks.

    Raises:
        MelanomaZooError: Something is missing, broken, or not there on this machine.
    """
    card = zoo.card(system)
    if not card.members:
        raise UsageError(f"{card.name} has no network to run: its scores were made elsewhere; score them")
    complete = whole(card, members)
    if complete and (weights is not None or untrained is not None):
        raise UsageError(f"{card.name} has its weights in its file; leave --weights and --untrained out")
    if weights is not None and untrained is not None:
        raise UsageError("--weights DIR is for trained files, --untrained SEED for random ones; not both")
    if not complete and weights is None and untrained is None:
        weights = fetched_weights()
        if weights is None:
            raise UsageError(
                "say which weights: --weights DIR for trained files, or --untrained SEED for random ones"
            )
    if output.suffix.lower() in (".csv", *ENDINGS):
        raise UsageError(
            f"{output}: predictions are Parquet; end it in .parquet and add --csv for a CSV beside it"
        )
    settings = Settings(
        device=device, precision=precision, batch_size=batch_size, workers=workers, engine=engine, drift=drift,
        compiled=compiled,
    )  # fmt: skip
    launching.check()
    if launching.launcher == "local":
        check_engine(engine, check(device, precision), precision, compiled=compiled)
    make_folder(output.parent)
    outputs = (output, _published_of(output)) if as_csv else (output,)
    for path in outputs:
        check_target(path)
    job: Job
    if weights is not None or complete:
        own = (weights or Path()) / card.name
        place = own if own.is_dir() else weights or Path()
        files = complete or given(card, [place], members=members, folds=folds, stage=stage)
        job = trained(card, files, number_of_views=views)
        check_files(job, zoo.builder(card.name))
    else:
        job = random(card, untrained or 0, members=members, folds=folds, number_of_views=views)
    images = read_test_set(
        test_set, labels, columns=columns, diagnoses=diagnoses, on_error=on_error, limit=limit,
        workers=workers or cores(), progress=progress,
    )  # fmt: skip
    _keep_inputs(outputs, [labels, diagnoses, images.table_path, *(each.path for each in job.trainings)])
    with opened(launching, device, workers) as launcher:
        metadata = predict_to_file(
            output, job, images, settings, progress, launcher=launcher, store=launching.store
        )
    for path in outputs[1:]:
        write_published(output, images.labels, path)
    return Written(system=card.name, files=outputs, metadata=metadata, labels=images.labels)


def _published_of(output: Path) -> Path:
    """The CSV beside a file of predictions; of two outputs that end otherwise each has its own.

    >>> str(_published_of(Path("a.parquet"))), str(_published_of(Path("a.fold0")))
    ('a.csv', 'a.fold0.csv')
    """
    parquet = output.suffix.lower() == ".parquet"
    return output.with_name(f"{output.stem if parquet else output.name}.csv")


def _keep_inputs(outputs: Sequence[Path], inputs: Iterable[Path | str | None]) -> None:
    """Refuses to write over a file that was read.

    Raises:
        UsageError: An output is one of the inputs, by whatever name.
    """
    there = [Path(each) for each in inputs if each and not is_url(each) and Path(each).exists()]
    for path in outputs:
        if path.exists() and any(path.samefile(each) for each in there):
            raise UsageError(f"{path}: is read, and would be written over; choose another --output")


def ranking(written: Written) -> dict[str, float]:
    """How many images there are, and where both classes are among them ROC-AUC and average precision."""
    found, labels = read_predictions(written.files[0]), written.labels
    figures = {"images": float(found.table["image"].nunique()), "skipped": float(len(found.skipped))}
    if labels is None:
        return figures
    (predictions,), labels = without_skipped([found], labels)
    truth = labels.table["melanoma"].to_numpy(dtype=bool)
    if truth.all() or not truth.any():
        return figures
    scores = align(predictions, labels).scores
    return {
        **figures,
        "roc_auc": float(roc_auc_score(truth, scores)),
        "average_precision": float(average_precision_score(truth, scores)),
    }
