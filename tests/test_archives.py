"""The ISIC Archive's and Kaggle's own tools, as they are called here.

Both need a network, so stand-ins take their places: for `isic` an executable script on the path that
behaves as isic-cli 12 does (its arguments, what it skips, what it writes), for `kagglehub` a module that
keeps its archive where kagglehub 1.0 does.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

import cli
import zoo
from weights import archive, kaggle, store
from zoo.errors import InputError, MachineError

ROOT = Path(__file__).parents[1]
COUNT = 603

ISIC = """\
#!{python}
# As isic-cli 12: skips what is there, passes over what it cannot get, writes the table at the end.
import csv, os, pathlib, sys, time
assert sys.argv[1:5] == ["image", "download", "--collections", "218"], sys.argv
assert sys.stdin.read() == "", "it may not ask"
out, here = pathlib.Path(sys.argv[5]), pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(str(out) + "\\n")
print("a word on stdout")
script = (here / "behaviour").read_text() if (here / "behaviour").exists() else ""
number = len((here / "calls").read_text().splitlines())
count = 603
fails = set()
exec(script)
ids = [f"ISIC_{{i:07d}}" for i in range(count)]
(out / f".isic-partial.{{os.getpid()}}.abc").write_bytes(b"half")
for i, name in enumerate(ids):
    if hasattr(sys, "at"):
        sys.at(i)
    path = out / f"{{name}}.JPG"
    if name not in fails and not path.exists():
        path.write_bytes(b"\\xff\\xd8" + name.encode() + b"\\xff\\xd9")
        with (here / "written").open("a") as written:
            written.write(name + "\\n")
with (out / "metadata.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["isic_id", "diagnosis_1"])
    table.writerows([name, "Benign"] for name in ids)
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fake `isic`; what is written to its file `behaviour` is run by it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "isic"
    script.write_text(ISIC.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MELANOMA_ZOO_DATA", str(tmp_path / "user"))
    return folder


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "250"})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# The ISIC Archive


def test_the_test_set_is_fetched_once_and_put_in_place_whole(tool: Path, tmp_path: Path) -> None:
    done = run("data", "fetch", "proveai")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert f"fetching images: {COUNT} of {COUNT}" in done.stderr
    folder = tmp_path / "user" / "proveai"
    assert len(archive.images(folder)) == COUNT
    assert (folder / "metadata.csv").is_file()
    assert not list(folder.glob(".isic-partial.*"))
    assert lines(tool / "calls") == [str(tmp_path / "user" / ".proveai.part")]
    assert store.state("proveai").complete
    assert run("data", "path", "proveai").stdout == f"{folder}\n"
    assert run("data", "fetch", "proveai").exit_code == 0
    assert len(lines(tool / "calls")) == 1, "what is there is not fetched again"


def test_images_that_were_passed_over_are_fetched_in_another_round(tool: Path, tmp_path: Path) -> None:
    (tool / "behaviour").write_text("fails = {'ISIC_0000003', 'ISIC_0000600'} if number == 1 else set()")
    assert run("data", "fetch", "proveai", "--output", tmp_path / "mine").exit_code == 0
    assert len(lines(tool / "calls")) == 2
    assert len(lines(tool / "written")) == COUNT
    assert len(archive.images(tmp_path / "mine")) == COUNT


def test_images_that_never_come_are_named_and_the_others_kept(tool: Path, tmp_path: Path) -> None:
    (tool / "behaviour").write_text("fails = {'ISIC_0000003'}")
    failed = run("data", "fetch", "proveai")
    assert failed.exit_code == 4
    assert "1 of 603 images could not be fetched (ISIC_0000003" in failed.stderr
    assert not (tmp_path / "user" / "proveai").exists()
    assert not store.state("proveai").complete
    (tool / "behaviour").unlink()
    assert run("data", "fetch", "proveai").exit_code == 0
    assert len(lines(tool / "written")) == COUNT, "the others were not fetched again"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("raise ConnectionError('no\\x1b[31m network')", "ConnectionError: no"),
        ("sys.exit('Error: Collection 218 does not exist.')", "collection: Collection 218 does not exist;"),
        ("sys.stdout.close(); os._exit(1)", "a word on stdout"),
    ],
)
def test_what_the_tool_says_when_it_fails_is_one_line(tool: Path, behaviour: str, said: str) -> None:
    (tool / "behaviour").write_text(behaviour)
    failed = run("data", "fetch", "proveai")
    assert failed.exit_code == 4
    (line,) = (line for line in failed.stderr.splitlines() if not line.startswith("fetching"))
    assert said in line
    assert "\x1b" not in line
    assert "Traceback" not in failed.output


def test_a_changed_collection_is_exit_3(tool: Path) -> None:
    (tool / "behaviour").write_text("count = 604")
    failed = run("data", "fetch", "proveai")
    assert failed.exit_code == 3
    assert "lists 604 images, expected 603" in failed.stderr


def test_a_folder_with_other_files_is_left_alone(tool: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    failed = run("data", "fetch", "proveai", "--output", tmp_path / "mine")
    assert failed.exit_code == 3
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert lines(tool / "calls") == []


def test_without_the_tool_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    failed = run("data", "fetch", "proveai", "--output", tmp_path / "mine")
    assert failed.exit_code == 4
    assert "pip install 'melanoma-zoo[isic]'" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_killed_fetch_waits_for_the_tool_it_left_behind_and_goes_on(tool: Path, tmp_path: Path) -> None:
    go = tool / "go"
    (tool / "behaviour").write_text(
        textwrap.dedent(f"""
        def at(i):
            while i == 300 and not os.path.exists({str(go)!r}):
                time.sleep(0.01)
        sys.at = at
        """)
    )
    command = [sys.executable, str(ROOT / "cli.py"), "data", "fetch", "proveai"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: len(lines(tool / "written")) == 300)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert again.stderr is not None
    assert "another fetch is at work there; waiting" in again.stderr.readline()
    go.touch()
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert len(lines(tool / "written")) == COUNT, "no image was fetched twice"
    assert store.state("proveai").complete


def test_a_time_limit_ends_the_tool_too(tool: Path, tmp_path: Path) -> None:
    (tool / "behaviour").write_text(
        f"open({str(tool / 'pid')!r}, 'w').write(str(os.getpid()))\nsys.at = lambda i: time.sleep(60 if i == 300 else 0)"
    )
    shown = run("data", "fetch", "proveai", "--max-time", "2")
    assert shown.exit_code == 4
    assert "not done after 2 s; what has come is kept" in shown.stderr
    if (tool / "pid").exists():  # A very slow machine may not have come so far.
        until(lambda: not psutil.pid_exists(int((tool / "pid").read_text())))


def test_ctrl_c_ends_the_tool_and_keeps_what_came(tool: Path, tmp_path: Path) -> None:
    (tool / "behaviour").write_text("sys.at = lambda i: time.sleep(60 if i == 300 else 0)")
    stopped = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "data", "fetch", "proveai"], stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(lines(tool / "written")) == 300)
    stopped.send_signal(signal.SIGINT)
    _, stderr = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert "Traceback" not in stderr
    assert len(archive.images(tmp_path / "user" / ".proveai.part")) == 300
    (tool / "behaviour").unlink()
    assert run("data", "fetch", "proveai").exit_code == 0
    assert len(lines(tool / "written")) == COUNT


# Kaggle


KAGGLEHUB = """\
# As kagglehub 1.0: an archive in its cache that is gone on with, then the files beside it.
import os, pathlib

class KaggleApiHTTPError(OSError):
    def __init__(self, status):
        super().__init__(f"{status} Client Error.\\n\\nResource at URL: ...")
        self.response = type("Response", (), {"status_code": status})()

class UnauthenticatedError(Exception):
    pass

class DataCorruptionError(Exception):
    pass

failure = None
handles = []
mounted = None

def dataset_download(handle, path=None, *, force_download=False, output_dir=None):
    handles.append(handle)
    print("Downloading...")
    if mounted:
        return mounted
    base = pathlib.Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle
    base.mkdir(parents=True, exist_ok=True)
    archive = base / "3.archive"
    if failure is not None:
        archive.write_bytes(b"half")
        raise failure
    folder = base / "versions" / "3" / "bee508"
    folder.mkdir(parents=True)
    (folder / "fold0.PTH").write_bytes((archive.read_bytes() if archive.exists() else b"") + b"rest")
    archive.unlink(missing_ok=True)
    return str(base / "versions" / "3")
"""


@pytest.fixture
def kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in of kagglehub, imported as the real one would be."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "kagglehub.py").write_text(KAGGLEHUB)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "kagglehub", raising=False)
    monkeypatch.setenv("MELANOMA_ZOO_DATA", str(tmp_path / "user"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache of the user"))
    import kagglehub

    yield kagglehub
    sys.modules.pop("kagglehub", None)


def test_trained_files_come_from_the_data_set_of_the_card(kagglehub, tmp_path: Path) -> None:
    done = run("weights", "fetch", "2nd-place")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    folder = tmp_path / "user" / "weights" / "second_place"
    assert str(folder) in done.stderr
    assert (folder / "bee508" / "fold0.PTH").read_bytes() == b"rest"
    assert kagglehub.handles == ["vaillant/melanoma-checkpoints"]
    assert [path.name for path in folder.parent.iterdir()] == ["second_place"]
    assert os.environ["KAGGLEHUB_CACHE"] == str(tmp_path / "cache of the user")
    assert not (tmp_path / "cache of the user").exists()
    assert run("weights", "fetch", "second_place").exit_code == 0
    assert len(kagglehub.handles) == 1, "what is there is not fetched again"


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (lambda hub: hub.KaggleApiHTTPError(403), 4, "log in to Kaggle (KAGGLE_API_TOKEN"),
        (lambda hub: hub.UnauthenticatedError("User is not authenticated"), 4, "log in to Kaggle"),
        (lambda hub: hub.KaggleApiHTTPError(404), 3, "Kaggle has no data set vaillant/melanoma-checkpoints"),
        (lambda hub: hub.DataCorruptionError("md5\n..."), 3, "other bytes than Kaggle announced"),
        (
            lambda hub: ConnectionError("Connection broken: IncompleteRead"),
            4,
            "IncompleteRead; what has come is kept",
        ),
        (
            lambda hub: ValueError("Invalid Kaggle credentials file at x"),
            4,
            "Invalid Kaggle credentials file",
        ),
    ],
)
def test_errors_of_kagglehub_are_one_line_and_the_same_command_goes_on(
    kagglehub, tmp_path: Path, failure, code: int, said: str
) -> None:
    kagglehub.failure = failure(kagglehub)
    failed = run("weights", "fetch", "second_place")
    assert failed.exit_code == code
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "user" / "weights" / "second_place").exists()
    kagglehub.failure = None
    assert run("weights", "fetch", "second_place").exit_code == 0
    fetched = tmp_path / "user" / "weights" / "second_place" / "bee508" / "fold0.PTH"
    assert fetched.read_bytes() == b"halfrest", "it went on with what was kept"


def test_a_mounted_data_set_is_used_where_it_is(kagglehub, tmp_path: Path) -> None:
    kagglehub.mounted = str(tmp_path / "input")
    assert kaggle.fetch(zoo.card("second_place")) == tmp_path / "input"
    assert not (tmp_path / "user" / "weights" / "second_place").exists()


def test_other_files_in_the_way_are_left_alone(kagglehub, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        kaggle.fetch(zoo.card("second_place"), tmp_path / "mine")
    assert kagglehub.handles == []


def test_systems_whose_files_are_not_public_say_so() -> None:
    private = [name for name in zoo.systems() if not getattr(zoo.card(name).checkpoints, "kaggle", "")]
    assert "sge_b3" in private
    for name in private:
        failed = run("weights", "fetch", name)
        assert failed.exit_code == 3
        assert "its trained files are not public" in failed.stderr


def test_cards_name_one_source(tmp_path: Path) -> None:
    for name in zoo.systems(group="winner"):
        files = zoo.card(name).checkpoints
        assert files is not None
        assert files.kaggle
        assert files.source.endswith(files.kaggle)


def test_without_kagglehub_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MachineError, match=r"pip install 'melanoma-zoo\[kaggle\]'"):
        kaggle.fetch(zoo.card("second_place"), tmp_path / "mine")
