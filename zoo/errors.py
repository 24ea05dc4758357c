"""The one exception family of the project.

Everything that a user can mend is raised as a `MelanomaZooError`. The command line prints
its message on one line (what was wrong, where, and the mend) and exits with `exit_code`.
"""

from __future__ import annotations


class MelanomaZooError(Exception):
    """Base of all errors a user can mend."""

    exit_code = 1


class UsageError(MelanomaZooError):
    """The words of the call are off: an unknown name, or options that exclude each other."""

    exit_code = 2


class UnknownNameError(UsageError, LookupError):
    """A system, member, metric or rule that does not exist; the message has the nearest names."""


class InputError(MelanomaZooError, ValueError):
    """A file or table is missing, broken, or disagrees with another."""

    exit_code = 3


class UnknownFileError(UnknownNameError):
    """A system that is named by its file, which is not there."""

    exit_code = InputError.exit_code


class CardError(InputError):
    """A card is not valid; the message names the file and the line."""


class CheckpointError(InputError):
    """A trained file is missing, unsafe, broken, or is not for this network."""


class MachineError(MelanomaZooError, RuntimeError):
    """This machine cannot do it: a missing extra, no such device, no network, a folder that cannot be written."""

    exit_code = 4
