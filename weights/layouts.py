"""Layouts: what the keys of a trained file are called, and which of our keys they stand for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from weights import keras
from zoo.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import nn


def layouts() -> tuple[str, ...]:
    """Names of the layouts.

    >>> layouts()
    ('ours', 'attention', 'enet', 'gem', 'keras')
    """
    return (*_prefixes(), "keras")


def check_layout(name: str | None) -> None:
    """Makes sure that a name is one of `layouts()`, or None.

    Raises:
        UsageError: It is not.
    """
    if name is not None and name not in layouts():
        raise UsageError(f"no layout is called {name!r}; layouts: {', '.join(layouts())}")


def official_keys(network: nn.Module, layout: str) -> dict[str, str]:
    """What each of a network's keys is called in files of a layout.

    Args:
        network: Any network of this project; on the meta device too.
        layout: One of `layouts()`.

    Returns:
        From the file's key to ours, one to one, in the order of our state_dict. Batch counters
        (`num_batches_tracked`) are left out where a layout has none.

    Raises:
        UsageError: There is no such layout.
        CheckpointError: The layout has no name for one of the keys.
    """
    return rename(network.state_dict(), layout)


def detect(network: nn.Module, keys: Iterable[str]) -> str:
    """The layout under which most keys of a file are keys of the network.

    Raises:
        CheckpointError: No layout makes any of them fit.
    """
    keys = list(keys)
    ours = list(network.state_dict())
    shared = {layout: len(_renamed_or_empty(ours, layout).keys() & set(keys)) for layout in layouts()}
    best = max(shared, key=lambda layout: shared[layout])
    if not shared[best]:
        raise CheckpointError(
            f"none of its {len(keys)} keys ({', '.join(keys[:3])}, ...) is one of this network's under any "
            f"layout ({', '.join(shared)}); is it a file of another network?"
        )
    return best


def rename(ours: Iterable[str], layout: str) -> dict[str, str]:
    """`official_keys` of a list of our keys.

    >>> rename(["backbone.conv_stem.weight", "head.bias"], "attention")
    {'conv_stem.weight': 'backbone.conv_stem.weight', 'classifier.bias': 'head.bias'}
    """
    check_layout(layout)
    ours = list(ours)
    if layout == "keras":
        official = keras.names(ours)
    else:
        official = {key: _with_prefix(key, _prefixes()[layout]) for key in ours}
    for key, name in official.items():
        if name is None:
            raise CheckpointError(f"layout {layout!r} has no name for {key}; is it the network's layout?")
    renamed = {name: key for key, name in official.items() if name is not None}
    if len(renamed) < len(official):
        raise CheckpointError(f"layout {layout!r} gives two keys one name; is it the network's layout?")
    return renamed


def _renamed_or_empty(ours: list[str], layout: str) -> dict[str, str]:
    try:
        return rename(ours, layout)
    except CheckpointError:
        return {}


def _with_prefix(key: str, prefixes: Mapping[str, str]) -> str | None:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return None


@cache
def _prefixes() -> dict[str, dict[str, str]]:
    return tomllib.loads((resources.files("weights") / "layouts.toml").read_text(encoding="utf-8"))
