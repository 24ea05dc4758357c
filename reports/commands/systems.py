"""`list`, `show` and `count`: what there is, and how large."""

from __future__ import annotations

import click

from reports.commands.base import Command, SystemName, chosen
from reports.terminal import print_json, print_tables, progress


@click.command(cls=Command, name="list")
@click.argument("pattern", default="*", type=SystemName())
@click.option("--group", help="Only systems of this group: attention, baseline, winner.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_(pattern: str, group: str | None, as_json: bool) -> None:
    """List the systems whose name matches PATTERN (all of them by default).

    \b
    Example: melanoma-zoo list 's*_b3' --group attention
    """
    import zoo

    cards = [zoo.card(name) for name in zoo.systems(pattern, group)]
    if as_json:
        print_json(
            [
                {
                    "name": card.name,
                    "title": card.title,
                    "group": card.group,
                    "members": len(card.members),
                    "folds": card.folds,
                    "summary": card.summary,
                }
                for card in cards
            ]
        )
        return
    if not cards:
        groups = sorted({zoo.card(name).group for name in zoo.systems()})
        click.echo(f"no system matches; groups are {', '.join(groups)}", err=True)
        return
    from reports.cards import listing

    print_tables([listing(cards)])


@click.command(cls=Command)
@click.argument("system", type=SystemName())
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def show(system: str, as_json: bool) -> None:
    """Show everything the card of SYSTEM says: networks, views, blend, files, limits, assumptions.

    \b
    Example: melanoma-zoo show s2_cbam_b3
    """
    import zoo
    from reports.cards import full

    card = zoo.card(system)
    if as_json:
        print_json(card)
    else:
        print_tables(full(card))


@click.command(cls=Command)
@click.argument("systems", nargs=-1, type=SystemName())
@click.option("--explain", is_flag=True, help="Why the counters differ, per type of module.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def count(systems: tuple[str, ...], explain: bool, as_json: bool) -> None:
    """Count parameters and operations of every network of SYSTEMS (all by default).

    Three counters are shown: torch's own, fvcore and thop.

    \b
    Example: melanoma-zoo count sge_b3 second_place --explain
    """
    from reports.comparison import count as run
    from reports.counts import counted, explained

    with progress() as step:
        entries = run(chosen(systems), step)
    if as_json:
        print_json({entry.card.name: entry.members for entry in entries})
    else:
        print_tables([counted(entries), *([explained(entries)] if explain else [])])
