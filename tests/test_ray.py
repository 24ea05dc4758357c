"""A real Ray cluster of three nodes on this machine: each with its own processes, store and cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image

import weights
from evaluate import portions
from evaluate.jobs import Job, trained, untrained
from evaluate.launchers.base import Launcher
from evaluate.launchers.local import Local
from evaluate.predict import Settings, predict
from evaluate.predictions import write_predictions
from evaluate.testset import TestSet, read_test_set
from evaluate.units import code
from zoo.card import System
from zoo.errors import MachineError, MelanomaZooError, UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, of packages that it imports.
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

from evaluate.launchers import ray as package
from evaluate.launchers.ray import Ray

pytestmark = [
    pytest.mark.usefixtures("kept"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]  # fmt: skip

ROOT = Path(__file__).parents[1]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


class Nodes:
    """A head that computes nothing, and nodes with a cache folder each."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        self.nodes = [self.add() for _ in range(3)]

    def add(self) -> object:
        own = self.place / f"node{len(list(self.place.iterdir()))}"
        own.mkdir()
        return self.cluster.add_node(**NODE, env_vars={"MELANOMA_ZOO_CACHE": str(own)})

    @property
    def address(self) -> str:
        return str(self.cluster.address)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setattr(package, "LOOK_S", 0.5)
        started = Nodes(tmp_path_factory.mktemp("nodes"))
        yield started
        ray.shutdown()
        started.cluster.shutdown()


@pytest.fixture
def test_set(tmp_path: Path, draw: Callable[..., None]) -> TestSet:
    """200 images: thirteen shards, the last of eight; image 40 is white."""
    for number in range(200):
        draw(tmp_path / "images" / f"I_{number:03d}.png", number)
    Image.new("RGB", (16, 12), "white").save(tmp_path / "images" / "I_040.png")
    return read_test_set(tmp_path / "images")


def written(job: Job, test_set: TestSet, place: Path, launcher: Launcher) -> bytes:
    (found,) = predict([job], test_set, launcher=launcher)
    write_predictions(found, place / "found.parquet")
    return (place / "found.parquet").read_bytes()


def names(kept: Path) -> set[str]:
    return {file.name for file in kept.glob("probabilities-*.json")}


def trained_files(card: System, place: Path) -> Job:
    from zoo.networks import assemble

    place.mkdir()
    for fold in range(card.folds):
        torch.manual_seed(fold)
        torch.save(assemble(card.members[0]).state_dict(), place / f"small_fold{fold}.pth")
    return trained(card, weights.find(card, place))


def test_a_node_that_is_killed_in_mid_run_loses_nothing(
    nodes: Nodes, small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Same bytes as in one process; every unit handed out once; computed twice at most what was in flight."""
    log = tmp_path / "log"
    log.mkdir()
    job = trained_files(small_system(waits=0.1, logs=f"'{log}'"), tmp_path / "w")
    handed_out: list[str] = []

    class Watched(Ray):
        def run(self, portions, store) -> Iterator:
            for each in super().run(portions, store):
                handed_out.append(each.name)
                if len(handed_out) == 6:
                    nodes.cluster.remove_node(nodes.nodes.pop(0), allow_graceful=False)
                yield each

    with Watched(nodes.address) as launcher:
        assert launcher.slots == 3
        found = written(job, test_set, tmp_path, launcher)
    nodes.nodes.append(nodes.add())
    assert len(handed_out) == len(set(handed_out)) == 26
    assert len(names(kept)) == 26
    forwards = [line for file in log.iterdir() for line in file.read_text().splitlines()]
    assert 26 <= len(forwards) <= 26 + 3, (
        "a unit is one forward pass here; three processes had one each in flight"
    )
    for place in nodes.place.iterdir():
        shipped = sorted(path.name for path in place.rglob("*.pth"))
        assert len(shipped) == len(set(shipped)) <= 2, "a trained file is on a node once"
        assert not names(place), "results are kept by the one that asked"
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "local"))
    assert written(job, test_set, tmp_path, Local(1)) == found


def test_a_process_decodes_the_next_portion_while_it_computes_this_one(
    nodes: Nodes, small_system: Callable[..., System], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Files of the second portion go when the first one is nearly through: their pixels are there by then."""
    monkeypatch.setattr(portions, "MOST_SHARDS", 7)

    class Removing(Ray):
        def run(self, portions, store) -> Iterator:
            for number, each in enumerate(super().run(portions, store)):
                if number == 11:
                    for image in test_set.images[112:]:
                        image.path.unlink()
                yield each

    with Removing(nodes.address, slots=1) as launcher:
        written(untrained(small_system(waits=0.1), 0), test_set, tmp_path, launcher)
    assert not test_set.images[-1].path.exists()


def test_processes_that_are_gone_before_they_are_given_work_cost_no_unit_a_retry(
    nodes: Nodes, small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """As where their node went away while they waited: more of them than there are retries."""
    started = package._Pool._started
    killed: list[int] = []

    def then_gone(self, ready) -> None:
        started(self, ready)
        if len(killed) < 3:
            killed.append(self.idle[-1])
            actor = self.actors[self.idle[-1]]
            ray.kill(actor)
            with suppress(ray.exceptions.RayActorError):
                while True:
                    ray.get(actor.ready.remote())

    monkeypatch.setattr(package._Pool, "_started", then_gone)
    with Ray(nodes.address, slots=1, retries=0) as launcher:
        written(untrained(small_system(), 0), test_set, tmp_path, launcher)
    assert len(killed) == 3
    assert len(names(kept)) == 26


def test_units_that_fail_or_kill_are_named_and_the_rest_goes_on(
    nodes: Nodes, small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    with Ray(nodes.address, retries=1) as launcher:
        with pytest.raises(MelanomaZooError) as raised:
            written(untrained(small_system("fails", fails=True), 0), test_set, tmp_path, launcher)
        said = str(raised.value)
        assert said.startswith("2 of 26 units failed: fails small fold ")
        assert "images I_032 to I_047 and 1 more: internal error: RuntimeError: this network does not" in said
        assert len(names(kept)) == 24
        with pytest.raises(MachineError) as raised:
            written(untrained(small_system("kills", 1, kills=True), 0), test_set, tmp_path, launcher)
        said = str(raised.value)
        assert said.startswith(
            "1 of 13 units failed: kills small fold 0, images I_032 to I_047: the process that"
        )
        assert "died with its node or by itself, 2 times" in said
        assert len(names(kept)) == 24 + 12
    monkeypatch.setattr(package, "code", lambda engine: "other" if engine == "onnxruntime" else code(engine))
    with Ray(nodes.address) as launcher:
        job = untrained(small_system("other", 1), 0)
        written(job, test_set, tmp_path, launcher)
        with pytest.raises(MachineError, match=r"node .* has another version of melanoma-zoo"):
            predict([job], test_set, Settings(engine="onnxruntime"), launcher=launcher)
    with pytest.raises(MachineError, match="no node has 64 CPU; ask for less"), Ray(nodes.address, cpus=64):
        pass


def test_a_cluster_that_is_not_there_is_said() -> None:
    with (
        pytest.raises(MachineError, match=r"^Ray cluster 127\.0\.0\.1:1: cannot be reached"),
        Ray("127.0.0.1:1"),
    ):
        pass
    with pytest.raises(UsageError, match="give host:port of the cluster"), Ray("ray://127.0.0.1:10001"):
        pass


def test_a_cluster_is_started_for_a_command(test_set: TestSet, tmp_path: Path) -> None:
    """In a process of its own, as a user runs it."""
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "predict",
        "timm:test_efficientnet,classes=2,melanoma=0,size=32",
    ]
    command += ["--test-set", str(tmp_path / "images"), "--untrained", "0", "--limit", "20"]
    for name, more in {"ray": ["--launcher", "ray", "--processes", "1"], "local": []}.items():
        environment = {**os.environ, "MELANOMA_ZOO_CACHE": str(tmp_path / name)}
        output = ["--output", str(tmp_path / f"{name}.parquet")]
        done = subprocess.run([*command, *output, *more], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
