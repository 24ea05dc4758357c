"""From the text of a card to a system: strict, and with the line of what is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from zoo.card import Member, System
from zoo.errors import CardError


def parse(text: str, where: str = "card") -> System:
    """A system from the text of its card.

    A `[defaults]` table holds what all members share; a member's own keys win over it.

    Args:
        text: TOML.
        where: The file's name, for error messages.

    Raises:
        CardError: The text is not TOML, or not a card; says where and why.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{where}: not valid TOML: {error}") from error
    try:
        return msgspec.convert(_with_defaults(raw), System)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        line = _line_of(text, path.rstrip("`").removeprefix("$"), reason)
        raise CardError(f"{where}:{line}: {reason}") from error


def checked(system: System) -> System:
    """A system that was made or changed in code, validated as its card would be.

    Raises:
        CardError: It would not be a valid card.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(system), System)
    except msgspec.ValidationError as error:
        raise CardError(f"{system.name}: not a valid card: {error}") from error


def read(path: Path) -> System:
    """A system from its card's file, the files of its members found from the folder that it lies in.

    Raises:
        CardError: The file cannot be read or is not a card.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read as a card: {error}") from error
    system = parse(text, str(path))

    def placed(member: Member) -> Member:
        return replace(member, file=str(path.parent / member.file)) if member.file else member

    return replace(system, members=tuple(map(placed, system.members)))


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    defaults = raw.get("defaults", {})
    members = raw.get("members")
    if not isinstance(defaults, dict) or not isinstance(members, list):
        return raw
    merged = [{**defaults, **member} if isinstance(member, dict) else member for member in members]
    return {**{key: value for key, value in raw.items() if key != "defaults"}, "members": merged}


_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")


def _line_of(text: str, path: str, reason: str) -> int:
    """The line (from 1) that comes closest to a path such as `.members[1].views`.

    tomllib keeps no positions, so the headers and keys are walked again; a value inside an
    inline table resolves to the line of its key.
    """
    target = re.findall(r"[^.\[\]]+", path)
    unknown = _UNKNOWN.search(reason)
    if unknown:
        target.append(unknown[1])
    targets = [target]
    if target[:1] == ["members"] and len(target) > 2:
        targets.append(["defaults", *target[2:]])
    best_line, best_depth = 1, 0
    prefix: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            name = header[2]
            if header[1] == "[[":
                seen[name] = seen.get(name, -1) + 1
                prefix = [*name.split("."), str(seen[name])]
            else:
                prefix = name.split(".")
            here = prefix
        elif key := _KEY.match(line):
            here = [*prefix, *key[1].replace('"', "").replace("'", "").split(".")]
        else:
            continue
        for wanted in targets:
            depth = len(here)
            if depth > best_depth and wanted[:depth] == here:
                best_line, best_depth = number, depth
    return best_line
