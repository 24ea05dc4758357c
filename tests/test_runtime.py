"""How networks are made to run: folded batch norms, precision, the allocator and the device."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import zoo
from zoo.errors import MachineError
from zoo.runtime import arithmetic, check, fold_batch_norm, resolve, tune_allocator

NETWORKS = [
    ("sge_b3", None),
    ("s2_cbam_b3", None),
    ("second_place", None),
    ("first_place", "9c_meta_b3_768_512_ext_18ep"),
    ("first_place", "9c_nest101_2e_640_ext_15ep"),
    ("first_place", "9c_se_x101_640_ext_15ep"),
]


def scrambled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics that are not those of a new network, so that a wrong fold shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.normal_(1, 0.1, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("system", "member"), NETWORKS)
def test_folding_leaves_no_batch_norm_and_the_same_logits(system: str, member: str | None) -> None:
    network = scrambled(zoo.build(system, member))
    metadata = zoo.card(system).member(member).metadata
    inputs = (torch.randn(1, 3, 64, 64), *([torch.randn(1, metadata.features)] if metadata else []))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network, *inputs)
    assert norms(network) > 50
    assert norms(folded) == 0
    more = (torch.randn(2, 3, 96, 96), *([torch.randn(2, metadata.features)] if metadata else []))
    with torch.inference_mode():
        expected, found = network(*more), folded(*more)
    assert (found - expected).abs().max() <= 1e-4 * max(1, expected.abs().max())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Block(nn.Module):
    """A convolution and a batch norm, joined as `wiring` says."""

    def __init__(self, wiring: str) -> None:
        super().__init__()
        self.wiring = wiring
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias="bias" in wiring)
        self.norm = nn.BatchNorm2d(3, affine="plain" not in wiring)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(x)
        if "twice" in self.wiring:
            return self.norm(found) + self.norm(self.conv(2 * x))
        if "shared" in self.wiring:
            return self.norm(found) + found
        if "apart" in self.wiring:
            return self.norm(found.relu())
        return self.norm(found)


@pytest.mark.parametrize(
    ("wiring", "left"),
    [("", 0), ("bias", 0), ("plain", 0), ("twice", 1), ("shared", 1), ("apart", 1)],
)
def test_only_what_belongs_together_is_folded(wiring: str, left: int) -> None:
    block = Block(wiring).eval()
    if block.norm.affine:
        scrambled(block)
    block.norm.running_mean.fill_(0.3)
    x = torch.randn(1, 3, 8, 8)
    folded = fold_batch_norm(block, x)
    assert norms(folded) == left
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), block(x))


@given(seed=st.integers(0, 2**16), channels=st.integers(1, 8), groups=st.booleans())
def test_a_fold_is_exact_for_any_statistics(seed: int, channels: int, groups: bool) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(channels, channels, 3, groups=channels if groups else 1)
    network = scrambled(nn.Sequential(conv, nn.BatchNorm2d(channels)), seed)
    x = torch.randn(1, channels, 6, 6)
    folded = fold_batch_norm(network, x)
    assert norms(folded) == 0
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), network(x), atol=1e-5, rtol=1e-4)


def test_single_precision_means_it_and_the_setting_is_given_back() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        with arithmetic("cpu", "fp32"):
            assert not matmul.allow_tf32
            assert torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = before


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_lower_precisions_compute_in_them(precision: str, dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 4)
    with arithmetic("cpu", precision):
        assert layer(torch.ones(1, 4)).dtype == dtype


def test_what_the_machine_cannot_do_is_said() -> None:
    with (
        pytest.raises(MachineError, match="tf32 is NVIDIA's; on a CPU choose fp32 or bf16"),
        arithmetic("cpu", "tf32"),
    ):
        pass
    assert resolve("cpu") == "cpu"
    if torch.cuda.is_available():
        assert resolve("auto") == resolve("cuda") == "cuda"
    else:
        assert resolve("auto") == "cpu"
        with pytest.raises(MachineError, match="finds no CUDA GPU here; choose cpu or auto"):
            resolve("cuda")


@pytest.mark.parametrize(
    ("precision", "said"), [("tf32", "computes in fp32 instead"), ("bf16", "only emulates it")]
)
def test_a_gpu_before_ampere_is_refused_what_it_would_do_otherwise(
    precision: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    expected = rf"^precision {precision}: Tesla T4 \(compute capability 7\.5\) {said}; choose fp32 or fp16$"
    with pytest.raises(MachineError, match=expected):
        check("cuda", precision)
    with pytest.raises(MachineError, match=expected):
        check("auto", precision)
    assert check("cuda", "fp32") == check("cuda", "fp16") == "cuda"
    assert check("cpu", "bf16") == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert check("cuda", precision) == "cuda"


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_freed_memory_stays_in_the_process() -> None:
    """A freed block of 256 MiB is given back to the kernel, unless the allocator was told otherwise."""
    script = """
import ctypes, sys, psutil
from zoo.runtime import tune_allocator
if sys.argv[1] == "tuned":
    assert tune_allocator()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
size = 256 * 2**20
block = libc.malloc(size)
ctypes.memset(block, 1, size)
libc.free(block)
print(psutil.Process().memory_info().rss)
"""
    plain, tuned = (
        int(
            subprocess.run(
                [sys.executable, "-c", script, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("plain", "tuned")
    )
    assert tuned - plain > 200 * 2**20


def test_other_platforms_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator() is False
