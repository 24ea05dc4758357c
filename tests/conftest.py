"""What several test files share: a made-up test set, a record of all systems, and the real data where it is."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

import zoo
from zoo.card import System

# Tests that run beside each other share the cores.
if beside := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(beside))))

# It would ask the network for a newer version of itself when it is imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

# A deadline is a timing, and timings decide no test.
settings.register_profile("zoo", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("zoo")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Counts and timings of one test run are shared, and nobody else's are read or written."""
    before = os.environ.get("MELANOMA_ZOO_CACHE")
    kept = os.environ.get("MELANOMA_ZOO_TEST_CACHE")  # while developing: counts outlive the run
    os.environ["MELANOMA_ZOO_CACHE"] = kept or str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["MELANOMA_ZOO_CACHE"]
    else:
        os.environ["MELANOMA_ZOO_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def _no_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing was fetched yet, whatever the user has; no mirror is set either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELANOMA_ZOO_DATA", str(tmp_path_factory.mktemp("data")))
        patch.delenv("MELANOMA_ZOO_MIRROR", raising=False)
        yield


@pytest.fixture(scope="session")
def proveai() -> Path:
    """The folder of the published scores and labels."""
    folder = SHARED / "data" / "proveai"
    if not folder.is_dir():
        pytest.skip(
            "needs the published PROVE-AI scores in ../shared/data/proveai, which are not part of the project"
        )
    return folder


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `labels.csv` and `predictions/` of the seven systems that have published scores.

    80 lesions of 60 patients, 20 of them melanomas; the systems differ in how well they tell them apart.
    """
    folder = tmp_path_factory.mktemp("made_up")
    random = np.random.default_rng(20)
    melanoma = np.arange(80) % 4 == 0
    labels = pd.DataFrame(
        {
            "isic_id": [f"ISIC_{number:07d}" for number in range(80)],
            "diagnosis": np.where(melanoma, "melanoma", "nevus"),
            "patient_id": [f"IP_{number % 60:07d}" for number in range(80)],
        }
    )
    labels.to_csv(folder / "labels.csv", index=False)
    (folder / "predictions").mkdir()
    common = random.normal(size=80)
    strengths = {"SGE-B3": 1.5, "Spatial-B3": 1.3, "S2-MLP-B3": 1.35, "S2-CBAM-B3": 1.45}
    strengths |= {"First_place": 1.6, "Second_place": 1.3, "Third_place": 0.2}
    for name, strength in strengths.items():
        signal = strength * melanoma + common + 0.5 * random.normal(size=80)
        scores = pd.DataFrame(
            {"image_name": labels["isic_id"], "target": (1 / (1 + np.exp(-signal))).round(6)}
        )
        scores.assign(y_true=melanoma.astype(int)).to_csv(folder / "predictions" / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def record(made_up: Path):
    """A record of all systems on the made-up test set, with verdicts, without latency."""
    from reports.cards import in_order
    from reports.comparison import reproduce
    from reports.inputs import read_inputs
    from reports.record import Settings

    settings = Settings(
        rule="networks", protocol="clinical", resamples=100, seed=0, latency="off", device="auto"
    )
    inputs = read_inputs([made_up / "predictions"], made_up / "labels.csv")
    return reproduce(in_order([zoo.card(name) for name in zoo.systems()]), settings, inputs)


@pytest.fixture(scope="session")
def draw() -> Callable[..., None]:
    """Draws a small real image: its file's ending says of what kind, its name or a seed what is on it."""

    def paint(path: Path, seed: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(zlib.crc32(path.stem.encode()) if seed is None else seed)
        Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).save(path)

    return paint


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and processes of one thread each, whose results agree to the last bit."""
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "kept"


NETWORKS = '''
"""Small networks of a plugin: quick, and each dies or fails of one kind of image."""
import os
import signal
import time

import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, classes, kills=False, fails=False, waits=0.0, logs="", breaks=""):
        super().__init__()
        self.linear = nn.Linear(12, classes)
        self.kills, self.fails, self.waits, self.logs = kills, fails, waits, logs
        self.breaks = breaks

    def forward(self, images):
        white = bool((images.mean(dim=(1, 2, 3)) > 2).any())
        if white and self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if white and self.fails:
            raise RuntimeError("this network does not like white images")
        if white and self.breaks and not os.path.exists(self.breaks):
            open(self.breaks, "w").close()
            os.environ["BROKEN"] = "1"
        if self.breaks and "BROKEN" in os.environ:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        time.sleep(self.waits)
        if self.logs:
            with open(f"{self.logs}/{os.getpid()}", "a") as log:
                print(len(images), file=log)
        return self.linear(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1))


def make(member):
    return Small(len(member.classes), **member.options)
'''

CARD = """
schema = 1
name = "{name}"
title = "{name}"
group = "test"
summary = "A small one."
folds = {folds}
views = {{ transforms = ["identity", "rows"] }}
checkpoints = {{ layout = "ours", pattern = "small_fold{{fold}}.pth" }}

[[members]]
name = "small"
network = "small_networks:make"
backbone = "none"
size = 16
classes = ["MEL", "NV"]
melanoma = 0
options = {options}
"""


@pytest.fixture
def small_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., zoo.card]]:
    """Makes a system of a plugin folder, which other processes can import: tiny networks with options."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "small_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(str(folder))
    made = []

    def make(name: str = "small", folds: int = 2, **options: object):
        told = ", ".join(
            f"{key} = {value if isinstance(value, str) else str(value).lower()}"
            for key, value in options.items()
        )
        (folder / f"{name}.toml").write_text(CARD.format(name=name, folds=folds, options=f"{{ {told} }}"))
        made.append(name)
        return zoo.register(folder / f"{name}.toml", replace=True)

    yield make
    for name in dict.fromkeys(made):
        zoo.unregister(name)


@pytest.fixture
def counts_of(tmp_path: Path) -> Callable[[System], Path]:
    """Counts of a system that no folder has, as `--counts` takes them."""

    def counted(card: System) -> Path:
        from reports import base

        zoo.register(card)
        try:
            (tmp_path / "counts.json").write_text(json.dumps(base.counted([card])))
        finally:
            zoo.unregister(card.name)
        return tmp_path / "counts.json"

    return counted
