"""The faces of a record beside the page: figures, comment, cards, leaderboard, Parquet."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

import cli
from benchmarks.results import Latency
from evaluate.provenance import RANDOM
from reports.charts.all import charts
from reports.charts.interactive import figure
from reports.charts.printed import write_figures
from reports.charts.style import STYLES, spread
from reports.comment import MARKER, comment
from reports.gate.judge import judge
from reports.gate.rules import read_rules
from reports.leaderboard import Named, leaderboard
from reports.modelcard import front_matter, model_card
from reports.record import MemberCost, Record, save
from reports.rows import frame

HOSTILE = "=cmd() <b>|a|</b> \\input{x} $x$\n--- - %"


def named(record: Record, title: str) -> Record:
    """The record with another title for its first system, everywhere."""
    old = json.dumps(record.entries[0].card.title).encode()
    return msgspec.json.decode(
        msgspec.json.encode(record).replace(old, json.dumps(title).encode()), type=Record
    )


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("background", ["#ffffff", "#14171c"])
def test_colours_stand_out_in_light_and_dark(background: str) -> None:
    for style in STYLES:
        low, high = sorted((luminance(style.colour), luminance(background)))
        assert (high + 0.05) / (low + 0.05) >= 3, style


def test_systems_differ_without_colours() -> None:
    assert len({style.symbol for style in STYLES}) == len({style.marker for style in STYLES}) == len(STYLES)
    assert len({style.dash for style in STYLES}) == len({str(style.line) for style in STYLES}) == len(STYLES)


@pytest.mark.parametrize("places", [[], [1.0], [5.0, 5.0, 5.0, 5.0], [0.0, 1.0, 30.0, 31.0, 2.0]])
def test_labels_do_not_overlap_and_keep_their_order(places: list[float]) -> None:
    found = spread(places, 4.0)
    assert sorted(found) == [found[index] for index in np.argsort(places, kind="stable")]
    assert all(gap >= 4.0 - 1e-9 for gap in np.diff(sorted(found)))


def test_figures_are_valid_for_plotly(record: Record) -> None:
    import plotly.graph_objects as go

    for chart in charts(record):
        for panel in chart.panels:
            if not panel.empty:
                go.Figure(figure(panel))


def test_figures_for_print(record: Record, tmp_path: Path) -> None:
    hostile = named(record, HOSTILE)
    chosen = [
        chart for chart in charts(hostile) if chart.name in ("auc_by_parameters", "differences", "subgroups")
    ]
    written = write_figures(chosen, tmp_path / "a")
    assert {path.name for path in written} == {
        f"{name}.{ending}" for name in ("auc_by_parameters", "differences") for ending in ("png", "svg", "pdf")
    }  # fmt: skip
    with Image.open(tmp_path / "a" / "auc_by_parameters.png") as image:
        grey = np.asarray(image.convert("L"))
        assert image.width > 1000
    assert grey.min() < 120
    assert (tmp_path / "a" / "auc_by_parameters.pdf").read_bytes().startswith(b"%PDF")
    again = write_figures(chosen[:1], tmp_path / "b", ["png", "svg"])
    for path in again:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_figures_are_given_as_those_of_matplotlib(record: Record, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    import reports

    found = reports.plots(record)
    assert set(found) == {chart.name for chart in charts(record) if not chart.blank}
    assert all(isinstance(each, Figure) for each in found.values())
    (axes, *_) = found["roc"].axes
    axes.set_title("Mine")
    found["roc"].savefig(tmp_path / "roc.png")
    assert (tmp_path / "roc.png").stat().st_size > 5000


def test_the_comment_is_short_and_says_what_changed(record: Record) -> None:
    text = comment(record)
    assert text.startswith(MARKER)
    assert len(text.splitlines()) < 40
    assert "What changed" not in text
    same = comment(record, record, judge(record, record, read_rules()))
    assert "**Gate: ✅ passed**" in same
    assert "No figure changed." in same
    less = msgspec.structs.replace(record, entries=record.entries[1:])
    gone = comment(less, record, judge(less, record, read_rules()))
    title = record.entries[0].card.title
    assert "**Gate: ❌ regression**" in gone
    assert f"- regression: {title}: system: vanished" in gone
    assert "vanished" in gone.partition("What changed")[2]


def test_hostile_names_stay_text_in_markdown(record: Record) -> None:
    hostile = named(record, HOSTILE)
    for text in (comment(hostile), model_card(hostile, hostile.entries[0])):
        body = text.rpartition("---\n")[2] if text.startswith("---") else text
        assert "<b>" not in body
        assert "|a|" not in body


def test_a_card_says_what_is_assumed_and_what_the_hub_reads(record: Record) -> None:
    for entry in record.entries:
        text = model_card(record, entry)
        matter = yaml.safe_load(text.split("---\n")[1])
        assert matter == front_matter(record, entry)
        scored = record.scored(entry.card.name, "clinical")
        if scored:
            (result,) = matter["model-index"][0]["results"]
            values = {each["type"]: each["value"] for each in result["metrics"]}
            assert values["roc_auc"] == pytest.approx(scored.metrics["roc_auc"].value, abs=1e-6)
        else:
            assert "model-index" not in matter
            assert "n/a (no predictions)" in text
        assert text.count("\n- ") >= len(entry.card.assumptions) + len(entry.card.limits)
    hostile = named(record, HOSTILE)
    matter = yaml.safe_load(model_card(hostile, hostile.entries[0]).split("\n---\n")[0].removeprefix("---\n"))
    assert matter["model-index"][0]["name"] == HOSTILE


def timed(record: Record, cpu: str, median: float) -> Record:
    machine = dataclasses.replace(record.machine, cpu=cpu)
    latency = Latency(
        median_ms=median, spread=0.01, device="cpu", measured="2026-01-01T00:00:00Z", machine=machine
    )
    entries = tuple(
        msgspec.structs.replace(
            entry, members=tuple(MemberCost(name=m.name, operations=m.operations, latency=latency) for m in entry.members)
        )
        for entry in record.entries
    )  # fmt: skip
    return msgspec.structs.replace(record, entries=entries)


def test_a_leaderboard_mixes_nothing(record: Record) -> None:
    assert record.lesions is not None
    other = msgspec.structs.replace(record, lesions=msgspec.structs.replace(record.lesions, sha256="0" * 64))
    found = leaderboard(
        [Named("a", timed(record, "one", 10)), Named("b", record), Named("c", timed(other, "two", 5))]
    ).tables
    rankings = [table for table in found if table.title.startswith("Ranking, clinical")]
    assert [sorted({row[2] for row in table.rows}) for table in rankings] == [["a", "b"], ["c"]]
    for table in rankings:
        assert [row[0] for row in table.rows] == [str(place + 1) for place in range(len(table.rows))]
        areas = [float(row[4].split()[0]) for row in table.rows]
        assert areas == sorted(areas, reverse=True)
        assert any("other test sets" in note and "other protocols" in note for note in table.notes)
    assert len([table for table in found if table.title.startswith("Ranking, paper")]) == 2
    times = [table for table in found if table.title.startswith("Ranking of latency")]
    assert [sorted({row[2] for row in table.rows}) for table in times] == [["a"], ["c"]]
    assert times[0].notes == (
        "Not in this ranking: times of other machines, devices, precisions or ways of measuring; they cannot be compared.",
    )


def with_sge(record: Record, **changes: Any) -> Record:
    """The record with SGE-B3 changed in all of its scores."""
    scores = tuple(
        msgspec.structs.replace(
            each,
            systems=tuple(
                msgspec.structs.replace(system, **changes) if system.system == "sge_b3" else system
                for system in each.systems
            ),
        )
        for each in record.scores
    )
    return msgspec.structs.replace(record, scores=scores)


def test_a_leaderboard_marks_thresholds_that_the_test_set_chose(record: Record) -> None:
    scored = record.scored("sge_b3", "clinical")
    assert scored is not None
    locked = {
        name: msgspec.structs.replace(metric, threshold_from="development")
        if metric.threshold_from
        else metric
        for name, metric in scored.metrics.items()
    }
    clinical = [each for each in record.scores if each.protocol == "clinical"]
    both = [
        Named("chosen", msgspec.structs.replace(record, scores=tuple(clinical))),
        Named("locked", with_sge(msgspec.structs.replace(record, scores=tuple(clinical)), metrics=locked)),
    ]
    (ranking,) = leaderboard(both).rankings
    table = next(each for each in leaderboard(both).tables if each.title == ranking)
    place = table.headers.index("Specificity")
    marked = {row[2]: row[place].endswith(" †") for row in table.rows if row[1] == "SGE-B3"}
    assert marked == {"chosen": True, "locked": False}
    assert not any("†" in row[table.headers.index("ROC-AUC")] for row in table.rows)
    assert "† at a threshold chosen on this test set: optimistic." in table.notes


def test_a_leaderboard_says_whose_weights_are_random(record: Record) -> None:
    random = with_sge(record, notes=(f"{RANDOM} (seed 0): the scores mean nothing.",))
    tables = leaderboard([Named("trained", record), Named("trial", random)]).tables
    rankings = [table for table in tables if table.title.startswith("Ranking, ")]
    assert rankings
    for table in rankings:
        assert table.notes[0] == f"trial: {RANDOM}, so the scores mean nothing: SGE-B3."
        assert sum(RANDOM in note for note in table.notes) == 1


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["report", *map(str, words)])


@pytest.fixture(scope="module")
def folder(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports") / "first"
    save(record, path / "record.json")
    return path


@pytest.mark.parametrize("style", ["markdown", "csv", "json", "latex", "pr"])
def test_text_is_printed_or_written(folder: Path, tmp_path: Path, style: str) -> None:
    printed = run(folder, "--format", style)
    assert printed.exit_code == 0
    assert run(folder / "record.json", "--format", style, "--output", tmp_path / "x").exit_code == 0
    assert (tmp_path / "x").read_text(encoding="utf-8") == printed.stdout


def test_parquet_is_the_frame(folder: Path, record: Record) -> None:
    assert run(folder, "--format", "parquet").exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "comparison.parquet"), frame(record))


def test_cards_are_written_beside_the_record(folder: Path, record: Record) -> None:
    assert run(folder, "--format", "card").exit_code == 0
    assert {path.stem for path in (folder / "cards").iterdir()} == {each.card.name for each in record.entries}


def test_several_records(folder: Path, record: Record, tmp_path: Path) -> None:
    save(record, tmp_path / "second" / "record.json")
    assert "| second" in run(folder, tmp_path / "second", "--format", "markdown").stdout
    written = run(folder, tmp_path / "second", "--format", "html", "--output", tmp_path / "board.html")
    assert written.exit_code == 0
    assert '<td class="l short">second</td>' in (tmp_path / "board.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "x"), "--output needs a --format"),
        (("--against", "."), "--against is for --format pr"),
        (("--images", "."), "--images is for the page"),
        (("--format", "poster"), "'poster' is not one of"),
    ],
)
def test_words_that_do_not_go_together(folder: Path, words: tuple[str, ...], said: str) -> None:
    refused = run(folder, *words)
    assert refused.exit_code == 2
    assert said in refused.output


def test_two_records_of_one_name_and_a_folder_without_a_record(folder: Path, tmp_path: Path) -> None:
    refused = run(folder, folder / "record.json", "--format", "markdown")
    assert refused.exit_code == 2
    assert "two records are called first" in refused.output
    assert run(tmp_path).exit_code == 3
    (tmp_path / "record.json").write_text("{}")
    assert run(tmp_path, "--format", "html").exit_code == 3


def test_pictures_of_lesions_are_small_and_in_the_page(
    folder: Path, record: Record, tmp_path: Path, draw: Any
) -> None:
    assert record.disagreements is not None
    shown = [each.image for each in record.disagreements.lesions]
    draw(tmp_path / "images" / f"{shown[0]}.jpg")
    (tmp_path / "images" / f"{shown[1]}.jpg").write_bytes(b"not an image")
    assert (
        run(
            folder, "--format", "html", "--images", tmp_path / "images", "--output", tmp_path / "p.html"
        ).exit_code
        == 0
    )
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count('<img src="data:image/jpeg;base64,') == 1


def test_latex_of_hostile_names_compiles(record: Record, tmp_path: Path) -> None:
    import shutil

    from reports.outputs import text

    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    document = (
        "\\documentclass{article}\\usepackage{array,booktabs,graphicx,longtable}\\usepackage[T1]{fontenc}\\usepackage{lmodern}\\begin{document}\n"
        f"{text(named(record, HOSTILE), 'latex')}\n\\end{{document}}"
    )
    (tmp_path / "a.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
