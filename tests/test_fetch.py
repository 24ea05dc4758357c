"""Fetching over HTTP, against a real server that breaks off, lies, hangs and goes away."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from weights import store
from weights.download import Transport, client, download, shown, within
from zoo.errors import InputError, MachineError, UnknownNameError, UsageError

ROOT = Path(__file__).parents[1]
QUICK = Transport(timeout=20, pause=0, plain=True)
BODY = bytes(range(256)) * 1200  # 300 KiB: several reads of a connection


class Server(ThreadingHTTPServer):
    """Serves `files`; each request takes the next entry of `plan`, which says what goes wrong.

    Entries: `drop` (bytes of the body after which the connection is cut), `gate` (bytes after which
    the rest waits for `opened`), `status`, `redirect`, `body` (sent in place of the file),
    `ranges` (False: the header Range is not understood), `shift` (a wrong start of the range),
    `unannounced` (no Content-Length), `hang` (no answer).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": BODY}
        self.plan: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str | None]] = []
        self.opened = threading.Event()
        self.ranges = True
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        turn = self.server.plan.pop(0) if self.server.plan else {}
        if turn.get("hang"):
            self.server.opened.wait(60)
            self.close_connection = True
            return
        body = self.server.files.get(self.path)
        status = turn.get("status", 200 if body is not None else 404)
        if "redirect" in turn or status != 200 or body is None:
            self.send_response(302 if "redirect" in turn else status)
            self.send_header("Location", turn.get("redirect", ""))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = turn.get("body", body)
        start = 0
        if asked and turn.get("ranges", self.server.ranges):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start += turn.get("shift", 0)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if turn.get("unannounced"):
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        cut = turn.get("drop", turn.get("gate", len(rest)))
        self.wfile.write(rest[:cut])
        self.wfile.flush()
        if "gate" in turn:
            self.server.opened.wait(60)
            self.wfile.write(rest[cut:])
        if "drop" in turn or turn.get("unannounced"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.opened.set()
        running.shutdown()
        thread.join()


def get(server: Server, path: Path, body: bytes = BODY, transport: Transport = QUICK, **options: Any) -> None:
    digest = hashlib.sha256(body).hexdigest()
    with client(transport) as pool:
        download(
            pool, f"{server.url}/file", path, size=len(body), digest=digest, transport=transport, **options
        )


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# One file


def test_a_file_comes_whole_with_progress_and_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    get(server, tmp_path / "file", progress=seen.append)
    assert (tmp_path / "file").read_bytes() == BODY
    assert names(tmp_path) == {"file"}
    assert seen == sorted(seen)
    assert seen[-1] == len(BODY)


def test_a_dropped_connection_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.plan = [{"drop": 100_000}, {"drop": 50_000}]
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.requests == [("/file", None), ("/file", "bytes=100000-"), ("/file", "bytes=150000-")]


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.plan = [{"drop": 100_000}]
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.requests[1] == ("/file", "bytes=100000-")


@pytest.mark.parametrize(
    "turn", [{"status": 500}, {"status": 503}, {"status": 429}, {"drop": 0}, {"shift": 7}, {"status": 416}]
)
def test_what_may_pass_is_tried_again(server: Server, tmp_path: Path, turn: dict[str, Any]) -> None:
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    server.plan = [turn]
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(server.requests) == 2


@settings(max_examples=25)
@given(
    drops=st.lists(st.integers(0, 3000), max_size=5),
    ranges=st.lists(st.booleans(), min_size=5, max_size=5),
    kept=st.integers(0, 4000),
)
def test_however_it_breaks_the_bytes_are_right(
    tmp_path_factory: pytest.TempPathFactory, drops: list[int], ranges: list[bool], kept: int
) -> None:
    body, folder = BODY[:3000], tmp_path_factory.mktemp("law")
    (folder / "file.part").write_bytes(BODY[:kept])
    with Server() as server:
        server.files["/file"] = body
        server.plan = [{"drop": drop, "ranges": able} for drop, able in zip(drops, ranges, strict=False)]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        get(server, folder / "file", body, msgspec.structs.replace(QUICK, retries=6))
        server.shutdown()
        thread.join()
    assert (folder / "file").read_bytes() == body
    assert names(folder) == {"file"}


def test_a_server_that_always_breaks_off_is_given_up_and_what_came_is_kept(
    server: Server, tmp_path: Path
) -> None:
    server.plan = [{"drop": 100_000}, *[{"drop": 0}] * 50]
    with pytest.raises(
        MachineError,
        match=r"broke off.*100,000 of 307,200 bytes of file are here, and the same command goes on",
    ):
        get(server, tmp_path / "file")
    assert len(server.requests) == 1 + 1 + QUICK.retries
    assert (tmp_path / "file.part").read_bytes() == BODY[:100_000]
    server.plan = []
    get(server, tmp_path / "file")
    assert server.requests[-1] == ("/file", "bytes=100000-")
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_server_without_ranges_that_always_breaks_off_is_given_up_too(
    server: Server, tmp_path: Path
) -> None:
    server.ranges = False
    server.plan = [{"drop": 100_000}] * 50
    with pytest.raises(MachineError, match="broke off"):
        get(server, tmp_path / "file")
    assert len(server.requests) == 1 + 1 + QUICK.retries


def test_wrong_bytes_are_refused_with_both_checksums_and_removed(server: Server, tmp_path: Path) -> None:
    wrong = BODY[:-1] + b"!"
    server.plan = [{"body": wrong}]
    with pytest.raises(InputError) as error:
        get(server, tmp_path / "file")
    for body in (BODY, wrong):
        assert hashlib.sha256(body).hexdigest() in str(error.value)
    assert names(tmp_path) == set()
    get(server, tmp_path / "file")
    assert names(tmp_path) == {"file"}


def test_a_damaged_part_of_an_earlier_run_costs_no_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"?" * 1000)
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("unannounced", [False, True])
def test_a_longer_answer_is_refused(server: Server, tmp_path: Path, unannounced: bool) -> None:
    server.plan = [{"body": BODY + b"more", "unannounced": unannounced}]
    with pytest.raises(InputError, match=r"wrong length: .*307,200 bytes"):
        get(server, tmp_path / "file")
    assert names(tmp_path) == set()


def test_a_shorter_answer_is_refused_with_both_lengths(server: Server, tmp_path: Path) -> None:
    server.plan = [{"body": b"<html>log in</html>"}]
    with pytest.raises(InputError, match=r"expected 307,200 bytes, got 19"):
        get(server, tmp_path / "file")
    assert names(tmp_path) == set()


def test_404_is_told_at_once(server: Server, tmp_path: Path) -> None:
    del server.files["/file"]
    with pytest.raises(InputError, match=r"/file: the server answered 404 Not Found"):
        get(server, tmp_path / "file")
    assert len(server.requests) == 1


def test_a_server_that_hangs_is_given_up(server: Server, tmp_path: Path) -> None:
    server.plan = [{"hang": True}] * 5
    with pytest.raises(MachineError, match="no answer in time"):
        get(server, tmp_path / "file", transport=Transport(timeout=0.2, retries=1, pause=0, plain=True))
    assert len(server.requests) == 2


def test_an_absent_server_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as unused:  # Bound, but nobody listens.
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with (
            client(QUICK) as pool,
            pytest.raises(MachineError, match=r"127\.0\.0\.1 cannot be reached \(.*refused"),
        ):
            download(pool, url, tmp_path / "file", size=1, digest="0" * 64, transport=QUICK)


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.plan = [{"redirect": f"{server.url}/file"}]
    get(server, tmp_path / "file")
    assert len(server.requests) == 2
    server.plan = [{"redirect": f"{server.url}/file"}] * 100
    with pytest.raises(InputError, match="redirects"):
        get(server, tmp_path / "other")


def test_plain_http_is_refused_before_anything_is_asked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is not https"):
        get(server, tmp_path / "file", transport=Transport(pause=0))
    assert server.requests == []


@pytest.mark.parametrize("url", ["http://", "http://:80/file", "ftp://host/file", "http://host:port/file"])
def test_what_is_no_address_is_told_at_once(tmp_path: Path, url: str) -> None:
    with client(QUICK) as pool, pytest.raises(InputError, match="address"):
        download(pool, url, tmp_path / "file", size=1, digest="0" * 64, transport=QUICK)


def test_passwords_in_addresses_are_not_shown() -> None:
    assert shown("http://me:secret@host/a@b") == "http://host/a@b"


def test_a_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # No time-out of a connection covers the look-up of a name, and no signal ends it.
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        answered.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(MachineError, match=r"not done after 0\.3 s"):
        within(0.3, lambda _: get_url(tmp_path))
    answered.set()


def get_url(folder: Path) -> None:
    with client(Transport(retries=0)) as pool:
        download(pool, "https://example.invalid/file", folder / "file", size=1, digest="0" * 64)


def test_within_hands_on_results_and_errors() -> None:
    assert within(60, lambda _: 5) == within(None, lambda _: 5) == 5
    with pytest.raises(InputError):
        within(60, lambda _: int("x") if False else (_ for _ in ()).throw(InputError("x")))


LOCKER = """
import sys
from pathlib import Path
from weights.locking import locked
for _ in range(100):
    with locked(Path("lock")):
        count = int(Path("count").read_text())
        Path("count").write_text(str(count + 1))
"""


def test_a_lock_lets_one_in_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", LOCKER], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "300"
    assert names(tmp_path) == {"count"}


# A set of files, through the command line


SETS = {
    "scores": {
        "kind": "files", "title": "Scores", "origin": "somebody", "licence": "MIT", "base": "https://example.invalid/x",
        "predictions": "predictions", "labels": "labels.csv",
    }
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder."""
    monkeypatch.setenv("MELANOMA_ZOO_DATA", str(tmp_path / "user"))
    return tmp_path / "user" / "scores"


@pytest.fixture
def manifest(server: Server, made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of the made-up scores, which the server has; its path."""
    files = [made_up / "labels.csv", *sorted((made_up / "predictions").iterdir())]
    content = {str(path.relative_to(made_up)): path.read_bytes() for path in files}
    server.files = {f"/mirror/{name}": body for name, body in content.items()}
    entries = [
        {"path": name, "to": name, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        for name, body in content.items()
    ]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"scores": {**SETS["scores"], "files": entries}}))
    sets = msgspec.json.decode(path.read_bytes(), type=dict[str, store.DataSet])
    monkeypatch.setattr(store, "data_sets", lambda: sets)
    monkeypatch.setenv("MELANOMA_ZOO_MIRROR", f"{server.url}/mirror/")
    return path


RUNNER = """
import resource, signal, sys
import msgspec
from weights import store
sets = msgspec.json.decode(open(sys.argv[1], "rb").read(), type=dict[str, store.DataSet])
store.data_sets = lambda: sets
if limit := int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
import cli
cli.main(sys.argv[3:], prog_name="melanoma-zoo")
"""


def start(manifest: Path, *args: str, limit: int = 0) -> subprocess.Popen[str]:
    """A real process of the command line, with that manifest and that largest size of a file."""
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(manifest), str(limit), *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "250"})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_a_set_is_fetched_once_and_mended_where_it_is_damaged(
    server: Server, manifest: Path, folder: Path
) -> None:
    first = run("data", "fetch", "scores")
    assert first.exit_code == 0, first.output
    assert str(folder) in first.stderr
    assert first.stdout == ""
    assert len(server.requests) == 8
    assert store.state("scores").complete
    assert run("data", "fetch", "scores").exit_code == 0
    assert len(server.requests) == 8, "nothing is fetched twice"
    (folder / "predictions" / "SGE-B3.csv").write_text("damaged")
    (folder / "labels.csv").unlink()
    found = store.state("scores")
    assert (found.present, found.total, found.wrong) == (6, 8, ("predictions/SGE-B3.csv",))
    assert run("data", "fetch", "scores").exit_code == 0
    assert [path for path, _ in server.requests[8:]] == [
        "/mirror/labels.csv",
        "/mirror/predictions/SGE-B3.csv",
    ]
    assert store.state("scores").complete


def test_output_and_base_url_name_other_places(
    server: Server, manifest: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_MIRROR", "http://127.0.0.1:1")
    done = run("data", "fetch", "scores", "--output", tmp_path / "mine", "--base-url", f"{server.url}/mirror")
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "mine") >= {"labels.csv", "predictions/SGE-B3.csv"}
    assert not folder.exists()
    for wrong in ("ftp://example.org", "/media/usb"):
        assert run("data", "fetch", "scores", "--base-url", wrong).exit_code == 2


def test_the_set_s_own_server_must_be_https(manifest: Path, folder: Path) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**SETS["scores"], "base": "http://example.org", "files": []}, store.DataSet)


def test_a_killed_fetch_goes_on(server: Server, manifest: Path, folder: Path) -> None:
    server.files["/mirror/labels.csv"] = BODY
    content = json.loads(manifest.read_bytes())
    content["scores"]["files"][0] |= {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    manifest.write_text(json.dumps(content))
    server.plan = [{"gate": 200_000}]
    part = folder / "labels.csv.part"
    killed = start(manifest, "data", "fetch", "scores")
    until(lambda: part.is_file() and part.stat().st_size > 0)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = part.stat().st_size
    assert 0 < kept <= 200_000
    server.opened.set()
    again = start(manifest, "data", "fetch", "scores")
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert server.requests[1] == ("/mirror/labels.csv", f"bytes={kept}-")
    assert (folder / "labels.csv").read_bytes() == BODY
    assert names(folder) == {"labels.csv", *(f["to"] for f in content["scores"]["files"])}


def test_ctrl_c_is_130_and_keeps_what_came(server: Server, manifest: Path, folder: Path) -> None:
    server.plan = [{"gate": 1000}]
    stopped = start(manifest, "data", "fetch", "scores")
    until(lambda: bool(server.requests) and (folder / "labels.csv.part").is_file())
    stopped.send_signal(signal.SIGINT)
    _, stderr = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert stderr.splitlines()[-1].startswith("Error: stopped; what was finished is kept")
    assert (folder / "labels.csv.part").stat().st_size == 1000


def test_of_two_fetches_one_works_and_both_succeed(server: Server, manifest: Path, folder: Path) -> None:
    server.plan = [{"gate": 1000}]
    one = start(manifest, "data", "fetch", "scores")
    until(lambda: bool(server.requests))
    two = start(manifest, "data", "fetch", "scores")
    assert two.stderr is not None
    assert "another fetch is at work there; waiting" in two.stderr.readline()
    server.opened.set()
    for each in (one, two):
        _, stderr = each.communicate(timeout=60)
        assert each.returncode == 0, stderr
    assert sorted(path for path, _ in server.requests) == sorted(server.files), "each file was sent once"
    assert names(folder) == {*(name.removeprefix("/mirror/") for name in server.files)}


def test_a_disk_that_is_full_is_exit_4_and_loses_nothing(
    server: Server, manifest: Path, folder: Path
) -> None:
    # The largest size of a file stands for it: the write fails in the same place, half-way.
    largest = max(len(body) for body in server.files.values())
    full = start(manifest, "data", "fetch", "scores", limit=largest - 100)
    _, stderr = full.communicate(timeout=60)
    assert full.returncode == 4
    assert "cannot be written" in stderr
    assert "Traceback" not in stderr
    kept = names(folder)
    (part,) = (name for name in kept if name.endswith(".part"))
    assert (folder / part).stat().st_size > 0
    before = len(server.requests)
    again = start(manifest, "data", "fetch", "scores")
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    asked = [path for path, _ in server.requests[before:]]
    assert asked[0] == f"/mirror/{part.removesuffix('.part')}"
    assert server.requests[before][1] is not None, "it went on from the middle"
    assert store.state("scores").complete


def test_a_folder_that_cannot_be_written_is_exit_4(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = run("data", "fetch", "scores", "--output", tmp_path / "file" / "inside")
    assert shown.exit_code == 4
    assert "choose another folder" in shown.stderr


@pytest.mark.parametrize(
    ("turn", "code", "said"),
    [
        ({"status": 404}, 3, "404 Not Found"),
        ({"body": b"?"}, 3, "wrong length"),
        ({"status": 500}, 4, "500 Internal Server Error"),
    ],
)
def test_errors_have_their_codes_and_optional_takes_them_lightly(
    server: Server, manifest: Path, folder: Path, turn: dict[str, Any], code: int, said: str
) -> None:
    server.plan = [turn] * 2
    failed = run("data", "fetch", "scores", "--retries", "0")
    assert failed.exit_code == code
    assert failed.stderr.count("\n") == 1
    assert said in failed.stderr
    light = run("data", "fetch", "scores", "--retries", "0", "--optional")
    assert light.exit_code == 0
    assert light.stderr.startswith("going on without scores: ")
    assert said in light.stderr
    assert light.stderr.count("\n") == 1


def test_max_time_ends_a_server_that_trickles(server: Server, manifest: Path, folder: Path) -> None:
    server.plan = [{"gate": 1000}]
    shown = run("data", "fetch", "scores", "--max-time", "0.5", "--optional")
    assert shown.exit_code == 0
    assert "not done after 0.5 s" in shown.stderr
    assert (folder / "labels.csv.part").stat().st_size <= 1000
    server.opened.set()


def test_unknown_sets_and_mirrors_of_a_collection_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean proveai"):
        store.fetch("prove-ai", tmp_path)
    with pytest.raises(UsageError, match="no mirror"):
        store.fetch("proveai", tmp_path, base="https://example.org")


def test_list_and_path_tell_what_is_here(manifest: Path, folder: Path) -> None:
    missing = run("data", "path", "scores")
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert "melanoma-zoo data fetch scores" in missing.stderr
    assert json.loads(run("data", "list", "--json").stdout)["scores"]["present"] == 0
    run("data", "fetch", "scores")
    assert run("data", "path", "scores").stdout == f"{folder}\n"
    assert run("data", "path").stdout == f"{folder.parent}\n"
    assert "all of it, checked" in run("data", "list").stdout
    (folder / "labels.csv").write_text("?")
    listed = run("data", "list").stdout
    assert "7 of 8 files" in listed
    assert "labels.csv" in listed


# What `compare` and `reproduce` make of it


def compare(*args: str | Path) -> Result:
    return run(
        "compare", "sge_b3", "first_place", "--no-latency", "--resamples", "50", "--format", "json", *args
    )


def test_compare_takes_the_published_scores_by_itself_after_a_fetch(
    manifest: Path, folder: Path, made_up: Path
) -> None:
    before = compare()
    assert before.exit_code == 0, before.output
    assert json.loads(before.stdout)["inputs"] == []
    assert "scores" not in before.stderr
    run("data", "fetch", "scores")
    after = compare()
    assert after.exit_code == 0, after.output
    told = [line for line in after.stderr.splitlines() if str(folder) in line]
    assert len(told) == 1
    assert "--no-predictions" in told[0]
    content = json.loads(after.stdout)
    assert {entry["name"]: entry["sha256"] for entry in content["inputs"]}[str(folder / "labels.csv")] == (
        hashlib.sha256((folder / "labels.csv").read_bytes()).hexdigest()
    )
    named = compare("--predictions", made_up / "predictions", "--labels", made_up / "labels.csv")
    assert str(folder) not in named.stderr
    assert json.loads(named.stdout)["systems"] == content["systems"]
    without = compare("--no-predictions")
    assert without.stdout.partition('"created"')[0] == before.stdout.partition('"created"')[0]
    assert str(folder) not in without.stderr


def test_reproduce_takes_them_too(manifest: Path, folder: Path) -> None:
    run("data", "fetch", "scores")
    shown = run("reproduce", "--resamples", "50", "--format", "json")
    assert shown.exit_code == 0, shown.output
    assert {claim["verdict"] for claim in json.loads(shown.stdout)["claims"]} - {
        "could not be judged",
        "holds only under",
    }


def test_damaged_scores_are_left_out_with_a_line(
    manifest: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("data", "fetch", "scores")
    (folder / "predictions" / "SGE-B3.csv").write_text("damaged")
    shown = compare()
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["inputs"] == []
    assert "1 of 8 files are missing or wrong; run: melanoma-zoo data fetch scores" in caplog.text


def test_predictions_and_no_predictions_exclude_each_other(made_up: Path) -> None:
    shown = compare(
        "--no-predictions", "--predictions", made_up / "predictions", "--labels", made_up / "labels.csv"
    )
    assert shown.exit_code == 2
    assert "--no-predictions" in shown.stderr


def test_the_manifest_s_checksums_are_those_of_the_published_files(proveai: Path) -> None:
    wanted = store.data_set("published-scores")
    assert isinstance(wanted, store.FileSet)
    places = {"test.csv": proveai / "test.csv"}
    places |= {path.name: path for path in (proveai / "predictions").iterdir()}
    assert {Path(file.path).name for file in wanted.files} == set(places)
    for file in wanted.files:
        body = places[Path(file.path).name].read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file.bytes, file.sha256), file.path


@pytest.mark.slow
def test_the_real_published_files_come_from_a_server_and_are_scored(
    server: Server, proveai: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_DATA", str(tmp_path))
    wanted = store.data_set("published-scores")
    assert isinstance(wanted, store.FileSet)
    for file in wanted.files:
        name = Path(file.path).name
        place = proveai / name if name == "test.csv" else proveai / "predictions" / name
        server.files[f"/{file.path}"] = place.read_bytes()
    server.plan = [{"drop": 5000}, {}, {"drop": 5000, "ranges": False}]
    fetched = run("data", "fetch", "published-scores", "--base-url", server.url)
    assert fetched.exit_code == 0, fetched.output
    shown = run("reproduce", "--format", "json")
    assert shown.exit_code == 0, shown.output
    assert len([each for each in json.loads(shown.stdout)["inputs"] if each["role"] == "predictions"]) == 7
    assert "left out" not in shown.stderr
