"""`new`: the card of a system of your own, with what each line means, and a builder where it needs one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

import zoo
from zoo.card import Preprocess
from zoo.errors import UnknownNameError, UsageError
from zoo.files import sha256, write
from zoo.reading import parse
from zoo.reference_options import number


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What `new` was told.

    Attributes:
        name: Of the system.
        backbone: Model of timm; empty for an architecture of your own.
        size: Side of the square input in pixels; timm's own where None.
        classes: Names of the classes, in the order of the outputs.
        melanoma: Index of melanoma among them.
        weights: The trained file, where there is one.
        source: Where the system is described.
        package: Package that the builder will be in; a file beside the card where empty.
    """

    name: str
    backbone: str = ""
    size: int | None = None
    classes: tuple[str, ...] = ("other", "MEL")
    melanoma: int = 1
    weights: Path | None = None
    source: str = ""
    package: str = ""


def class_names(text: str, melanoma: int | None) -> tuple[tuple[str, ...], int]:
    """Classes from a number or from names with commas.

    Raises:
        UsageError: It cannot be told which is melanoma, or there are too many.

    >>> class_names("BCC,MEL,NV", None)
    (('BCC', 'MEL', 'NV'), 1)
    >>> class_names("3", 0)
    (('MEL', 'class_1', 'class_2'), 0)
    """
    if not text.isdecimal():
        names = tuple(name.strip() for name in text.split(","))
        if melanoma is None and "MEL" in names:
            melanoma = names.index("MEL")
        if melanoma is None or not 0 <= melanoma < len(names):
            raise UsageError(f"classes {text}: call melanoma MEL, or say its index from 0 with --melanoma")
    else:
        count = number("new", {"classes": text}, "classes", 2)
        names = tuple(f"class_{index}" for index in range(count))
        melanoma = (len(names) - 1 if len(names) <= 2 else None) if melanoma is None else melanoma
        if melanoma is None or not 0 <= melanoma < len(names):
            raise UsageError(f"{text} classes: say which is melanoma, from 0, with --melanoma")
        names = ("other", "other") if len(names) == 2 else names
    return (*names[:melanoma], "MEL", *names[melanoma + 1 :]), melanoma


def create(answers: Answers, folder: Path, *, force: bool = False) -> list[Path]:
    """Writes the card, and a builder for an architecture of your own.

    Returns:
        The files that were written, the card first.

    Raises:
        UsageError: The name is taken or no name, or a file is there already.
        CardError: The answers make no valid card.
        MachineError: A file cannot be written.
    """
    _free(answers.name)
    module = f"{answers.package}.{answers.name}" if answers.package else f"{answers.name}_network"
    files = {folder / f"{answers.name}.toml": card_text(answers, module)}
    if not answers.backbone:
        files[folder / f"{module.rpartition('.')[2]}.py"] = _BUILDER.format(name=answers.name)
    parse(next(iter(files.values())), f"{answers.name}.toml")
    if there := [path for path in files if path.exists() and not force]:
        raise UsageError(f"{there[0]}: is there already; choose another name, or --force to replace it")
    for path, text in files.items():
        write(path, text)
    return list(files)


def card_text(answers: Answers, module: str) -> str:
    """The text of a card."""
    if answers.backbone:
        model = zoo.card(f"timm:{answers.backbone}").members[0]
        size = answers.size or model.size
        reference = (
            f"timm:{answers.backbone},size={size},classes={len(answers.classes)},melanoma={answers.melanoma}"
        )
        member = zoo.card(reference).members[0]
        made = _TIMM.format(backbone=_toml(answers.backbone))
        preprocess = member.preprocess
    else:
        size = answers.size or 224
        made = _OWN.format(builder=_toml(f"{module}:build"))
        preprocess = Preprocess(
            resize=size, keep_shape=True, crop=size, interpolation="bicubic", antialias=True
        )
    pinned = ""
    file = f"{answers.name}.pth"
    if answers.weights:
        file = answers.weights.name
        pinned = f"\n[checkpoints.sha256]\n{_toml(file)} = {_toml(sha256(answers.weights))}\n"
    lines = {key: value for key, value in msgspec.to_builtins(preprocess).items() if value is not None}
    return _CARD.format(
        name=_toml(answers.name),
        title=_toml(answers.name.replace("_", " ").capitalize()),
        summary=_toml(f"{answers.backbone or 'A network'} for {len(answers.classes)} classes at {size} px."),
        made=made,
        member=_toml(answers.name),
        size=size,
        classes=_toml(list(answers.classes)),
        melanoma=answers.melanoma,
        preprocess="\n".join(f"{key} = {_toml(value)}" for key, value in lines.items()),
        file=_toml(file),
        pinned=pinned,
        source=_toml(answers.source or "Not published"),
        url=_toml(answers.source or "unpublished"),
    )


def _free(name: str) -> None:
    import re

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is no name of a system: small letters, digits and _, a letter first")
    try:
        found = zoo.card(name)
    except UnknownNameError:
        return
    raise UsageError(f"the name {name!r} is taken by {found.name} ({zoo.origin(found.name)}); choose another")


def _toml(value: object) -> str:
    """A value as TOML writes it; for these kinds that is what JSON does."""
    return json.dumps(list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value, ensure_ascii=False)  # fmt: skip


_CARD = """\
# What this system is. docs/cards.md explains every key.
schema = 1
name = {name}
title = {title} # its name in tables
group = "own"
summary = {summary}
folds = 1 # trainings of each network, averaged
# aliases = ["Another name"] # names of prediction files, among others

[[members]]
name = {member}
{made}
size = {size} # side of the square input, in pixels
classes = {classes} # in the order of the outputs
melanoma = {melanoma} # index of MEL among them

# From the decoded image to the input. It must be what the network was trained with.
[members.preprocess]
{preprocess}

# Test-time views: the image itself. For all eight flips and transposes see docs/cards.md.
[views]
transforms = ["identity"]

[checkpoints]
layout = "ours" # keys are the network's own
pattern = {file} # with {{member}} and {{fold}} where there are several
{pinned}
# What it was trained on, so that a reader can look for the test set in it.
# [[trained_on]]
# name = "ISIC 2019"

[[sources]]
title = {source}
url = {url}
"""

_TIMM = """\
backbone = {backbone} # a model of timm
network = "timm" # timm's model with its own head: files have timm's keys"""

_OWN = """\
network = {builder} # the function that makes it"""

_BUILDER = '''\
"""The network of {name}."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from zoo.card import Member


class Network(nn.Module):
    """Replace the layers by yours; images (N, 3, size, size) become logits (N, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(16, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.head(self.features(image))


def build(member: Member) -> nn.Module:
    """Makes the network of a member of the card, with random weights."""
    return Network(len(member.classes))
'''
