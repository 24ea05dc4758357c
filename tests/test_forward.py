"""Forward passes: what is begun and what is waited for, ends of memory, and batches of one shape for a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evaluate import forward as module
from evaluate import transfers
from evaluate.forward import Forward
from evaluate.transfers import Transfers
from zoo import compiling
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
def works() -> None:
    """Where torch.compile has what it needs."""
    try:
        torch.compile(lambda number: number + 1, dynamic=False)(torch.ones(3))
    except Exception as error:
        pytest.skip(f"needs what torch.compile needs: {error}")


@pytest.fixture
def compiler(works: None) -> Iterator[Counter[str]]:
    """What is compiled is counted; nothing is known of other tests."""
    from torch._dynamo.utils import counters

    compiling.forget()
    counters.clear()
    yield counters["stats"]
    compiling.forget()


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
    copies = Transfers("cpu")
    arrays = [np.arange(6, dtype=np.float32).reshape(-1, 2), np.array([[8, 9]], np.float32)]
    there = copies.there(arrays)
    assert [row.tolist() for row in there] == [[0, 1], [2, 3], [4, 5], [8, 9]]
    assert copies.back(torch.stack(there))().tolist() == np.concatenate(arrays).tolist()


def test_networks_that_come_one_after_another_have_one_stream_of_a_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda *given: made.append(given))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: device)
    transfers._stream.cache_clear()
    for device in (0, 0, 1, 0):  # noqa: B007 (read by what stands for torch)
        Transfers("cuda")
    transfers._stream.cache_clear()
    assert made == [(0,), (1,)]


@pytest.mark.parametrize("where", ["there", "back"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),  # of pinned memory
    ],
)
def test_memory_that_ends_outside_of_a_pass_is_one_line_too(
    where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any) -> Any:
        raise error

    found = ready()
    monkeypatch.setattr(Transfers, where, ended)
    with pytest.raises(MachineError, match="plain: memory does not suffice for 2 images of 16 px on cpu"):
        found(images(2), VIEWS[:1])
    monkeypatch.setattr(Transfers, where, lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        found(images(2), VIEWS[:1])


class Shapes(Plain):
    """Notes the batches that it is given."""

    def __init__(self, features: int = 0) -> None:
        super().__init__(features)
        self.seen: list[int] = []

    def forward(self, image: torch.Tensor, *metadata: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(image))
        return super().forward(image, *metadata)


@pytest.mark.parametrize("features", [0, 5])
def test_where_batches_have_one_shape_all_are_filled_up_to_it(
    features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, without a compiler."""
    assert module.ONE_SHAPE == {"cpu": False, "cuda": True}
    monkeypatch.setattr(module, "prepare", lambda network, *_: network)
    given, told = images(13), rows(13, features) if features else None
    expected = ready(features)(given, VIEWS[:1], told)
    monkeypatch.setitem(module.ONE_SHAPE, "cpu", True)
    torch.manual_seed(0)
    network = Shapes(features).eval()
    found = Forward(network, member(features), device="cpu", precision="fp32", batch_size=8)
    for count in (13, 1, 8):
        few = found(given[:count], VIEWS[:1], None if told is None else told[:count])
        assert [each.shape for each in few] == [(1, 3)] * count
        assert np.abs(np.stack(few) - np.stack(expected[:count])).max() < 1e-5
    assert network.seen == [8] * 4


@pytest.mark.parametrize("features", [0, 5])
def test_compiled_results_are_those_of_the_network(compiler: Counter[str], features: int) -> None:
    """13 views in batches of 8: the second is filled up with three more, which nobody sees."""
    given = images(13)
    told = rows(13, features) if features else None
    eager = ready(features)(given, VIEWS[:1], told)
    found = ready(features, compiled=True)(given, VIEWS[:1], told)
    assert [each.shape for each in found] == [(1, 3)] * 13
    assert np.abs(np.stack(found) - np.stack(eager)).max() < 1e-5
    assert np.ptp(np.stack(eager), axis=0).max() > 1e-2, "a test that any constant would pass"


def test_a_shape_is_compiled_once_for_all_batches_and_threads(several: None, compiler: Counter[str]) -> None:
    found = ready(batch_size=4, compiled=True)
    assert found.streams == 2
    for count in (1, 5, 13):
        found(images(count, crops=2), VIEWS)
    assert compiler["unique_graphs"] == 1


def test_what_was_compiled_serves_other_folds_and_other_images(compiler: Counter[str]) -> None:
    given = images(4)
    for seed in (0, 1, 0, 2):
        found = np.stack(ready(seed=seed, batch_size=2, compiled=True)(given, VIEWS[:1]))
        assert np.abs(found - np.stack(ready(seed=seed)(given, VIEWS[:1]))).max() < 1e-5
        assert compiler["unique_graphs"] == 1, seed


def test_networks_that_run_at_the_same_time_have_their_own_weights(compiler: Counter[str]) -> None:
    given = images(4)
    several = [ready(seed=seed, batch_size=2, compiled=True) for seed in range(3)]
    for _ in range(2):
        for seed, one in enumerate(several):
            exact = np.stack(ready(seed=seed)(given, VIEWS[:1]))
            assert np.abs(np.stack(one(given, VIEWS[:1])) - exact).max() < 1e-5


@pytest.mark.parametrize("scale", [3.0, torch.tensor([1.0, 2.0, 3.0]), lambda x: 3 * x])
def test_a_network_that_differs_in_more_than_its_weights_is_compiled_anew(
    compiler: Counter[str], monkeypatch: pytest.MonkeyPatch, scale: Any
) -> None:
    """What a number, a tensor that is no buffer, or a function makes of the logits."""

    class Scaled(Plain):
        scale: Any = 1.0

        def forward(self, image: torch.Tensor, *metadata: torch.Tensor) -> torch.Tensor:
            logits = super().forward(image, *metadata)
            return self.scale(logits) if callable(self.scale) else self.scale * logits

    monkeypatch.setattr(module, "prepare", lambda network, *_: network)
    given = images(2)

    def logits(scale: Any, compiled: bool) -> np.ndarray:
        torch.manual_seed(0)
        network = Scaled().eval()
        network.scale = scale
        options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "batch_size": 2}
        return np.stack(Forward(network, member(), **options, compiled=compiled)(given, VIEWS[:1]))

    plain = logits(2.0, compiled=True)
    assert np.abs(logits(scale, compiled=True) - logits(scale, compiled=False)).max() < 1e-5
    assert np.abs(logits(scale, compiled=False) - plain).max() > 1e-2
    assert np.abs(logits(2.0, compiled=True) - plain).max() < 1e-6


def test_many_networks_in_turn_are_all_compiled_once(compiler: Counter[str]) -> None:
    """torch by itself gives up on the ninth network that has the same code, without a word."""
    given = images(2)
    for _ in range(2):
        for features in range(10):
            told = rows(2, features) if features else None
            found = np.stack(ready(features, batch_size=2, compiled=True)(given, VIEWS[:1], told))
            assert np.abs(found - np.stack(ready(features)(given, VIEWS[:1], told))).max() < 1e-5
    assert compiler["unique_graphs"] == 10


def test_what_stays_compiled_takes_no_more_memory_than_it_may(
    compiler: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(each.nbytes for each in ready().network.state_dict().values())
    monkeypatch.setattr(compiling, "KEPT_BYTES", 2.5 * weights)
    given = images(2)
    for features in (0, 1, 2, 3):
        told = rows(2, features) if features else None
        found = np.stack(ready(features, batch_size=2, compiled=True)(given, VIEWS[:1], told))
        assert np.abs(found - np.stack(ready(features)(given, VIEWS[:1], told))).max() < 1e-5
        assert len(compiling._residents) <= 2


def test_what_stays_compiled_goes_before_a_batch_is_halved(
    several: None, compiler: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compiling.Compiled._pass

    def limited(own: compiling.Compiled, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if len(compiling._residents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run(own, inputs)

    given = images(8)
    ready(features=1, compiled=True)(given, VIEWS[:1], rows(8, 1))
    monkeypatch.setattr(compiling.Compiled, "_pass", limited)
    found = ready(batch_size=8, compiled=True)
    assert found.streams == 2
    logits = np.stack(found(given, VIEWS[:1]))
    assert found.streams == 1, "beside others they cannot go"
    assert found.batch_size == 8
    assert len(compiling._residents) == 1
    assert np.abs(logits - np.stack(ready()(given, VIEWS[:1]))).max() < 1e-5


def test_warnings_are_caught_by_the_thread_that_waits(
    several: None, compiler: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is caught is of the whole process: two threads that come and go would leave each other's filters behind."""
    catch, seen = warnings.catch_warnings, []

    def spied(**options: Any) -> warnings.catch_warnings:
        if sys._getframe(1).f_globals["__name__"].partition(".")[0] in ("zoo", "evaluate"):
            seen.append(threading.current_thread())
        return catch(**options)

    monkeypatch.setattr(warnings, "catch_warnings", spied)
    before = list(warnings.filters)
    found = ready(batch_size=2, compiled=True)
    found(images(8), VIEWS[:2])
    assert compiler["unique_graphs"] == 1
    assert set(seen) == {threading.current_thread()}
    assert list(warnings.filters) == before


def test_a_compiled_batch_that_does_not_fit_is_halved(
    compiler: Counter[str], monkeypatch: pytest.MonkeyPatch
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


def test_lower_precision_is_compiled_too(compiler: Counter[str]) -> None:
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
