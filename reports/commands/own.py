"""`new` and `check`: systems of your own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reports.commands.base import Command, SystemName, one_line
from reports.commands.options import existing, training_option
from reports.terminal import print_json, print_tables, progress


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--backbone", help="Model of timm, such as convnextv2_tiny; without it, an architecture of your own."
)
@click.option(
    "--size", type=click.IntRange(min=8), help="Side of the square input in pixels.  [default: the model's]"
)
@click.option(
    "--classes", help="How many classes, or their names with commas and MEL among them.  [default: 2]"
)
@click.option(
    "--melanoma",
    type=click.IntRange(min=0),
    help="Index of melanoma among the classes, from 0.  [default: MEL, or the last of two]",
)
@click.option(
    "--weights", type=existing(dir_okay=False), help="Trained file; its name and checksum go into the card."
)
@click.option(
    "--source", default="", help="Where the system is described: an address, or the title of a paper."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Where to write.",
)
@click.option(
    "--package",
    default="",
    help="Python package that the folder belongs to; without it, the builder is a file of its own.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def new(name: str, backbone: str | None, size: int | None, classes: str | None, melanoma: int | None, weights: Path | None, source: str, folder: Path, package: str, force: bool) -> None:  # fmt: skip
    """Write the card of a system of your own, NAME, and for a new architecture its Python file.

    On a terminal it asks for what was not given.

    \b
    Examples:
      melanoma-zoo new my_model --backbone convnextv2_tiny --classes BCC,BKL,MEL,NV --weights my.pth
      melanoma-zoo new my_network --size 128 --folder zoo/
    """
    from reports.scaffold import Answers, class_names, create

    if sys.stdin.isatty():
        if backbone is None:
            backbone = click.prompt("Model of timm (empty: an architecture of your own)", default="", show_default=False)  # fmt: skip
        if size is None and not backbone:
            size = click.prompt("Side of the input, in pixels", default=224, type=click.IntRange(min=8))
        if classes is None:
            classes = click.prompt("Classes: how many, or names with commas", default="2")
        if melanoma is None and classes.isdecimal() and int(classes) > 2:
            melanoma = click.prompt("Index of melanoma among them, from 0", type=click.IntRange(min=0))
        if weights is None:
            given = click.prompt("Trained file (empty: none yet)", default="", show_default=False)
            weights = Path(given) if given else None
    names, index = class_names(classes or "2", melanoma)
    answers = Answers(
        name=name, backbone=backbone or "", size=size, classes=names, melanoma=index, weights=weights, source=source, package=package,
    )  # fmt: skip
    written = create(answers, folder, force=force)
    click.echo(f"wrote {', '.join(map(str, written))}", err=True)
    trained = f" --weights {weights}" if weights else ""
    click.echo(f"next: melanoma-zoo check {name} --zoo {folder}{trained}", err=True)


@click.command(cls=Command)
@click.argument("system", type=SystemName())
@click.option(
    "--weights",
    type=existing(),
    help="Folder of trained files; for a system of one network and one fold its file will do.",
)
@click.option(
    "--manifest",
    "listed",
    type=existing(dir_okay=False),
    help="Checksums that trained files must have (weights verify --write).",
)
@click.option(
    "--members",
    multiple=True,
    metavar="NAME,...",
    callback=lambda _, __, given: tuple(name for text in given for name in text.split(",") if name),
    help="Only these networks of the system.",
)
@click.option(
    "--labels", type=existing(dir_okay=False), help="Table of a test set, to look for in the training tables."
)
@training_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def check(context: click.Context, /, system: str, weights: Path | None, listed: Path | None, members: tuple[str, ...], labels: Path | None, train_table: tuple[Path, ...], as_json: bool) -> None:  # fmt: skip
    """Check SYSTEM: its card, its networks, its trained files, and what it was trained on.

    Each check passes, fails or does not apply (n.a.); for each that fails there is a mend. The exit
    code is 3 where one fails.

    \b
    Examples:
      melanoma-zoo check sge_b3
      melanoma-zoo check my_model --zoo . --weights my.pth
      melanoma-zoo check onnx:model.onnx --json
    """
    import zoo

    card = zoo.card(system)  # A name that is not there is told before torch is imported.
    with progress() as step:
        if card.members:
            step("checking networks", 0, len(members or card.members))
        from reports.check import check as run
        from reports.check import line, report

        found = run(
            card, weights=weights, listed=listed, members=members, labels=labels, training=train_table,
            progress=step, finished=lambda each: click.echo(one_line(line(each)), err=True),
        )  # fmt: skip
    if as_json:
        print_json({"system": card.name, "checks": found})
    else:
        print_tables(report(card, found))
    if any(each.state == "fail" for each in found):
        context.exit(3)
