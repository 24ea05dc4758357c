"""The command line: options, progress and exit codes around the rooms' functions.

Imports of torch, pandas and what needs them stand inside the commands, so that `--help` and
`list` answer at once.
"""

from __future__ import annotations

import errno
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reports.terminal import fields, print_json, print_tables, progress

if TYPE_CHECKING:
    from evaluate.clinical import Request
    from reports.record import Record
    from zoo.card import System

EXIT_CODES = {
    0: "done",
    1: "an error inside the program; `--debug` shows where",
    2: "wrong words on the command line, or an unknown name",
    3: "an input file is missing, broken, or disagrees with another",
    4: "this machine cannot do it: a missing extra, no such device, no network, a folder that cannot be written",
    130: "stopped with Ctrl-C; what was finished is kept",
}

F = TypeVar("F", bound=Callable[..., Any])


class _Failure(click.ClickException):
    """An error as one line, with the exit code of its kind."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(_clean(message))
        self.exit_code = exit_code  # type: ignore[misc]


def _clean(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class _Command(click.Command):
    """A command whose errors are one line, unless `--debug` asks for the traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        debug = click.Option(
            ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error."
        )
        debug.callback = lambda context, _, value: context.meta.__setitem__("debug", value or _debug(context))
        self.params.append(debug)

    def invoke(self, context: click.Context) -> Any:
        from zoo.errors import MelanomaZooError

        if _debug(context):
            return super().invoke(context)
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except MelanomaZooError as error:
            raise _Failure(str(error), error.exit_code) from error
        except (KeyboardInterrupt, click.Abort) as error:
            raise _Failure("stopped; what was finished is kept, the same command goes on", 130) from error
        except BrokenPipeError:
            # The reader of a pipe (`| head`) went away: nothing is wrong, and nobody reads on.
            sys.stdout = None
            return None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            code = 4 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS) else 3
            raise _Failure(f"{place}{error.strerror or error}", code) from error
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise _Failure(f"internal error: {text} (run again with --debug and report it)", 1) from error


def _debug(context: click.Context) -> bool:
    return bool(context.meta.get("debug"))


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from zoo import __version__

        click.echo(f"melanoma-zoo {__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Compare melanoma classifiers: what each gets right, what it costs, and whether to believe it.

    \b
    Examples:
      melanoma-zoo list
      melanoma-zoo compare --output out
      melanoma-zoo reproduce --predictions DIR --labels TABLE
    """
    context.meta["debug"] = debug


main.command_class = _Command


class _Group(click.Group):
    """A group whose commands fail as those beside it do."""

    command_class = _Command


main.group_class = _Group


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--group", help="Only systems of this group: attention, baseline, winner.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_(pattern: str, group: str | None, as_json: bool) -> None:
    """List the systems whose name matches PATTERN (all of them by default).

    \b
    Example: melanoma-zoo list 's*_b3' --group attention
    """
    import zoo

    cards = [zoo.card(name) for name in zoo.systems(pattern, group)]
    if as_json:
        print_json(
            [
                {
                    "name": card.name,
                    "title": card.title,
                    "group": card.group,
                    "members": len(card.members),
                    "folds": card.folds,
                    "summary": card.summary,
                }
                for card in cards
            ]
        )
        return
    if not cards:
        groups = sorted({zoo.card(name).group for name in zoo.systems()})
        click.echo(f"no system matches; groups are {', '.join(groups)}", err=True)
        return
    from reports.cards import listing

    print_tables([listing(cards)])


@main.command()
@click.argument("system")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def show(system: str, as_json: bool) -> None:
    """Show everything the card of SYSTEM says: networks, views, blend, files, limits, assumptions.

    \b
    Example: melanoma-zoo show s2_cbam_b3
    """
    import zoo
    from reports.cards import full

    card = zoo.card(system)
    if as_json:
        print_json(card)
    else:
        print_tables(full(card))


def _existing(**kind: bool) -> click.Path:
    return click.Path(exists=True, path_type=Path, **kind)


def _roles(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`ROLE=NAME`, each role once."""
    columns: dict[str, str] = {}
    for text in given:
        role, equals, name = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not ROLE=NAME")
        if role in columns:
            raise click.BadParameter(f"{role} is {columns[role]!r} and {name!r}; name one column for a role")
        columns[role] = name
    return columns


def _table_options(command: F) -> F:
    """How a table of labels is read: the command gets `columns` and `diagnoses`."""
    for option in (
        click.option("--diagnoses", type=_existing(dir_okay=False), help="TOML table that says which diagnoses are melanoma, beside those that are known."),
        click.option(
            "--column", "columns", multiple=True, metavar="ROLE=NAME", callback=_roles,
            help="Name of a column of the table, by its role: image, target, diagnosis, patient, lesion, sex, age or site; may be repeated.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _files_and_labels(command: F) -> F:
    """What `score` and `audit` read."""
    for option in (
        _table_options,
        click.option("--labels", required=True, type=_existing(dir_okay=False), help="Table with the diagnosis of every lesion."),
        click.argument("files", nargs=-1, required=True, type=_existing()),
    ):  # fmt: skip
        command = option(command)
    return command


def _scoring_options(command: F) -> F:
    """What `score`, `audit`, `compare` and `reproduce` have in common."""
    for option in (
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the resamples."),
        click.option("--resamples", type=click.IntRange(40, 1_000_000), default=1000, show_default=True, help="Bootstrap resamples of each interval."),
        click.option(
            "--protocol", type=click.Choice(["clinical", "paper"]), default="clinical", show_default=True,
            help="clinical: intervals over patients. paper: what the paper's authors report.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _clinical_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a clinic asks for beside the scores: the command gets it as its `request`."""

    @functools.wraps(command)
    def asked(**given: Any) -> None:
        from evaluate.clinical import read_request

        own = {name: given.pop(name) for name in inspect.signature(read_request).parameters}
        command(**given, request=read_request(**own))

    for option in (
        click.option("--subgroups", is_flag=True, help="Score within sex, age, site, dermoscopy, skin type, invasion and thickness."),
        click.option("--calibration", is_flag=True, help="Brier score, calibration slope, intercept and error, reliability; of probabilities only."),
        click.option("--decision-curves", is_flag=True, help="Net benefit against excising all or none; of probabilities only."),
        click.option("--prevalence", type=float, metavar="SHARE", help="Re-weight predictive values and net benefit to this share of melanomas."),
        click.option("--threshold-labels", type=_existing(dir_okay=False), help="Table with the diagnosis of every development lesion, where files of --threshold-from have no y_true."),
        click.option("--threshold-from", type=_existing(), multiple=True, help="Development predictions that lock the thresholds; may be repeated."),
        click.option("--at", multiple=True, metavar="POINT", help="Operating point: sensitivity=0.9 or specificity=0.9; may be repeated."),
    ):  # fmt: skip
        asked = option(asked)
    return asked


def _commas(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Values that may be repeated or separated by commas."""
    return tuple(value.strip() for text in given for value in text.split(",") if value.strip())


def _numbers(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[int, ...]:
    values = _commas(context, parameter, given)
    if wrong := [value for value in values if not value.isdecimal()]:
        raise click.BadParameter(f"{wrong[0]!r} is not a number from 0")
    return tuple(map(int, values))


def _batch_size(_: click.Context, __: click.Parameter, given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise click.BadParameter(f"{given!r} is neither auto nor a number from 1")
    return int(given)


def _running_options(command: F) -> F:
    """How networks are run on a test set: what `predict` and `compare` have in common."""
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Threads that read and decode images.  [default: the cores]"),
        click.option("--batch-size", default="auto", show_default=True, metavar="auto|N", callback=_batch_size, help="Views at a time; halved where memory does not suffice."),
        click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16", "fp16"]), default="fp32", show_default=True, help="What networks compute in; tf32 on CUDA only."),
        click.option("--views", type=click.IntRange(min=1), metavar="N", help="Only the first N views of the published sequence.  [default: all]"),
        click.option("--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True, help="What becomes of images that are missing or damaged."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N lesion images."),
        click.option("--weights", type=_existing(file_okay=False), help="Folder of trained files."),
        click.option("--test-set", type=_existing(file_okay=False), help="Folder of images, and of the table that says what they are."),
    ):  # fmt: skip
        command = option(command)
    return command


def _reference_option(command: F) -> F:
    return click.option(
        "--reference",
        metavar="NAME",
        help="System whose scores the others' are compared with: by default the first winner, or the first of all.",
    )(command)


def _training_option(command: F) -> F:
    return click.option(
        "--train-table",
        type=_existing(dir_okay=False),
        multiple=True,
        help="Table of images that systems were trained on; what the test set shares with it is reported.",
    )(command)


def _comparison_options(command: F) -> F:
    """What `compare` and `reproduce` have in common."""
    for option in (
        click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for record.json and the tables in every format."),
        click.option("--format", "style", type=click.Choice(["terminal", "markdown", "csv", "latex", "json"]), default="terminal", show_default=True, help="What to print."),
        click.option("--rule", type=click.Choice(["networks", "weights", "architectures"]), default="networks", show_default=True, help="How parameters of ensembles are counted."),
        _scoring_options,
        _reference_option,
        _training_option,
        _table_options,
        click.option("--no-predictions", is_flag=True, help="Leave the published scores out, even if they were fetched."),
        click.option("--labels", type=_existing(dir_okay=False), help="Table with the diagnosis of every lesion."),
        click.option("--predictions", type=_existing(), multiple=True, help="Folder or file of per-image scores; may be repeated. Without it, the published scores are taken if they were fetched."),
    ):  # fmt: skip
        command = option(command)
    return command


@main.command()
@_files_and_labels
@_scoring_options
@_reference_option
@_clinical_options
@click.option("--extra", is_flag=True, help="Score files that match no card too, each as its own row.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def score(
    files: tuple[Path, ...],
    labels: Path,
    columns: dict[str, str],
    diagnoses: Path | None,
    protocol: str,
    resamples: int,
    seed: int,
    reference: str | None,
    extra: bool,
    as_json: bool,
    request: Request,
) -> None:
    """Score FILES (or folders) of per-image predictions against the diagnoses in TABLE.

    Reads CSV with image_name, target and perhaps y_true, and Parquet. A file is matched to a
    system by its name: First_place.csv, S2-CBAM-B3.csv.

    \b
    Examples:
      melanoma-zoo score predictions/ --labels test.csv
      melanoma-zoo score mine.csv --labels test.csv --extra --json
      melanoma-zoo score predictions/ --labels test.csv --at sensitivity=0.9 --prevalence 0.02
      melanoma-zoo score mine.csv --labels test.csv --extra --threshold-from development/mine.csv
    """
    from evaluate import score as run
    from evaluate.clinical import clinical
    from evaluate.skipped import note
    from reports import clinical as clinic
    from reports.inputs import read_inputs
    from reports.tables import scored

    inputs = read_inputs(files, labels, columns=columns, diagnoses=diagnoses, extra=extra)
    assert inputs is not None
    _say_left_out(inputs.left_out)
    found = run(inputs.predictions, inputs.labels, protocol, resamples=resamples, seed=seed)
    more = clinical(inputs.predictions, inputs.labels, request, resamples=resamples, seed=seed)
    tables = [*scored(found, reference), *clinic.tables(more, note(found.skipped, found.n))]
    if as_json:
        print_json({**fields(found), **fields(more)})
    else:
        print_tables(tables)


def _runs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[tuple[str, Path]]:
    """`SYSTEM=FILE` as the system's name and the file's path."""
    import zoo

    runs = []
    for text in given:
        system, equals, file = text.partition("=")
        if not equals or not Path(file).is_file():
            raise click.BadParameter(f"{text!r} is not SYSTEM=FILE with a file that exists")
        runs.append((zoo.card(system).name, Path(file)))
    return runs


@main.command()
@_files_and_labels
@_training_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="SYSTEM=FILE",
    callback=_runs,
    help="Another run of a system among FILES, to compare with; may be repeated.",
)
@click.option(
    "--images", type=_existing(file_okay=False), help="Folder of the test images: look for near-duplicates."
)
@click.option(
    "--train-images",
    type=_existing(file_okay=False),
    help="Folder of training images: look for test images among them.",
)
@_scoring_options
@click.option("--extra", is_flag=True, help="Audit files that match no card too.")
@click.option("--strict", is_flag=True, help="Exit with 3 where a finding is an error.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def audit(
    context: click.Context, /, files: tuple[Path, ...], labels: Path, train_table: tuple[Path, ...],
    runs: list[tuple[str, Path]], images: Path | None, train_images: Path | None, extra: bool, strict: bool,
    as_json: bool, **settings: Any,
) -> None:  # fmt: skip
    """Look for what could make the scores of FILES (or folders) wrong.

    Findings are errors, warnings and notes, each with its figures and what was done about it.
    A broken file is a finding too, and a second file of a system is compared with the first.
    The exit code is 0 whatever is found; with --strict it is 3 where a finding is an error.

    \b
    Examples:
      melanoma-zoo audit predictions/ --labels test.csv --train-table isic2020_train.csv
      melanoma-zoo audit mine.csv --extra --labels test.csv --images photos/ --strict
    """
    from reports.audit import read_and_audit, report

    found, left_out = read_and_audit(
        files, labels, training=train_table, runs=runs, images=images, train_images=train_images, extra=extra, **settings
    )  # fmt: skip
    _say_left_out(left_out)
    if as_json:
        print_json(found)
    else:
        print_tables(report(found))
    if strict and any(finding.severity == "error" for finding in found.findings):
        context.exit(3)


@main.command()
@click.argument("systems", nargs=-1)
@click.option("--explain", is_flag=True, help="Why the counters differ, per type of module.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def count(systems: tuple[str, ...], explain: bool, as_json: bool) -> None:
    """Count parameters and operations of every network of SYSTEMS (all by default).

    Three counters are shown: torch's own, fvcore and thop.

    \b
    Example: melanoma-zoo count sge_b3 second_place --explain
    """
    from reports.comparison import count as run
    from reports.counts import counted, explained

    with progress() as step:
        entries = run(_cards(systems), step)
    if as_json:
        print_json({entry.card.name: entry.members for entry in entries})
    else:
        print_tables([counted(entries), *([explained(entries)] if explain else [])])


@main.command()
@click.argument("systems", nargs=-1)
@_comparison_options
@click.option(
    "--latency/--no-latency",
    default=True,
    show_default=True,
    help="Measure a quick latency of each network.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where networks run and latency is measured.",
)
@_running_options
@_clinical_options
def compare(
    systems: tuple[str, ...], request: Request, test_set: Path | None, weights: Path | None,
    limit: int | None, on_error: str, views: int | None, precision: str, batch_size: int | None, workers: int | None, **options: Any,
) -> None:  # fmt: skip
    """Compare SYSTEMS (all by default): parameters, operations, latency, and scores where given.

    Scores are those of --predictions, or of networks that are run: with --test-set and --weights
    every system that has all its trained files, the rest as n/a.

    \b
    Examples:
      melanoma-zoo compare --no-latency
      melanoma-zoo compare sge_b3 first_place --format markdown
      melanoma-zoo compare --predictions DIR --labels TABLE --output out
      melanoma-zoo compare --predictions DIR --labels TABLE --at sensitivity=0.9 --subgroups
      melanoma-zoo compare --test-set DIR --weights DIR --output out
    """
    from reports.comparison import compare as run

    running = {
        "views": views, "on_error": on_error, "limit": limit, "precision": precision, "batch_size": batch_size, "workers": workers,
    }  # fmt: skip
    _report(
        functools.partial(run, request=request), systems, "comparison",
        running=_to_run(test_set, weights, running), **options,
    )  # fmt: skip


def _to_run(test_set: Path | None, weights: Path | None, running: dict[str, Any]) -> dict[str, Any] | None:
    """What is run on which images; None where nothing is."""
    if (test_set is None) != (weights is None):
        raise click.UsageError("--test-set and --weights go together: images, and networks to run on them")
    if test_set is None:
        unused = [f"--{name.replace('_', '-')}" for name, value in running.items() if _given(name)]
        if unused:
            raise click.UsageError(
                f"{', '.join(unused)} is about networks that are run: give --test-set and --weights"
            )
        return None
    return {"test_set": test_set, "folder": weights, **running}


def _given(name: str) -> bool:
    """Whether an option of the running command was given on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


@main.command()
@_comparison_options
def reproduce(**options: Any) -> None:
    """Check the paper's claims one by one, and say what each holds under.

    No claim is about time, so nothing is timed.

    \b
    Example: melanoma-zoo reproduce --predictions DIR --labels TABLE
    """
    from reports.comparison import reproduce as run

    _report(run, (), "claims", latency=False, device="auto", **options)


@main.command()
@click.argument("system")
@_running_options
@_table_options
@click.option(
    "--labels", type=_existing(dir_okay=False), help="Table of the images.  [default: the folder's own]"
)
@click.option(
    "--untrained",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="Random weights instead of trained ones, for trials.",
)
@click.option(
    "--members",
    multiple=True,
    metavar="NAME,...",
    callback=_commas,
    help="Only these networks of the system.",
)
@click.option("--folds", multiple=True, metavar="K,...", callback=_numbers, help="Only these folds, from 0.")
@click.option("--stage", help="Only trained files of this stage, such as best or final.  [default: the first of the card's that is complete]")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where networks run.")  # fmt: skip
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Parquet file of one probability per image, member and fold.",
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="Write the published layout too: one blended score per image."
)
def predict(system: str, test_set: Path | None, labels: Path | None, weights: Path | None, untrained: int | None, members: tuple[str, ...], folds: tuple[int, ...], stage: str | None, output: Path, as_csv: bool, **options: Any) -> None:  # fmt: skip
    """Run SYSTEM on the images of a test set, and write its predictions.

    Finished work is kept: the same command goes on where it was stopped, and computes again only
    what a changed image, trained file, card or setting makes different.

    \b
    Examples:
      melanoma-zoo predict sge_b3 --test-set DIR --weights DIR --output sge_b3.parquet
      melanoma-zoo predict first_place --test-set DIR --weights DIR --folds 0 --output first.parquet --csv
      melanoma-zoo predict sge_b3 --test-set DIR --untrained 0 --limit 20 --output trial.parquet
    """
    from evaluate.run import predict_to

    if test_set is None:
        raise click.UsageError("give the folder of images: --test-set DIR")
    with progress() as step:
        written = predict_to(
            output, system, test_set, labels, weights=weights, seed=untrained, members=members, folds=folds,
            stage=stage, as_csv=as_csv, progress=step, **options,
        )  # fmt: skip
    click.echo(f"wrote {', '.join(map(str, written.files))}", err=True)
    for note in written.notes:
        click.echo(f"note: {_clean(note)}", err=True)


@main.group("weights")
def weights_() -> None:
    """Find, check and convert trained files.

    \b
    Examples:
      melanoma-zoo weights list first_place --weights DIR
      melanoma-zoo weights convert sge_b3 DIR --output OUT
      melanoma-zoo weights verify DIR --manifest FILE
    """


weights_.command_class = _Command


@weights_.command("list")
@click.argument("system")
@click.option(
    "--weights",
    "folder",
    type=_existing(file_okay=False),
    help="Folder of trained files: say which are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def weights_list(system: str, folder: Path | None, as_json: bool) -> None:
    """List the trained files that SYSTEM needs, and which of them are in a folder.

    \b
    Example: melanoma-zoo weights list second_place --weights DIR
    """
    import zoo
    from reports.weights import listing, wanted
    from weights.files import search

    card = zoo.card(system)
    found = search(card, folder) if folder else None
    if as_json:
        print_json(wanted(card, found))
    else:
        print_tables([listing(card, folder, found)])


@weights_.command("convert")
@click.argument("system")
@click.argument("files", nargs=-1, required=True, type=_existing())
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to."
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="NAME",
    help="Only this network of the system; may be repeated.",
)
@click.option(
    "--fold", "folds", multiple=True, type=click.IntRange(min=0), help="Only this fold; may be repeated."
)
@click.option("--stage", help="Only files of this stage, such as best or final.")
@click.option("--layout", help="What the files call the weights; told from the files by default.")
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
def weights_convert(system: str, files: tuple[Path, ...], output: Path, members: tuple[str, ...], folds: tuple[int, ...], stage: str | None, layout: str | None, force: bool) -> None:  # fmt: skip
    """Write trained FILES of SYSTEM (or all of them in a folder) as safetensors.

    The copies have one naming of weights, open without running code, and say which file they
    were made from. A file whose name is not the card's needs --member, --fold and --stage.

    \b
    Examples:
      melanoma-zoo weights convert second_place DIR --output OUT
      melanoma-zoo weights convert sge_b3 mine.pth --fold 0 --stage best --output OUT
    """
    import zoo
    from weights import convert
    from weights.files import given
    from weights.layouts import check_layout
    from zoo.files import make_folder

    card = zoo.card(system)
    check_layout(layout)
    found = given(card, files, members=members, folds=folds, stage=stage)
    make_folder(output)
    written = []
    with progress() as step:
        for done, file in enumerate(found):
            step("converting", done, len(found))
            written.append(convert(card, file, output, layout=layout, force=force))
        step("converting", len(found), len(found))
    click.echo("\n".join(map(str, written)))


@weights_.command("verify")
@click.argument("folder", default=".", type=_existing(file_okay=False))
@click.option("--system", help="Only files of this system.")
@click.option(
    "--manifest",
    "listed",
    type=_existing(dir_okay=False),
    help="Check against this manifest instead of the one of this package.",
)
@click.option(
    "--write",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Check nothing, but write a manifest of the files that are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def weights_verify(context: click.Context, /, folder: Path, system: str | None, listed: Path | None, target: Path | None, as_json: bool) -> None:  # fmt: skip
    """Check the trained files in FOLDER (here by default) by their checksums.

    Each file is ok, changed, unknown (not in the manifest) or missing; the exit code is 3 where
    one is changed or missing.

    \b
    Examples:
      melanoma-zoo weights verify DIR --write pinned.toml
      melanoma-zoo weights verify DIR --manifest pinned.toml
    """
    import zoo
    from reports.weights import verified
    from weights.checksums import manifest, pin, verify, write_new

    card = zoo.card(system) if system else None
    if target:
        if listed:
            raise click.UsageError(
                "--write makes a manifest and --manifest checks against one: give one of them"
            )
        with progress() as step:
            made = pin(folder, _cards(()), card, step=step)
        write_new(target, made)
        click.echo(f"wrote {target}: {len(made.files)} files", err=True)
        return
    known = manifest(listed)
    with progress() as step:
        checks = list(verify(folder, known, card, step=step))
    if as_json:
        print_json(checks)
    else:
        print_tables([verified(checks, folder, known)])
    if any(check.state in ("changed", "missing") for check in checks):
        context.exit(3)


def _report(
    run: Callable[..., Record], systems: tuple[str, ...], name: str, *,
    predictions: tuple[Path, ...], labels: Path | None, no_predictions: bool, diagnoses: Path | None, train_table: tuple[Path, ...],
    latency: bool, style: str, output: Path | None, running: dict[str, Any] | None = None, **settings: Any,
) -> None:  # fmt: skip
    from reports.inputs import Inputs, read_inputs, run_systems
    from reports.outputs import tables, text, write_all
    from reports.record import Settings
    from zoo.files import make_folder

    cards = _cards(systems)
    if output:
        make_folder(output)
    table = {"columns": settings["columns"], "diagnoses": diagnoses, "training": train_table}
    inputs: Inputs | None
    with progress() as step:
        if running:
            if predictions:
                raise click.UsageError(
                    "--predictions and --test-set each say where scores come from; give one of them"
                )
            inputs = run_systems(
                cards, labels=labels, device=settings["device"], progress=step, **running, **table
            )
        else:
            predictions, labels = _scores_to_take(predictions, labels, no_predictions)
            inputs = read_inputs(predictions, labels, **table)
        _say_left_out(inputs.left_out | inputs.missing if inputs else {})
        record = run(cards, Settings(latency="quick" if latency else "off", **settings), inputs, step)
    if style == "terminal":
        print_tables(tables(record))
    else:
        click.echo(text(record, style), nl=False)
    if output:
        written = write_all(record, output, name)
        click.echo(f"wrote {', '.join(map(str, written))}", err=True)


def _scores_to_take(
    predictions: tuple[Path, ...], labels: Path | None, none: bool
) -> tuple[tuple[Path, ...], Path | None]:
    """The predictions and labels that were named; else the published ones, if they were fetched."""
    if predictions or labels:
        if none:
            raise click.UsageError("--no-predictions excludes --predictions and --labels")
        return predictions, labels
    if none:
        return (), None
    from weights import store

    if published := store.published_scores():
        click.echo(
            f"scores: the published ones in {published[1].parent} (--no-predictions leaves them out)",
            err=True,
        )
        return (published[0],), published[1]
    return (), None


def _cards(names: Sequence[str]) -> list[System]:
    """The systems of these names, or all of them, in the order of the tables."""
    import zoo
    from reports.cards import in_order

    return in_order([zoo.card(name) for name in names or zoo.systems()])


def _say_left_out(left_out: Mapping[str, str]) -> None:
    for file, reason in left_out.items():
        click.echo(f"left out: {_clean(f'{file}: {reason}')}", err=True)


@main.group("data")
def data() -> None:
    """Data sets: fetch them, and see what is here."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def data_list(as_json: bool) -> None:
    """List what can be fetched, what of it is here, and its size, origin and licence.

    Every file that is here is read and checked.

    \b
    Example: melanoma-zoo data list
    """
    from weights import store

    sets = store.data_sets()
    states = {name: store.state(name) for name in sets}
    if as_json:
        print_json(
            {
                name: {
                    **fields(each),
                    "folder": str(states[name].folder),
                    "present": states[name].present,
                    "total": states[name].total,
                    "wrong": states[name].wrong,
                }
                for name, each in sets.items()
            }
        )
    else:
        from reports.stored import listing

        print_tables(listing(sets, states))


@data.command("path")
@click.argument("name", metavar="[SET]", default="")
def data_path(name: str) -> None:
    """Print the folder of SET, which must have been fetched; without SET, that of all data.

    \b
    Example: melanoma-zoo data path published-scores
    """
    from weights import store
    from zoo.errors import InputError

    if name and not store.state(name).complete:
        raise InputError(f"{name} is not here, or not all of it; run: melanoma-zoo data fetch {name}")
    click.echo(store.folder(name))


@data.command("fetch")
@click.argument("name", metavar="SET")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the set, in place of the usual one.",
)
@click.option(
    "--base-url", metavar="URL", help="Mirror that has the files under the same paths; may be plain http."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=20,
    show_default=True,
    help="Silence after which a connection counts as broken.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Tries in a row that bring nothing new before it is given up.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up when all of it takes longer.",
)
@click.option("--optional", is_flag=True, help="If it cannot be had, say so in one line and exit with 0.")
def data_fetch(
    name: str,
    output: Path | None,
    base_url: str | None,
    timeout: float,
    retries: int,
    max_time: float | None,
    optional: bool,
) -> None:
    """Fetch the data set SET (`data list` shows them); what is here already is left as it is.

    An interrupted fetch goes on with the same command. Every file is checked before it is put in
    place. `proveai` needs the extra `isic`.

    \b
    Examples:
      melanoma-zoo data fetch published-scores
      melanoma-zoo data fetch proveai --output proveai
      melanoma-zoo data fetch published-scores --base-url https://mirror.example.org/scores
    """
    from weights import store
    from weights.download import Transport
    from zoo.errors import InputError, MachineError

    transport = Transport(timeout=timeout, retries=retries)
    try:
        with progress() as step:
            found = store.fetch(
                name, output, base=base_url, transport=transport, max_time=max_time, progress=step
            )
    except (InputError, MachineError) as error:
        if not optional:
            raise
        click.echo(f"going on without {name}: {_clean(str(error))}", err=True)
        return
    click.echo(f"{name} is in {found.folder}", err=True)


@main.group("weights")
def weights() -> None:
    """Trained files: find, check, convert and fetch them."""


@weights.command("fetch")
@click.argument("system")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files, in place of the usual one.",
)
def weights_fetch(system: str, output: Path | None) -> None:
    """Fetch the trained files of SYSTEM from Kaggle, with your own Kaggle credentials.

    Needs the extra `kaggle`. An interrupted fetch goes on with the same command.

    \b
    Example: melanoma-zoo weights fetch second_place
    """
    import zoo
    from weights.kaggle import fetch

    folder = fetch(zoo.card(system), output)
    click.echo(f"trained files of {system} are in {folder}", err=True)


if __name__ == "__main__":
    main(prog_name="melanoma-zoo")
