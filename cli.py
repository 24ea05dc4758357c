"""The command line: its commands, its exit codes, and nothing else.

The commands stand in `reports/commands/`. They import torch, pandas and the rooms when they run, so
that `--help` and `list` answer at once.
"""

from __future__ import annotations

import sys

try:
    import click

    from reports.commands.base import Group, own_options
    from reports.commands.comparison import compare, reproduce
    from reports.commands.data import data
    from reports.commands.gate import gate
    from reports.commands.own import check, new
    from reports.commands.prediction import predict
    from reports.commands.profile import plan, profile
    from reports.commands.report import report
    from reports.commands.scores import audit, score
    from reports.commands.systems import count, list_, show
    from reports.commands.weights import weights
except KeyboardInterrupt:
    # No command is there yet that could say it.
    sys.stderr.write("Error: stopped before anything began\n")
    raise SystemExit(130) from None

EXIT_CODES = {
    0: "done",
    1: "an error inside the program; `--debug` shows where",
    2: "wrong words on the command line, or an unknown name",
    3: "an input file is missing, broken, or disagrees with another",
    4: "this machine cannot do it: a missing extra, no such device, no network, a folder that cannot be written",
    130: "stopped with Ctrl-C; what was finished is kept",
}


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from zoo import __version__

        click.echo(f"melanoma-zoo {__version__}")
        context.exit()


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def main() -> None:
    """Compare melanoma classifiers: what each gets right, what it costs, and whether to believe it.

    \b
    Examples:
      melanoma-zoo list
      melanoma-zoo compare --output out
      melanoma-zoo reproduce --predictions DIR --labels TABLE
    """


main.params += own_options()
for _command in (
    list_, show, new, check, count, compare, reproduce, report, gate, predict, score, audit, profile, plan, weights, data,
):  # fmt: skip
    main.add_command(_command)


if __name__ == "__main__":
    main(prog_name="melanoma-zoo")
