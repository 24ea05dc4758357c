"""From cards, predictions and labels to a record.

Counting and timing are left to `benchmarks`, scoring to `evaluate`; this only asks for both and
writes down what came back.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

import zoo
from benchmarks.latency import quick_latency
from benchmarks.machine import fingerprint, resolve
from benchmarks.operations import count_all
from benchmarks.results import Latency, Operations
from evaluate.audit import audit
from evaluate.clinical import Clinical, Request, clinical
from evaluate.curves import curves
from evaluate.development import Development
from evaluate.lesions import disagreements, lesions
from evaluate.predictions import Predictions
from evaluate.scored import Scores
from evaluate.scores import score
from evaluate.skipped import without_skipped
from reports.claims import claims, judge
from reports.differences import reference
from reports.inputs import Inputs, Progress
from reports.record import Entry, InputFile, MemberCost, Record, Role, Settings
from reports.thumbnails import with_thumbnails
from zoo.card import Member, System
from zoo.errors import MelanomaZooError, UsageError
from zoo.files import sha256
from zoo.plugins import leave_out
from zoo.registry import Builder

T = TypeVar("T")


def count(systems: Sequence[System], progress: Progress | None = None) -> list[Entry]:
    """Counts every network of the systems; nothing is timed.

    Raises:
        CardError: As of `compare`.
    """
    return _entries(_told_apart(systems), None, progress)[0]


def compare(
    systems: Sequence[System],
    settings: Settings,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
    *,
    request: Request | None = None,
) -> Record:
    """Counts, times and scores systems.

    Args:
        systems: What to compare, in the order of the tables.
        settings: Counting rule, protocol, resamples, seed, latency and device.
        inputs: Predictions and labels, where there are any.
        progress: Called as the work goes on.
        request: What a clinic asks for beside the scores; nothing where None.

    Raises:
        MelanomaZooError: A card of this package cannot be built, an input is wrong or missing, or the
            device is not there. A system of another's whose builder fails is named on the log and has
            no costs, unless there is no other.
    """
    systems, inputs = _as_called(systems, inputs)
    development = request.development if request else {}
    scores = _score(systems, settings.protocol, settings, inputs, development)
    if scores:
        reference(scores, settings.reference)  # A name without scores is told before the counting.
    elif settings.reference:
        raise UsageError(f"no scores to compare with {settings.reference}; give --predictions and --labels")
    answers = _clinical(systems, request, settings, inputs) if request else None
    if settings.latency == "quick":
        resolve(settings.device)  # A device that is not there is told before the counting, too.
    entries, failed = _entries(systems, settings, progress)
    return Record(
        schema=1,
        tool=zoo.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=settings,
        machine=fingerprint(),
        inputs=(*_files(inputs), *_development(request)),
        entries=tuple(entries),
        scores=(scores,) if scores else (),
        unscored="" if inputs else "no predictions",
        missing={**failed, **(inputs.missing if inputs else {})},
        left_out=inputs.left_out if inputs else {},
        clinical=answers,
        audit=audit(
            _chosen(systems, inputs),
            inputs.labels,
            scores=scores,
            training=inputs.training,
            development=development,
        )
        if inputs and scores
        else None,
        **(_drawn(_chosen(systems, inputs), inputs, scores) if inputs and scores else {}),
    )


def reproduce(
    systems: Sequence[System],
    settings: Settings,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
    *,
    request: Request | None = None,
) -> Record:
    """A comparison by both protocols, with verdicts on the paper's claims, and what a clinic asks for."""
    record = compare(systems, settings, inputs, progress, request=request)
    wanted = claims()
    if inputs:
        systems, inputs = _as_called(systems, inputs)
        development = request.development if request else {}
        others = [name for name in ("paper", "clinical") if name != settings.protocol]
        more = [scores for name in others if (scores := _score(systems, name, settings, inputs, development))]
        record = msgspec.structs.replace(record, scores=(*record.scores, *more))
    return msgspec.structs.replace(record, claims=tuple(judge(claim, record) for claim in wanted))


def _told_apart(systems: Sequence[System]) -> list[System]:
    """The systems; those of one title, such as files of one name in two folders, are called by their names."""
    times = Counter(system.title for system in systems)
    return [
        msgspec.structs.replace(system, title=system.name) if times[system.title] > 1 else system
        for system in systems
    ]


def _as_called(systems: Sequence[System], inputs: Inputs | None) -> tuple[Sequence[System], Inputs | None]:
    """The systems as their trained files have them, told apart; and their predictions, called as they are."""
    if inputs is None:
        return _told_apart(systems), None
    systems = _told_apart([inputs.cards.get(system.name, system) for system in systems])
    titles = {system.name: system.title for system in systems}
    predictions = tuple(
        each
        if titles.get(each.system, each.called) == each.called
        else msgspec.structs.replace(each, title=titles[each.system])
        for each in inputs.predictions
    )
    return systems, msgspec.structs.replace(inputs, predictions=predictions)


def _entries(
    systems: Sequence[System], settings: Settings | None, progress: Progress | None
) -> tuple[list[Entry], dict[str, str]]:
    """Each system with what its members cost, timed where the settings ask for it; and why some have no costs."""
    operations, failed = _operations(systems, progress)
    built = [system for system in systems if system.name not in failed]
    latencies: Mapping[str, Sequence[Latency | None]] = {s.name: [None] * len(s.members) for s in built}
    if settings and settings.latency == "quick":
        device = settings.device
        step = _stepper(progress, "timing", sum(len(system.members) for system in built))
        latencies = _measured(
            built, lambda members, build: quick_latency(members, build, device=device, progress=step)
        )
    entries = [
        Entry(
            card=system,
            members=tuple(
                MemberCost(name=member.name, operations=counted, latency=timed)
                for member, counted, timed in zip(
                    system.members, operations[system.name], latencies[system.name], strict=True
                )
            )
            if system.name not in failed
            else (),
        )
        for system in systems
    ]
    return entries, failed


def _operations(
    systems: Sequence[System], progress: Progress | None
) -> tuple[dict[str, list[Operations]], dict[str, str]]:
    """What each system's members count, and why those of some, whose builders are others', do not."""
    step = _stepper(progress, "counting operations", sum(len(system.members) for system in systems))
    try:
        return _measured(systems, lambda members, build: count_all(members, build, progress=step)), {}
    except MelanomaZooError as error:
        if len(systems) == 1:
            raise
        first = error
    found: dict[str, list[Operations]] = {}
    failed: dict[str, str] = {}
    for system in systems:
        try:
            found |= _measured([system], lambda members, build: count_all(members, build))
        except MelanomaZooError as error:
            if zoo.origin(system.name) == "melanoma-zoo":
                raise
            failed[system.name] = f"cannot be counted: {error}"
            leave_out(system.name, error)
    if not found:
        raise first
    return found, failed


def _measured(
    systems: Sequence[System], measure: Callable[[list[Member], Builder | None], Sequence[T]]
) -> dict[str, list[T]]:
    """Measures the members of all systems that share a builder in one go, so that the work can be shared."""
    by_builder: dict[Builder | None, list[System]] = {}
    for system in systems:
        by_builder.setdefault(zoo.builder(system.name), []).append(system)
    found: dict[str, list[T]] = {}
    for build, group in by_builder.items():
        results = iter(measure([member for system in group for member in system.members], build))
        found |= {system.name: [next(results) for _ in system.members] for system in group}
    return found


def _score(
    systems: Sequence[System],
    protocol: str,
    settings: Settings,
    inputs: Inputs | None,
    development: Mapping[str, Development],
) -> Scores | None:
    chosen = _chosen(systems, inputs)
    if inputs is None or not chosen:
        return None
    return score(
        chosen,
        inputs.labels,
        protocol,
        resamples=settings.resamples,
        seed=settings.seed,
        development=development,
    )


def _clinical(
    systems: Sequence[System], request: Request, settings: Settings, inputs: Inputs | None
) -> Clinical | None:
    if request == Request():
        return None
    chosen = _chosen(systems, inputs)
    if inputs is None or not chosen:
        raise UsageError(
            "operating points, decision curves, calibration and subgroups are of scores: give predictions of "
            "these systems, and labels (--predictions DIR --labels TABLE)"
        )
    return clinical(chosen, inputs.labels, request, resamples=settings.resamples, seed=settings.seed)


def _drawn(chosen: Sequence[Predictions], inputs: Inputs, scores: Scores) -> dict[str, Any]:
    """What figures are drawn from, while single scores are at hand: the record does not keep them all."""
    shown = disagreements(chosen, inputs.labels)
    return {
        "curves": curves(chosen, inputs.labels, resamples=scores.resamples, seed=scores.seed),
        "disagreements": with_thumbnails(shown, inputs.test_set[0]) if shown and inputs.test_set else shown,
        "lesions": lesions(without_skipped(chosen, inputs.labels)[1]),
    }


def _chosen(systems: Sequence[System], inputs: Inputs | None) -> list[Predictions]:
    names = {system.name for system in systems}
    return [each for each in inputs.predictions if each.system in names] if inputs else []


def _development(request: Request | None) -> list[InputFile]:
    return [
        InputFile(role="development", name=each.path, sha256=each.sha256, system=system)
        for system, each in (request.development if request else {}).items()
    ]


def _files(inputs: Inputs | None) -> tuple[InputFile, ...]:
    if inputs is None:
        return ()
    labels = InputFile(role="labels", name=inputs.labels.path, sha256=inputs.labels.sha256)
    return (
        labels,
        *(file for each in inputs.predictions for file in _origin(each)),
        *(
            [InputFile(role="images", name=inputs.test_set[0], sha256=inputs.test_set[1])]
            if inputs.test_set
            else []
        ),
        *(InputFile(role="training", name=each.path, sha256=each.sha256) for each in inputs.training),
        *(
            [InputFile(role="diagnoses", name=str(inputs.diagnoses), sha256=sha256(inputs.diagnoses))]
            if inputs.diagnoses
            else []
        ),
    )


def _origin(predictions: Predictions) -> list[InputFile]:
    """The file that scores were read from, or the trained files that they were made with."""
    files: list[tuple[Role, str, str]]
    if predictions.sha256:
        files = [("predictions", predictions.path, predictions.sha256)]
    else:
        files = [
            ("weights", each["file"], each["sha256"])
            for each in predictions.metadata["weights"]
            if "file" in each  # Random weights have none.
        ]
    return [
        InputFile(role=role, name=name, sha256=digest, system=predictions.system)
        for role, name, digest in files
    ]


def _stepper(progress: Progress | None, what: str, total: int) -> Callable[[Member], None]:
    """Turns "this member is done" into "so many of so many are done"."""
    done = itertools.count(1)

    def step(_: Member) -> None:
        if progress is not None:
            progress(what, next(done), total)

    return step
