"""The `profile` command where it does most: a sweep, image files, a compiled network, a long protocol."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
import zoo
from benchmarks.results import Profile, Row
from reports import record
from reports.pixels import digest
from zoo.card import Member, System

pytestmark = pytest.mark.slow

LONG = System(
    schema=1, name="long", title="Long", group="mine", summary="A small network, trained very often.", folds=100_000,
    members=(Member(name="only", backbone="test_resnet.r160_in1k", size=32, classes=("MEL", "NV"), melanoma=0),),
)  # fmt: skip


BUILDER = """
from torch import nn

def small(member):
    side = 3 * member.size**2
    return nn.Sequential(nn.Flatten(), nn.Linear(side, len(member.classes)))
"""


def run(*args: str | Path) -> Result:
    done = CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(autouse=True)
def own_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def counts(counts_of: Callable[[System], Path]) -> Path:
    return counts_of(LONG)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A system whose network is quickly compiled, made by a builder of its own."""
    (tmp_path / "small_builder.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    system = msgspec.structs.replace(LONG, name="small", title="Small")
    zoo.register(system, import_module("small_builder").small)
    yield system.name
    zoo.unregister(system.name)
    sys.modules.pop("small_builder", None)


def profiled(folder: Path, *words: str | Path) -> tuple[Profile, str]:
    done = run("profile", "--quick", "--threads", "1", "--device", "cpu", "--output", folder, *words)
    found = record.load(folder / "record.json").profile
    assert found is not None
    return found, done.stdout


def of(profile: Profile, **wanted: Any) -> list[Row]:
    return [row for row in profile.rows if all(getattr(row, key) == value for key, value in wanted.items())]


def test_a_sweep_files_and_a_protocol_too_long_to_measure(counts: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f"{index}.jpg"), pixels)
    words = ("long", "--counts", counts, "--scenario", "latency,throughput,end-to-end", "--images", images)
    found, printed = profiled(tmp_path / "out", *words)
    assert [row.error for row in found.rows] == [""] * 4

    (swept,) = of(found, scenario="throughput")
    assert list(swept.sweep) == [2**step for step in range(len(swept.sweep))]
    assert swept.batch in swept.sweep
    assert swept.batch_asked is None
    assert swept.sweep[swept.batch] >= 0.97 * max(swept.sweep.values())
    assert swept.sweep_end
    assert "Images per second by batch" in printed

    (read,) = of(found, scenario="end-to-end")
    samples = pd.read_parquet(tmp_path / "out" / found.samples)
    own = samples[samples["scenario"] == "end-to-end"]
    assert len(own) == read.samples >= 3
    assert read.images_per_s == pytest.approx(1e3 * own["images"].sum() / own["ms"].sum())
    assert read.batch == 8
    assert read.joules is None
    assert (found.images, found.images_real) == (3, True)
    assert found.images_sha256 == digest([str(each) for each in sorted(images.iterdir())])
    assert "3 image files that were given" in printed
    assert "all images of all rounds / all of their time" in printed

    (latency,), (protocol,) = of(found, scenario="latency"), of(found, scenario="protocol")
    assert (protocol.how, protocol.flags) == ("summed", ("summed", *latency.flags))
    assert protocol.ms == protocol.summed_ms == pytest.approx(100_000 * latency.ms)
    assert not (samples["scenario"] == "protocol").any()

    (images / "0.jpg").write_bytes((images / "1.jpg").read_bytes())
    again, _ = profiled(tmp_path / "again", *words, "--resume")
    assert of(again, scenario="throughput") == [swept]
    assert of(again, scenario="latency") == [latency]
    assert of(again, scenario="end-to-end") != [read], "images of other contents are other readings"


def test_a_compiled_network_is_a_row_beside_the_eager_one(small: str, tmp_path: Path) -> None:
    # Of a member alone, since a whole protocol would be so many networks.
    found, printed = profiled(tmp_path / "out", small, "--member", "0", "--compile")
    eager, compiled = of(found, scenario="latency")
    assert (eager.compiled, compiled.compiled) == (False, True)
    assert compiled.error == ""
    assert (eager.settings["compiled"], compiled.settings["compiled"]) == ("False", "True")
    assert compiled.first_ms > 10 * eager.first_ms, "the first pass holds the compiling"
    assert eager.drift is None
    assert 0 <= compiled.drift < 1e-4
    assert "compiled" in printed
