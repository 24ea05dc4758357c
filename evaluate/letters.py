"""Compact letter display: systems that cannot be told apart share a letter."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from itertools import count
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def letters(systems: Sequence[T], separable: Collection[frozenset[T]]) -> dict[T, str]:
    """Letters such that two systems share one if, and only if, they cannot be told apart.

    Insert and absorb (Piepho 2004, doi 10.1198/1061860043515): start with one group of all; for
    each pair that can be told apart, split every group that holds both, and drop the groups that
    lie within another.

    Args:
        systems: Best first: the letter `a` then goes to the best, and those like it.
        separable: The pairs that can be told apart.

    >>> letters(["x", "y", "z"], [frozenset(("x", "z"))])
    {'x': 'a', 'y': 'ab', 'z': 'b'}
    """
    groups = [frozenset(systems)] if systems else []
    for pair in separable:
        split = [part for group in groups if pair <= group for part in (group - {one} for one in pair)]
        kept = [group for group in groups if not pair <= group]
        for part in split:
            if not any(part <= group for group in kept):
                kept = [*(group for group in kept if not group <= part), part]
        groups = kept
    order = sorted(groups, key=lambda group: [place for place, each in enumerate(systems) if each in group])
    names = dict(zip(order, (_letter(number) for number in count()), strict=False))
    return {each: "".join(name for group, name in names.items() if each in group) for each in systems}


def _letter(number: int) -> str:
    """A mark of its own for each group, however many there are.

    >>> _letter(0), _letter(25), _letter(26), _letter(53)
    ('a', 'z', 'a1', 'b2')
    """
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    lap, place = divmod(number, len(alphabet))
    return alphabet[place] + (str(lap) if lap else "")
