"""Readings of cells on disk: one small JSON file each, written as soon as it is there."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import MachineError
from zoo.files import write


@dataclass(frozen=True)
class Store:
    """A folder of readings, each named by everything that decides it (`benchmarks.cells.key`)."""

    folder: Path

    def load(self, name: str) -> dict[str, Any] | None:
        """A reading that was kept; None where there is none, or its file is broken."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def keep(self, name: str, reading: dict[str, Any]) -> None:
        """Keeps a reading; a folder that cannot be written costs one line on the log, no more."""
        try:
            write(self.folder / f"{name}.json", json.dumps(reading))
        except MachineError as error:
            logging.getLogger(__name__).warning("not kept for --resume: %s", error)
