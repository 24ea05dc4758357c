"""Options that several commands have in common."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reports.commands.base import Failure, Finite, There

F = TypeVar("F", bound=Callable[..., Any])


def existing(**kind: bool) -> click.Path:
    """A path that must be there."""
    return There(**kind)


class _Located(There):
    """A path that must be there, or a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from zoo.errors import MelanomaZooError
        from zoo.urls import is_url, place

        if not is_url(value):
            return super().convert(value, param, ctx)
        try:
            return place(value)
        except MelanomaZooError as error:
            raise Failure(str(error), error.exit_code) from error


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


def table_options(command: F) -> F:
    """How a table of labels is read: the command gets `columns` and `diagnoses`."""
    for option in (
        click.option("--diagnoses", type=existing(dir_okay=False), help="TOML table that says which diagnoses are melanoma, beside those that are known."),
        click.option(
            "--column", "columns", multiple=True, metavar="ROLE=NAME", callback=_roles,
            help="Name of a column of the table, by its role: image, target, diagnosis, patient, lesion, sex, age or site; may be repeated.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _kinds(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`NAME=probability` or `NAME=rank`, each name once."""
    kinds: dict[str, str] = {}
    for text in given:
        name, _equals, kind = text.rpartition("=")
        if not name or kind not in ("probability", "rank"):
            raise click.BadParameter(f"{text!r} is not NAME=probability or NAME=rank")
        if kinds.setdefault(name, kind) != kind:
            raise click.BadParameter(f"{name} is {kinds[name]} and {kind}; say one")
    return kinds


def kind_option(command: F) -> F:
    """What scores are, where nothing else says it: the command gets `kinds`."""
    return click.option(
        "--kind",
        "kinds",
        multiple=True,
        metavar="NAME=probability|rank",
        callback=_kinds,
        help="What the scores of a CSV file are, by its system or its name without ending; may be repeated.",
    )(command)


def files_and_labels(command: F) -> F:
    """What `score` and `audit` read."""
    for option in (
        table_options,
        kind_option,
        click.option("--labels", required=True, type=existing(dir_okay=False), help="Table with the diagnosis of every lesion."),
        click.argument("files", nargs=-1, required=True, type=existing()),
    ):  # fmt: skip
        command = option(command)
    return command


def scoring_options(command: F) -> F:
    """What `score`, `audit`, `compare` and `reproduce` have in common."""
    for option in (
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the resamples."),
        click.option(
            "--resamples", type=click.IntRange(40, 1_000_000), show_default="10000; 1000 for paper and large test sets",
            help="Bootstrap resamples of each interval.",
        ),
        click.option(
            "--protocol", type=click.Choice(["clinical", "paper"]), default="clinical", show_default=True,
            help="clinical: intervals over patients. paper: what the paper's authors report.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def clinical_options(command: Callable[..., None]) -> Callable[..., None]:
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
        click.option("--threshold-labels", type=existing(dir_okay=False), help="Table with the diagnosis of every development lesion, where files of --threshold-from have no y_true."),
        click.option("--threshold-from", type=existing(), multiple=True, help="Development predictions that lock the thresholds; may be repeated."),
        click.option("--at", multiple=True, metavar="POINT", help="Operating point: sensitivity=0.9 or specificity=0.9; may be repeated."),
    ):  # fmt: skip
        asked = option(asked)
    return asked


def commas(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Values that may be repeated or separated by commas."""
    return tuple(value.strip() for text in given for value in text.split(",") if value.strip())


def numbers(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers from 0 that may be repeated or separated by commas."""
    values = commas(context, parameter, given)
    if wrong := [value for value in values if not value.isdecimal()]:
        raise click.BadParameter(f"{wrong[0]!r} is not a number from 0")
    return tuple(map(int, values))


def _batch_size(_: click.Context, __: click.Parameter, given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise click.BadParameter(f"{given!r} is neither auto nor a number from 1")
    return int(given)


def running_options(command: F) -> F:
    """How networks are run on a test set: what `predict` and `compare` have in common."""
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Threads that read and decode images.  [default: the cores]"),
        click.option("--drift", type=click.IntRange(min=0), metavar="N", help="Images seen in fp32 by torch too, to tell how far scores move.  [default: 8 in bf16, in fp16 and with --compile, else 0]"),
        click.option("--compile", "compiled", is_flag=True, help="Run networks under torch.compile; a network takes a minute or more to compile."),
        click.option("--engine", type=click.Choice(["auto", "torch", "onnxruntime", "openvino"]), default="torch", show_default=True, help="What runs networks; auto says what it takes and why."),
        click.option("--batch-size", default="auto", show_default=True, metavar="auto|N", callback=_batch_size, help="Views at a time; halved where memory does not suffice."),
        click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16", "fp16"]), default="fp32", show_default=True, help="What networks compute in; tf32 on CUDA only."),
        click.option("--views", type=click.IntRange(min=1), metavar="N", help="Only the first N views of the published sequence.  [default: all]"),
        click.option("--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True, help="What becomes of images that are missing or damaged."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N lesion images."),
        click.option("--weights", type=existing(), help="Folder of trained files; for a system of one network and one fold its file will do.  [default: those that were fetched]"),
        click.option("--test-set", type=_Located(file_okay=False), metavar="DIR|URL", help="Folder of images, and of the table that says what they are."),
    ):  # fmt: skip
        command = option(command)
    return command


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE`, each name once."""
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in pairs:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, each name once")
        pairs[name] = value
    return pairs


def launching_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where networks run, on this machine or beyond it: the command gets it as `launching`."""

    @functools.wraps(command)
    def launched(**given: Any) -> None:
        import msgspec

        from evaluate.launchers.opening import Launching

        own = {name: given.pop(name) for name in msgspec.structs.asdict(Launching())}
        command(**given, launching=Launching(**own))

    for option in (
        click.option("--results", default="", metavar="DIR|URL", help="Folder or URL (s3://...) where finished work is kept.  [default: the cache folder]"),
        click.option("--slurm", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Option of sbatch, such as partition=gpu or time=600; may be repeated."),
        click.option("--address", default="", metavar="HOST:PORT|auto", help="Ray cluster that is there.  [default: one is started for the run]"),
        click.option("--retries", type=click.IntRange(min=0), default=2, show_default=True, help="How often a unit is begun again after its process or node died."),
        click.option("--gpus", type=Finite(min=0), help="GPUs of a process, with ray or slurm.  [default: 1 with --device cuda, else 0]"),
        click.option("--cpus", type=click.IntRange(min=1), help="Cores of a process, with ray or slurm.  [default: 1]"),
        click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Processes that compute at a time.  [default: here one for each GPU, or one; ray: as many as there is room for; slurm: 8]"),
        click.option("--launcher", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True, help="Where networks run: here, on a Ray cluster, or under Slurm."),
    ):  # fmt: skip
        launched = option(launched)
    return launched


def reference_option(command: F) -> F:
    """Which system the others are compared with."""
    return click.option(
        "--reference",
        metavar="NAME",
        help="System whose scores the others' are compared with: by default the first winner, or the first of all.",
    )(command)


def training_option(command: F) -> F:
    """What systems were trained on."""
    return click.option(
        "--train-table",
        type=existing(dir_okay=False),
        multiple=True,
        help="Table of images that systems were trained on; what the test set shares with it is reported.",
    )(command)


def comparison_options(command: F) -> F:
    """What `compare` and `reproduce` have in common."""
    for option in (
        click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for record.json and the tables in every format."),
        click.option("--format", "style", type=click.Choice(["terminal", "markdown", "csv", "latex", "json"]), default="terminal", show_default=True, help="What to print."),
        click.option("--rule", type=click.Choice(["networks", "weights", "architectures"]), default="networks", show_default=True, help="How parameters of ensembles are counted."),
        scoring_options,
        reference_option,
        training_option,
        table_options,
        kind_option,
        click.option("--no-predictions", is_flag=True, help="Leave the published scores out, even if they were fetched."),
        click.option("--labels", type=existing(dir_okay=False), help="Table with the diagnosis of every lesion."),
        click.option("--predictions", type=existing(), multiple=True, help="Folder or file of per-image scores; may be repeated. Without it, the published scores are taken if they were fetched."),
    ):  # fmt: skip
        command = option(command)
    return command
