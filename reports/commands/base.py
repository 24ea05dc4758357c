"""What all commands share: errors as one line, and a few words."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zoo.card import System


class Failure(click.ClickException):
    """An error as one line, with the exit code of its kind."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(one_line(message))
        self.exit_code = exit_code  # type: ignore[misc]


def one_line(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class Command(click.Command):
    """A command whose errors are one line, unless `--debug` asks for the traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        debug = click.Option(
            ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error."
        )
        debug.callback = lambda context, _, value: context.meta.__setitem__("debug", value or _debug(context))
        self.params.append(debug)

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        from zoo.errors import MelanomaZooError

        if _debug(context):
            return super().invoke(context)
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except MelanomaZooError as error:
            raise Failure(str(error), error.exit_code) from error
        except (KeyboardInterrupt, click.Abort) as error:
            raise Failure("stopped; what was finished is kept, the same command goes on", 130) from error
        except BrokenPipeError:
            # The reader of a pipe (`| head`) went away: nothing is wrong, and nobody reads on.
            sys.stdout = None
            return None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            code = 4 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS) else 3
            raise Failure(f"{place}{error.strerror or error}", code) from error
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise Failure(f"internal error: {text} (run again with --debug and report it)", 1) from error


def _debug(context: click.Context) -> bool:
    return bool(context.meta.get("debug"))


class Group(click.Group):
    """A group whose commands fail as those beside it do."""

    command_class = Command


def chosen(names: Sequence[str]) -> list[System]:
    """The systems of these names, or all of them, in the order of the tables."""
    import zoo
    from reports.cards import in_order

    return in_order([zoo.card(name) for name in names or zoo.systems()])


def say_left_out(left_out: Mapping[str, str]) -> None:
    """Says on stderr what was left out, and why."""
    for file, reason in left_out.items():
        click.echo(f"left out: {one_line(f'{file}: {reason}')}", err=True)
