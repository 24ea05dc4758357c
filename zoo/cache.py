"""Results of counting and timing, kept between runs as plain JSON files.

A file is named by everything its content depends on, so a changed network, library, machine or
line of measuring code is a new file, and nothing has to be thrown away by hand.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import platformdirs

from zoo.errors import MachineError
from zoo.files import write

if TYPE_CHECKING:
    from zoo.card import Member

T = TypeVar("T")

ENVIRONMENT = "MELANOMA_ZOO_CACHE"
"""The environment variable that names another folder."""


def folder() -> Path:
    """Where the files are: the user's cache folder, or what `MELANOMA_ZOO_CACHE` says."""
    chosen = os.environ.get(ENVIRONMENT)
    return Path(chosen) if chosen else platformdirs.user_cache_path("melanoma-zoo")


def specification(member: Member) -> dict[str, Any]:
    """What a member's network is made from; members that agree in it cost the same.

    Names, preprocessing and the meaning of the classes are not in it; what makes the network beside
    its card is: its file, or its builder's code.
    """
    from zoo.kinds import origin

    return {
        "backbone": member.backbone,
        "size": member.size,
        "classes": len(member.classes),
        "pool": member.pool,
        "attention": member.attention,
        "metadata": member.metadata,
        "network": member.network,
        "options": member.options,
        "origin": origin(member),
    }


def key(kind: str, *depends_on: object, code: tuple[str, ...], packages: tuple[str, ...] = ()) -> str:
    """The name of a result.

    Args:
        kind: What sort of result it is.
        depends_on: Everything that decides it.
        code: Modules whose source decides it.
        packages: Distributions whose version decides it.
    """
    content = (
        kind,
        depends_on,
        [_source(module) for module in code],
        [version(package) for package in packages],
    )
    digest = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
    return f"{kind}-{digest}"


def load(name: str, result: type[T]) -> T | None:
    """A result that was kept; None where there is none, or its file is broken."""
    try:
        return msgspec.json.decode((folder() / f"{name}.json").read_bytes(), type=result)
    except (OSError, msgspec.DecodeError):
        return None


def keep(name: str, result: object) -> None:
    """Keeps a result; a folder that cannot be written costs one line on the log, no more."""
    try:
        write(folder() / f"{name}.json", msgspec.json.encode(result))
    except MachineError:
        warn_unwritable()


def warn_unwritable(place: Path | None = None, mend: str = f"in {ENVIRONMENT}") -> None:
    """Says once on the log that nothing can be kept in a folder.

    Args:
        place: The folder; this one where None.
        mend: Where another can be named.
    """
    _warn_once(place or folder(), mend)


def recall(
    names: Sequence[str],
    result: type[T],
    compute: Callable[[list[str]], Generator[tuple[str, T], None, None]],
    *,
    fresh: bool = False,
    lasting: Callable[[T], bool] = lambda _: True,
    done: Callable[[int], None] = lambda _: None,
) -> list[T]:
    """Results by name: those that were kept, and the others, computed once and kept as they come.

    Args:
        names: Their names; a name may occur twice.
        result: Their type.
        compute: Yields names and results of those that are missing.
        fresh: Compute all of them.
        lasting: Whether a computed result is worth keeping.
        done: Called with each index of `names` when its result is there.
    """
    distinct = list(dict.fromkeys(names))
    kept = {} if fresh else {name: one for name in distinct if (one := load(name, result)) is not None}
    missing = [name for name in distinct if name not in kept]
    found: dict[str, T] = {}
    with closing(compute(missing)) if missing else nullcontext(()) as computed:
        for name, one in chain(kept.items(), computed):
            if name not in kept and lasting(one):
                keep(name, one)
            found[name] = one
            for index in (index for index, each in enumerate(names) if each == name):
                done(index)
    return [found[name] for name in names]


@cache
def _warn_once(unwritable: Path, mend: str) -> None:
    logging.getLogger(__name__).warning(
        "%s cannot be written, so results are not kept for the next run; name another folder %s",
        unwritable,
        mend,
    )


@cache
def _source(module: str) -> str:
    """Digest of a module's source, read without importing it."""
    spec = find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
