"""The record that `profile` starts from: cards and their counts, nothing measured yet.

As plain data: it is made from cards where this project is installed, or read from a file that was
made there, and then the standard library is enough. `python -m reports.base` writes that file anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import worker
from benchmarks.lines import Network, Target
from zoo.errors import InputError, UnknownNameError, UsageError
from zoo.files import write

if TYPE_CHECKING:
    from benchmarks.profile import Progress
    from zoo.card import System

COUNTS = Path(__file__).with_name("results") / "counts.json"
"""Cards and counts of all systems of this project."""

Base = dict[str, Any]
"""A record as plain data (`reports.record.Record`)."""


def counted(cards: Sequence[System], progress: Progress | None = None) -> Base:
    """Counts systems, for a record that nothing was measured for yet.

    Raises:
        MelanomaZooError: A card cannot be built or counted.
    """
    import msgspec

    from reports.comparison import compare
    from reports.record import Settings

    settings = Settings(
        rule="networks", protocol="clinical", resamples=1000, seed=0, latency="off", device="auto"
    )
    found: Base = msgspec.to_builtins(compare(cards, settings, progress=progress))
    return found


def read(path: Path = COUNTS) -> Base:
    """Reads a record that was made elsewhere.

    Raises:
        InputError: There is no such file, or it is not a record with cards and counts.
    """
    try:
        found: Base = json.loads(path.read_bytes())
        absent = left_out(found)
        for entry in found["entries"]:
            if entry["card"]["name"] in absent:
                continue
            for network in _target(entry, None, worker.STANDARD).networks:
                assert network.member.keys() >= {"name", "backbone", "size", "classes"}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise InputError(f"{path}: is not a record with cards and counts; make one with compare") from error
    return found


def only(base: Base, names: Sequence[str]) -> Base:
    """A record with some of its systems, by name or alias; all of them where none is named.

    Raises:
        UnknownNameError: It has no such system.
    """
    if not names:
        return base
    known = {_plain(name): entry for entry in base["entries"] for name in _names(entry["card"])}
    unknown = [name for name in names if _plain(name) not in known]
    if unknown:
        have = ", ".join(entry["card"]["name"] for entry in base["entries"])
        raise UnknownNameError(f"no system is called {unknown[0]!r}; the record has {have}")
    wanted = [known[_plain(name)]["card"]["name"] for name in names]
    return {**base, "entries": [each for each in base["entries"] if each["card"]["name"] in wanted]}


def left_out(base: Base) -> dict[str, str]:
    """Why systems of a record cannot be profiled, by name: those without a network, or without counts of it."""
    told = base.get("missing", {})
    cards = [entry["card"] for entry in base["entries"] if not entry["members"]]
    return {
        card["name"]: told.get(card["name"], "not counted") if card["members"] else "it has no network"
        for card in cards
    }


def targets(
    base: Base,
    *,
    member: str | None = None,
    builder: Callable[[str], str | None] = lambda _: worker.STANDARD,
) -> list[Target]:
    """The systems of a record as what is to be profiled, without those that cannot be (`left_out`).

    Args:
        base: The record.
        member: Only this member, by index or name; of a single system.
        builder: What makes a system's networks, as `module:function`; None where no other process
            can import it.

    Raises:
        UnknownNameError: The system has no such member.
        UsageError: A member is named for several systems, a builder cannot be imported elsewhere, or no system is left.
    """
    absent = left_out(base)
    entries = [entry for entry in base["entries"] if entry["card"]["name"] not in absent]
    if not entries:
        why = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise UsageError(f"no network to run: {why or 'the record holds no system'}")
    if member is not None and len(entries) != 1:
        raise UsageError(f"--member is for one system, not {len(entries)}: name the system too")
    return [_target(entry, member, builder(entry["card"]["name"])) for entry in entries]


def _target(entry: dict[str, Any], member: str | None, builder: str | None) -> Target:
    card = entry["card"]
    if builder is None:
        raise UsageError(
            f"{card['name']}: another process cannot import its builder; put it into a module of its own"
        )
    networks = [
        Network(
            member=fields,
            macs=counted["operations"]["macs"],
            weight_bytes=counted["operations"]["weight_bytes"],
        )
        for fields, counted in zip(card["members"], entry["members"], strict=True)
    ]
    views = card.get("views", {})
    return Target(
        name=card["name"],
        title=card["title"],
        networks=tuple(networks if member is None else [_member(card["name"], networks, member)]),
        folds=card["folds"],
        views=len(views.get("transforms", ["identity"])) * views.get("crops", 1),
        builder=builder,
        whole=member is None,
    )


def _member(system: str, networks: Sequence[Network], wanted: str) -> Network:
    for index, network in enumerate(networks):
        if wanted in (str(index), network.member["name"]):
            return network
    listed = ", ".join(f"{index} {network.member['name']}" for index, network in enumerate(networks))
    raise UnknownNameError(f"{system} has no member {wanted!r}; its members are: {listed}")


def _names(card: dict[str, Any]) -> list[str]:
    return [card["name"], card["title"], *card.get("aliases", ())]


def _plain(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


if __name__ == "__main__":
    import zoo
    from reports.cards import in_order
    from reports.terminal import progress

    with progress() as step:
        made = counted(in_order([zoo.card(name) for name in zoo.systems()]), step)
    write(COUNTS, json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
