"""The page in a real browser: it opens from disk, asks for nothing, and does what its controls say."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from evaluate.clinical import Request, clinical
from evaluate.lesions import Disagreements
from evaluate.points import POINTS
from reports import outputs
from reports.charts.all import charts
from reports.inputs import read_inputs
from reports.leaderboard import Named, leaderboard
from reports.page.build import board_page, intervals, page
from reports.page.table import sortable
from reports.record import Record, save
from reports.rows import rows

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> $\\alpha$ =cmd() {{ 7*7 }}"

BROWSER = next(
    filter(None, (os.environ.get("MELANOMA_ZOO_CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))),
    None,
)  # fmt: skip
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def full(made_up: Path, record: Record, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of all systems, with what a clinic asks for."""
    labels = tmp_path_factory.mktemp("labels") / "labels.csv"
    table = pd.read_csv(made_up / "labels.csv")
    table.assign(sex=["female", "female", "male"] * 26 + ["male"] * 2).to_csv(labels, index=False)
    inputs = read_inputs([made_up / "predictions"], labels)
    assert inputs is not None
    request = Request(points=POINTS, decision_curves=True, calibration=True, subgroups=True)
    asked = clinical(inputs.predictions, inputs.labels, request, resamples=100)
    return msgspec.structs.replace(record, clinical=asked)


@pytest.fixture(scope="session")
def hostile(full: Record) -> Record:
    """The same with words in it that a browser, LaTeX or a spreadsheet would act on."""
    encoded = msgspec.json.encode(full)
    for title in ("SGE-B3", "First place"):
        encoded = encoded.replace(
            json.dumps(title).encode(), json.dumps(f"{title} {HOSTILE}", ensure_ascii=False).encode()
        )
    changed = msgspec.json.decode(encoded, type=Record)
    shown = changed.disagreements
    assert isinstance(shown, Disagreements)
    worse = msgspec.structs.replace(shown.lesions[0], image=f"=cmd() {HOSTILE}", diagnosis=HOSTILE)
    return msgspec.structs.replace(
        changed,
        left_out={HOSTILE: HOSTILE},
        unscored=HOSTILE,
        disagreements=msgspec.structs.replace(shown, lesions=(worse, *shown.lesions[1:])),
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives the browser")
    if BROWSER is None:
        pytest.skip("needs Chromium (apt-get install chromium, or MELANOMA_ZOO_CHROMIUM=/path)")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield started
        started.close()


class Opened:
    """A page in the browser, with what it complained of and what it asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.view = browser.new_context(**options).new_page()
        self.view.set_default_timeout(300_000)  # A busy machine is no failure.
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.view.on("console", lambda each: self.complaints.append(each.text) if each.type in ("error", "warning") else None)  # fmt: skip
        self.view.on("pageerror", lambda each: self.complaints.append(str(each)))
        self.view.on("request", lambda each: self.requests.append(each.url))
        self.view.on("dialog", lambda each: (self.dialogs.append(each.message), each.dismiss()))
        self.view.goto(path.as_uri())

    def wait_for(self, expression: str) -> None:
        """Waits until an expression is true; playwright's own way needs eval, which the page forbids."""
        for _ in range(6000):
            if self.view.evaluate(expression):
                return
            self.view.wait_for_timeout(50)
        raise AssertionError(f"never true: {expression}")

    def draw_all(self) -> None:
        """Brings every figure into view, as a reader who scrolls does."""
        self.view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        self.wait_for("document.querySelector('[data-figure]:not([data-drawn])') === null")
        self.view.evaluate("window.dispatchEvent(new Event('afterprint'))")

    def draw_first(self) -> None:
        """Waits for the first figure, which is in view."""
        self.wait_for("document.querySelector('[data-drawn]') !== null")


@pytest.fixture(scope="session")
def written(full: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(full), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def opened(browser: Any, written: Path) -> Opened:
    found = Opened(browser, written, viewport={"width": 1280, "height": 800}, color_scheme="light")
    found.draw_all()
    return found


class _Texts(HTMLParser):
    """The text of a page, without its scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.found.append(data)


def parsed(text: str) -> _Texts:
    parser = _Texts()
    parser.feed(text)
    return parser


def test_it_is_one_file_that_is_not_too_large(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert written.stat().st_size < 6_000_000
    for tag, attributes in parsed(text).tags:
        for name in ("src", "href"):
            assert re.match(r"#|data:", attributes.get(name) or "#"), (tag, attributes)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe-inline" not in policy[1].partition("style-src")[0]
    assert "plotly.js v" in text[: text.index("Copyright") + 200]


def test_every_table_and_every_number_of_it_is_on_the_page(full: Record, written: Path) -> None:
    text = " ".join("".join(parsed(written.read_text(encoding="utf-8")).found).split())
    for table in outputs.tables(full):
        for said in (table.title, *table.headers, *table.notes, *itertools.chain(*table.rows)):
            assert " ".join(said.split()) in text, said
    for entry in full.inputs:
        assert entry.sha256 in text


def test_the_sortable_table_is_the_frame(full: Record) -> None:
    found = sortable(full)
    keys = [head.key for head in found.heads]
    for row, cells in zip(rows(full), found.rows, strict=True):
        for key, cell in zip(keys[2:], cells[2:], strict=True):
            assert cell.value == row[key], key


def test_the_sortable_table_marks_thresholds_that_the_test_set_chose(record: Record) -> None:
    found = sortable(record)
    keys = [head.key for head in found.heads]
    texts = {
        cells[0].text: dict(zip(keys, (cell.text for cell in cells), strict=True)) for cells in found.rows
    }
    assert texts["SGE-B3"]["specificity"].endswith(" †")
    assert texts["SGE-B3"]["paper_specificity_bootstrap_mean"].endswith(" †")
    assert "†" not in texts["SGE-B3"]["roc_auc"] + texts["SGE-B3"]["paper_accuracy"]
    assert texts["Baseline-B3"]["specificity"] == "n/a (no predictions)"


def test_figures_show_the_numbers_of_the_tables(full: Record) -> None:
    found = {chart.name: chart for chart in charts(full)}
    by_title = {row["title"]: row for row in rows(full)}
    for series in found["auc_by_parameters"].panels[0].series:
        row = by_title[series.name]
        assert series.y == (row["roc_auc"],)
        assert (series.low, series.high) == ((row["roc_auc_low"],), (row["roc_auc_high"],))
        assert series.x[0] == pytest.approx(row["parameters_networks"] / 1e6)
    differences = found["differences"].panels[0].series
    assert {each.name: each.x[0] for each in differences} == {
        title: row["roc_auc_difference"] for title, row in by_title.items() if row["roc_auc_difference"] is not None
    }  # fmt: skip
    assert {each.name for each in found["decision_curves"].panels[0].guides if each.listed} == {
        "excise all",
        "excise none",
    }
    assert found["auc_by_cost"].panels[2].empty == "Latency of one fold, ms (quick): not measured"
    assert not any(chart.blank for chart in found.values())


def test_a_record_without_anything_says_why_and_an_old_one_still_renders(record: Record) -> None:
    old = msgspec.to_builtins(record)
    for name in ("curves", "disagreements", "lesions"):
        del old[name]
    assert "older version" in page(msgspec.convert(old, Record))
    bare = msgspec.structs.replace(
        record, scores=(), claims=(), audit=None, curves=None, disagreements=None, lesions=None,
        unscored="no predictions", settings=msgspec.structs.replace(record.settings, latency="off"),
    )  # fmt: skip
    text = page(bare)
    assert "No system has scores: no predictions." in text
    assert "n/a: no predictions" in text


def test_it_renders_where_torch_is_not_installed(full: Record, tmp_path: Path) -> None:
    save(full, tmp_path / "record.json")
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'timm', 'torchvision', 'fvcore', 'thop'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import cli\n"
        "for style in ('html', 'markdown', 'latex', 'csv', 'json', 'parquet'):\n"
        "    cli.main(['report', sys.argv[1], '--format', style], standalone_mode=False)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, cwd=Path(__file__).parents[1]
    )  # fmt: skip
    assert (tmp_path / "page.html").stat().st_size > 4_000_000
    assert (tmp_path / "comparison.parquet").is_file()


def test_intervals_stay_text() -> None:
    assert str(intervals("<i> (0.1 to 0.2) ab")) == '&lt;i&gt; <span class="ci">(0.1 to 0.2) ab</span>'


def test_nothing_is_fetched_and_nothing_complains(opened: Opened, written: Path) -> None:
    assert opened.complaints == []
    assert opened.requests == [written.as_uri()]


def test_every_figure_has_its_marks(opened: Opened, full: Record) -> None:
    for chart in charts(full):
        for number, panel in enumerate(chart.panels):
            plot = opened.view.locator(f'[data-figure="{chart.name}-{number}"]')
            if panel.empty:
                assert plot.count() == 0
                continue
            points = sum(len(each.x) for each in panel.series if each.look == "points")
            lines = sum(each.look != "points" for each in panel.series)
            assert plot.locator(".points path.point").count() == points, chart.name
            assert plot.locator(".lines path.js-line").count() >= lines + len(panel.guides), chart.name


def systems(opened: Opened) -> list[str]:
    return [
        text.strip() for text in opened.view.locator("#comparison-table tbody tr:not([hidden]) th").all_inner_texts()
    ]  # fmt: skip


def test_sorting_changes_the_rows_and_says_so(opened: Opened, full: Record) -> None:
    before = systems(opened)
    areas = {row["title"]: row["roc_auc"] for row in rows(full)}
    button = opened.view.locator('#comparison-table th[data-key="roc_auc"] button')
    button.click()
    falling = systems(opened)
    known = [areas[name] for name in falling if areas[name] is not None]
    assert known == sorted(known, reverse=True)
    assert areas[falling[-1]] is None
    button.focus()
    opened.view.keyboard.press("Enter")
    rising = [areas[name] for name in systems(opened) if areas[name] is not None]
    assert rising == sorted(rising)
    assert opened.view.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    button.click()
    assert systems(opened) == before


def test_filtering_and_hiding_columns(opened: Opened) -> None:
    opened.view.fill("#filter", "winner")
    assert systems(opened) == ["First place", "Second place", "Third place"]
    assert opened.view.inner_text("#said") == "3 of 8 systems shown"
    opened.view.fill("#filter", "")
    head = opened.view.locator('#comparison-table th[data-key="macs_pass"]')
    assert head.is_visible()
    opened.view.click("#tools summary")
    opened.view.get_by_label("One pass, GMACs").uncheck()
    assert not head.is_visible()
    opened.view.get_by_label("One pass, GMACs").check()
    assert head.is_visible()
    opened.view.keyboard.press("Escape")
    assert not opened.view.locator("#columns").is_visible()


def test_a_click_beside_the_list_of_columns_closes_it(opened: Opened) -> None:
    opened.view.click("#tools summary")
    assert opened.view.locator("#columns").is_visible()
    opened.view.click("#filter")
    assert not opened.view.locator("#columns").is_visible()


@pytest.mark.parametrize("style", ["csv", "markdown"])
def test_copies_what_is_shown(opened: Opened, style: str) -> None:
    opened.view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.view.fill("#filter", "sge")
    opened.view.click(f'[data-copy="{style}"]')
    opened.wait_for("document.getElementById('said').textContent.includes('copied')")
    copied = opened.view.evaluate("navigator.clipboard.readText()").splitlines()
    opened.view.fill("#filter", "")
    assert len(copied) == (2 if style == "csv" else 3)
    assert "SGE-B3" in copied[-1]
    # A minus of a difference is not the hyphen that a spreadsheet would run.
    assert not re.search(r'(^|,)"[=+@-]', copied[-1])


def test_dark_and_light(browser: Any, written: Path) -> None:
    dark = Opened(browser, written, color_scheme="dark", viewport={"width": 768, "height": 1024})
    colour = "getComputedStyle(document.body).backgroundColor"
    dark.view.wait_for_selector(".js-plotly-plot .xtick text")
    text = "getComputedStyle(document.querySelector('.xtick text')).fill"
    assert dark.view.evaluate(colour) == "rgb(20, 23, 28)"
    before = dark.view.evaluate(text)
    dark.view.click("#theme")
    assert dark.view.evaluate(colour) == "rgb(255, 255, 255)"
    dark.wait_for(f"{text} !== {json.dumps(before)}")
    assert dark.complaints == []


def test_paper_is_white_and_holds_whole_figures(browser: Any, written: Path) -> None:
    """Printed from a dark screen wider than paper; afterwards the screen is as it was."""
    dark = Opened(browser, written, color_scheme="dark", viewport={"width": 1600, "height": 900})
    dark.draw_first()
    text = "getComputedStyle(document.querySelector('.xtick text')).fill"
    closed = "document.querySelectorAll('main details:not([open])').length"
    wide = "document.querySelector('.plot svg').getBoundingClientRect().width"
    before = [dark.view.evaluate(each) for each in (text, closed)]
    drawn = dark.view.evaluate(wide)
    dark.view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    dark.wait_for("document.querySelector('[data-figure]:not([data-drawn])') === null")
    dark.view.emulate_media(media="print")
    assert dark.view.evaluate(text) == "rgb(0, 0, 0)"
    assert dark.view.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert dark.view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        dark.view.evaluate("document.querySelectorAll('main details:not(#tools details):not([open])').length")
        == 0
    )
    wider = "[...document.querySelectorAll('.plot')].filter((each) => each.querySelector('svg').getBoundingClientRect().width > each.clientWidth + 1).length"
    assert dark.view.evaluate(wider) == 0
    assert dark.view.evaluate("document.querySelector('main').clientWidth") < 700
    dark.view.emulate_media(media="screen")
    dark.view.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert [dark.view.evaluate(each) for each in (text, closed)] == before
    dark.wait_for(f"Math.abs({wide} - {drawn}) < 2")
    assert dark.complaints == []


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, written: Path) -> None:
    phone = Opened(
        browser, written, viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True
    )  # fmt: skip
    phone.draw_first()
    assert phone.view.evaluate("document.documentElement.scrollWidth") <= 375
    assert phone.complaints == []
    found = phone.view.locator(".plot").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().width)"
    )
    assert max(found) <= 375


def serious(found: Opened) -> list[tuple[str, str]]:
    """What axe-core finds on a page that is serious or worse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    found.draw_first()
    return [
        (each["id"], each["nodes"][0]["html"])
        for each in axe.Axe().run(found.view).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, written: Path, scheme: str) -> None:
    assert (
        serious(Opened(browser, written, color_scheme=scheme, viewport={"width": 1280, "height": 800})) == []
    )


def test_hostile_words_stay_text(browser: Any, hostile: Record, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(hostile), encoding="utf-8")
    found = Opened(browser, tmp_path / "page.html")
    found.draw_first()
    assert (found.complaints, found.dialogs) == ([], [])
    assert found.view.locator("img[src=x]").count() == 0
    assert "{{ 7*7 }}" in found.view.inner_text("#comparison-table")
    label = found.view.locator('[data-figure="auc_by_parameters-0"] .annotation-text').all_text_contents()
    assert any("<img src=x" in each and "$\\alpha$" in each for each in label), label


def test_hostile_words_stay_text_in_tables(hostile: Record) -> None:
    assert "<img" not in outputs.text(hostile, "markdown")
    assert "\\alpha" not in outputs.text(hostile, "latex").replace("\\textbackslash{}alpha", "")


@pytest.fixture(scope="session")
def board(full: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The leaderboard of two records: the second has other lesions and a hostile name."""
    assert full.lesions is not None
    other = msgspec.structs.replace(full, lesions=msgspec.structs.replace(full.lesions, sha256="0" * 64))
    found = leaderboard([Named("first", full), Named(f"second {HOSTILE}", full), Named("third", other)])
    path = tmp_path_factory.mktemp("board") / "board.html"
    path.write_text(board_page(found), encoding="utf-8")
    return path


def test_the_leaderboard_sorts_and_draws_and_fetches_nothing(browser: Any, board: Path) -> None:
    assert board.stat().st_size < 6_000_000
    found = Opened(browser, board, viewport={"width": 1280, "height": 800}, color_scheme="light")
    found.draw_all()
    assert (found.complaints, found.dialogs, found.requests) == ([], [], [board.as_uri()])
    assert found.view.locator("img").count() == 0
    first = found.view.locator("table.sortable").first
    assert first.locator("tbody tr").count() == 14
    assert found.view.locator('[data-figure="ranking-0-0"] .points path.point').count() == 14
    # Records that agree share a point.
    assert found.view.locator('[data-figure="ranking-0-1"] .points path.point').count() == 7
    ranks = [text.strip() for text in first.locator("tbody th").all_inner_texts()]
    assert ranks == [str(number) for number in range(1, 15)]
    first.get_by_role("button", name="Parameters, M").click()
    sizes = [
        float(text.replace(",", "")) for text in first.locator("tbody tr td:nth-child(4)").all_inner_texts()
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert first.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    first.get_by_role("button", name="System").focus()
    found.view.keyboard.press("Enter")
    names = first.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert names == sorted(names, key=str.lower)


def test_the_leaderboard_on_a_phone(browser: Any, board: Path) -> None:
    phone = Opened(browser, board, viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    phone.draw_first()
    assert phone.view.evaluate("document.documentElement.scrollWidth") <= 375
    assert phone.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_leaderboard(browser: Any, board: Path, scheme: str) -> None:
    assert serious(Opened(browser, board, color_scheme=scheme, viewport={"width": 1280, "height": 800})) == []
