"""What all commands share: errors as one line, and a few words."""

from __future__ import annotations

import atexit
import errno
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from zoo.card import System


STOPPED = "stopped; what was finished is kept, the same command goes on"
"""What Ctrl-C is answered with."""

_SENTENCE = 200
"""Letters of a first sentence, at most."""


class Failure(click.ClickException):
    """An error as one line, with the exit code of its kind."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(one_line(message))
        self.exit_code = exit_code  # type: ignore[misc]


def one_line(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class _Described(click.Command):
    def get_short_help_str(self, limit: int = _SENTENCE) -> str:
        """Its first sentence, which a list of commands folds where it is long."""
        return super().get_short_help_str(max(limit, _SENTENCE))


class Command(_Described):
    """A command whose errors are one line, unless `--debug` asks for the traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += own_options()

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
            # Who presses it again while the interpreter ends gets no traceback of what torch does then.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
            raise Failure(STOPPED, 130) from error
        except BrokenPipeError:
            # The reader of a pipe (`| head`) went away: nothing is wrong, and nobody reads on.
            # What is still in the buffer must not fail once more when the interpreter ends.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            code = 4 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS) else 3
            raise Failure(f"{place}{error.strerror or error}", code) from error
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise Failure(f"internal error: {text} (run again with --debug and report it)", 1) from error


def own_options() -> list[click.Option]:
    """Options of every command, which may stand before its name too."""
    return [
        click.Option(
            ["--zoo", "zoos"],
            multiple=True,
            metavar="DIR",
            type=There(file_okay=False),
            expose_value=False,
            is_eager=True,
            callback=_add_folders,
            help="Folder of cards (and builders) of your own, for this command; may be repeated. The "
            "environment variable MELANOMA_ZOO_PATH names folders for all commands.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_debug,
            help="Show the traceback of an error.",
        ),
    ]


class Finite(click.FloatRange):
    """A number of a range, without `nan` and `inf`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class There(click.Path):
    """A path that must be there; where it is not, an input is missing, and no word is wrong."""

    def __init__(self, **kind: bool) -> None:
        super().__init__(exists=True, path_type=Path, **kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            from zoo.errors import InputError

            meant = " or ".join(["file"] * self.file_okay + ["folder"] * self.dir_okay)
            why = f"is no {meant}, or cannot be read" if Path(value).exists() else f"there is no such {meant}"
            named = f" ({param.get_error_hint(ctx)})".replace("'", "") if param else ""
            raise Failure(f"{value}: {why}{named}", InputError.exit_code) from error


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta["debug"] = value or _debug(context)
    if value:
        # What is left out shows its traceback too (`zoo.plugins`).
        logging.getLogger("zoo.plugins").setLevel(logging.DEBUG)


def _add_folders(_: click.Context, __: click.Parameter, folders: tuple[Path, ...]) -> None:
    if not folders:
        return
    import zoo
    from zoo.errors import MelanomaZooError

    for folder in folders:
        try:
            zoo.add_folder(folder)
        except MelanomaZooError as error:
            raise Failure(str(error), error.exit_code) from error


class SystemName(click.ParamType[str]):
    """The name of a system; shells complete it."""

    name = "system"

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so; after `torch:`, `onnx:` and `csv:` the shell completes files itself."""
        import zoo
        from zoo.references import SCHEMES

        found = [CompletionItem(name, help=zoo.card(name).title) for name in zoo.systems()]
        found += [CompletionItem(f"{scheme}:", help=meaning) for scheme, meaning in SCHEMES.items()]
        return [item for item in found if item.value.startswith(incomplete)]


def _debug(context: click.Context) -> bool:
    return bool(context.meta.get("debug"))


class Group(_Described, click.Group):
    """A group whose commands fail as those beside it do."""

    command_class = Command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Reads the words before a command's name."""
        with _stoppable():
            return super().make_context(*args, **kwargs)

    def invoke(self, context: click.Context) -> Any:
        """Reads a command's words and runs it."""
        with _stoppable():
            return super().invoke(context)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C while words are read and their systems looked up, before the command itself runs."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Failure(STOPPED, 130) from error


def chosen(names: Sequence[str]) -> list[System]:
    """The systems of these names, or all of them, in the order of the tables.

    Of all, those are left out, and named, whose builder cannot be imported.
    """
    import zoo
    from reports.cards import in_order
    from zoo.registry import usable

    return in_order([zoo.card(name) for name in names or usable(zoo.systems())])


def say_left_out(left_out: Mapping[str, str]) -> None:
    """Says on stderr what was left out, and why."""
    for file, reason in left_out.items():
        click.echo(f"left out: {one_line(f'{file}: {reason}')}", err=True)
