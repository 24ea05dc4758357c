"""`profile` and `plan`: what systems cost in time, memory and energy, and what measuring it takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reports.commands.base import Command, Failure, SystemName, chosen, say_left_out
from reports.commands.options import existing
from reports.commands.planning import check, plan_run, run_options
from reports.terminal import fields, print_json, print_tables, progress

if TYPE_CHECKING:
    from benchmarks.results import Profile

F = TypeVar("F", bound=Callable[..., Any])


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

_SHORT_S = 60
"""Quick runs of no more seconds are not announced."""


def _profile_options(command: F) -> F:
    """What `profile` and `plan` have in common."""
    for option in (
        click.option("--counts", type=existing(dir_okay=False), help="Take cards and counts from this record, made elsewhere, instead of counting here."),
        click.option("--limit", "limit_s", type=click.IntRange(min=1), default=900, show_default=True, metavar="SECONDS", help="Give a process up after this time."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights, pixels and the order of measuring."),
        click.option("--resume", is_flag=True, help="Take the readings that an earlier run finished, with the same code on the same machine."),
        click.option("--quick", is_flag=True, help="Shorten everything; every figure is marked so."),
        click.option("--member", metavar="NAME|INDEX", help="Only this network of the system."),
        click.option("--batch-size", "batch", type=click.IntRange(min=1), metavar="N", help="Images per batch of throughput and end-to-end; by default throughput tries 1, 2, 4 and so on."),
        click.option("--compile", "compiled", is_flag=True, help="Run each network under torch.compile too."),
        click.option("--engine", "engines", type=_Several("torch", "onnxruntime", "openvino"), default="torch", show_default=True, help="What runs networks; batch norms are folded in all but torch."),
        click.option("--threads", type=_Several("all", numbers=True), callback=lambda _, __, given: given or (), help="Threads on the CPU: 1,all by default, all with --quick."),
        click.option("--memory-format", "memory_formats", type=_Several("contiguous", "channels-last"), default="contiguous", show_default=True, help="Order of the elements of weights and pixels."),
        click.option("--precision", "precisions", type=_Several("fp32", "tf32", "bf16", "fp16"), default="fp32", show_default=True, help="Arithmetic: tf32 is CUDA's, bf16 and fp16 are autocast."),
        click.option("--device", "devices", type=_Several("auto", "cpu", "cuda"), default="auto", show_default=True, help="Where networks run; auto is CUDA where there is a GPU."),
        click.option("--scenario", "scenarios", type=_Several("latency", "throughput", "end-to-end"), default="latency", show_default=True, help="What is timed."),
        click.argument("systems", nargs=-1, type=SystemName()),
    ):  # fmt: skip
        command = option(command)
    return command


_repeated = click.option("--repeat", type=click.IntRange(1, 20), default=1, show_default=True, metavar="N", help="Run everything N times, and say whether the figures lie within their own spreads.")  # fmt: skip


@click.command(cls=Command)
@_profile_options
@click.option("--images", type=existing(file_okay=False), help="Folder of real images, for end-to-end and for the accuracy of faster variants.")  # fmt: skip
@_repeated
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for record.json, the tables in every format and the raw samples.")  # fmt: skip
@click.option("--against", type=existing(dir_okay=False), multiple=True, help="Rank beside the rows of this earlier record, of the same machine; may be repeated.")  # fmt: skip
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
        context.invoke(plan, as_json=as_json, repeat=repeat, **asked)
        return
    from dataclasses import replace

    from benchmarks.machine import fingerprint
    from reports.profile import tables
    from reports.profiling import run, write_all
    from reports.ranking import refuse_others
    from reports.repeats import forget_repeats, repeats, write_repeats
    from zoo.files import make_folder

    base, wanted, builder = _profile_base(**asked)
    earlier = _earlier_profiles(against)
    refuse_others(fingerprint(), *(other.machine for other in earlier.values()))
    if output:
        make_folder(output)
    _say_how_much(base, wanted, builder, repeat)  # Wrong words are told here, before anything is removed.
    if output:
        forget_repeats(output)
    found: list[Profile] = []
    try:
        for number in range(1, repeat + 1):
            with progress() as step, _resumable():
                one, samples = run(base, replace(wanted, repeat=number - 1), builder=builder, progress=step)
            found.append(one)
            if output:
                folder = output / f"run-{number}" if repeat > 1 else output
                written = write_all(base, one, samples, folder, earlier)
                written += write_repeats(found, output) if len(found) > 1 else []
                click.echo(f"wrote {', '.join(map(str, written))}", err=True)
    finally:  # What was measured is shown, also where it could not be written or a later run was stopped.
        if found and as_json:
            print_json(_as_json(found, earlier, several=repeat > 1))
        elif found:
            print_tables([*tables(found[-1], earlier), *([repeats(found)] if len(found) > 1 else [])])
    if all(row.error for row in found[-1].rows):
        from zoo.errors import MachineError

        raise MachineError(f"nothing could be measured: {found[-1].rows[0].error}")


@click.command(cls=Command)
@_profile_options
@_repeated
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def plan(
    context: click.Context, /, images: Path | int | None, launcher: str, nodes: int, processes: int | None,
    cpus: int | None, price: float | None, results: str, image_mb: float | None, as_json: bool, repeat: int, **asked: Any,
) -> None:  # fmt: skip
    """Show what `profile` would measure, or what `predict` on a number of images takes, before anything runs.

    Of `profile`: each row, what is kept already, and about how long it takes. With `--images N`, of `predict`:
    hours, units, what is moved and the cost for each system, from times that earlier runs measured, or else
    estimated from operations; each row says which.

    \b
    Examples:
      melanoma-zoo plan first_place --scenario latency,throughput --device cuda
      melanoma-zoo plan sge_b3 first_place --images 400000 --launcher ray --nodes 8 --price 2.50
    """
    check(context, isinstance(images, int))
    if isinstance(images, int):
        made, _, builder = _profile_base(images=None, **asked)
        plan_run(
            images, as_json=as_json, base=made, builder=builder, asked=asked, launcher=launcher, nodes=nodes,
            processes=processes, cpus=cpus, price=price, results=results, image_mb=image_mb,
        )  # fmt: skip
        return
    from reports.profiling import plan as entries
    from reports.profiling import planned

    base, wanted, builder = _profile_base(images=images, **asked)
    found = entries(base, wanted, builder=builder, runs=repeat)
    if as_json:
        print_json(found)
    else:
        print_tables([planned(found, resume=wanted.resume, runs=repeat)])


def _say_how_much(base: dict[str, Any], wanted: Any, builder: Callable[[str], str | None], runs: int) -> None:
    """Says on stderr how long all of it takes, unless it is a quick run of less than a minute.

    Progress tells of one stage at a time.
    """
    from reports.profiling import amount
    from reports.profiling import plan as entries

    found = entries(base, wanted, builder=builder, runs=runs)
    if not wanted.quick or sum(each.seconds for each in found) > _SHORT_S:
        click.echo(amount(found, runs), err=True)


def _as_json(found: Sequence[Profile], earlier: Mapping[str, Profile], *, several: bool) -> dict[str, Any]:
    """The profile with its ranking, or all runs with the verdict on them too."""
    from reports.ranking import incomparable, ranked
    from reports.repeats import judged

    beside = {"this run": found[-1], **earlier}
    ranking = {"ranking": ranked(beside), "not_ranked": incomparable(beside)}
    if several:
        return {"runs": found, "repeats": judged(found) if len(found) > 1 else [], **ranking}
    return {**fields(found[0]), **ranking}


def _profile_base(
    systems: tuple[str, ...], counts: Path | None, **asked: Any
) -> tuple[dict[str, Any], Any, Callable[[str], str | None]]:
    """The record to start from, what is asked for, and what makes each system's networks."""
    from benchmarks import worker
    from reports import base
    from reports.profiling import Asked

    wanted = Asked(**asked)
    if counts:
        made = base.only(base.read(counts), systems)
        _say_left_out(made)
        return made, wanted, lambda _: worker.STANDARD
    import zoo

    cards = chosen(systems)
    with progress() as step:
        made = base.counted(cards, step)
    _say_left_out(made, told=made.get("missing", {}))  # Counting names what it cannot count.

    def builder(name: str) -> str | None:
        build = zoo.builder(name)
        return worker.name(build) if build else worker.STANDARD

    return made, wanted, builder


def _say_left_out(made: dict[str, Any], told: Collection[str] = ()) -> None:
    """Says which systems cannot be run; where none is left, the error names them all."""
    from reports import base

    absent = base.left_out(made)
    if len(absent) < len(made["entries"]):
        say_left_out({name: why for name, why in absent.items() if name not in told})


def _earlier_profiles(paths: Sequence[Path]) -> dict[str, Profile]:
    from reports.record import load
    from zoo.errors import InputError

    found = {}
    for path in paths:
        record = load(path)
        if record.profile is None:
            raise InputError(f"{path}: holds no profile; name a record.json that `profile --output` wrote")
        found[str(path)] = record.profile
    return found


@contextmanager
def _resumable() -> Iterator[None]:
    """Says how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Failure("stopped; finished readings are kept, and --resume takes them", 130) from error
