"""`check`: everything that a system must hold before its results can be believed, as one list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import zoo
from benchmarks.operations import count_all
from evaluate.jobs import Job, trained, untrained
from evaluate.labels import Labels, read_labels
from evaluate.overlap import overlap, read_training_table
from evaluate.soundness import Check, blends, sound
from reports.figures import giga
from reports.render import Table
from weights.checksums import Manifest, listed_as, manifest
from weights.files import WeightFile, given, whole
from zoo.card import Member, System
from zoo.errors import MelanomaZooError
from zoo.files import sha256

Progress = Callable[[str, int, int], None]


def check(
    card: System,
    *,
    weights: Path | None = None,
    listed: Path | None = None,
    members: Sequence[str] = (),
    labels: Path | None = None,
    training: Sequence[Path] = (),
    progress: Progress | None = None,
    finished: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Checks a system; nothing is raised for what is wrong with it.

    Args:
        card: The system.
        weights: Its trained files: a folder, or the one file of a system that has one.
        listed: A manifest of checksums, beside those of the card and of this package.
        members: Networks that are checked; all where empty.
        labels: Table of a test set, to compare with the training tables.
        training: Tables of images that it was trained on.
        progress: Called as networks are checked.
        finished: Called with each check as soon as it was made.

    Returns:
        The checks in the order in which they were made.

    Raises:
        UsageError: There is no such member.
        InputError: A table or the manifest cannot be read.
    """
    known = manifest(listed) if listed else manifest()
    chosen = [card.member(name) for name in members] or list(card.members)
    overlaps = list(
        _overlaps(labels, training)
    )  # A table that cannot be read is told before anything is built.
    found = []
    for each in chain(_networks(card, chosen, weights, known, progress or (lambda *_: None)), overlaps):
        found.append(each)
        if finished:
            finished(each)
    return found


def _networks(
    card: System, chosen: Sequence[Member], weights: Path | None, known: Manifest, step: Progress
) -> Iterator[Check]:
    """The checks of a card and its networks, each as soon as it was made."""
    yield _facts(card)
    if not chosen:
        yield Check(name="network", state="n.a.", detail="scores made elsewhere; there is none")
        return
    what = "checking networks"
    step(what, 0, len(chosen))
    job, files, loaded = _job(card, weights, [member.name for member in chosen])
    yield from loaded
    yield from _checksums(card, files, known)
    build = zoo.builder(card.name)
    # Folds are trainings of one network: the first stands for all.
    first = {each.member.name: each for each in reversed(job.trainings)}
    for done, member in enumerate(chosen, start=1):
        if member.name in first:
            yield from sound(first[member.name], job.card, build)
        yield from _counters(job.card, member.name)
        step(what, done, len(chosen))
    yield blends(card)


def line(found: Check) -> str:
    """A check in a line, for whoever waits for the others.

    >>> line(Check(name="output", state="pass", detail="(8, 9) for 8 images, finite", member="b3"))
    'pass output, b3'
    """
    named = ", ".join(filter(None, (found.name, found.member)))
    return f"{found.state} {named}" + (f": {found.detail}" if found.state == "fail" else "")


def report(card: System, checks: Sequence[Check]) -> list[Table]:
    """The checks as a table, and what to do about those that failed."""
    failed = [each for each in checks if each.state == "fail"]
    several = len({each.member for each in checks if each.member}) > 1
    tables = [
        Table(
            f"{card.title}: {sum(c.state == 'pass' for c in checks)} passed, {len(failed)} failed, "
            f"{sum(c.state == 'n.a.' for c in checks)} do not apply",
            ("Check", "", *(("Network",) if several else ()), "Seen"),
            tuple(
                (each.name, each.state, *((each.member,) if several else ()), each.detail) for each in checks
            ),
            align="ll" + "l" * several + "l",
        )
    ]
    if failed:
        tables.append(
            Table(
                "What to mend",
                ("Check", "Mend"),
                tuple((" ".join(filter(None, (each.name, each.member))), each.mend) for each in failed),
                align="ll",
            )
        )
    return tables


def _facts(card: System) -> Check:
    """Whether a card says what a reader needs; that it is consistent was checked when it was read."""
    name = "card"
    if zoo.origin(card.name) == card.name:
        assumed = (
            f"; assumed: {', '.join(each.about for each in card.assumptions)}" if card.assumptions else ""
        )
        return Check(name=name, state="n.a.", detail=f"the name stands for one{assumed}")
    missing = []
    if card.summary.startswith("TODO"):
        missing.append("summary")
    if not card.sources:
        missing.append("[[sources]]")
    if any(label.startswith("class_") for member in card.members for label in member.classes):
        missing.append("names of the classes")
    if card.checkpoints is None and not all(member.complete for member in card.members):
        missing.append("[checkpoints]")
    if missing:
        return Check(name=name, state="fail", detail=f"it does not say: {', '.join(missing)}", mend="write it into the card; docs/cards.md has every key")  # fmt: skip
    unknown = "" if card.trained_on else "; it does not say what it was trained on"
    return Check(name=name, state="pass", detail=f"complete and consistent{unknown}")


def _job(card: System, weights: Path | None, names: list[str]) -> tuple[Job, list[WeightFile], list[Check]]:
    """What is checked: trained networks where their files are good, else random ones."""
    name = "checkpoint"
    members = names if len(names) < len(card.members) else []
    plain = untrained(card, 0, members=members)
    try:
        if complete := whole(card, members):
            return trained(card, complete), complete, [Check(name=name, state="pass", detail="comes whole")]
        if weights is None:
            return (
                plain,
                [],
                [Check(name=name, state="n.a.", detail="give --weights; random weights are checked")],
            )
        files = given(card, [weights], members=members)
        job = trained(card, files)
        _load_all(job)
    except MelanomaZooError as error:
        return plain, [], [Check(name=name, state="fail", detail=str(error), mend="see what differs, and correct the card or the file; random weights were checked")]  # fmt: skip
    return job, files, [Check(name=name, state="pass", detail=f"{len(files)} read safely, every key and shape fits")]  # fmt: skip


def _load_all(job: Job) -> None:
    from evaluate.loading import network

    for each in job.trainings:
        network(each, zoo.builder(job.card.name))


def _checksums(card: System, files: Sequence[WeightFile], known: Manifest) -> Iterator[Check]:
    name = "checksum"
    wanted = dict(card.checkpoints.sha256) if card.checkpoints else {}
    wanted |= {file: entry.sha256 for file, entry in known.files.items()}
    of = [(each, file.path) for file in files if (each := listed_as(file.path, wanted))]
    wrong = [each for each, path in of if sha256(path) != wanted[each]]
    if wrong:
        yield Check(name=name, state="fail", detail=f"{', '.join(wrong)}: not the pinned file", mend="fetch it again, or pin it anew if you trained again")  # fmt: skip
    elif of:
        yield Check(name=name, state="pass", detail=f"{len(of)} of {len(files)} as pinned")
    else:
        why = (
            "nothing pins them: checkpoints.sha256 of the card, or --manifest"
            if files
            else "no trained files"
        )
        yield Check(name=name, state="n.a.", detail=why)


def _counters(card: System, name: str) -> Iterator[Check]:
    member = card.member(name)
    what = "counters"
    try:
        (counted,) = count_all([member], zoo.builder(card.name), workers=0)
    except MelanomaZooError as error:
        yield Check(name=what, state="fail", detail=str(error), mend="make forward work on the meta device", member=name)  # fmt: skip
        return
    unexplained = [gap for gap in counted.gaps if gap.reason == "unexplained"]
    shown = ", ".join(f"{by} {giga(macs)}" for by, macs in counted.counters.items())
    if unexplained:
        gap = unexplained[0]
        yield Check(name=what, state="fail", detail=f"GMACs: {shown}; {gap.counter} differs by {gap.macs:+,} in {gap.module}, unexplained", mend="make convolutions and matrix products with modules and functions of torch, in forward", member=name)  # fmt: skip
    elif len(counted.counters) == 1:
        yield Check(
            name=what, state="n.a.", detail=f"GMACs: {shown}; the others cannot look inside", member=name
        )
    else:
        why = "agree but for what is explained" if counted.gaps else "agree"
        yield Check(name=what, state="pass", detail=f"GMACs: {shown}; they {why}", member=name)


def _overlaps(labels: Path | None, training: Sequence[Path]) -> Iterator[Check]:
    name = "training data"
    if labels is None or not training:
        yield Check(name=name, state="n.a.", detail="give --labels of the test set and --train-table")
        return
    read: Labels = read_labels(labels)
    for path in training:
        shared = overlap(read, read_training_table(path))
        counts = ", ".join(f"{count} {role}s" for role, count in shared.ids.items() if count)
        if counts:
            yield Check(name=name, state="fail", detail=f"{path.name} and {labels.name} share {counts}", mend="score without them: compare --train-table gives both figures")  # fmt: skip
        else:
            yield Check(name=name, state="pass", detail=f"nothing of {labels.name} is in {path.name}")
