"""The command line: options, progress and exit codes around the rooms' functions.

Imports of torch, pandas and what needs them stand inside the commands, so that `--help` and
`list` answer at once.
"""

from __future__ import annotations

import errno
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reports.terminal import fields, print_json, print_tables, progress

if TYPE_CHECKING:
    from benchmarks.results import Machine, Profile
    from evaluate.clinical import Request
    from reports.record import Record
    from zoo.card import System

EXIT_CODES = {
    0: "done",
    1: "an error inside the program; `--debug` shows where",
    2: "wrong words on the command line, or an unknown name",
    3: "an input file is missing, broken, or disagrees with another",
    4: "this machine cannot do it: a missing extra, no such device, a folder that cannot be written",
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


def _files_and_labels(command: F) -> F:
    """What `score` and `audit` read."""
    for option in (
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
        click.option("--labels", type=_existing(dir_okay=False), help="Table with the diagnosis of every lesion."),
        click.option("--predictions", type=_existing(), multiple=True, help="Folder or file of per-image scores; may be repeated."),
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
    from reports import clinical as clinic
    from reports.comparison import read_inputs
    from reports.tables import scored

    inputs = read_inputs(files, labels, extra=extra)
    assert inputs is not None
    _say_left_out(inputs.left_out)
    found = run(inputs.predictions, inputs.labels, protocol, resamples=resamples, seed=seed)
    more = clinical(inputs.predictions, inputs.labels, request, resamples=resamples, seed=seed)
    tables = [*scored(found, reference), *clinic.tables(more)]
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
    help="Where latency is measured.",
)
@_clinical_options
def compare(systems: tuple[str, ...], request: Request, **options: Any) -> None:
    """Compare SYSTEMS (all by default): parameters, operations, latency, and scores where given.

    \b
    Examples:
      melanoma-zoo compare --no-latency
      melanoma-zoo compare sge_b3 first_place --format markdown
      melanoma-zoo compare --predictions DIR --labels TABLE --output out
      melanoma-zoo compare --predictions DIR --labels TABLE --at sensitivity=0.9 --subgroups
    """
    from reports.comparison import compare as run

    _report(functools.partial(run, request=request), systems, "comparison", **options)


class _Several(click.ParamType):  # type: ignore[type-arg]
    """Words of a list, separated by commas."""

    name = "list"

    def __init__(self, *words: str, numbers: bool = False) -> None:
        self.words, self.numbers = words, numbers

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        return ",".join([*self.words, *["N"] * self.numbers])

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(word.strip() for word in value.split(",")))
        for word in found:
            if word not in self.words and not (self.numbers and word.isdecimal() and int(word) > 0):
                self.fail(f"{word!r} is not one of {self.get_metavar(param or _NOTHING)}", param, ctx)
        return found


_NOTHING = click.Option(["--nothing"])


def _profile_options(command: F) -> F:
    """What `profile` and `plan` have in common."""
    for option in (
        click.option("--counts", type=_existing(dir_okay=False), help="Take cards and counts from this record, made elsewhere, instead of counting here."),
        click.option("--limit", "limit_s", type=click.IntRange(min=1), default=900, show_default=True, metavar="SECONDS", help="Give a process up after this time."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights, pixels and the order of measuring."),
        click.option("--resume", is_flag=True, help="Take the readings that an earlier run finished, with the same code on the same machine."),
        click.option("--quick", is_flag=True, help="Shorten everything; every figure is marked so."),
        click.option("--images", type=_existing(file_okay=False), help="Folder of real images, for end-to-end and for the accuracy of faster variants."),
        click.option("--member", metavar="NAME|INDEX", help="Only this network of the system."),
        click.option("--batch-size", "batch", type=click.IntRange(min=1), metavar="N", help="Images per batch of throughput and end-to-end; by default throughput tries 1, 2, 4 and so on."),
        click.option("--compile", "compiled", is_flag=True, help="Run each network under torch.compile too."),
        click.option("--threads", type=_Several("all", numbers=True), callback=lambda _, __, given: given or (), help="Threads on the CPU: 1,all by default, all with --quick."),
        click.option("--memory-format", "memory_formats", type=_Several("contiguous", "channels-last"), default="contiguous", show_default=True, help="Order of the elements of weights and pixels."),
        click.option("--precision", "precisions", type=_Several("fp32", "tf32", "bf16", "fp16"), default="fp32", show_default=True, help="Arithmetic: tf32 is CUDA's, bf16 and fp16 are autocast."),
        click.option("--device", "devices", type=_Several("auto", "cpu", "cuda"), default="auto", show_default=True, help="Where networks run; auto is CUDA where there is a GPU."),
        click.option("--scenario", "scenarios", type=_Several("latency", "throughput", "end-to-end"), default="latency", show_default=True, help="What is timed."),
        click.argument("systems", nargs=-1),
    ):  # fmt: skip
        command = option(command)
    return command


@main.command()
@_profile_options
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for record.json, the tables in every format and the raw samples.")  # fmt: skip
@click.option("--against", type=_existing(dir_okay=False), multiple=True, help="Rank beside the rows of this earlier record, of the same machine; may be repeated.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1, 20), default=1, metavar="N", help="Run everything N times, and say whether the figures lie within their own spreads.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the plan, and measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def profile(
    context: click.Context, /, output: Path | None, against: tuple[Path, ...], repeat: int, dry_run: bool, as_json: bool, **asked: Any
) -> None:  # fmt: skip
    """Measure what SYSTEMS (all by default) cost: time, memory, energy, and how near the machine's limits.

    Each combination of network, scenario and variant is a row. Every round runs in a process of its
    own, in shuffled order; what fails is a row that says why. benchmarks/README.md explains each column.

    \b
    Examples:
      melanoma-zoo profile sge_b3 baseline_b3 --scenario latency,throughput --output out
      melanoma-zoo profile sge_b3 --device cpu --precision fp32,bf16 --memory-format contiguous,channels-last
      melanoma-zoo profile first_place --member 0 --quick
      melanoma-zoo profile --dry-run
    """
    if dry_run:
        context.invoke(plan, as_json=as_json, **asked)
        return
    from reports.profile import tables
    from reports.profiling import run, write_all
    from reports.ranking import ranking, refuse_others, repeats
    from zoo.files import make_folder

    base, wanted, builder = _profile_base(**asked)
    earlier = _earlier_profiles(against)
    for other in earlier:
        refuse_others(_machine(), other.machine)
    if output:
        make_folder(output)
    found = []
    for number in range(1, repeat + 1):
        with progress() as step, _resumable():
            one, samples = run(base, wanted, builder=builder, progress=step)
        found.append(one)
        if output:
            folder = output / f"run-{number}" if repeat > 1 else output
            click.echo(f"wrote {', '.join(map(str, write_all(base, one, samples, folder)))}", err=True)
    if as_json:
        print_json(found[0] if repeat == 1 else found)
    else:
        shown = [table for one in found[-1:] for table in tables(one)]
        shown += [repeats(found)] if repeat > 1 else []
        print_tables([*shown, *(ranking([found[-1], *earlier]) if earlier else [])])
    if all(row.error for row in found[-1].rows):
        from zoo.errors import MachineError

        raise MachineError(f"nothing could be measured: {found[-1].rows[0].error}")


@main.command()
@_profile_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def plan(as_json: bool, **asked: Any) -> None:
    """Show what `profile` would measure, what is kept already, and about how long it takes.

    \b
    Example: melanoma-zoo plan first_place --scenario latency,throughput --device cuda
    """
    from reports.profiling import plan as entries
    from reports.profiling import planned

    base, wanted, builder = _profile_base(**asked)
    found = entries(base, wanted, builder=builder)
    if as_json:
        print_json(found)
    else:
        print_tables([planned(found, resume=wanted.resume)])


def _profile_base(
    systems: tuple[str, ...], counts: Path | None, **asked: Any
) -> tuple[dict[str, Any], Any, Callable[[str], str | None]]:
    """The record to start from, what is asked for, and what makes each system's networks."""
    from benchmarks import worker
    from reports import base
    from reports.profiling import Asked

    wanted = Asked(**asked)
    if counts:
        return base.only(base.read(counts), systems), wanted, lambda _: worker.STANDARD
    import zoo

    cards = _cards(systems)
    with progress() as step:
        made = base.counted(cards, step)

    def builder(name: str) -> str | None:
        build = zoo.builder(name)
        return worker.name(build) if build else worker.STANDARD

    return made, wanted, builder


def _earlier_profiles(paths: Sequence[Path]) -> list[Profile]:
    from reports.record import load
    from zoo.errors import InputError

    found = []
    for path in paths:
        record = load(path)
        if record.profile is None:
            raise InputError(f"{path}: holds no profile; name a record.json that `profile --output` wrote")
        found.append(record.profile)
    return found


def _machine() -> Machine:
    from benchmarks.machine import fingerprint

    return fingerprint()


@contextmanager
def _resumable() -> Iterator[None]:
    """Says how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise _Failure("stopped; finished readings are kept, and --resume takes them", 130) from error


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


def _report(
    run: Callable[..., Record], systems: tuple[str, ...], name: str, *,
    predictions: tuple[Path, ...], labels: Path | None, train_table: tuple[Path, ...], latency: bool, style: str, output: Path | None, **settings: Any,
) -> None:  # fmt: skip
    from reports.comparison import read_inputs
    from reports.outputs import tables, text, write_all
    from reports.record import Settings
    from zoo.files import make_folder

    cards = _cards(systems)
    if output:
        make_folder(output)
    inputs = read_inputs(predictions, labels, training=train_table)
    _say_left_out(inputs.left_out if inputs else {})
    with progress() as step:
        record = run(cards, Settings(latency="quick" if latency else "off", **settings), inputs, step)
    if style == "terminal":
        print_tables(tables(record))
    else:
        click.echo(text(record, style), nl=False)
    if output:
        written = write_all(record, output, name)
        click.echo(f"wrote {', '.join(map(str, written))}", err=True)


def _cards(names: Sequence[str]) -> list[System]:
    """The systems of these names, or all of them, in the order of the tables."""
    import zoo
    from reports.cards import in_order

    return in_order([zoo.card(name) for name in names or zoo.systems()])


def _say_left_out(left_out: Mapping[str, str]) -> None:
    for file, reason in left_out.items():
        click.echo(f"left out: {_clean(f'{file}: {reason}')}", err=True)


if __name__ == "__main__":
    main(prog_name="melanoma-zoo")
