"""What predictions say of themselves: the weights, images and settings that they were made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

import zoo
from evaluate import drift
from zoo.engines import Choice

if TYPE_CHECKING:
    from evaluate.jobs import Job, Training
    from evaluate.testset import TestSet

UNTRAINED = "untrained weights"
"""What a CSV file has in its column `weights` where they were random."""

RANDOM = "Untrained weights"
"""How the note begins of scores that random weights made."""


def describe(job: Job, test_set: TestSet, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of predictions. There is no time or path in it: the same run gives the same file.

    Args:
        job: The system and its trainings.
        test_set: The images.
        settings: How networks were run, and with which software.
    """
    return {
        "tool": zoo.__version__,
        "test_set": {
            "images": len(test_set.images),
            "digest": test_set.digest,
            "table_sha256": test_set.table_sha256,
        },
        "weights": [_training(training) for training in job.trainings],
        "settled": [each.statement for each in job.card.assumptions if each.settled],
        "views": msgspec.to_builtins(job.card.views),
        **settings,
        "skipped": test_set.skipped,
        **({"limit": test_set.limit} if test_set.limit else {}),
    }


def notes(system: str, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader of the scores must know, by what their file says of itself.

    Args:
        system: Whose scores they are.
        metadata: What `describe` made, or what another program wrote: unknown forms say nothing.

    >>> notes("sge_b3", {"weights": [{"member": "a", "fold": 0, "untrained_seed": 3}]})
    ('Untrained weights (seed 3): the scores mean nothing.',)
    """
    found = []
    seeds = {
        each["untrained_seed"]
        for each in _list(metadata, "weights")
        if isinstance(each, Mapping) and "untrained_seed" in each
    }
    if known := seeds - {None}:
        found.append(
            f"{RANDOM} (seed {', '.join(map(str, sorted(known, key=str)))}): the scores mean nothing."
        )
    elif seeds:  # A CSV file does not say which.
        found.append(f"{RANDOM}: the scores mean nothing.")
    found += _engine(metadata)
    if metadata.get("compiled") is True:
        found.append("Compiled by torch.compile.")
    precision = metadata.get("precision", "fp32")
    if precision != "fp32":
        found.append(f"Computed in {precision}, not in single precision.")
    with suppress(msgspec.ValidationError):
        found.append(drift.note(metadata.get("drift")))
    published = zoo.card(system).views if system in zoo.systems() else None
    taken = metadata.get("views")
    if published and isinstance(taken, Mapping) and _views(taken) != _views(msgspec.to_builtins(published)):
        found.append(
            f"{sum(_views(taken).values())} of {sum(_views(msgspec.to_builtins(published)).values())} views "
            "of the published procedure."
        )
    found += [f"Settled by the trained files: {each}." for each in _list(metadata, "settled")]
    return tuple(found)


def untrained(metadata: Mapping[str, Any]) -> bool:
    """Whether predictions were made with random weights."""
    return any(isinstance(each, Mapping) and "untrained_seed" in each for each in _list(metadata, "weights"))


def _training(training: Training) -> dict[str, Any]:
    described: dict[str, Any] = {"member": training.member.name, "fold": training.fold}
    if training.path is None:
        return {**described, "untrained_seed": training.seed}
    return {**described, "file": training.path.name, "sha256": training.sha256}


def _engine(metadata: Mapping[str, Any]) -> list[str]:
    """What ran the networks, where it is not torch by default."""
    with suppress(msgspec.ValidationError):
        choice = msgspec.convert(metadata.get("engine"), Choice)
        if choice.why:
            return [f"Run by {choice.engine}, which auto took since {choice.why}."]
        if choice.engine != "torch":
            return [f"Run by {choice.engine}."]
    return []


def _list(metadata: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = metadata.get(key)
    return value if isinstance(value, list | tuple) else ()


def _views(described: Mapping[str, Any]) -> dict[str, int]:
    """How often each transform is counted."""
    transforms = described.get("transforms") or ()
    return dict(zip(transforms, described.get("weights") or (1,) * len(transforms), strict=False))
