"""Finding systems: by name, alias or pattern, in this package and in what others register."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from natsort import natsorted

from zoo.card import Member, System, checked, parse, read
from zoo.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[[Member], "nn.Module"]
"""Makes the network of a member, with random weights."""

_registered: dict[str, System] = {}
_builders: dict[str, Builder] = {}


def systems(pattern: str = "*", group: str | None = None) -> list[str]:
    """Names of the systems, in natural order.

    Args:
        pattern: Shell pattern that the name must match.
        group: Only systems of this group.

    >>> systems("s*_b3")
    ['s2_cbam_b3', 's2_mlp_b3', 'sge_b3', 'spatial_b3']
    >>> systems(group="winner")
    ['first_place', 'second_place', 'third_place']
    """
    found = [
        name
        for name, system in _all().items()
        if fnmatchcase(name, pattern) and group in (None, system.group)
    ]
    return natsorted(found)


def card(name: str) -> System:
    """The card of a system, by its name or an alias (case and `-`/`_`/space do not matter).

    Raises:
        UnknownNameError: There is none; the message has the nearest names.

    >>> card("SGE-B3").name
    'sge_b3'
    """
    wanted = _plain(name)
    for system in _all().values():
        if wanted in _names(system):
            return system
    spellings = {spelling: system.name for system in _all().values() for spelling in _names(system)}
    near = difflib.get_close_matches(wanted, spellings, n=6, cutoff=0.5)
    suggestions = list(dict.fromkeys(spellings[spelling] for spelling in near))[:3]
    hint = f"did you mean {', '.join(suggestions)}?" if suggestions else f"systems: {', '.join(systems())}"
    raise UnknownNameError(f"no system is called {name!r}; {hint}")


def build(name: str, member: int | str | None = None, *, seed: int = 0) -> nn.Module:
    """A member's network in eval mode, with random weights.

    Args:
        name: The system.
        member: Which of its networks, by index or kernel name; the first where None.
        seed: Seed of the random weights; the global generator is left as it was.

    Returns:
        A module that maps images (N, 3, size, size), and for members with a metadata branch
        features (N, features), to logits (N, classes).

    Raises:
        UnknownNameError: There is no such system or member.
    """
    import torch

    from zoo.networks import assemble

    system = card(name)
    make = builder(system.name) or assemble
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(system.member(member)).eval()


def builder(name: str) -> Builder | None:
    """What makes the networks of a system; None where it is the standard assembly.

    Raises:
        UnknownNameError: There is no such system.
    """
    return _builders.get(card(name).name)


def register(entry: System | Path | str, build: Builder | None = None, *, replace: bool = False) -> System:
    """Adds a system of your own.

    Args:
        entry: A card, or the path of its TOML file.
        build: Makes the networks of its members, where the standard assembly (a timm
            backbone, attention modules, a linear head) is not what you have.
        replace: Allow a name that is taken.

    Returns:
        The card.

    Raises:
        CardError: The file is not a valid card.
        UsageError: A name or alias is taken.
    """
    system = checked(entry) if isinstance(entry, System) else read(Path(entry))
    for other in _all().values():
        shared = _names(system) & _names(other)
        if shared and not (replace and other.name == system.name):
            taken = system.name if _plain(system.name) in shared else min(shared)
            raise UsageError(
                f"{system.name}: the name {taken!r} is taken by {other.name}; "
                "choose another, or pass replace=True for the same system"
            )
    _registered[system.name] = system
    _builders.pop(system.name, None)
    if build is not None:
        _builders[system.name] = build
    return system


def unregister(name: str) -> None:
    """Takes back what `register` added; a system of this package that it replaced is back.

    Raises:
        UnknownNameError: There is no such system.
    """
    found = card(name).name
    _registered.pop(found, None)
    _builders.pop(found, None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


def _names(system: System) -> set[str]:
    return {_plain(name) for name in (system.name, system.title, *system.aliases)}


def _all() -> dict[str, System]:
    return {**_own(), **_registered}


@cache
def _own() -> dict[str, System]:
    cards = resources.files("zoo") / "cards"
    files = sorted((file for file in cards.iterdir() if file.name.endswith(".toml")), key=lambda f: f.name)
    found = [parse(file.read_text(encoding="utf-8"), f"zoo/cards/{file.name}") for file in files]
    return {system.name: system for system in found}
