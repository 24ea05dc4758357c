"""On a CUDA GPU: what `predict` runs there, against the CPU, and that nothing makes the host wait.

`make gpu` runs these too, without conftest.py, where the packages are there that `predict` needs.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

NEEDED = (
    *(
        "cv2",
        "msgspec",
        "natsort",
        "numpy",
        "pandas",
        "PIL",
        "platformdirs",
        "pyarrow",
        "scipy",
        "simplejpeg",
    ),
    "timm",
)
for package in NEEDED:
    try:
        import_module(package)
    except ImportError as error:  # it is missing, or a library of the system that it needs is
        pytest.skip(f"needs what predict needs: {error}", allow_module_level=True)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import zoo  # noqa: E402
from evaluate import forward as module  # noqa: E402
from evaluate.forward import Forward  # noqa: E402
from evaluate.jobs import untrained  # noqa: E402
from evaluate.predict import Settings, predict  # noqa: E402
from evaluate.testset import read_test_set  # noqa: E402
from weights.untrained import enliven  # noqa: E402
from zoo.card import VIEWS, Attention, Checkpoints, Member, Metadata, System  # noqa: E402
from zoo.networks import assemble  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

SIDE = 64


def member(**more: Any) -> Member:
    return Member(
        name="small", backbone="test_efficientnet", size=SIDE, classes=("BKL", "MEL", "NV"), melanoma=1,
        attention=(Attention(module="sge", after=(2,)),), **more,
    )  # fmt: skip


def ready(own: Member, device: Any = "cuda", seed: int = 0, **more: Any) -> Forward:
    torch.manual_seed(seed)
    network = assemble(own).eval()
    enliven(network, seed, own.metadata.features if own.metadata else 0)
    return Forward(network, own, **{"device": device, "precision": "fp32", "batch_size": 16, **more})


def images(count: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(4)
    return [random.integers(0, 256, (1, SIDE, SIDE, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("features", [0, 5])
def test_logits_are_those_of_the_cpu(compiled: bool, features: int) -> None:
    own = member(metadata=Metadata(features=features, hidden=8, out=4)) if features else member()
    told = np.random.default_rng(1).normal(size=(5, features)).astype(np.float32) if features else None
    expected = np.stack(ready(own, "cpu")(images(), VIEWS, told))
    found = np.stack(ready(own, compiled=compiled)(images(), VIEWS, told))
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("compiled", [False, True])
def test_the_host_waits_for_results_alone(compiled: bool) -> None:
    found = ready(member(), compiled=compiled)
    for _ in range(3):  # what is set up or recorded at first may wait
        expected = found(images(), VIEWS)
    torch.cuda.set_sync_debug_mode("error")
    try:
        first, second = found.start(images(), VIEWS), found.start(images(), VIEWS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.array_equal(np.stack(first()), np.stack(expected))
    assert np.array_equal(np.stack(second()), np.stack(expected))


def test_units_that_share_a_batch_have_the_results_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 images with one view: three units of each of two networks, in one batch of 64."""
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "kept"))
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(40)
    for number in range(40):
        pixels = random.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"I_{number:02d}.png")
    card = System(
        schema=1, name="shared", title="Shared", group="test", summary="A small one.", folds=2,
        members=(member(),), checkpoints=Checkpoints(layout="ours", pattern="{member}_fold{fold}.pth"),
    )  # fmt: skip
    runs: list[int] = []
    shapes: set[int] = set()
    logits = Forward._logits

    def noted(own: Forward, batch: Any) -> torch.Tensor:
        runs.append(len(batch))
        own.network.register_forward_pre_hook(lambda _, given: shapes.add(len(given[0])))
        return logits(own, batch)

    monkeypatch.setattr(Forward, "_logits", noted)
    zoo.register(card)
    try:
        job, test_set = untrained(card, 0), read_test_set(tmp_path / "images")
        (found,) = predict([job], test_set, Settings(device="cuda", batch_size=64))
        assert runs == [40, 40]
        assert shapes == {64}, "each is filled up"
        (expected,) = predict([job], test_set, Settings(device="cpu"))
    finally:
        zoo.unregister(card.name)
    assert len(list((tmp_path / "kept").glob("probabilities-*"))) == 2 * 2 * 3
    assert (found.table["score"] - expected.table["score"]).abs().max() <= 1e-4
    assert found.table["score"].std() > 1e-3, "a test that any constant would pass"


def test_networks_are_compiled_one_after_another() -> None:
    for seed in range(3):
        expected = np.stack(ready(member(), seed=seed)(images(), VIEWS))
        found = np.stack(ready(member(), seed=seed, compiled=True)(images(), VIEWS))
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_an_automatic_batch_fits_and_memory_is_found_by_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ready(member(), batch_size=None)
    assert found.batch_size in {2**power for power in range(9)}
    assert found.batch_size <= module.CUDA_MOST
    free, _ = torch.cuda.mem_get_info()
    expected = np.stack(found(images(64), VIEWS[:1]))
    small = ready(member(), batch_size=64)
    logits = small._logits

    def limited(batch: Any) -> torch.Tensor:
        if len(batch) > 20:
            torch.empty(2 * free, dtype=torch.uint8, device="cuda")
        return logits(batch)

    monkeypatch.setattr(small, "_logits", limited)
    assert np.abs(np.stack(small(images(64), VIEWS[:1])) - expected).max() < 1e-4 * np.abs(expected).max()
    assert small.batch_size == 16
