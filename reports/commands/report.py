"""`report`: a record as a page, figures, tables and cards."""

from __future__ import annotations

from pathlib import Path

import click

from reports.commands.base import Command
from reports.commands.options import existing

STYLES = ("terminal", "html", "figures", "markdown", "latex", "csv", "json", "parquet")


@click.command(cls=Command)
@click.argument("record", type=existing())
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
    help="File to write, or folder for figures.  [default: beside the record; text is printed]",
)
@click.option(
    "--images",
    type=existing(file_okay=False),
    help="Folder of the test images, for small pictures on the page.",
)
def report(record: Path, style: str, output: Path | None, images: Path | None) -> None:
    """Show a RECORD (record.json, or the folder it is in) in another form.

    Nothing is computed: neither networks nor a GPU are needed, and every number is the record's.

    \b
    Examples:
      melanoma-zoo report out --format html
      melanoma-zoo report out/record.json --format figures --output figures/
      melanoma-zoo report out --format latex --output table.tex
    """
    from reports import faces
    from reports.outputs import tables
    from reports.terminal import print_tables
    from zoo.files import write

    found = faces.read(record, images)
    if style in faces.WRITTEN:
        name, writing = faces.WRITTEN[style]
        written = writing(found, output or faces.find_record(record).parent / name)
        click.echo(f"wrote {', '.join(map(str, written))}", err=True)
    elif style == "terminal":
        if output:
            raise click.UsageError("--output needs a --format that is written, such as markdown or html")
        print_tables(tables(found))
    elif output:
        write(output, faces.PRINTED[style](found))
        click.echo(f"wrote {output}", err=True)
    else:
        click.echo(faces.PRINTED[style](found), nl=False)
