"""`predict`: from images and trained files to predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reports.commands.base import Command, SystemName, one_line
from reports.commands.options import (
    commas,
    existing,
    launching_options,
    numbers,
    running_options,
    table_options,
)
from reports.terminal import progress


@click.command(cls=Command)
@click.argument("system", type=SystemName())
@running_options
@launching_options
@table_options
@click.option(
    "--labels", type=existing(dir_okay=False), help="Table of the images.  [default: the folder's own]"
)
@click.option(
    "--untrained",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="Random weights instead of trained ones, for trials.",
)
@click.option(
    "--members",
    multiple=True,
    metavar="NAME,...",
    callback=commas,
    help="Only these networks of the system.",
)
@click.option("--folds", multiple=True, metavar="K,...", callback=numbers, help="Only these folds, from 0.")
@click.option("--stage", help="Only trained files of this stage, such as best or final.  [default: the first of the card's that is complete]")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where networks run.")  # fmt: skip
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Parquet file of one probability per image, member and fold.",
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="Write the published layout too: one blended score per image."
)
@click.option("--wandb", is_flag=True, help="Log settings, progress and scores to Weights & Biases.")
def predict(system: str, test_set: Path | None, output: Path, wandb: bool, **options: Any) -> None:
    """Run SYSTEM on the images of a test set, and write its predictions.

    Finished work is kept: the same command goes on where it was stopped, and computes again only
    what a changed image, trained file, card or setting makes different.

    \b
    Examples:
      melanoma-zoo predict sge_b3 --test-set DIR --weights DIR --output sge_b3.parquet
      melanoma-zoo predict first_place --test-set DIR --weights DIR --folds 0 --output first.parquet --csv
      melanoma-zoo predict sge_b3 --test-set DIR --untrained 0 --limit 20 --output trial.parquet
      melanoma-zoo predict sge_b3 --test-set DIR --weights DIR --output a.parquet --launcher ray --address auto
    """
    import msgspec

    from evaluate.run import predict_to, ranking
    from reports.tracking import tracked

    if test_set is None:
        raise click.UsageError("give the folder of images: --test-set DIR")
    settings = {"system": system, "test_set": test_set, **options}
    settings |= msgspec.structs.asdict(settings.pop("launching"))
    with tracked(wandb, config=settings, name=system) as log, progress() as step:

        def follow(what: str, done: int, total: int) -> None:
            step(what, done, total)
            log({what: done / total})

        written = predict_to(output, system, test_set, **options, progress=follow)
        if wandb:
            log(ranking(written), final=True)
    click.echo(f"wrote {', '.join(map(str, written.files))}", err=True)
    for note in written.notes:
        click.echo(f"note: {one_line(note)}", err=True)
