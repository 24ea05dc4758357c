from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
import timm
import torch
from torch import Tensor, nn

import zoo
from benchmarks import Operations, count, count_all
from benchmarks import operations as counting
from benchmarks.explain import FVCORE_FAMILY, UNEXPLAINED, exclusive
from zoo.card import Attention, Member, Metadata
from zoo.errors import CardError, InputError
from zoo.networks import assemble

ROOT = Path(__file__).parents[1]


def member(backbone: str = "resnet18", size: int = 64, **more: object) -> Member:
    name = f"{backbone}_{size}_{len(more)}"
    return Member(
        **{"name": name, "backbone": backbone, "size": size, "classes": ("MEL", "NV"), "melanoma": 0} | more
    )


def everything() -> list[Member]:
    return [each for name in zoo.systems() for each in zoo.card(name).members]


def explained(counted: Operations) -> None:
    assert list(counted.counters) == ["torch", "fvcore", "thop"]
    for counter, total in counted.counters.items():
        gaps = [gap for gap in counted.gaps if gap.counter == counter]
        assert total == counted.macs + sum(gap.macs for gap in gaps), counter
        assert all(gap.macs and gap.reason != UNEXPLAINED for gap in gaps), gaps


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SMALL = [
    member(),
    member("tf_efficientnet_b0"),
    member("tf_efficientnet_b0", pool="gem", metadata=Metadata(features=14, hidden=16, out=8)),
    *(
        member("tf_efficientnet_b0", attention=(Attention(module=module, after=(5,)),))
        for module in ("sge", "spatial", "s2_mlp_v2", "cbam")
    ),
    member("resnest14d"),
    member("legacy_seresnet18"),
    member("deit_tiny_patch16_224", 224),
]


@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.architecture)
def test_every_gap_is_explained(small: Member) -> None:
    explained(count(small))


def test_resnet18_is_counted_as_on_paper() -> None:
    # Stem, then four stages of 3x3 convolutions; side and channels trade off, so all but the first of each are alike.
    stem = 32 * 32 * 64 * 3 * 49
    same = 16 * 16 * 64 * 64 * 9
    stages = 4 * same + 3 * (same // 2 + same // 18 + 3 * same)
    counted = count(member())
    assert counted.macs == stem + stages + 512 * 2
    assert counted.parameters == 11_176_512 + 512 * 2 + 2
    # Mean and variance of each channel after a batch normalisation, and one counter for each of the twenty.
    assert counted.buffers == 2 * 4800 + 20
    assert counted.weight_bytes == 4 * (counted.parameters + 2 * 4800) + 8 * 20


def test_sizes_are_those_of_the_network_and_not_of_a_counter() -> None:
    chosen = member("tf_efficientnet_b0")
    network = assemble(chosen)
    state = network.state_dict().values()
    counted = count(chosen)
    assert counted.size == chosen.size
    assert counted.parameters + counted.buffers == sum(tensor.numel() for tensor in state)
    assert counted.weight_bytes == sum(tensor.nbytes for tensor in state)


def test_the_known_figures_of_efficientnet_b3() -> None:
    counted = count_all([zoo.card("baseline_b3").member()])[0]
    assert round(counted.macs / 1e9, 2) == 2.82
    assert round(counted.parameters / 1e6, 2) == 10.71
    gaps = {(gap.counter, gap.module): gap.macs for gap in counted.gaps}
    assert gaps["fvcore", "BatchNormAct2d"] / counted.macs == pytest.approx(0.027, abs=5e-4)
    assert -gaps["thop", "Conv2dSame"] / counted.macs == pytest.approx(0.02, abs=5e-3)


def test_attention_networks_cost_what_their_modules_add() -> None:
    names = ("baseline_b3", "sge_b3", "spatial_b3", "s2_mlp_b3", "s2_cbam_b3")
    baseline, sge, spatial, s2_mlp, s2_cbam = count_all([zoo.card(name).member() for name in names])
    for counted in (baseline, sge, spatial, s2_mlp, s2_cbam):
        explained(counted)
    assert sge.macs == baseline.macs
    assert sge.parameters == baseline.parameters + 6 * 16
    assert spatial.parameters == baseline.parameters + 6 * (2 * 49 + 1)
    assert spatial.macs == baseline.macs + 2 * 49 * (96**2 + 48**2 + 2 * 24**2 + 2 * 12**2)
    linear = 232 * (3 * 232 + 232)
    assert s2_mlp.macs == baseline.macs + 12 * 12 * linear + linear
    assert s2_cbam.macs > s2_mlp.macs


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0"])
def test_elementwise_gaps_are_as_large_as_their_reasons_say(backbone: str) -> None:
    elements: Counter[str] = Counter()
    network = assemble(member(backbone)).eval()
    for module in network.modules():
        module.register_forward_hook(lambda m, x, _: elements.update({type(m).__name__: x[0].numel()}))
    network(torch.zeros(1, 3, 64, 64))
    gaps = {(gap.counter, gap.module): gap for gap in count(member(backbone)).gaps}
    norm = "BatchNorm2d" if backbone == "resnet18" else "BatchNormAct2d"
    fvcore = gaps["fvcore", norm]
    assert fvcore.macs == 2 * elements[norm]
    assert fvcore.reason.endswith("2 per element")
    # thop knows exact types: plain batch normalisation is counted, timm's own is not.
    thop = gaps.get(("thop", norm))
    assert (thop.macs if thop else 0) == (4 * elements[norm] if backbone == "resnet18" else 0)


class Odd(nn.Module):
    """Operations that one counter or another has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.named = nn.Conv2d(3, 8, 3, padding="same")
        self.head = nn.Linear(8, 2)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.named(image).flatten(2).transpose(1, 2)[None]
        attended = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[0]
        logits: Tensor = self.head(attended.mean(1))
        return logits


def test_operators_without_a_rule_are_named() -> None:
    counted = count(member("odd", 8), lambda _: Odd())
    explained(counted)
    convolution, attention = 64 * 8 * 3 * 9, 2 * 64 * 64 * 8
    assert counted.macs == convolution + attention + 16
    gaps = {(gap.counter, gap.module): (gap.macs, gap.reason) for gap in counted.gaps}
    assert gaps["fvcore", "Conv2d"] == (
        -convolution,
        "has no rule for convolutions with named padding and skips them",
    )
    assert gaps["fvcore", "Odd"] == (
        -attention,
        "has no rule for fused attention and skips its two products",
    )
    assert gaps["thop", "Odd"][0] == -attention


def test_a_difference_without_a_reason_is_shown_as_unexplained() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU(), nn.Flatten(), nn.Linear(8 * 64, 2))
    with pytest.warns(UserWarning, match="deprecated"):  # thop's own, and nothing of ours triggers it
        counted = count(member("prelu", 8), lambda _: network)
    assert [(gap.module, gap.macs, gap.reason) for gap in counted.gaps] == [("PReLU", 8 * 64, UNEXPLAINED)]


def test_exclusive_counts_add_up_to_the_root() -> None:
    inclusive = {"": Counter(a=10, b=3), "x.y": Counter(a=7), "x.y.z": Counter(a=7), "w": Counter(b=3)}
    own = exclusive(inclusive)
    assert sum(own.values(), Counter()) == inclusive[""]
    assert own["x.y"] == Counter()


def test_counting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    count(member())
    assert capfd.readouterr() == ("", "")


def test_a_network_that_cannot_run_is_one_line(own_cache: Path) -> None:
    with pytest.raises(InputError, match=r"^vgg: a forward pass at 8x8 px fails: [^\n]+; check the size"):
        count_all([member("vgg11", 8, name="vgg")], workers=0)
    with pytest.raises(InputError, match="fails"):
        count(member(), lambda _: nn.Linear(7, 2))


def test_equal_networks_are_counted_once_and_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    twin = msgspec.structs.replace(member(), name="twin", classes=("NV", "MEL"), melanoma=1)
    other = member(size=32, name="other")
    first, second, third = count_all(
        [member(), other, twin], workers=0, progress=lambda each: done.append(each.name)
    )
    assert first is third
    assert first != second
    assert sorted(done) == ["other", "resnet18_64_0", "twin"]
    assert len(list(own_cache.iterdir())) == 2

    def fail(*_: object) -> Operations:
        raise AssertionError("counted again")

    monkeypatch.setattr("benchmarks.counters.count", fail)
    assert count_all([other, member()]) == [second, first]
    with pytest.raises(AssertionError, match="counted again"):
        count_all([member(size=96)], workers=0)


def test_other_builders_are_neither_kept_nor_mixed_up(own_cache: Path) -> None:
    def wider(chosen: Member) -> nn.Module:
        network: nn.Module = timm.create_model("resnet34", num_classes=len(chosen.classes))
        return network

    standard = count_all([member()], workers=0)[0]
    other = count_all([member()], wider)[0]
    assert other.parameters > 1.5 * standard.parameters
    assert count_all([member()], assemble)[0] == standard
    assert len(list(own_cache.iterdir())) == 1


def test_workers_count_the_same_and_an_error_in_one_shows(own_cache: Path) -> None:
    members = [member(), member("tf_efficientnet_b0"), member("resnet18", 96)]
    assert count_all(members, workers=2) == [count(each) for each in members]
    with pytest.raises(CardError, match="no backbone 'resnet81'"):
        count_all([member(size=32), member("resnet81"), member(size=48)], workers=2)
    assert len(list(own_cache.iterdir())) == 5


def test_kept_counts_are_there_without_torch(own_cache: Path) -> None:
    code = (
        "import sys, benchmarks, msgspec; from zoo.card import Member;"
        "member = msgspec.json.decode(sys.argv[1], type=Member);"
        "print(benchmarks.count_all([member])[0].parameters, 'torch' in sys.modules)"
    )
    expected = count_all([member()], workers=0)[0].parameters
    run = subprocess.run(
        [sys.executable, "-c", code, msgspec.json.encode(member())],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert run.stdout.split() == [str(expected), "False"]


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_was_counted(own_cache: Path) -> None:
    code = (
        "import sys, benchmarks, zoo;"
        "members = zoo.card('third_place').members;"
        "benchmarks.count_all(members[:1], workers=1);"
        "print('first', flush=True);"
        "benchmarks.count_all(members, workers=2)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        for _ in range(600):
            workers = psutil.Process(process.pid).children(recursive=True)
            if len(workers) == 2:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert len(workers) == 2, stderr
    assert stderr.endswith("KeyboardInterrupt\n")
    assert not any(worker.is_running() for worker in workers)
    assert len(list(own_cache.iterdir())) >= 1


@pytest.mark.slow
def test_all_networks_of_the_zoo_are_explained() -> None:
    members = everything()
    assert len(members) == 34
    for counted in count_all(members):
        explained(counted)


@pytest.mark.slow
def test_fvcore_and_torch_agree_on_convolutions_and_matrix_products_everywhere() -> None:
    # Whatever gap fvcore has, it is of operators outside the family.
    for counted in count_all(everything()):
        beyond = sum(gap.macs for gap in counted.gaps if gap.counter == "fvcore" and "counts" in gap.reason)
        assert counted.counters["fvcore"] - beyond == counted.macs


def test_the_family_of_fvcore_is_what_it_counts_of_it() -> None:
    from fvcore.nn import FlopCountAnalysis

    network = assemble(member("tf_efficientnet_b0")).eval()
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(False)
    family = sum(n for operator, n in analysis.by_operator().items() if operator in FVCORE_FAMILY)
    assert family == count(member("tf_efficientnet_b0")).macs


def test_no_more_workers_than_control_groups_leave_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "default_threads", lambda: 64)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 40))
    for left, workers in ((0, 1), (13 << 30, 3), (None, 64)):
        monkeypatch.setattr(counting, "memory_left", lambda left=left: left)
        assert counting._workers(1000) == workers
