"""The command line: what each command prints, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import cli
import zoo

ROOT = Path(__file__).parents[1]


def commands(group: click.Group = cli.main, before: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command, by the words that call it."""
    found: dict[str, click.Command] = {}
    for name, each in group.commands.items():
        words = (*before, name)
        found |= commands(each, words) if isinstance(each, click.Group) else {" ".join(words): each}
    return found


COMMANDS = commands()


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "250"})


def process(*args: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, args)],
        capture_output=True, text=True, timeout=300, **options,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_a_word_on_every_option(command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.exit_code == 0
    assert re.search(rf"Examples?:\s+melanoma-zoo {command}", shown.output)
    for parameter in COMMANDS[command].params:
        assert isinstance(parameter, click.Argument) or parameter.help


@pytest.mark.parametrize(
    "args",
    [["--help"], ["list"], ["list", "--json"], ["show", "sge_b3"], ["compare", "--help"], ["--version"]],
)
def test_answers_without_torch_or_pandas(args: list[str]) -> None:
    code = (
        "import sys, cli\n"
        f"try: cli.main({args!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "print([m for m in ('torch', 'timm', 'pandas', 'sklearn') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.splitlines()[-1] == "[]"


def test_list_shows_every_system() -> None:
    shown = run("list").output
    assert all(name in shown for name in zoo.systems())
    assert [entry["name"] for entry in json.loads(run("list", "s*", "--json").output)] == zoo.systems("s*")
    winners = json.loads(run("list", "--group", "winner", "--json").output)
    assert [entry["name"] for entry in winners] == ["first_place", "second_place", "third_place"]


@pytest.mark.parametrize("name", zoo.systems())
def test_show_tells_all_of_a_system(name: str) -> None:
    card = zoo.card(name)
    shown = " ".join(run("show", name).output.split())
    compact = shown.replace(" ", "")
    for text in (*card.limits, *(a.text for a in card.assumptions), *(m.name for m in card.members)):
        assert text.replace(" ", "")[:20] in compact
    assert json.loads(run("show", name, "--json").output)["name"] == name


def test_unknown_names_exit_with_2_and_the_nearest_name() -> None:
    shown = run("show", "sge_b4")
    assert (shown.exit_code, shown.stderr) == (
        2,
        "Error: no system is called 'sge_b4'; did you mean sge_b3, spatial_b3?\n",
    )
    assert run("compare", "nothing", "--no-latency").exit_code == 2


def test_predictions_without_labels_exit_with_2(made_up: Path) -> None:
    shown = run("compare", "sge_b3", "--no-latency", "--predictions", made_up / "predictions")
    assert shown.exit_code == 2
    assert "--labels" in shown.stderr


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: text.replace("target", "logit"), "it needs a column"),
        (lambda text: text + text.splitlines()[-1] + "\n", "row 82 repeats ISIC_0000079"),
        (lambda text: text.replace("ISIC_0000003", "ISIC_9999999"), "row 5: ISIC_9999999 is not in"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "no score for ISIC_0000079"),
        (lambda text: re.sub(r"(ISIC_0000001),[^,]*", r"\1,1.5", text), r"row 3: .*outside \[0, 1\]"),
        (lambda text: re.sub(r"(ISIC_0000001),[^,]*", r"\1,", text), "row 3"),
        (lambda text: re.sub(r"(ISIC_0000001,[^,]*),0", r"\1,1", text), "row 3: y_true of ISIC_0000001"),
        (lambda text: "", "is empty"),
    ],
)  # fmt: skip
def test_bad_predictions_exit_with_3_and_one_line(made_up: Path, tmp_path: Path, edit, reason: str) -> None:
    text = (made_up / "predictions" / "SGE-B3.csv").read_text(encoding="utf-8")
    bad = tmp_path / "SGE-B3.csv"
    bad.write_text(edit(text), encoding="utf-8")
    shown = run("score", bad, "--labels", made_up / "labels.csv")
    assert shown.exit_code == 3, shown.output
    assert shown.stderr.count("\n") == 1
    assert "SGE-B3.csv" in shown.stderr
    assert re.search(reason, shown.stderr), shown.stderr


def test_score_prints_a_row_per_file_and_names_what_it_left_out(made_up: Path, tmp_path: Path) -> None:
    for path in (made_up / "predictions").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "mine.csv").write_bytes((tmp_path / "SGE-B3.csv").read_bytes())
    shown = run("score", tmp_path, "--labels", made_up / "labels.csv", "--resamples", "50", "--json")
    assert shown.exit_code == 0, shown.output
    assert [each["system"] for each in json.loads(shown.stdout)["systems"]] == [
        "first_place", "s2_cbam_b3", "s2_mlp_b3", "sge_b3", "second_place", "spatial_b3", "third_place",
    ]  # fmt: skip
    assert "left out" in shown.stderr
    assert "mine.csv" in shown.stderr
    extra = run(
        "score", tmp_path, "--labels", made_up / "labels.csv", "--resamples", "50", "--extra", "--json"
    )
    systems = {each["system"]: each["metrics"] for each in json.loads(extra.stdout)["systems"]}
    assert systems["mine"]["roc_auc"]["value"] == systems["sge_b3"]["roc_auc"]["value"]


@pytest.mark.parametrize("option", [("--seed", "-1"), ("--resamples", "3"), ("--resamples", "1000000000")])
def test_impossible_numbers_are_refused(made_up: Path, option: tuple[str, str]) -> None:
    shown = run("score", made_up / "predictions", "--labels", made_up / "labels.csv", *option)
    assert shown.exit_code == 2
    assert option[0] in shown.stderr


def test_score_is_seeded(made_up: Path) -> None:
    args = (
        "score",
        made_up / "predictions",
        "--labels",
        made_up / "labels.csv",
        "--resamples",
        "50",
        "--json",
    )
    assert run(*args, "--seed", "1").stdout == run(*args, "--seed", "1").stdout
    assert run(*args, "--seed", "1").stdout != run(*args, "--seed", "2").stdout


def test_count_explains_every_difference() -> None:
    shown = run("count", "sge_b3", "--explain")
    assert shown.exit_code == 0, shown.output
    assert "10.71" in shown.output
    assert "Conv2dSame" in shown.output
    assert "unexplained" not in shown.output
    (member,) = json.loads(run("count", "sge_b3", "--json").stdout)["sge_b3"]
    assert member["operations"]["parameters"] == 10_708_624


def test_compare_writes_every_format(made_up: Path, tmp_path: Path) -> None:
    shown = run(
        "compare", "sge_b3", "baseline_b3", "--no-latency", "--predictions", made_up / "predictions",
        "--labels", made_up / "labels.csv", "--resamples", "50", "--output", tmp_path / "out", "--format", "csv",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "record.json", "comparison.md", "comparison.csv", "comparison.tex", "comparison.json",
    }  # fmt: skip
    assert shown.stdout == (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8")
    assert str(tmp_path / "out" / "record.json") in shown.stderr


def test_two_runs_make_the_same_record_but_for_the_time(made_up: Path, tmp_path: Path) -> None:
    records = []
    for name in ("a", "b"):
        run(
            "compare", "sge_b3", "--no-latency", "--predictions", made_up / "predictions", "--labels",
            made_up / "labels.csv", "--resamples", "50", "--output", tmp_path / name,
        )  # fmt: skip
        content = json.loads((tmp_path / name / "record.json").read_bytes())
        del content["created"]
        records.append(content)
    assert records[0] == records[1]


def test_reproduce_without_predictions_judges_what_it_can() -> None:
    shown = run("reproduce", "--format", "json")
    assert shown.exit_code == 0, shown.output
    verdicts = [claim["verdict"] for claim in json.loads(shown.stdout)["claims"]]
    assert sorted(set(verdicts)) == ["could not be judged", "holds only under"]


def test_an_output_folder_that_cannot_be_made_exits_with_4(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = run("compare", "sge_b3", "--no-latency", "--output", tmp_path / "file" / "out")
    assert shown.exit_code == 4
    assert "choose another folder" in shown.stderr
    assert shown.stderr.count("\n") == 1, "it is told before anything is counted"


def test_no_gpu_is_one_line_and_exit_4() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    shown = run("compare", "sge_b3", "--device", "cuda")
    assert shown.exit_code == 4
    assert "cuda" in shown.stderr.lower()


def test_an_error_inside_is_one_line_unless_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ZeroDivisionError("two\nlines \x1b[31m")

    monkeypatch.setattr(zoo, "card", broken)
    shown = run("show", "sge_b3")
    assert shown.exit_code == 1
    assert (
        shown.stderr
        == "Error: internal error: ZeroDivisionError: two lines ?[31m (run again with --debug and report it)\n"
    )
    for args in (("--debug", "show", "sge_b3"), ("show", "sge_b3", "--debug")):
        assert isinstance(run(*args).exception, ZeroDivisionError)


def test_commands_of_a_group_fail_as_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("weights", "fetch", "sge_b4")
    assert (shown.exit_code, shown.stderr.count("\n")) == (2, 1)
    assert "did you mean sge_b3" in shown.stderr

    def broken(name: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(zoo, "card", broken)
    assert run("weights", "fetch", "sge_b3").exit_code == 1
    for args in (("--debug", "weights", "fetch", "sge_b3"), ("weights", "fetch", "sge_b3", "--debug")):
        assert isinstance(run(*args).exception, ZeroDivisionError)


def test_a_real_process_prints_results_on_stdout_and_errors_on_stderr(made_up: Path) -> None:
    good = process("list")
    assert (good.returncode, good.stderr) == (0, "")
    bad = process("show", "sge_b4")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    shown = subprocess.run(
        f"'{sys.executable}' '{ROOT / 'cli.py'}' show first_place --json | head -n 1",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == "{\n"
    assert shown.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "MELANOMA_ZOO_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(ROOT / "cli.py"), "count", "second_place"]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "cache").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    kept = len(list((tmp_path / "cache").glob("*.json")))
    assert running.returncode in (130, 0)
    assert "Traceback" not in stderr
    assert kept >= 1
    if running.returncode == 130:
        assert stderr.splitlines()[-1].startswith("Error: stopped; what was finished is kept")
    assert process("count", "second_place", env=environment).returncode == 0
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".json"], "no half files"


def test_ctrl_c_before_a_command_runs_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While `cli` is imported, and while the words of the command line are read."""
    code = """
import sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "reports.commands.weights":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
import cli
"""
    begun = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (begun.returncode, begun.stderr) == (130, "Error: stopped before anything began\n")

    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "add_folder", stop)
    for words in (["--zoo", tmp_path, "list"], ["list", "--zoo", tmp_path]):
        result = run(*words)
        assert result.exit_code == 130
        assert result.output == "Error: stopped; what was finished is kept, the same command goes on\n"


def test_the_readme_lists_every_exit_code() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code, meaning in cli.EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in readme
    from zoo import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert codes <= set(cli.EXIT_CODES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("score", "gone.csv", "--labels", "gone.csv"), "gone.csv: there is no such file (--labels)"),
        (("predict", "sge_b3", "--test-set", "gone"), "gone: there is no such folder (--test-set)"),
        (("report", "gone"), "gone: there is no such file or folder (RECORDS...)"),
        (("list", "--zoo", "file"), "file: is no folder, or cannot be read (--zoo)"),
    ],
)
def test_an_input_that_is_missing_is_one_line_and_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    shown = run(*words)
    assert (shown.exit_code, shown.stderr) == (3, f"Error: {said}\n")


def test_the_name_of_a_file_tells_how_it_is_called_as_a_system() -> None:
    for name, meant in {
        "mine.csv": "csv:mine.csv",
        "a/net.onnx": "onnx:a/net.onnx",
        "x.PT2": "torch:x.PT2",
    }.items():
        shown = run("show", name)
        assert (shown.exit_code, shown.stderr) == (
            2, f"Error: no system is called {name!r}; did you mean {meant}?\n",
        )  # fmt: skip


def test_the_list_of_commands_tells_whole_sentences() -> None:
    for words in (["--help"], ["weights", "--help"]):
        shown = CliRunner().invoke(cli.main, words, env={"COLUMNS": "80"}).stdout
        assert "..." not in shown.partition("Commands:")[2]
    assert "and which of them are in a folder." in " ".join(shown.split())
