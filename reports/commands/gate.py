"""`gate`: whether a new record is worse than an old one."""

from __future__ import annotations

import os
from pathlib import Path

import click

from reports.commands.base import Command
from reports.commands.options import existing


@click.command(cls=Command)
@click.argument("new", type=existing())
@click.argument("old", type=existing())
@click.option("--rules", type=existing(dir_okay=False), help="TOML file of rules.  [default: the usual ones]")
@click.option(
    "--predictions",
    type=existing(),
    multiple=True,
    help="Where the predictions and labels of both records are, for the paired test; found by checksum. May be repeated.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["terminal", "markdown", "github"]),
    default="terminal",
    show_default=True,
    help="github: annotations, and the table in the step summary.",
)
@click.pass_context
def gate(
    context: click.Context, new: Path, old: Path, rules: Path | None, predictions: tuple[Path, ...], style: str
) -> None:  # fmt: skip
    """Judge the NEW record against the OLD one by rules.

    Exit code 0: all rules are met, or only warnings. 1: a regression. 2: something could not be judged.

    \b
    Examples:
      melanoma-zoo gate out/record.json main/record.json
      melanoma-zoo gate out main --rules rules.toml --predictions predictions/ --format github
    """
    from reports import faces
    from reports.gate.judge import judge
    from reports.gate.pairs import Files
    from reports.gate.rules import read_rules
    from reports.gate.show import lines, table, tables, workflow_commands
    from reports.record import load
    from reports.render import markdown
    from reports.terminal import print_tables

    paths = faces.find_record(old), faces.find_record(new)
    before, after = map(load, paths)
    outcome = judge(
        after, before, read_rules(rules), Files(predictions), beside=(paths[0].parent, paths[1].parent)
    )
    shown = table(outcome)
    if style == "markdown":
        click.echo(markdown([shown]), nl=False)
    elif style == "github":
        for line in workflow_commands(outcome):
            click.echo(line)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown([shown]))
        else:
            click.echo(markdown([shown]), nl=False)
    else:
        print_tables(tables(outcome))
    for line in lines(outcome):
        click.echo(line, err=True)
    context.exit(outcome.exit_code)
