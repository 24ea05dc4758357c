"""Finding systems: by name, alias or pattern, in this package and in what others register."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from natsort import natsorted

from zoo import plugins, references
from zoo.card import Member, System
from zoo.errors import MelanomaZooError, UnknownNameError, UsageError
from zoo.reading import checked, parse, read

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[[Member], "nn.Module"]
"""Makes the network of a member, with random weights."""

_registered: dict[str, System] = {}
_builders: dict[str, Builder] = {}
_folders: dict[str, tuple[System, str]] = {}


def systems(pattern: str = "*", group: str | None = None) -> list[str]:
    """Names of the systems, in natural order.

    Args:
        pattern: Shell pattern that the name must match. One that begins as a reference does
            (`timm:convnext*`) is of models of timm, or a single file.
        group: Only systems of this group.

    >>> systems("s*_b3")
    ['s2_cbam_b3', 's2_mlp_b3', 'sge_b3', 'spatial_b3']
    >>> systems(group="winner")
    ['first_place', 'second_place', 'third_place']
    """
    if references.scheme(pattern):
        return [name for name in references.matching(pattern) if group in (None, card(name).group)]
    found = [
        name
        for name, system in _all().items()
        if fnmatchcase(name, pattern) and group in (None, system.group)
    ]
    return natsorted(found)


def card(name: str) -> System:
    """The card of a system, by its name or an alias (case and `-`/`_`/space do not matter).

    A reference (`zoo.references`), such as `timm:resnet18` or `onnx:model.onnx`, is made into a card.

    Raises:
        UnknownNameError: There is none; the message has the nearest names.
        MelanomaZooError: As of `zoo.references.resolve`.

    >>> card("SGE-B3").name
    'sge_b3'
    """
    if name in _registered:
        return _registered[name]
    if references.scheme(name.strip()):
        return references.resolve(name)
    wanted = _plain(name)
    for system in _all().values():
        if wanted in _names(system):
            return system
    spellings = {spelling: system.name for system in _all().values() for spelling in _names(system)}
    near = difflib.get_close_matches(wanted, spellings, n=6, cutoff=0.5)
    suggestions = list(dict.fromkeys(spellings[spelling] for spelling in near))[:3]
    if meant := references.of_file(name):
        suggestions = [meant]
    hint = (
        f"did you mean {', '.join(suggestions)}?"
        if suggestions
        else f"systems: {', '.join(systems())}, and {', '.join(f'{scheme}:' for scheme in references.SCHEMES)} with a name"
    )
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


def origin(name: str) -> str:
    """Where a system's card comes from: `melanoma-zoo`, a plugin, a folder, `code`, or its own name for a reference.

    Raises:
        UnknownNameError: There is no such system.

    >>> origin("sge_b3")
    'melanoma-zoo'
    """
    found = card(name).name
    if found in _registered:
        return "code"
    if references.scheme(found):
        return found
    return next((known[found][1] for known in (_folders, _installed()) if found in known), "melanoma-zoo")


def add_folder(folder: Path | str) -> list[System]:
    """Adds the cards of a folder for as long as the program runs.

    A card that is broken, or whose name is taken, is named on the log and left out.

    Args:
        folder: Holds cards, and perhaps Python files with the builders that they name.

    Returns:
        The systems that were added.

    Raises:
        InputError: There is no such folder, or no card in it.
    """
    added: list[System] = []

    def take(system: System, where: str) -> None:
        if {**_installed(), **_folders}.get(system.name, (None, ""))[1] != where:
            _refuse_taken(system, _all())
        _folders[system.name] = system, where
        added.append(system)

    plugins.add(plugins.in_folder(Path(folder)), take)
    return added


def usable(names: Sequence[str]) -> list[str]:
    """Those of some systems whose builders can be imported; the others are named on the log.

    A system of this package is never left out.
    """
    kept = []
    for name in names:
        system = card(name)
        try:
            for member in system.members:
                if ":" in member.network:
                    from zoo.kinds import imported

                    imported(member)
        except MelanomaZooError as error:
            plugins.leave_out(name, error)
            continue
        kept.append(name)
    return kept


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
    others = {name: other for name, other in _all().items() if not (replace and name == system.name)}
    _refuse_taken(system, others, "; choose another, or pass replace=True for the same system")
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


def _refuse_taken(system: System, others: Mapping[str, System], mend: str = "; choose another") -> None:
    for other in others.values():
        if shared := _names(system) & _names(other):
            taken = system.name if _plain(system.name) in shared else min(shared)
            raise UsageError(f"{system.name}: the name {taken!r} is taken by {other.name}{mend}")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


def _names(system: System) -> set[str]:
    return {_plain(name) for name in (system.name, system.title, *system.aliases)}


def _all() -> dict[str, System]:
    outside = {name: system for known in (_installed(), _folders) for name, (system, _) in known.items()}
    return {**_own(), **outside, **_registered}


@cache
def _installed() -> dict[str, tuple[System, str]]:
    found: dict[str, tuple[System, str]] = {}

    def take(system: System, where: str) -> None:
        _refuse_taken(system, {**_own(), **{name: other for name, (other, _) in found.items()}})
        found[system.name] = system, where

    plugins.add(plugins.installed(), take)
    plugins.add(plugins.in_environment(), take)
    return found


@cache
def _own() -> dict[str, System]:
    cards = resources.files("zoo") / "cards"
    files = sorted((file for file in cards.iterdir() if file.name.endswith(".toml")), key=lambda f: f.name)
    found = [parse(file.read_text(encoding="utf-8"), f"zoo/cards/{file.name}") for file in files]
    return {system.name: system for system in found}
