"""What `plan` has beside the options of `profile`: a run of `predict` on many images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from reports.commands.base import Finite, There
from reports.terminal import print_json, print_tables

F = TypeVar("F", bound=Callable[..., Any])

_OF_PROFILE = (
    "repeat",
    "scenarios",
    "memory_formats",
    "threads",
    "compiled",
    "quick",
    "resume",
    "seed",
    "limit_s",
)
"""What says how `profile` measures, and nothing of a run of `predict`."""

_OF_RUN = ("launcher", "nodes", "processes", "cpus", "price", "results", "image_mb")

_NUMBER = re.compile(r"[-+]?[\d.,_ ]*\d[\d.,_]*(?:e[-+]?\d+)?", re.IGNORECASE)
"""What is meant as a number, whole or not."""


class _FolderOrNumber(There):
    """A folder that is there, or a number; a folder whose name is a number is the folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        if not Path(value).exists():
            if str(value).isdecimal() and int(value):
                return int(value)
            if _NUMBER.fullmatch(str(value)):
                self.fail(
                    f"{value!r}: a number of images is whole and at least 1, such as 400000", param, ctx
                )
        return super().convert(value, param, ctx)


def run_options(command: F) -> F:
    """Which run of `predict` is planned: the command gets `images` and the names of `_OF_RUN`."""
    for option in (
        click.option("--image-mb", type=Finite(min=0, min_open=True), metavar="MB", help="Mean size of an image's file, with a number of images.  [default: that of earlier runs]"),
        click.option("--results", default="", metavar="DIR|URL", help="Where earlier runs of predict kept their work, and how long it took.  [default: the cache folder]"),
        click.option("--price", type=Finite(min=0), help="Of one node for an hour, with a number of images."),
        click.option("--cpus", type=click.IntRange(min=1), metavar="N", help="Cores of a process, with ray or slurm, where networks run on CPUs.  [default: as many as were timed]"),
        click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Processes that compute at a time, on all nodes together.  [default: one for each node]"),
        click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Machines, with a number of images."),
        click.option("--launcher", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True, help="Where networks would run, with a number of images."),
        click.option("--images", type=_FolderOrNumber(file_okay=False), metavar="DIR|N", help="Folder of real images for profile; or a number of images: then a run of predict on so many is planned."),
    ):  # fmt: skip
        command = option(command)
    return command


def check(context: click.Context, number: bool) -> None:
    """Refuses options of the other kind of plan.

    Raises:
        UsageError: There is one.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) in (
            ParameterSource.COMMANDLINE,
            ParameterSource.ENVIRONMENT,
        )
        if given and number and name in _OF_PROFILE:
            raise click.UsageError(
                f"{parameter.opts[0]} says how profile measures; with a number of images predict is planned: leave it out"
            )
        if given and not number and name in _OF_RUN:
            raise click.UsageError(
                f"{parameter.opts[0]} is of a run of predict; say on how many images: --images 400000"
            )


def plan_run(
    images: int, *, as_json: bool, base: Any, builder: Callable[[str], str | None], asked: dict[str, Any],
    launcher: Any, nodes: int, processes: int | None, cpus: int | None, price: float | None, results: str,
    image_mb: float | None,
) -> None:  # fmt: skip
    """Plans a run of `predict`, and prints it.

    Raises:
        UsageError: What is asked for does not go together.
    """
    import msgspec

    from evaluate.launchers.opening import Launching
    from evaluate.launchers.processes import Processes
    from evaluate.planning import Machines
    from evaluate.stores import Store
    from reports.plan_tables import tables
    from reports.planning import Way, plan
    from zoo.errors import UsageError

    Launching(launcher=launcher, cpus=cpus, results=results).check()
    if launcher == "local" and nodes > 1:
        raise UsageError(f"--nodes {nodes}: --launcher local is one machine; choose ray or slurm")
    if processes is not None and processes < nodes:
        raise UsageError(
            f"--processes {processes}: {nodes - processes} of {nodes} nodes would have nothing to do"
        )
    several = {name: asked[name] for name in ("devices", "precisions", "engines") if len(asked[name]) > 1}
    for name, values in several.items():
        raise UsageError(f"--{name.removesuffix('s')} {','.join(values)}: a run of predict has one; choose")
    machines = Machines(launcher=launcher, nodes=nodes, processes=processes or nodes, price=price)
    way = Way(
        device=asked["devices"][0],
        precision=asked["precisions"][0],
        engine=asked["engines"][0],
        batch_size=asked["batch"],
        threads=cpus,
    )
    if way.where == "cpu" and launcher == "local" and machines.processes > 1:
        # They share the cores of this machine.
        way = msgspec.structs.replace(way, threads=Processes(machines.processes).threads)
    if way.where == "cuda" and cpus is not None:
        raise UsageError(
            f"--cpus {cpus}: networks would run on GPUs, whose times do not go by cores; leave it out"
        )
    found = plan(
        base, images, machines, way, member=asked["member"], store=Store(location=results),
        image_bytes=None if image_mb is None else image_mb * 1e6, builder=builder,
    )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        print_tables(tables(found, machines))
