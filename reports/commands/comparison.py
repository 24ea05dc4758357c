"""`compare` and `reproduce`: systems side by side, and the paper's claims one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reports.commands.base import Command, SystemName, chosen, say_left_out
from reports.commands.options import clinical_options, comparison_options, launching_options, running_options
from reports.terminal import print_tables, progress

if TYPE_CHECKING:
    from evaluate.clinical import Request
    from evaluate.launchers.opening import Launching
    from reports.record import Record


@click.command(cls=Command)
@click.argument("systems", nargs=-1, type=SystemName())
@comparison_options
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
@running_options
@click.option(
    "--untrained",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="Random weights for systems without trained files, for trials.",
)
@launching_options
@clinical_options
def compare(
    systems: tuple[str, ...], request: Request, test_set: Path | None, weights: Path | None,
    untrained: int | None, limit: int | None, on_error: str, views: int | None, precision: str, batch_size: int | None, workers: int | None,
    engine: str, drift: int | None, compiled: bool, launching: Launching, **options: Any,
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
      melanoma-zoo compare sge_b3 timm:resnet18 --test-set DIR --untrained 0 --views 1 --limit 20
    """
    from reports.comparison import compare as run

    running = {
        "untrained": untrained, "views": views, "on_error": on_error, "limit": limit, "precision": precision, "batch_size": batch_size, "workers": workers,
        "engine": engine, "drift": drift, "compiled": compiled, "launching": launching,
    }  # fmt: skip
    _report(
        run, systems, "comparison", request=request,
        running=_to_run(test_set, weights, running), **options,
    )  # fmt: skip


def _to_run(test_set: Path | None, weights: Path | None, running: dict[str, Any]) -> dict[str, Any] | None:
    """What is run on which images; None where nothing is."""
    if test_set is None and weights:
        raise click.UsageError("--weights are of networks to run: give the images too, with --test-set")
    if test_set is None:
        names = [*running, *running["launching"].__struct_fields__]
        words = {option.name: option.opts[0] for option in click.get_current_context().command.params}
        unused = [words[name] for name in names if _given(name)]
        if unused:
            raise click.UsageError(
                f"{', '.join(unused)} is about networks that are run: give --test-set and --weights"
            )
        return None
    if weights is None:
        from weights.store import fetched_weights

        weights = fetched_weights()
    return {"test_set": test_set, "folder": weights, **running}


def _given(name: str) -> bool:
    """Whether an option of the running command was given on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


@click.command(cls=Command)
@comparison_options
@clinical_options
def reproduce(request: Request, **options: Any) -> None:
    """Check the paper's claims one by one, and say what each holds under.

    No claim is about time, so nothing is timed.

    \b
    Example: melanoma-zoo reproduce --predictions DIR --labels TABLE
    """
    from reports.comparison import reproduce as run

    _report(run, (), "claims", request=request, latency=False, device="auto", **options)


def _report(
    run: Callable[..., Record], systems: tuple[str, ...], name: str, *, request: Request, kinds: dict[str, Any],
    predictions: tuple[Path, ...], labels: Path | None, no_predictions: bool, diagnoses: Path | None, train_table: tuple[Path, ...],
    latency: bool, style: str, output: Path | None, running: dict[str, Any] | None = None, **settings: Any,
) -> None:  # fmt: skip
    from evaluate.clinical import with_development
    from reports.inputs import Inputs, read_inputs, run_systems
    from reports.outputs import tables_on_screen, text, write_all
    from reports.record import Settings
    from zoo.files import make_folder

    cards = chosen(systems)
    if output:
        make_folder(output)
    table = {"columns": settings["columns"], "diagnoses": diagnoses, "training": train_table}
    inputs: Inputs | None
    names = {card.name for card in cards}
    with progress() as step:
        if running:
            if predictions:
                raise click.UsageError(
                    "--predictions and --test-set each say where scores come from; give one of them"
                )
            if kinds:
                raise click.UsageError("--kind is about files of scores: give them with --predictions")
            # Read before the networks run, so that a broken file is told at once.
            request, others = with_development(request, names)
            inputs = run_systems(
                cards, labels=labels, device=settings["device"], progress=step, **running, **table
            )
        else:
            predictions, labels = _scores_to_take(predictions, labels, no_predictions)
            elsewhere = [card for card in cards if not card.members]
            inputs = read_inputs(predictions, labels, elsewhere=elsewhere, kinds=kinds, **table)
            scored = {each.system for each in inputs.predictions} if inputs else names
            request, others = with_development(request, names & scored, kinds)
        say_left_out({**(inputs.left_out | inputs.missing if inputs else {}), **others})
        record = run(
            cards, Settings(latency="quick" if latency else "off", **settings), inputs, step, request=request
        )
    if style == "terminal":
        print_tables(tables_on_screen(record))
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
