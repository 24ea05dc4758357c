"""`report`: a record as a page, figures, tables and cards."""

from __future__ import annotations

from pathlib import Path

import click

from reports.commands.base import Command
from reports.commands.options import existing

STYLES = ("terminal", "html", "figures", "markdown", "pr", "latex", "csv", "json", "parquet", "card")


@click.command(cls=Command)
@click.argument("records", nargs=-1, required=True, type=existing())
@click.option(
    "--format",
    "style",
    type=click.Choice(STYLES),
    default="terminal",
    show_default=True,
    help="What to make.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File to write, or folder for figures and cards.  [default: beside the record; text is printed]",
)
@click.option(
    "--images",
    type=existing(file_okay=False),
    help="Folder of the test images, for small pictures on the page.",
)
@click.option(
    "--profile",
    type=existing(),
    help="Record of `profile`: its times and energy stand beside the scores.",
)
@click.option("--against", type=existing(), help="Old record: pr says what changed, and what the gate says.")
@click.option(
    "--rules",
    type=existing(dir_okay=False),
    help="Rules of the gate for --against.  [default: the usual ones]",
)
@click.option(
    "--predictions",
    type=existing(),
    multiple=True,
    help="Where the predictions of both records are, for the gate; may be repeated.",
)
def report(
    records: tuple[Path, ...], style: str, output: Path | None, images: Path | None,
    profile: Path | None, against: Path | None, rules: Path | None, predictions: tuple[Path, ...],
) -> None:  # fmt: skip
    """Show RECORDS (record.json, or the folder it is in) in another form; several make a leaderboard.

    Neither networks nor a GPU are needed, and every number is the record's; --against tests two records against each other.

    \b
    Examples:
      melanoma-zoo report out --format html
      melanoma-zoo report out/record.json --format figures --output figures/
      melanoma-zoo report out --format html --profile profiled
      melanoma-zoo report out --format pr --against main
      melanoma-zoo report out/ other/ --format markdown
    """
    from reports import faces
    from reports.comment import comment
    from reports.outputs import tables
    from reports.terminal import print_tables

    if style == "terminal" and output:
        raise click.UsageError("--output needs a --format that is written, such as markdown or html")
    if against and style != "pr":
        raise click.UsageError("--against is for --format pr; gate judges a record in full")
    if images and (style != "html" or len(records) > 1):
        raise click.UsageError("--images is for the page of one record (--format html)")
    if profile and len(records) > 1:
        raise click.UsageError(
            "--profile is for one record; a leaderboard takes the profile as one of its RECORDS"
        )
    if len(records) > 1:
        if style == "terminal":
            print_tables(faces.board(records, faces.SHORT).tables)
        else:
            _give(faces.board_as(faces.board(records), style), output)
        return
    found = faces.read(records[0], images, profile)
    if style in faces.WRITTEN:
        name, writing = faces.WRITTEN[style]
        written = writing(found, output or faces.find_record(records[0]).parent / name)
        click.echo(f"wrote {', '.join(map(str, written))}", err=True)
    elif style == "terminal":
        print_tables(tables(found))
    elif against:
        old, outcome = faces.gated(found, records[0], against, rules, predictions)
        _give(comment(found, old, outcome), output)
    else:
        _give(faces.PRINTED[style](found), output)


def _give(text: str, output: Path | None) -> None:
    from zoo.files import write

    if output:
        write(output, text)
        click.echo(f"wrote {output}", err=True)
    else:
        click.echo(text, nl=False)
