"""Rules of the gate, read from TOML."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from evaluate.protocols import PROTOCOLS
from reports.measured import TIMED
from reports.record import Record
from reports.rows import rows
from zoo.errors import InputError

Tolerance = Annotated[float, Meta(ge=0)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a figure of some systems may not do.

    Attributes:
        metric: Name of the figure: one of a protocol, or a column of the frame.
        direction: Which way is better.
        systems: Their names, with `*` and `?`.
        absolute: How much worse is still let pass, in the figure's unit.
        relative: The same as a share of the old figure.
        significant: Whether worse counts only where the paired test on the same lesions finds it.
        one_round: Whether a worse time or energy fails the gate even where it was measured in one process; else
            that is a warning.
        protocol: The figure's protocol; where None that of the new record, or else one that both have.
    """

    metric: Annotated[str, Meta(min_length=1)]
    direction: Literal["higher", "lower"]
    systems: Annotated[str, Meta(min_length=1)] = "*"
    absolute: Tolerance | None = None
    relative: Tolerance | None = None
    significant: bool = False
    one_round: bool = False
    protocol: Literal["clinical", "paper"] | None = None

    def __post_init__(self) -> None:
        if self.absolute is not None and self.relative is not None:
            raise ValueError(f"rule on {self.metric}: give absolute or relative, not both")

    def tolerance(self, old: float) -> float:
        """How much worse than the old figure is still let pass, in its unit."""
        return abs(old) * self.relative if self.relative is not None else self.absolute or 0.0

    def worse_by(self, old: float, new: float) -> float:
        """How much worse the new figure is; negative where it is better.

        >>> Rule(metric="a", direction="lower").worse_by(2.0, 3.0)
        1.0
        """
        return new - old if self.direction == "lower" else old - new

    @property
    def timed(self) -> bool:
        """Whether the figure depends on the machine."""
        return self.metric in TIMED


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: Annotated[tuple[Rule, ...], Meta(min_length=1)]


def read_rules(path: Path | None = None) -> tuple[Rule, ...]:
    """Rules from a file, or the usual ones.

    Raises:
        InputError: The file cannot be read, or a rule is not one.
    """
    try:
        text = (path or resources.files("reports") / "gate" / "rules.toml").read_text(encoding="utf-8")
        return msgspec.toml.decode(text, type=_File).rule
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}; rules look like those in docs/ci.md") from error


def check(rules: tuple[Rule, ...], new: Record) -> None:
    """Refuses rules on figures that do not exist.

    Raises:
        InputError: There is no such figure.
    """
    from difflib import get_close_matches

    scores = {column.name for protocol in PROTOCOLS.values() for column in protocol.columns}
    known = scores | {key for row in rows(new)[:1] for key in row}
    for rule in rules:
        if rule.metric not in known:
            near = ", ".join(get_close_matches(rule.metric, sorted(known), 3)) or ", ".join(sorted(scores))
            raise InputError(f"rules: no figure is called {rule.metric!r}; did you mean {near}?")
