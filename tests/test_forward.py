"""Forward passes: what is begun and what is waited for, ends of memory, and batches of one shape for a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evaluate import forward as module
from evaluate.forward import Forward
from evaluate.transfers import Transfers
from zoo.card import VIEWS, Member, Metadata
from zoo.errors import MachineError

ROOT = Path(__file__).parents[1]
SIDE = 16


class Plain(nn.Module):
    """Small enough to compile in seconds."""

    def __init__(self, features: int = 0) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 + features, 3)

    def forward(self, image: torch.Tensor, *metadata: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.silu(self.norm(self.conv(image))).mean((2, 3))
        return self.head(torch.cat([pooled, *metadata], 1))


def member(features: int = 0) -> Member:
    return Member(
        name="plain", backbone="none", size=SIDE, classes=("BKL", "MEL", "NV"), melanoma=1,
        metadata=Metadata(features=features, hidden=4, out=4) if features else None,
    )  # fmt: skip


def ready(features: int = 0, batch_size: int = 8, seed: int = 0, **more: Any) -> Forward:
    torch.manual_seed(seed)
    made = Plain(features).eval()
    options = {"device": "cpu", "precision": "fp32", "batch_size": batch_size, **more}
    return Forward(made, member(features), **options)


def images(count: int, crops: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(4)
    return [random.integers(0, 256, (crops, SIDE, SIDE, 3), np.uint8) for _ in range(count)]


def rows(count: int, features: int) -> np.ndarray:
    return np.random.default_rng(6).normal(size=(count, features)).astype(np.float32)


@pytest.fixture
def several() -> Iterator[None]:
    """Two batches at once, whatever machine this is."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def compiler() -> None:
    """Where torch.compile has what it needs."""
    try:
        torch.compile(lambda number: number + 1, dynamic=False)(torch.ones(3))
    except Exception as error:
        pytest.skip(f"needs what torch.compile needs: {error}")


class Limited(Plain):
    """Fails where too many views are in it at once, beside each other or in one batch."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.inside, self.lock = most, 0, threading.Lock()
        self.meet = threading.Barrier(2)
        self.together = True

    def forward(self, image: torch.Tensor, *metadata: torch.Tensor) -> torch.Tensor:
        with self.lock:
            self.inside += len(image)
        try:
            if self.together and threading.current_thread() is not threading.main_thread():
                try:  # both streams are inside at the same time
                    self.meet.wait(5)
                except threading.BrokenBarrierError:
                    self.together = False
            if self.inside > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return super().forward(image, *metadata)
        finally:
            with self.lock:
                self.inside -= len(image)


def test_a_view_that_has_no_room_beside_another_runs_alone(
    several: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "prepare", lambda network, *_: network)
    torch.manual_seed(0)
    limited = Limited(most=1).eval()
    found = Forward(limited, member(), device="cpu", precision="fp32", batch_size=1)
    assert found.streams == 2
    given = images(6)
    one = found(given, VIEWS[:2])
    assert found.streams == 1, "the next images need not find it out again"
    assert np.allclose(np.stack(one), np.stack(ready(batch_size=1)(given, VIEWS[:2])), atol=1e-6)
    limited.most = 0
    with pytest.raises(MachineError, match="plain: memory does not suffice for one image of 16 px on cpu"):
        found(given, VIEWS[:2])


def test_what_waits_keeps_nothing_of_the_network() -> None:
    import gc
    import weakref

    found = ready()
    network = weakref.ref(found.network)
    wait = found.start(images(3), VIEWS[:2])
    expected = found(images(3), VIEWS[:2])
    del found
    gc.collect()
    assert network() is None
    assert all(np.array_equal(a, b) for a, b in zip(wait(), expected, strict=True))


def test_rows_go_to_the_device_in_their_order_and_come_back() -> None:
    transfers = Transfers("cpu")
    arrays = [np.arange(6, dtype=np.float32).reshape(-1, 2), np.array([[8, 9]], np.float32)]
    there = transfers.there(arrays)
    assert [row.tolist() for row in there] == [[0, 1], [2, 3], [4, 5], [8, 9]]
    assert transfers.back(torch.stack(there))().tolist() == np.concatenate(arrays).tolist()


@pytest.mark.parametrize("features", [0, 5])
def test_compiled_results_are_those_of_the_network(compiler: None, features: int) -> None:
    """13 views in batches of 8: the second is filled up with three more, which nobody sees."""
    given = images(13)
    told = rows(13, features) if features else None
    eager = ready(features)(given, VIEWS[:1], told)
    found = ready(features, compiled=True)(given, VIEWS[:1], told)
    assert [each.shape for each in found] == [(1, 3)] * 13
    assert np.abs(np.stack(found) - np.stack(eager)).max() < 1e-5
    assert np.ptp(np.stack(eager), axis=0).max() > 1e-2, "a test that any constant would pass"


def test_a_shape_is_compiled_once_for_all_batches_and_threads(several: None, compiler: None) -> None:
    from torch._dynamo.utils import counters

    found = ready(batch_size=4, compiled=True)
    assert found.streams == 2
    counters.clear()
    for count in (1, 5, 13):
        found(images(count, crops=2), VIEWS)
    assert counters["stats"]["unique_graphs"] == 1


def test_many_networks_in_turn_are_all_compiled(compiler: None) -> None:
    """torch gives up on the ninth network that has the same code, without a word."""
    from torch._dynamo.utils import counters

    given = images(2)
    for seed in range(10):
        counters.clear()
        found = np.stack(ready(seed=seed, batch_size=2, compiled=True)(given, VIEWS[:1]))
        assert counters["stats"]["unique_graphs"] == 1, seed
        assert np.abs(found - np.stack(ready(seed=seed)(given, VIEWS[:1]))).max() < 1e-5


def test_a_compiled_batch_that_does_not_fit_is_halved(
    compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.compiling import Compiled

    sizes = []
    run = Compiled._pass

    def limited(own: Compiled, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 3:
            raise RuntimeError("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run(own, inputs)

    monkeypatch.setattr(Compiled, "_pass", limited)
    found = ready(batch_size=8, compiled=True)
    given = images(13)
    logits = found(given, VIEWS[:1])
    assert found.batch_size == 2
    assert set(sizes) <= {8, 4, 2}, "every batch has the size that is in use"
    assert np.abs(np.stack(logits) - np.stack(ready()(given, VIEWS[:1]))).max() < 1e-5
    assert len(found(given[:1], VIEWS[:1])[0]) == 1


def test_lower_precision_is_compiled_too(compiler: None) -> None:
    given = images(5)
    exact = np.stack(ready()(given, VIEWS[:1]))
    found = np.stack(ready(compiled=True, precision="bf16")(given, VIEWS[:1]))
    assert 0 < np.abs(found - exact).max() < 0.05


WITHOUT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_forward import VIEWS, images, ready
try:
    ready(compiled=True)(images(2), VIEWS[:1])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what names the compiler is another variable elsewhere")
def test_without_a_compiler_one_line_says_so(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "CXX": "no-such-compiler",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(ROOT / "tests")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    (line,) = done.stdout.strip().splitlines()
    assert line.startswith("MachineError plain: torch.compile fails here (")
    assert "no-such-compiler" in line
    assert line.endswith("leave --compile out")
