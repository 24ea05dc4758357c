"""`weights`: trained files."""

from __future__ import annotations

from pathlib import Path

import click

from reports.commands.base import Group, SystemName, chosen, one_line
from reports.commands.options import existing
from reports.terminal import print_json, print_tables, progress


@click.group(cls=Group)
def weights() -> None:
    """Find, check, convert and fetch trained files.

    \b
    Examples:
      melanoma-zoo weights list first_place --weights DIR
      melanoma-zoo weights convert sge_b3 DIR --output OUT
      melanoma-zoo weights verify DIR --manifest FILE
    """


@weights.command("list")
@click.argument("system", type=SystemName())
@click.option(
    "--weights",
    "folder",
    type=existing(file_okay=False),
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


@weights.command("convert")
@click.argument("system", type=SystemName())
@click.argument("files", nargs=-1, required=True, type=existing())
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


@weights.command("verify")
@click.argument("folder", default=".", type=existing(file_okay=False))
@click.option("--system", help="Only files of this system.")
@click.option(
    "--manifest",
    "listed",
    type=existing(dir_okay=False),
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
    one is changed or missing, and where there is none.

    \b
    Examples:
      melanoma-zoo weights verify DIR --write pinned.toml
      melanoma-zoo weights verify DIR --manifest pinned.toml
    """
    import zoo
    from reports.weights import verified
    from weights.checksums import manifest, pin, verify, write_new
    from zoo.errors import CheckpointError

    card = zoo.card(system) if system else None
    if target:
        if listed:
            raise click.UsageError(
                "--write makes a manifest and --manifest checks against one: give one of them"
            )
        with progress() as step:
            made = pin(folder, chosen(()), card, step=step)
        write_new(target, made)
        click.echo(f"wrote {target}: {len(made.files)} files", err=True)
        return
    known = manifest(listed)
    with progress() as step:
        checks = list(verify(folder, known, card, step=step))
    if as_json:
        print_json(checks)
    elif checks:
        print_tables([verified(checks, folder, known)])
    if not checks:
        of = f" of {card.name}" if card else ""
        raise CheckpointError(f"{folder}: no trained files{of} in it, so nothing was verified")
    if any(check.state in ("changed", "missing") for check in checks):
        context.exit(3)


@weights.command("fetch")
@click.argument("system", type=SystemName())
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
    from weights.files import search
    from weights.kaggle import fetch

    card = zoo.card(system)
    folder = fetch(card, output)
    click.echo(f"trained files of {system} are in {folder}", err=True)
    found = search(card, folder)
    for said in (*found.problems, *(f"not among them: {name}" for name in found.missing)):
        click.echo(one_line(said), err=True)
