"""Settling: where the shapes in a trained file tell a hyper-parameter, the file decides.

The side of the convolution in spatial attention and in CBAM, and the groups of SGE, show in the
shapes of their weights. What a card says of them is then no longer an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from weights.layouts import layouts, rename
from zoo.card import Attention, Member, System
from zoo.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from weights.files import WeightFile

Shapes = Mapping[str, tuple[int, ...]]


class _Option(NamedTuple):
    """An option of an attention module, and the weight whose shape tells it."""

    name: str
    weight: str


_TOLD = {
    "cbam": _Option("kernel_size", "sa.conv.weight"),
    "spatial": _Option("kernel_size", "sa.conv.weight"),
    "sge": _Option("groups", "weight"),
}


def settle(member: Member, path: Path | str) -> tuple[Member, tuple[str, ...]]:
    """The member as its trained file has it.

    Only shapes are read, where the kind of file allows.

    Args:
        member: One network of a card.
        path: A trained file of it, of any layout.

    Returns:
        The member with the options of its attention replaced by those of the file, and the names
        of the options that the file told (`cbam.kernel_size`), equal to the card's or not. A file
        of another network tells nothing; `load` refuses it.

    Raises:
        CheckpointError: The file cannot be read, or has an option that no network of ours can have.
    """
    if not any(attention.module in _TOLD for attention in member.attention):
        return member, ()
    from weights.checkpoint import shapes

    given = shapes(path)
    attention: list[Attention] = []
    told: list[str] = []
    for each, places in _places(member):
        option = _TOLD.get(each.module)
        by_value: dict[int | None, list[int]] = {}
        for stage, place in places.items():
            key = option and _key(f"backbone.blocks.{place}.{option.weight}", given)
            value = _value(option, given[key], f"{path}: {key}") if option and key else None
            by_value.setdefault(value, []).append(stage)
        for value, stages in by_value.items():
            part = replace(each, after=tuple(stages)) if len(by_value) > 1 else each
            if option is not None and value is not None:
                told.append(f"{each.module}.{option.name}")
                part = replace(part, options={**part.options, option.name: value})
            attention.append(part)
    return replace(member, attention=tuple(attention)), tuple(dict.fromkeys(told))


def settled(system: System, files: Sequence[WeightFile]) -> System:
    """The card as its trained files have it, with the assumptions marked that they settle.

    Raises:
        CheckpointError: As of `settle`, and where folds of a member disagree.
    """
    members: dict[str, Member] = {}
    told: dict[str, set[str]] = {}
    first: dict[str, Path] = {}
    for file in files:
        member, options = settle(system.member(file.member), file.path)
        if member != members.setdefault(file.member, member):
            raise CheckpointError(
                f"{first[file.member]} and {file.path} have different attention, but folds of {file.member} "
                f"share one: {_said(members[file.member], options)} and {_said(member, options)}"
            )
        first.setdefault(file.member, file.path)
        told[file.member] = told.get(file.member, set(options)) & set(options)

    def value(option: str) -> str:
        """What the files say of an option, if those of every member that has it say something."""
        having = [member for member in system.members if option in _options(member)]
        if not all(option in told.get(member.name, ()) for member in having):
            return ""
        values = sorted({v for member in having for v in _options(members[member.name])[option]})
        return f"{_listed(option, values)} in the trained files"

    return replace(
        system,
        members=tuple(members.get(member.name, member) for member in system.members),
        assumptions=tuple(
            replace(each, settled=value(each.option)) if each.option else each for each in system.assumptions
        ),
    )


class Change(NamedTuple):
    """A module of a network and how it must become for a file to fit."""

    name: str
    module: nn.Module
    wanted: nn.Module

    def apply(self) -> None:
        """Makes it so, in place."""
        from zoo.attention import SpatialGate, SpatialGroupEnhance

        if isinstance(self.module, SpatialGate) and isinstance(self.wanted, SpatialGate):
            self.module.conv = self.wanted.conv
        if isinstance(self.module, SpatialGroupEnhance) and isinstance(self.wanted, SpatialGroupEnhance):
            self.module.groups = self.wanted.groups
            self.module.weight, self.module.bias = self.wanted.weight, self.wanted.bias


def changes(network: nn.Module, given: Shapes) -> list[Change]:
    """What to change in a network for the shapes of a file, by our keys, to fit.

    Nothing of the network is changed yet.

    Raises:
        CheckpointError: The file has an option that no network of ours can have.
    """
    from zoo.attention import SpatialGate, SpatialGroupEnhance

    found = []
    for name, module in network.named_modules():
        start = f"{name}." if name else ""
        if isinstance(module, SpatialGate):
            now, key = module.conv.weight, f"{start}conv.weight"
        elif isinstance(module, SpatialGroupEnhance):
            now, key = module.weight, f"{start}weight"
        else:
            continue
        shape = given.get(key)
        if shape is None or shape == tuple(now.shape):
            continue
        option = _TOLD["spatial" if isinstance(module, SpatialGate) else "sge"]
        value = _value(option, shape, key)
        if value is None:
            continue
        try:
            wanted = (
                SpatialGate(value)
                if isinstance(module, SpatialGate)
                else SpatialGroupEnhance(module.channels, value)
            )
        except ValueError as error:
            raise CheckpointError(f"{key}: {error}") from error
        wanted.to(device=now.device, dtype=now.dtype).train(module.training).requires_grad_(now.requires_grad)
        found.append(Change(name, module, wanted))
    return found


def _places(member: Member) -> list[tuple[Attention, dict[int, int]]]:
    """Each attention of a member and, by the stage that it follows, its index among the blocks."""
    found: list[tuple[Attention, dict[int, int]]] = [(attention, {}) for attention in member.attention]
    place = 0
    for stage in range(1 + max(max(attention.after) for attention in member.attention)):
        place += 1
        for attention, places in found:
            if stage in attention.after:
                places[stage] = place
                place += 1
    return found


def _key(ours: str, given: Shapes) -> str | None:
    """What a file calls a key of ours, under whichever layout it has it."""
    for layout in layouts():
        if layout != "keras":
            (key,) = rename([ours], layout)
            if key in given:
                return key
    return None


def _value(option: _Option, shape: tuple[int, ...], where: str) -> int | None:
    """The option by the shape of its weight; None where it is no such weight."""
    if option.name == "groups":
        return shape[1] if len(shape) == 4 and shape == (1, shape[1], 1, 1) else None
    if len(shape) != 4 or shape[:2] != (1, 2):
        return None
    height, width = shape[2:]
    if height != width or height % 2 == 0:
        raise CheckpointError(
            f"{where}: a kernel of {height}x{width}, but spatial attention has a square one of an odd side, "
            "so that the map keeps its size; is it a file of another network?"
        )
    return height


def _said(member: Member, options: Sequence[str]) -> str:
    """Some options of a member's attention, in words."""
    return ", ".join(_listed(option, sorted(_options(member)[option])) for option in options)


def _listed(option: str, values: Sequence[int]) -> str:
    return f"{option} is {', '.join(map(str, values))}"


def _options(member: Member) -> dict[str, set[int]]:
    """The values of each option of a member's attention."""
    found: dict[str, set[int]] = {}
    for attention in member.attention:
        for option, value in attention.options.items():
            found.setdefault(f"{attention.module}.{option}", set()).add(value)
    return found
