"""What a launcher costs, and whether memory grows with the number of images: real files, real scheduling, a mock network.

    python -m benchmarks.simulate_launchers --images 20000 100000 --launchers local processes
    python -m benchmarks.simulate_launchers --images 3200 --launchers local ray --nodes 1 2 3 --kill --forward-ms 50

Images are small PNG files (hard links to a few), the network waits for as long as it is told and answers
from the mean colour. Prints a Markdown table: units, seconds, the overhead of a unit (processes × seconds,
less decoding and waiting, over units), and the peak memory of the process that asks and of those that compute.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from evaluate.predict import predict
from evaluate.predictions import write_predictions
from evaluate.testset import TestImage, TestSet

MODULE = """
import time
from torch import nn

class Mock(nn.Module):
    def __init__(self, waits):
        super().__init__()
        self.linear, self.waits = nn.Linear(3, 2), waits

    def forward(self, images):
        time.sleep(self.waits)
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
options = {{ waits = {waits} }}
"""


class Row(NamedTuple):
    """One run."""

    launcher: str
    images: int
    units: int
    seconds: float
    overhead_ms: float
    asking_mib: float
    computing_mib: float
    sha256: str


def test_set(folder: Path, count: int) -> TestSet:
    """So many images: hard links to 16 files, in folders of a thousand."""
    random = np.random.default_rng(0)
    made: list[TestImage] = []
    kinds: list[tuple[Path, str, int]] = []
    for kind in range(16):
        path = folder / f"kind{kind}.png"
        Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).save(path)
        kinds.append((path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size))
    # Each shard is of other images than the last, or all would be one unit.
    order = np.random.default_rng(1).integers(0, 16, count)
    for number in range(count):
        source, digest, size = kinds[int(order[number])]
        place = folder / f"{number // 1000:04d}"
        place.mkdir(exist_ok=True)
        path = place / f"I_{number:07d}.png"
        if not path.exists():
            os.link(source, path)
        made.append(TestImage(id=f"I_{number:07d}", path=path, sha256=digest, size=size))
    return TestSet(path=str(folder), images=tuple(made))


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
                    if "spawn_main" in words or "_Worker" in words:
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


def run(name: str, launcher: Launcher, images: TestSet, place: Path, waits: float) -> Row:
    """One run, without anything kept."""
    os.environ["MELANOMA_ZOO_CACHE"] = str(Path(tempfile.mkdtemp(dir=place)) / "kept")
    with Peak() as peak:
        begun = time.perf_counter()
        (found,) = predict([untrained(zoo.card("mock"), 0)], images, launcher=launcher)
        seconds = time.perf_counter() - begun
    write_predictions(found, place / "found.parquet")
    units = len(list(zoo_cache().glob("probabilities-*")))
    spent = seconds * launcher.slots - units * waits
    asking = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**10 if sys.platform == "linux" else 2**20
    )
    digest = hashlib.sha256((place / "found.parquet").read_bytes()).hexdigest()[:8]
    return Row(name, len(images.images), units, seconds, spent / units * 1e3, asking, peak.mib, digest)


def zoo_cache() -> Path:
    """Where results are kept now."""
    return Path(os.environ["MELANOMA_ZOO_CACHE"])


class _Killing:
    """A launcher on a cluster, one node of which is killed when a third of the units is finished."""

    def __init__(self, own: Any, running: Any, units: int) -> None:
        self.own, self.running, self.after = own, running, units // 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def run(self, *given: Any) -> Iterator[Any]:
        for number, each in enumerate(self.own.run(*given)):
            if number == self.after:
                self.running.remove_node(self.running.own[0], allow_graceful=False)
            yield each


def main(words: Sequence[str] | None = None) -> None:
    """Runs what is asked for, and prints the table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--images", type=int, nargs="+", default=[3200])
    asked.add_argument("--launchers", nargs="+", choices=["local", "processes", "ray"], default=["local"])
    asked.add_argument(
        "--nodes", type=int, nargs="+", default=[1], help="nodes of the Ray cluster; of processes, how many"
    )
    asked.add_argument(
        "--kill", action="store_true", help="once more on the largest cluster, a node of which is killed"
    )
    asked.add_argument("--forward-ms", type=float, default=0.0, help="how long the network waits for a unit")
    given = asked.parse_args(words)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    waits = given.forward_ms / 1e3
    print(
        "| launcher | images | units | seconds | overhead of a unit, ms | asking process, MiB | computing process, MiB | file |"
    )
    print("|:--|--:|--:|--:|--:|--:|--:|:--|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "mock_network.py").write_text(MODULE)
        (folder / "mock.toml").write_text(CARD.format(waits=waits))
        zoo.add_folder(folder)
        (folder / "images").mkdir()
        for count in given.images:
            images = test_set(folder / "images", count)
            for row in rows(given, images, folder, waits):
                computing = f"{row.computing_mib:.0f}" if row.computing_mib else "the same"
                print(
                    f"| {row.launcher} | {row.images:,} | {row.units:,} | {row.seconds:.1f} | {row.overhead_ms:.1f} "
                    f"| {row.asking_mib:.0f} | {computing} | {row.sha256} |", flush=True,
                )  # fmt: skip


def rows(given: argparse.Namespace, images: TestSet, folder: Path, waits: float) -> Iterator[Row]:
    """One run after another."""
    if "local" in given.launchers:
        yield run("local", Local(1), images, folder, waits)
    if "processes" in given.launchers:
        for count in given.nodes:
            yield run(f"{count} processes", Processes(count, 1), images, folder, waits)
    if "ray" in given.launchers:
        from evaluate.launchers.ray import Ray

        for count, kill in [(count, False) for count in given.nodes] + [
            (max(given.nodes), True)
        ] * given.kill:
            with ExitStack() as stack:
                running = stack.enter_context(cluster(count))
                launcher = stack.enter_context(Ray(running.address))
                killing = _Killing(launcher, running, -(-len(images.images) // 16))
                name = f"ray, {count} node{'s' if count > 1 else ''}" + (", one killed" if kill else "")
                chosen: Any = killing if kill else launcher
                yield run(name, chosen, images, folder, waits)


if __name__ == "__main__":
    main()
