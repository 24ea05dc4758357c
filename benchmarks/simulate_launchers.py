"""What a launcher costs, and whether memory grows with the number of images: real files, real scheduling, a mock network.

    python -m benchmarks.simulate_launchers --images 4000 40000 400000 --launchers local processes --nodes 2
    python -m benchmarks.simulate_launchers --images 3200 --launchers local ray --nodes 1 2 3 --kill --forward-ms 50

Images are small PNG files (hard links to a few), the network waits for as long as it is told, answers from the
mean colour and writes down when it was called. Prints a Markdown table, a run in a process of its own each:

- seconds: from the first unit's name to the file of predictions.
- first, all: seconds until one process, and until the last of them, computes its first unit.
- overhead: of a unit, in ms: what a process spends from its first unit to its last one beside the network,
  which is decoding, keeping results, and waiting for more; over its units.
- asking, computing: peak resident memory of the process that asks, and of the largest one that computes, in MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image

import zoo
from evaluate.jobs import untrained
from evaluate.launchers.base import Launcher
from evaluate.launchers.local import Local
from evaluate.launchers.processes import Processes
from evaluate.predict import predict_to_file
from evaluate.testimages import Images, TestImage
from evaluate.testset import TestSet

MODULE = """
import os
import time
from pathlib import Path

from torch import nn

class Mock(nn.Module):
    def __init__(self, waits, log):
        super().__init__()
        self.linear, self.waits, self.log = nn.Linear(3, 2), waits, log

    def forward(self, images):
        begun = time.time()
        time.sleep(self.waits)
        with open(f"{self.log}/{os.getpid()}", "a") as file:
            file.write(f"{begun} {time.time()}\\n")
        return self.linear(images.mean(dim=(2, 3)))

def make(member):
    return Mock(**member.options)
"""
CARD = """
schema = 1
name = "mock"
title = "Mock"
group = "test"
summary = "Waits."
folds = 1
views = {{ transforms = ["identity"] }}
checkpoints = {{ layout = "ours", pattern = "fold{{fold}}.pth" }}
[[members]]
name = "mock"
network = "mock_network:make"
backbone = "none"
size = 16
classes = ["MEL", "NV"]
melanoma = 0
options = {{ waits = {waits}, log = "{log}" }}
"""


class Run(NamedTuple):
    """What is run: a launcher, how many nodes or processes it has, and whether one is killed."""

    launcher: str
    images: int
    nodes: int
    kill: bool
    waits: float

    @property
    def name(self) -> str:
        """It in words."""
        if self.launcher == "local":
            return self.launcher
        one, several = {"processes": ("process", "processes"), "slurm": ("task", "tasks")}.get(
            self.launcher, ("node", "nodes")
        )
        what = f"{self.launcher}, {self.nodes} {several if self.nodes > 1 else one}"
        return what + ", one killed" * self.kill


class Row(NamedTuple):
    """What a run came to."""

    units: int
    seconds: float
    first_s: float
    all_s: float
    overhead_ms: float
    asking_mib: float
    computing_mib: float
    sha256: str


def link(folder: Path, count: int) -> None:
    """So many images: hard links to 16 files, in folders of a thousand."""
    random = np.random.default_rng(0)
    for kind in range(16):
        Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).save(folder / f"kind{kind}.png")
    for number, kind in enumerate(_kinds(count)):
        path = _path(folder, number)
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            os.link(folder / f"kind{kind}.png", path)


def test_set(folder: Path, count: int) -> TestSet:
    """The images that were linked."""
    contents = [(folder / f"kind{kind}.png").read_bytes() for kind in range(16)]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    images = (
        TestImage(
            id=f"I_{number:07d}", path=_path(folder, number), sha256=digests[kind], size=len(contents[kind])
        )
        for number, kind in enumerate(_kinds(count))
    )
    return TestSet(path=str(folder), images=Images(images))


def _kinds(count: int) -> list[int]:
    """Each shard is of other images than the last, or all would be one unit."""
    found: list[int] = np.random.default_rng(1).integers(0, 16, count).tolist()
    return found


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number // 1000:04d}" / f"I_{number:07d}.png"


class Peak:
    """The largest resident memory of the processes below this one that compute, sampled."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for child in psutil.Process().children(recursive=True):
                try:
                    words = " ".join(child.cmdline())
                    if any(each in words for each in ("spawn_main", "ray::Worker", "submitit.core._submit")):
                        self.mib = max(self.mib, child.memory_info().rss / 2**20)
                except psutil.Error:
                    continue


@contextmanager
def cluster(count: int) -> Iterator[Any]:
    """A Ray cluster of so many nodes on this machine, beside a head that computes nothing."""
    from ray.cluster_utils import Cluster

    usual = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **usual})
    running.own = [running.add_node(num_cpus=1, **usual) for _ in range(count)]
    try:
        yield running
    finally:
        running.shutdown()


class _Killing:
    """A launcher, one of whose nodes or processes is killed when a third of the units is finished."""

    def __init__(self, own: Any, kill: Any, units: int) -> None:
        self.own, self.kill, self.after = own, kill, units // 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def run(self, *given: Any) -> Iterator[Any]:
        for number, each in enumerate(self.own.run(*given)):
            if number == self.after:
                self.kill()
            yield each


@contextmanager
def opened(asked: Run) -> Iterator[Launcher]:
    """The launcher of a run."""
    with ExitStack() as stack:
        launcher: Any
        kill: Callable[[], object]
        if asked.launcher == "ray":
            from evaluate.launchers.ray import Ray

            running = stack.enter_context(cluster(asked.nodes))
            launcher = stack.enter_context(Ray(running.address))
            kill = partial(running.remove_node, running.own[0], allow_graceful=False)
        elif asked.launcher == "slurm":
            from evaluate.launchers.slurm import Slurm

            launcher, kill = Slurm(asked.nodes, cluster="local"), lambda: _kill("submitit.core._submit")
        elif asked.launcher == "processes":
            launcher, kill = Processes(asked.nodes, 1), lambda: _kill("spawn_main")
        else:
            launcher, kill = Local(1), lambda: None
        chosen: Any = _Killing(launcher, kill, -(-asked.images // 16)) if asked.kill else launcher
        yield chosen


def _kill(words: str) -> None:
    """Kills the first process below this one that has some words in its command."""
    next(
        child for child in psutil.Process().children(recursive=True) if words in " ".join(child.cmdline())
    ).kill()


def measure(asked: Run, place: Path) -> Row:
    """One run, without anything kept."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    kept, log = (Path(tempfile.mkdtemp(dir=place)) for _ in range(2))
    os.environ["MELANOMA_ZOO_CACHE"] = str(kept)
    (place / "cards" / "mock.toml").write_text(CARD.format(waits=asked.waits, log=log))
    zoo.add_folder(place / "cards")
    images = test_set(place / "images", asked.images)
    with opened(asked) as launcher, Peak() as peak:
        begun = time.time()
        predict_to_file(place / "found.parquet", untrained(zoo.card("mock"), 0), images, launcher=launcher)
        seconds = time.time() - begun
    units = sum(1 for _ in kept.glob("probabilities-*"))
    calls = [np.loadtxt(file, ndmin=2) for file in log.iterdir()]
    firsts = [own[0, 0] - begun for own in calls]
    beside = sum(own[-1, 1] - own[0, 0] - (own[:, 1] - own[:, 0]).sum() for own in calls)
    asking = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**10 if sys.platform == "linux" else 2**20
    )
    return Row(
        units=units,
        seconds=seconds,
        first_s=min(firsts),
        all_s=max(firsts),
        overhead_ms=1e3 * beside / max(1, sum(len(own) - 1 for own in calls)),
        asking_mib=asking,
        computing_mib=peak.mib,
        sha256=hashlib.sha256((place / "found.parquet").read_bytes()).hexdigest()[:8],
    )


def main(words: Sequence[str] | None = None) -> None:
    """Runs what is asked for, and prints the table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--images", type=int, nargs="+", default=[3200])
    asked.add_argument(
        "--launchers", nargs="+", choices=["local", "processes", "ray", "slurm"], default=["local"]
    )
    asked.add_argument(
        "--nodes", type=int, nargs="+", default=[1], help="nodes of the Ray cluster; of the others, processes"
    )
    asked.add_argument(
        "--kill", action="store_true", help="once more with the largest number, one of which is killed"
    )
    asked.add_argument("--forward-ms", type=float, default=0.0, help="how long the network waits for a unit")
    given = asked.parse_args(words)
    print(
        "| launcher | images | units | seconds | first, s | all, s | overhead of a unit, ms | asking process, MiB "
        "| computing process, MiB | file |\n|:--|--:|--:|--:|--:|--:|--:|--:|--:|:--|",
        flush=True,
    )
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for folder in ("cards", "images"):
            (place / folder).mkdir()
        (place / "cards" / "mock_network.py").write_text(MODULE)
        for count in given.images:
            link(place / "images", count)
            for run in runs(given, count):
                with ProcessPoolExecutor(1, fresh) as pool:
                    print(shown(run, pool.submit(measure, run, place).result()), flush=True)


def runs(given: argparse.Namespace, images: int) -> Iterator[Run]:
    """One after another."""
    for launcher in given.launchers:
        for nodes in given.nodes if launcher != "local" else [1]:
            yield Run(launcher, images, nodes, False, given.forward_ms / 1e3)
        if given.kill and launcher != "local":
            yield Run(launcher, images, max(given.nodes), True, given.forward_ms / 1e3)


def shown(run: Run, row: Row) -> str:
    """A line of the table."""
    computing = f"{row.computing_mib:.0f}" if row.computing_mib else "the same"
    return (
        f"| {run.name} | {run.images:,} | {row.units:,} | {row.seconds:.1f} | {row.first_s:.1f} | {row.all_s:.1f} "
        f"| {row.overhead_ms:.1f} | {row.asking_mib:.0f} | {computing} | {row.sha256} |"
    )


if __name__ == "__main__":
    main()
