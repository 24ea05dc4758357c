"""The record: everything that one run measured, in one JSON file.

Every table, page and gate is rendered from it alone. It carries the cards of its systems, so a
record stays readable when the zoo moves on. Its JSON Schema is `reports/record.schema.json`
(made by `python -m reports.record`).
"""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from benchmarks.results import Latency, Machine, Operations, Profile
from evaluate.audit import Audit
from evaluate.clinical import Clinical
from evaluate.curves import Curves
from evaluate.lesions import Disagreements, Lesions
from evaluate.paired import Difference
from evaluate.scored import Scores, SystemScores
from zoo.card import System
from zoo.errors import InputError
from zoo.files import write

VERSION = 1
"""Version of the record's schema that this code writes, and the newest it reads."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the record; unknown fields are refused."""


Word = Literal["holds", "holds only under", "not separable", "does not hold", "could not be judged"]
"""What can become of a claim."""


Role = Literal["predictions", "labels", "development", "training", "diagnoses", "weights", "images"]
"""What a file was read as."""


class InputFile(_Table, frozen=True):
    """A file that the run read: what it was read as, its name and its SHA-256.

    A folder of images stands as one, with the digest of their ids and checksums.
    """

    role: Role
    name: str
    sha256: str
    system: str | None = None


class Settings(_Table, frozen=True):
    """What was asked for: the counting rule, the score protocol, and how latency was taken.

    `resamples` is None where each protocol was left its own number; the scores say which it was.
    `reference` is the system whose scores the others' are compared with; None leaves the choice to
    `reports.differences`. `columns` are names of the labels' columns by role, where they were named.
    """

    rule: str
    protocol: str
    resamples: int | None
    seed: int
    latency: Literal["quick", "off"]
    device: Literal["auto", "cpu", "cuda"]
    reference: str | None = None
    columns: dict[str, str] = {}


class MemberCost(_Table, frozen=True):
    """What one network costs: counted, and timed where asked for."""

    name: str
    operations: Operations
    latency: Latency | None = None


class Entry(_Table, frozen=True):
    """A system of the comparison: its card and what its members cost, in the card's order."""

    card: System
    members: tuple[MemberCost, ...]

    @property
    def operations(self) -> tuple[Operations, ...]:
        """What each member counts, in the card's order."""
        return tuple(member.operations for member in self.members)


class Finding(_Table, frozen=True):
    """One figure that bears on a claim.

    Attributes:
        rule: Under which rule or reading it was computed.
        figure: The figure, with its interval where there is one.
        agrees: Whether the claim is true under it; None where that cannot be told.
    """

    rule: str
    figure: str
    agrees: bool | None


class Verdict(_Table, frozen=True):
    """What became of a published claim.

    Attributes:
        claim: Its words.
        source: Who makes it.
        verdict: What became of it.
        summary: Why, in one sentence.
        findings: The figures it was judged by.
        citations: Numbers, from 1, of the record's audit findings (errors and warnings) that bear on it.
    """

    claim: str
    source: str
    verdict: Word
    summary: str
    findings: tuple[Finding, ...] = ()
    citations: tuple[int, ...] = ()


class Record(_Table, frozen=True):
    """What one run measured.

    Attributes:
        schema: Version of this format.
        tool: Version of melanoma-zoo that wrote it.
        created: When, in UTC (ISO 8601).
        settings: What was asked for.
        machine: What it ran on.
        inputs: The files it read.
        entries: The systems, in the order of the tables.
        scores: Scores of the systems that have predictions, by each protocol asked for.
        unscored: Why systems without scores have none.
        missing: Why single systems have no scores, or no costs, where there is more to say of it.
        left_out: Prediction files that were left out, and why.
        claims: Verdicts on published claims, where asked for.
        clinical: Operating points, decision curves, calibration and subgroups, where asked for.
        audit: What could make the scores wrong; None where there are none.
        profile: What the networks cost in time, memory and energy, where that was measured.
        curves: ROC, precision-recall and thresholds of the systems that have predictions.
        disagreements: Lesions on which those systems disagree most.
        lesions: What tells the test set's lesions from those of another.
    """

    schema: Annotated[int, Meta(ge=1, le=VERSION)]
    tool: str
    created: str
    settings: Settings
    machine: Machine
    inputs: tuple[InputFile, ...]
    entries: tuple[Entry, ...]
    scores: tuple[Scores, ...] = ()
    unscored: str = ""
    missing: dict[str, str] = {}
    left_out: dict[str, str] = {}
    claims: tuple[Verdict, ...] = ()
    clinical: Clinical | None = None
    audit: Audit | None = None
    profile: Profile | None = None
    curves: Curves | None = None
    disagreements: Disagreements | None = None
    lesions: Lesions | None = None

    def entry(self, system: str) -> Entry | None:
        """The system of that name, if it is in this record."""
        return next((entry for entry in self.entries if entry.card.name == system), None)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Paired differences of all systems by the clinical protocol; none where it was not asked for."""
        return tuple(
            each for scores in self.scores if scores.protocol == "clinical" for each in scores.differences
        )

    def scored(self, system: str, protocol: str) -> SystemScores | None:
        """The scores of a system by a protocol, if there are any."""
        found = (
            s
            for scores in self.scores
            if scores.protocol == protocol
            for s in scores.systems
            if s.system == system
        )
        return next(found, None)


class _Version(msgspec.Struct):
    schema: int
    tool: str = "an unknown version"


def save(record: Record, path: Path) -> None:
    """Writes a record, after reading back what would be written.

    Raises:
        MachineError: The file cannot be written.
    """
    encoded = msgspec.json.format(msgspec.json.encode(record), indent=1)
    decode(encoded, str(path))
    write(path, encoded + b"\n")


def load(path: Path) -> Record:
    """Reads a record.

    Raises:
        InputError: There is no such file, it is not a record, or a newer version wrote it.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return decode(encoded, str(path))


def decode(encoded: bytes, where: str) -> Record:
    """A record from its JSON.

    Raises:
        InputError: It is not a record, or a newer version wrote it.
    """
    try:
        version = msgspec.json.decode(encoded, type=_Version)
        if version.schema > VERSION:
            raise InputError(
                f"{where}: is a record of schema {version.schema} and this version reads up to {VERSION}; "
                f"use melanoma-zoo {version.tool} or newer"
            )
        return msgspec.json.decode(encoded, type=Record)
    except msgspec.DecodeError as error:
        raise InputError(f"{where}: is not a record: {error}") from error


def schema() -> bytes:
    """The JSON Schema of a record."""
    return msgspec.json.format(msgspec.json.encode(_undented(msgspec.json.schema(Record))), indent=1) + b"\n"


def _undented(part: Any) -> Any:
    """A schema with descriptions as they are read: versions of Python and of msgspec indent them in their own ways."""
    if isinstance(part, list):
        return [_undented(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: cleandoc(value) if key == "description" and isinstance(value, str) else _undented(value)
        for key, value in part.items()
    }


if __name__ == "__main__":
    write(Path(__file__).with_name("record.schema.json"), schema())
