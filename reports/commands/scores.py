"""`score` and `audit`: what predictions are worth, and what could make them wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reports.commands.base import Command, Failure, say_left_out
from reports.commands.options import (
    clinical_options,
    existing,
    files_and_labels,
    reference_option,
    scoring_options,
    training_option,
)
from reports.terminal import fields, print_json, print_tables

if TYPE_CHECKING:
    from evaluate.clinical import Request


@click.command(cls=Command)
@files_and_labels
@scoring_options
@reference_option
@clinical_options
@click.option("--extra", is_flag=True, help="Score files that match no card too, each as its own row.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def score(
    files: tuple[Path, ...],
    labels: Path,
    columns: dict[str, str],
    diagnoses: Path | None,
    kinds: dict[str, Any],
    protocol: str,
    resamples: int | None,
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
      melanoma-zoo score mine.csv --labels test.csv --extra --kind mine=probability --calibration
      melanoma-zoo score predictions/ --labels test.csv --at sensitivity=0.9 --prevalence 0.02
      melanoma-zoo score mine.csv --labels test.csv --extra --threshold-from development/mine.csv
    """
    from evaluate import score as run
    from evaluate.clinical import clinical, with_development
    from evaluate.skipped import note
    from reports import clinical as clinic
    from reports.differences import reference as reference_of
    from reports.inputs import read_inputs
    from reports.tables import scored

    inputs = read_inputs(files, labels, columns=columns, diagnoses=diagnoses, extra=extra, kinds=kinds)
    assert inputs is not None
    request, more_left_out = with_development(request, [each.system for each in inputs.predictions], kinds)
    say_left_out(inputs.left_out | more_left_out)
    given: dict[str, Any] = {"resamples": resamples, "seed": seed}
    found = run(inputs.predictions, inputs.labels, protocol, development=request.development, **given)
    more = clinical(inputs.predictions, inputs.labels, request, **given)
    tables = [
        *scored(found, reference),
        *clinic.tables(more, reference_of(found, reference), note(found.skipped, found.n)),
    ]
    if as_json:
        print_json({**fields(found), **fields(more)})
    else:
        print_tables(tables)


def _runs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[tuple[str, Path]]:
    """`SYSTEM=FILE` as the word for the system and the file's path."""
    from zoo.errors import InputError

    runs = []
    for text in given:
        system, equals, file = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not SYSTEM=FILE")
        if not Path(file).is_file():
            raise Failure(f"{file}: there is no such file (--run)", InputError.exit_code)
        runs.append((system, Path(file)))
    return runs


@click.command(cls=Command)
@files_and_labels
@training_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="SYSTEM=FILE",
    callback=_runs,
    help="Another run of a system among FILES, to compare with; may be repeated.",
)
@click.option(
    "--images", type=existing(file_okay=False), help="Folder of the test images: look for near-duplicates."
)
@click.option(
    "--train-images",
    type=existing(file_okay=False),
    help="Folder of training images: look for test images among them.",
)
@scoring_options
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
    A broken file is a finding too, and a second file of a system is compared with the first on the
    lesions that both have.
    The exit code is 0 whatever is found; with --strict it is 3 where a finding is an error.

    \b
    Examples:
      melanoma-zoo audit predictions/ --labels test.csv --train-table isic2020_train.csv
      melanoma-zoo audit mine.csv --extra --labels test.csv --images photos/ --strict
    """
    from evaluate.predictions import card_of
    from reports.audit import read_and_audit, report

    named = [(card.name if (card := card_of(system)) else system, file) for system, file in runs]
    found, left_out = read_and_audit(
        files, labels, training=train_table, runs=named, images=images, train_images=train_images, extra=extra, **settings
    )  # fmt: skip
    say_left_out(left_out)
    if as_json:
        print_json(found)
    else:
        print_tables(report(found))
    if strict and any(finding.severity == "error" for finding in found.findings):
        context.exit(3)
