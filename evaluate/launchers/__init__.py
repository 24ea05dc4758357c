"""Where units are computed: in this process, in several of this machine, on a Ray cluster, or under Slurm.

A launcher is given portions of units and hands out each unit when it is finished, its result on disk or with
it. Nothing else depends on the launcher: what is computed, what it is kept under, and the file at the end are the same.
"""

from __future__ import annotations

from evaluate.launchers.base import Failure, Finished, Launcher, Where
from evaluate.launchers.local import Local

__all__ = ["Failure", "Finished", "Launcher", "Local", "Where"]
