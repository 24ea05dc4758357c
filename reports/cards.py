"""Cards as tables: the list of systems, and one system in full."""

from __future__ import annotations

from collections.abc import Sequence

from reports.render import Table
from zoo import origin
from zoo.card import Member, System
from zoo.errors import MelanomaZooError

_ORDER = {"attention": 0, "baseline": 1, "winner": 3}


def in_order(systems: Sequence[System]) -> list[System]:
    """Each system once, in the order of the tables: attention networks, baseline, others, winners."""
    once = {system.name: system for system in systems}.values()
    return sorted(once, key=lambda system: _ORDER.get(system.group, 2))


def listing(systems: Sequence[System]) -> Table:
    """A row per system."""
    return Table(
        title="Systems",
        headers=("Name", "Group", "Networks", "Input px", "What it is"),
        rows=tuple(
            (
                system.name,
                system.group,
                f"{len(system.members)} × {system.folds}" if system.members else "scores alone",
                _range([member.size for member in system.members]),
                system.summary,
            )
            for system in systems
        ),
        notes=("Networks: members × folds. `melanoma-zoo show NAME` tells all of one.",),
        align="llrrl",
    )


def _origin(name: str) -> str:
    """Where a card comes from; nothing of a record that was made elsewhere, whose file or plugin is not here."""
    try:
        return origin(name)
    except MelanomaZooError:
        return ""


def full(system: System) -> list[Table]:
    """All that a card says, as tables."""
    facts = [
        ("group", system.group),
        ("card from", "" if (where := _origin(system.name)) in ("melanoma-zoo", system.name) else where),
        ("also called", ", ".join(system.aliases)),
        ("networks", f"{len(system.members)} × {system.folds} (members × folds)"),
        ("views", _views(system)),
        ("blend of members", _BLENDS[system.blend.members]),
        ("scores are", {"probability": "probabilities", "rank": "ranks, not probabilities"}[system.output]),
    ]
    if not system.members:
        facts = facts[:2]
    if system.checkpoints:
        files = system.checkpoints
        facts += [
            ("checkpoint files", files.pattern),
            ("stages", ", ".join(files.stages)),
            ("key layout", files.layout),
            ("files from", files.source or "not public"),
        ]
    facts += [
        (f"trained on {t.name}", ", ".join(filter(None, (_LABELS[t.labels], t.note))))
        for t in system.trained_on
    ]
    facts += [
        ("published scores", f"{p.file} ({p.kind}){': ' + p.note if p.note else ''}")
        for p in system.predictions
    ]
    facts += [(f"{p.file} departs", departure) for p in system.predictions for departure in p.departures]
    facts += [(f"input: {f.name}", _feature(f.definition, f.whole_test_set)) for f in system.metadata]
    orders = dict.fromkeys(member.classes for member in system.members)
    facts += [(f"{len(classes)} classes", ", ".join(classes)) for classes in orders]
    facts += [("limit", limit) for limit in system.limits]
    facts += [(f"{a.kind}: {a.about}", a.statement) for a in system.assumptions]
    facts += [("source", " · ".join(filter(None, (s.title, s.url, s.licence)))) for s in system.sources]
    tables = [
        Table(
            f"{system.title}: {system.summary}",
            ("", ""),
            tuple(fact for fact in facts if fact[1]),
            align="ll",
        ),
        Table(
            "Members",
            (
                "",
                "Name",
                "Backbone",
                "Attention",
                "Input px",
                "Preprocessing",
                "Classes",
                "Melanoma",
                "Metadata",
            ),
            tuple(_member(index, member) for index, member in enumerate(system.members)),
            align="rlllrlrrl",
        ),
        *_printed(system),
    ]
    return tables if system.members else [tables[0], *tables[2:]]


_LABELS = {"diagnosis": "with its diagnoses", "pseudo": "with pseudo-labels"}
_BLENDS = {"mean": "mean of probabilities", "rank_mean": "mean of percentile ranks over the test set"}


def _member(index: int, member: Member) -> tuple[str, ...]:
    attention = "; ".join(f"{a.module} after {', '.join(map(str, a.after))}" for a in member.attention)
    metadata = member.metadata
    return (
        str(index),
        member.name,
        _made_of(member) + (" + GeM" if member.pool == "gem" else ""),
        attention or "–",
        str(member.size),
        _preprocess(member),
        str(len(member.classes)),
        str(member.melanoma),
        f"{metadata.features} → {metadata.hidden} → {metadata.out}" if metadata else "–",
    )


def _made_of(member: Member) -> str:
    """The backbone; where the network is of another kind, what makes it too."""
    if member.network == "assembled":
        return member.backbone
    by = member.file or member.network
    return f"{member.backbone} ({by})" if member.backbone else by


def _preprocess(member: Member) -> str:
    smooth = "antialiased " if member.preprocess.antialias else ""
    short = "short side " if member.preprocess.keep_shape else ""
    steps = [f"{smooth}{member.preprocess.interpolation} to {short}{member.preprocess.resize or member.size}"]
    if member.preprocess.crop:
        steps.append(f"centre crop {member.preprocess.crop}")
    steps.append("[0, 1]" if member.preprocess.std == (1, 1, 1) else "mean/std")
    return ", ".join(steps)


def _views(system: System) -> str:
    views = system.views
    if views.crops > 1:
        return f"up to {views.crops} square crops along the long side, {views.average} averaged"
    if views.distinct == 1:
        return "the image itself"
    repeated = (
        f" ({views.published} computed as published, some twice)" if views.published > views.distinct else ""
    )
    return f"{views.distinct} flips and transposes{repeated}, {views.average} averaged"


def _feature(definition: str, whole_test_set: bool) -> str:
    return definition + (" (depends on the whole test set)" if whole_test_set else "")


def _printed(system: System) -> list[Table]:
    if not system.expected:
        return []
    rows = tuple(
        (figure.metric, f"{figure.value:g}", figure.test_set, figure.source, figure.note)
        for figure in system.expected
    )
    return [
        Table(
            "As printed, not computed here",
            ("Metric", "Value", "Measured on", "Printed by", "Note"),
            rows,
            align="lrlll",
        )
    ]


def _range(sizes: Sequence[int]) -> str:
    if not sizes:
        return "–"
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low}–{high}"
