"""`data`: data sets that can be fetched."""

from __future__ import annotations

from pathlib import Path

import click

from reports.commands.base import Finite, Group, one_line
from reports.terminal import fields, print_json, print_tables, progress


@click.group(cls=Group)
def data() -> None:
    """Data sets: fetch them, and see what is here."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def data_list(as_json: bool) -> None:
    """List what can be fetched, what of it is here, and its size, origin and licence.

    Files of known checksums are read and checked; of PROVE-AI the images are counted.

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
    type=Finite(min=0, min_open=True),
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
    type=Finite(min=0, min_open=True),
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
        click.echo(f"going on without {name}: {one_line(str(error))}", err=True)
        return
    click.echo(f"{name} is in {found.folder}", err=True)
