"""Workers end with the process that started them, however that ends. Real processes, real signals."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from zoo.card import Member, System

ROOT = Path(__file__).parents[1]

SLEEPER = """
import fcntl, os, time

alive = open(os.environ["ALIVE"], "w")
fcntl.flock(alive, fcntl.LOCK_SH)

def sleep(_):
    open(os.environ["ASLEEP"], "w").close()
    time.sleep(300)
"""

ASKING = """
from benchmarks import worker
with worker.running(1) as ask:
    ask("sleeper_of_worker:sleep", {}, copy=True)
"""

FOLLOWING = """
import os, time
import sleeper_of_worker
from benchmarks import lifeline
lifeline._by_the_kernel = lambda: False
lifeline.follow(os.getppid())
sleeper_of_worker.sleep(None)
"""

STARTING = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""


def free(path: Path) -> bool:
    """Whether every process that held the file's lock has ended."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def waited(for_what: object, seconds: float = 60) -> bool:
    assert callable(for_what)
    deadline = time.monotonic() + seconds
    while not for_what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("words", [[ASKING], [STARTING, FOLLOWING]], ids=["worker", "watching thread"])
def test_what_a_killed_process_started_ends_with_it(
    tmp_path: Path, words: list[str], number: signal.Signals
) -> None:
    (tmp_path / "sleeper_of_worker.py").write_text(SLEEPER)
    alive, asleep = tmp_path / "alive", tmp_path / "asleep"
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    started = subprocess.Popen(
        [sys.executable, "-c", *words],
        env={**os.environ, "PYTHONPATH": path, "ALIVE": str(alive), "ASLEEP": str(asleep)},
    )
    try:
        assert waited(asleep.exists)
        assert not free(alive)
    finally:
        started.send_signal(number)
        started.wait()
    assert waited(lambda: free(alive)), "a process that it started goes on"


def test_a_process_whose_parent_ended_before_it_looked_ends_at_once() -> None:
    code = "from benchmarks.lifeline import follow; follow(2**22 + 1); print('goes on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


SMALL = System(
    schema=1, name="lonely", title="Lonely", group="mine", summary="One small network.", folds=1,
    members=(Member(name="first", backbone="resnet18", size=32, classes=("MEL", "NV"), melanoma=0),),
)  # fmt: skip


@pytest.mark.slow
def test_a_terminated_profile_leaves_no_worker_behind(
    tmp_path: Path, counts_of: Callable[[System], Path]
) -> None:
    words = ("profile", "lonely", "--counts", str(counts_of(SMALL)), "--threads", "1")
    running = psutil.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words],
        env={**os.environ, "MELANOMA_ZOO_CACHE": str(tmp_path)}, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # Its worker, and the copy that measures.
        assert waited(lambda: len(running.children(recursive=True)) >= 2, 240)
        started = running.children(recursive=True)
    finally:
        running.terminate()
        running.wait()
    _, left = psutil.wait_procs(started, timeout=60)
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []
