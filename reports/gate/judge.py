"""Judging a new record against an old one."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from evaluate.findings import listed
from evaluate.paired import ALPHA, MIXED, holm
from evaluate.protocols import PROTOCOLS, title_of
from evaluate.words import many
from reports.figures import p_value
from reports.gate.pairs import Files, Paired, paired
from reports.gate.rules import Rule, check
from reports.gate.times import between_processes, not_comparable
from reports.record import Record
from reports.rows import rows
from zoo.errors import InputError

Word = Literal["pass", "warning", "regression", "not judged"]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one rule for one system, or of a check that holds for all.

    Attributes:
        what: The figure, or what was checked.
        system: The system's title; empty where it is about all.
        verdict: What became of it.
        reason: Why.
        old: The old figure.
        new: The new one.
        low: Lower end of the interval of new less old, where the paired test was made.
        high: Upper end.
    """

    what: str
    system: str = ""
    verdict: Word
    reason: str
    old: float | None = None
    new: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float | None:
        """The new figure less the old one."""
        return None if self.old is None or self.new is None else self.new - self.old


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All that was judged."""

    judged: tuple[Judged, ...]

    @property
    def verdict(self) -> Word:
        """The gravest of all verdicts."""
        found = {each.verdict for each in self.judged}
        gravest: tuple[Word, ...] = ("regression", "not judged", "warning")
        return next((each for each in gravest if each in found), "pass")

    @property
    def exit_code(self) -> int:
        """0: pass, with warnings or without. 1: regression. 2: something could not be judged."""
        return {"pass": 0, "warning": 0, "regression": 1, "not judged": 2}[self.verdict]


def judge(
    new: Record, old: Record, rules: Sequence[Rule], files: Files | None = None,
    *, beside: tuple[Path | None, Path | None] = (None, None),
) -> Outcome:  # fmt: skip
    """Judges a new record against an old one.

    Args:
        new: The new record.
        old: The old one.
        rules: What is asked of it.
        files: The predictions of both, for the paired test.
        beside: Folders of the old and of the new record, that names of files may be relative to.

    Raises:
        InputError: A rule is on a figure that does not exist.
    """
    check(tuple(rules), new)
    found = [*_systems(new, old), *_lesions(new, old)]
    comparable = not any(each.what in (_TEST_SET, _MEASURED) and each.verdict != "pass" for each in found)
    for rule in rules:
        found += _rule(rule, new, old, files or Files(), beside, comparable)
    if not any(each.old is not None for each in found):
        found.append(Judged(what="rules", verdict="not judged", reason="no rule could compare any figure"))
    return Outcome(judged=tuple(found))


NAMES = {
    "parameters_networks": "parameters (networks)",
    "parameters_weights": "parameters (weights at inference)",
    "parameters_architectures": "parameters (distinct architectures)",
    "macs_pass": "macs of one pass",
    "macs_protocol": "macs of the protocol",
    "latency_ms": "latency of one fold",
    "energy_j": "energy for one lesion",
}
"""Names of costs for a reader."""

_TEST_SET = "test set"
_MEASURED = "scores"


def _systems(new: Record, old: Record) -> list[Judged]:
    """Nothing that was measured before may be missing."""
    found = []
    if old.scores and not new.scores:
        reason = f"nothing was measured: the new record has no scores ({new.unscored or 'none were made'})"
        found.append(Judged(what=_MEASURED, verdict="regression", reason=reason))
    for entry in old.entries:
        name, title = entry.card.name, entry.card.title
        if new.entry(name) is None:
            reason = "vanished: it is in the old record and not in the new one"
            found.append(Judged(what="system", system=title, verdict="regression", reason=reason))
        elif new.scores and _scored(old, name) and not _scored(new, name):
            why = new.missing.get(name, "no predictions")
            reason = f"its scores vanished: the new record has none ({why})"
            found.append(Judged(what="system", system=title, verdict="regression", reason=reason))
    return found


def _scored(record: Record, system: str) -> bool:
    return any(each.system == system for scores in record.scores for each in scores.systems)


def _lesions(new: Record, old: Record) -> list[Judged]:
    """Both must be scored on the same lesions, with the same labels."""
    if not new.scores or not old.scores:
        return []
    a, b = old.scores[0], new.scores[0]
    if old.lesions and new.lesions:
        if old.lesions.sha256 == new.lesions.sha256:
            return []
        if (
            old.lesions.ids
            and new.lesions.ids
            and (gone := sorted(set(old.lesions.ids) - set(new.lesions.ids)))
        ):
            known = set(gone) & set(new.scores[0].skipped)
            why = f"; {len(known)} were skipped" if known else ""
            reason = f"{many(len(gone), 'lesion')} vanished, such as {', '.join(listed(gone))}{why}"
            return [Judged(what=_TEST_SET, verdict="regression", reason=reason)]
    elif a.labels_sha256 == b.labels_sha256 and (a.n, a.positives) == (b.n, b.positives):
        return []
    elif a.labels_sha256 == b.labels_sha256 and b.n < a.n:
        reason = f"{many(a.n - b.n, 'lesion')} vanished: {b.n} of {a.n} are scored"
        return [Judged(what=_TEST_SET, verdict="regression", reason=reason)]
    reason = (
        f"test sets differ: {a.n} lesions with {a.positives} melanomas before, {b.n} with {b.positives} now"
        + (" (the lesions or their labels are others)" if (a.n, a.positives) == (b.n, b.positives) else "")
    )
    return [Judged(what=_TEST_SET, verdict="not judged", reason=reason)]


def _rule(
    rule: Rule, new: Record, old: Record, files: Files, beside: tuple[Path | None, Path | None], comparable: bool
) -> list[Judged]:  # fmt: skip
    """One rule for every system that both records have; one that can compare nothing is not met."""
    protocol = rule.protocol or _protocol(rule.metric, new, old)
    scored = rule.metric in {column.name for column in PROTOCOLS[protocol].columns}
    what = title_of(rule.metric) if scored else NAMES.get(rule.metric, rule.metric)
    names = [
        entry.card.name
        for entry in old.entries
        if fnmatchcase(entry.card.name, rule.systems) and new.entry(entry.card.name)
    ]
    if not names:
        reason = f"no system of both records is called {rule.systems}"
        return [Judged(what=rule.metric, verdict="not judged", reason=reason)]
    found = []
    added = 0
    tests: dict[str, Paired] = {}
    for name in names:
        entry = new.entry(name)
        assert entry is not None
        before, after = (_figure(record, name, rule.metric, protocol, scored) for record in (old, new))
        base = Judged(what=what, system=entry.card.title, verdict="pass", reason="", old=before, new=after)
        if before is None:
            added += after is not None
            continue  # Nothing to lose.
        if after is None:
            found.append((name, _with(base, "regression", "it has no figure any more")))
        elif scored and not comparable:
            found.append((name, _with(base, "not judged", "the test sets differ")))
        elif scored and _mixed(name, rule.metric, protocol, new, old):
            reason = f"{MIXED}; lock both or neither (--threshold-from)"
            found.append((name, _with(base, "not judged", reason)))
        elif rule.timed and (reason := not_comparable(rule, new, old, name, before)):
            found.append((name, _with(base, "not judged", reason)))
        elif rule.significant and not scored:
            found.append(
                (name, _with(base, "not judged", "only scores have a paired test; give a tolerance"))
            )
        else:
            if scored:
                try:
                    tests[name] = paired(old, new, name, rule.metric, protocol, files, beside)
                except InputError as error:
                    if rule.significant and rule.worse_by(before, after) > rule.tolerance(before):
                        found.append((name, _with(base, "not judged", f"worse, and no paired test: {error}")))
                        continue
            found.append((name, base))
    if not found:
        return [_nothing(rule, what, protocol if scored else "", added, new, old)]
    adjusted = dict(zip(tests, holm([each.p for each in tests.values()]), strict=True))
    return [
        _noted(rule, _compared(rule, each, tests.get(name), adjusted.get(name)), new, old, name)
        if not each.reason
        else each
        for name, each in found
    ]


def _mixed(system: str, metric: str, protocol: str, new: Record, old: Record) -> bool:
    """Whether the threshold of a figure is locked in one record, and not in the other."""
    scored = [record.scored(system, protocol) for record in (old, new)]
    locked = {each.metrics[metric].threshold_from == "development" for each in scored if each}
    return len(locked) > 1


def _protocol(metric: str, new: Record, old: Record) -> str:
    """The new record's protocol; where it lacks the figure or the old record, one that both were scored by."""
    asked = new.settings.protocol
    both = [
        one.protocol
        for one in sorted(new.scores, key=lambda scores: scores.protocol != asked)
        if any(one.protocol == each.protocol for each in old.scores)
        and metric in {column.name for column in PROTOCOLS[one.protocol].columns}
    ]
    return both[0] if both else asked


def _nothing(rule: Rule, what: str, protocol: str, added: int, new: Record, old: Record) -> Judged:
    """What becomes of a rule under which the old record has no figure."""
    was, now = ([each.protocol for each in record.scores] for record in (old, new))
    if protocol and was and protocol not in was:
        reason = f"scored under other protocols: {', '.join(was)} before, {', '.join(now) or 'none'} now"
        return Judged(what=what, verdict="not judged", reason=reason)
    if added:
        return Judged(what=what, verdict="pass", reason="new: the old record has no such figure")
    of = "" if rule.systems == "*" else f" of {rule.systems}"
    return Judged(what=what, verdict="not judged", reason=f"neither record has such a figure{of}")


def _with(base: Judged, verdict: Word, reason: str) -> Judged:
    return msgspec.structs.replace(base, verdict=verdict, reason=reason)


def _noted(rule: Rule, judged: Judged, new: Record, old: Record, name: str) -> Judged:
    """A verdict with what is unknown of the noise of a time; worse is a warning then, but for a rule that wants it."""
    if not (rule.timed and (unknown := between_processes(new, old, name))):
        return judged
    worse = judged.verdict == "regression" and not rule.one_round
    return _with(judged, "warning" if worse else judged.verdict, f"{judged.reason}; {unknown}")


def _compared(rule: Rule, base: Judged, test: Paired | None, p: float | None) -> Judged:
    """Whether the new figure is worse than the rule lets pass."""
    old, new = base.old, base.new
    assert old is not None
    assert new is not None
    if test:
        base = msgspec.structs.replace(base, low=test.low, high=test.high)
    worse, tolerance = rule.worse_by(old, new), rule.tolerance(old)
    if worse <= 0:
        return _with(base, "pass", "the same" if worse == 0 else "better")
    # A figure of figures: what is written as 0.02 may be computed as 0.020000000000000018.
    if worse <= tolerance + 1e-12 * max(abs(old), 1.0):
        return _with(base, "pass", f"worse by {worse:.3g}, within the tolerance of {tolerance:.3g}")
    said = f"worse by {worse:.3g}" + (f", the tolerance is {tolerance:.3g}" if tolerance else "")
    if not rule.significant:
        return _with(base, "regression", said)
    if test is None or p is None:
        return _with(
            base, "not judged", f"{said}, though the predictions are the same: other settings were used"
        )
    if p < ALPHA:
        return _with(base, "regression", f"{said}, and the paired test finds it ({p_value(p)} after Holm)")
    return _with(
        base, "pass", f"{said}, which the paired test does not tell from chance ({p_value(p)} after Holm)"
    )


def _figure(record: Record, system: str, metric: str, protocol: str, scored: bool) -> float | None:
    if scored:
        found = record.scored(system, protocol)
        return found.metrics[metric].value if found and metric in found.metrics else None
    row = next(each for each in rows(record) if each["system"] == system)
    value = row.get(metric)
    return float(value) if isinstance(value, int | float) else None
