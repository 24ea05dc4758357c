"""Runs on Weights & Biases, for those who keep theirs there (extra `wandb`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from zoo.errors import MachineError

PROJECT = "melanoma-zoo"
"""The project that runs are logged to, unless `WANDB_PROJECT` names another."""


class Log(Protocol):
    """Takes figures of a run as it goes on, or its final ones."""

    def __call__(self, figures: Mapping[str, float], *, final: bool = False) -> None:
        """Logs figures by name; final ones stand for the whole run."""


@contextmanager
def tracked(enabled: bool, *, config: Mapping[str, Any], name: str | None = None) -> Iterator[Log]:
    """Logs a run's settings at once, its progress as it goes on, and its final scores.

    Where it goes, and whether it goes anywhere, is the user's: `wandb login`, `WANDB_PROJECT`, and
    `WANDB_MODE=offline` for a folder on this machine. What is printed is not logged.

    Args:
        enabled: Whether anything is logged; if not, wandb is not even imported.
        config: The run's settings; structs and paths are written as text and tables.
        name: What the run is called; wandb makes a name up where None.

    Yields:
        What is called with figures.

    Raises:
        MachineError: wandb is not installed, cannot be reached, or has no user logged in.
    """
    if not enabled:
        yield _nothing
        return
    try:
        import wandb
    except ImportError as error:
        raise MachineError("wandb is not installed; run: pip install 'melanoma-zoo[wandb]'") from error
    import os

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            config=msgspec.to_builtins(dict(config), enc_hook=str),
            # Standard output is left alone: it holds results, and a terminal's bars are no log.
            settings=wandb.Settings(console="off"),
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MachineError(
            f"Weights & Biases cannot be used: {reason} (log in with `wandb login`, or set WANDB_MODE=offline)"
        ) from error

    def log(figures: Mapping[str, float], *, final: bool = False) -> None:
        if final:
            run.summary.update(dict(figures))
        else:
            run.log(dict(figures))

    try:
        yield log
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _nothing(figures: Mapping[str, float], *, final: bool = False) -> None:
    """For runs that nobody tracks."""
