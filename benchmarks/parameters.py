"""How the parameters of an ensemble are counted: three rules, none of which is the only right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.results import Operations
from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from zoo.card import System


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A counting rule.

    Attributes:
        title: Its name in tables.
        definition: What it counts, in one sentence.
        total: Adds up the members' sizes, which are in the card's order.
    """

    title: str
    definition: str
    total: Callable[[System, Sequence[int]], int]


def _weights(system: System, sizes: Sequence[int]) -> int:
    return sum(sizes) * system.folds


def _architectures(system: System, sizes: Sequence[int]) -> int:
    # The smallest head that an architecture comes with: the larger system gets the smaller figure.
    smallest: dict[str, int] = {}
    for member, size in zip(system.members, sizes, strict=True):
        smallest[member.architecture] = min(size, smallest.get(member.architecture, size))
    return sum(smallest.values())


RULES: dict[str, Rule] = {
    "networks": Rule(
        title="networks",
        definition="Every member once, as one fold of it; further folds are not counted.",
        total=lambda _, sizes: sum(sizes),
    ),
    "weights": Rule(
        title="weights at inference",
        definition="All folds of every member, as the published protocol loads them.",
        total=_weights,
    ),
    "architectures": Rule(
        title="distinct architectures",
        definition="Every distinct architecture once, with the smallest head and metadata branch it comes with, "
        "whatever the folds and input sizes.",
        total=_architectures,
    ),
}
"""The rules by name; the first is the default."""


def parameters(system: System, operations: Sequence[Operations], rule: str) -> int:
    """Parameters of a system under a rule.

    Args:
        system: The system.
        operations: Of each member, in the card's order.
        rule: One of `RULES`.

    Raises:
        UnknownNameError: There is no such rule.
    """
    return _rule(rule).total(system, [counted.parameters for counted in operations])


def weight_bytes(system: System, operations: Sequence[Operations], rule: str) -> int:
    """Bytes of a system's parameters and buffers under a rule; arguments and errors as for `parameters`."""
    return _rule(rule).total(system, [counted.weight_bytes for counted in operations])


def reduction(own: int, reference: int) -> float:
    """How much smaller `own` is than `reference`, as a share; negative where it is larger.

    >>> reduction(5, 100), reduction(3, 2)
    (0.95, -0.5)
    """
    return 1 - own / reference


def protocol_macs(system: System, operations: Sequence[Operations]) -> int:
    """Multiply-accumulates of the whole published protocol for one lesion image.

    One forward pass of every member, fold and distinct view. Where the number of crops depends
    on the image, the largest number counts.
    """
    return sum(counted.macs for counted in operations) * system.folds * system.views.distinct


def _rule(name: str) -> Rule:
    if name not in RULES:
        raise UnknownNameError(f"no counting rule is called {name!r}; rules: {', '.join(RULES)}")
    return RULES[name]
