from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import fingerprint, quick_latency, worker
from benchmarks.latency import _latency
from benchmarks.machine import resolve
from benchmarks.samples import flags, summarise
from zoo.card import Member, Metadata
from zoo.errors import MachineError

MEMBER = Member(name="small", backbone="resnet18", size=64, classes=("MEL", "NV"), melanoma=0)

BUILDERS = """
import os, time
from torch import nn

def odd(member):
    print("chatter on stdout")
    if member.name == "hangs":
        time.sleep(60)
    if member.name == "crashes":
        os.abort()
    if member.name == "fails":
        raise ValueError("two\\nlines")
    if member.name == "too large":
        return nn.Linear(2**40, 2**20)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * member.size**2, 2))
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def called(name: str) -> Member:
    return msgspec.structs.replace(MEMBER, name=name)


def test_equal_networks_are_timed_once_and_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    with_metadata = msgspec.structs.replace(
        called("metadata"), metadata=Metadata(features=14, hidden=8, out=4)
    )
    members = [MEMBER, with_metadata, called("twin")]
    first, second, third = quick_latency(
        members, device="cpu", threads=1, progress=lambda each: done.append(each.name)
    )
    assert sorted(done) == ["metadata", "small", "twin"]
    assert first is third
    assert first != second
    for latency in (first, second):
        assert latency.error == ""
        assert len(latency.samples_ms) >= 3
        assert latency.median_ms == statistics.median(latency.samples_ms)
        assert 0 < latency.median_ms < 1000
        assert latency.first_ms
        assert latency.load_ms
        assert latency.flags[0] == "quick"
        assert (latency.quick, latency.device, latency.precision) == (True, "cpu", "fp32")
        assert latency.machine.settings
        assert latency.machine.settings["threads"] == "1"
        assert replace(latency.machine, settings=None) == fingerprint()
    assert len(list(own_cache.iterdir())) == 2

    def fail(_: int) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(worker, "running", fail)
    assert quick_latency([called("twin")], device="cpu", threads=1) == [first]
    for change in ({"threads": 2}, {"threads": 1, "fresh": True}):
        with pytest.raises(AssertionError, match="measured again"):
            quick_latency([MEMBER], device="cpu", **change)  # type: ignore[arg-type]


def test_one_failure_costs_one_figure(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_builders.py").write_text(BUILDERS)
    monkeypatch.syspath_prepend(tmp_path)
    import odd_builders  # type: ignore[import-not-found]

    names = ("crashes", "hangs", "fails", "too large", "works")
    latencies = quick_latency([called(name) for name in names], odd_builders.odd, device="cpu", limit_s=3)
    crash, hang, failure, too_large, fine = latencies
    assert crash.error == "ended by SIGABRT"
    assert hang.error == "ended by SIGALRM (over the time limit)"
    assert failure.error == "ValueError: two lines"
    assert "memory" in too_large.error
    assert all(latency.median_ms is None and latency.flags == () for latency in latencies[:-1])
    assert fine.error == ""
    assert fine.median_ms
    assert not own_cache.exists(), "figures of other builders are not kept"
    del sys.modules["odd_builders"]


def test_a_latency_has_all_flags_of_its_reading() -> None:
    reading = {"samples_ms": [1.0, 1.0], "first_ms": 2.0, "load_ms": 3.0, "others": 0.0, "settings": {}}
    gpu = {"throttled": ["power cap"], "shared": True}
    found = _latency({"result": {**reading, "settled": False, "gpu": gpu}}, "cuda")
    assert found.flags == ("quick", "not warm", "busy", "throttled: power cap")
    assert _latency({"result": {**reading, "settled": True, "gpu": {}}}, "cpu").flags == ("quick",)


DYING = """
import os, signal, sys
from pathlib import Path
from torch import nn

died, main = Path(__file__).with_name("died"), getattr(sys.modules["__main__"], "__spec__", None)
if main and main.name == "benchmarks.worker" and not died.exists():
    died.touch()
    os.kill(os.getpid(), signal.SIGKILL)

def small(member):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * member.size**2, 2))
"""


def test_a_worker_that_dies_itself_costs_one_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying_builder.py").write_text(DYING)
    monkeypatch.syspath_prepend(tmp_path)
    import dying_builder  # type: ignore[import-not-found]

    members = [called(name) for name in ("first", "second", "third")]
    first, *others = quick_latency(members, dying_builder.small, device="cpu", threads=1)
    assert first.error == "ended by SIGKILL (out of memory?)"
    assert all(each.median_ms and not each.error for each in others)
    del sys.modules["dying_builder"]


def test_a_builder_that_no_other_process_can_import_is_said_to_be_one() -> None:
    [latency] = quick_latency([MEMBER], lambda _: torch.nn.Identity(), device="cpu")
    assert latency.median_ms is None
    assert "put it into a module" in latency.error


def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA GPU")
    assert resolve("auto") == "cpu"
    with pytest.raises(
        MachineError, match=r"^device cuda: torch .* finds no CUDA GPU here; choose cpu or auto"
    ):
        quick_latency([MEMBER], device="cuda")


def test_cuda_is_timed_where_there_is_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    [latency] = quick_latency([MEMBER])
    assert (latency.device, latency.error) == ("cuda", "")


def test_the_worker_answers_with_one_line_each_whatever_libraries_print() -> None:
    with worker.running(threads=1) as ask:
        for size in (32, 64):
            member = msgspec.to_builtins(msgspec.structs.replace(MEMBER, size=size))
            assert ask("benchmarks.counters:count_fields", member)["result"]["size"] == size
    assert ask("benchmarks.counters:count_fields", member) == {
        "error": "ended by SIGKILL (out of memory?)",
        "ended": True,
    }


@given(st.lists(st.floats(1, 1000), min_size=2))
def test_spread_and_flags_follow_the_quartiles(samples: list[float]) -> None:
    found = summarise([samples])
    assert min(samples) <= found.typical <= max(samples)
    said = flags(found.iqr)
    assert said == (("invalid",) if found.iqr > 0.25 else ("noisy",) if found.iqr > 0.10 else ())


def test_steady_samples_have_no_spread() -> None:
    found = summarise([[2.0, 2.0, 2.0]])
    assert (found.typical, found.iqr, flags(found.iqr, quick=True)) == (2.0, 0.0, ("quick",))
    assert flags(summarise([[90.0, 100.0, 104.0]]).iqr) == ()
    assert flags(summarise([[85.0, 100.0, 108.0]]).iqr) == ("noisy",)
