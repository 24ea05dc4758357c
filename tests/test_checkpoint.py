"""Reading trained files of every kind, and refusing what is not one."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import weights
from weights.checkpoint import read
from zoo.card import Attention, Member, Metadata
from zoo.errors import CheckpointError, UsageError
from zoo.networks import assemble

TINY = Member(name="tiny", backbone="test_efficientnet", size=32, classes=("NV", "MEL"), melanoma=1)
MEMBERS = {
    "plain": TINY,
    "metadata": Member(
        name="metadata",
        backbone="test_efficientnet",
        size=32,
        classes=("NV", "MEL"),
        melanoma=1,
        metadata=Metadata(features=14, hidden=8, out=4),
    ),
    "gem": Member(
        name="gem", backbone="test_efficientnet", size=32, classes=("NV", "MEL"), melanoma=1, pool="gem"
    ),
    "attention": Member(
        name="attention",
        backbone="test_efficientnet",
        size=32,
        classes=("NV", "MEL"),
        melanoma=1,
        attention=(
            Attention(module="sge", after=(1,)),
            Attention(module="cbam", after=(2,), options={"kernel_size": 9}),
            Attention(module="spatial", after=(4,)),
        ),
    ),
}
FITTING = [
    *((member, "ours") for member in MEMBERS),
    *((member, "enet") for member in MEMBERS),
    *((member, layout) for member in ("plain", "gem", "attention") for layout in ("attention", "gem")),
]


def network(member: str = "plain", seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return assemble(MEMBERS[member]).eval()


def official(trained: nn.Module, layout: str) -> dict[str, Tensor]:
    """The state of a network as the authors' code would name it."""
    state = trained.state_dict()
    return {key: state[ours].clone() for key, ours in weights.official_keys(trained, layout).items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return network(seed=1)


@pytest.fixture
def state(trained: nn.Module) -> dict[str, Tensor]:
    return official(trained, "enet")


def refused(path: Path, message: str, onto: nn.Module | None = None, **options: Any) -> None:
    """Loading fails with one line that names the file, and leaves the network as it was."""
    onto = onto or network()
    before = {key: value.clone() for key, value in onto.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        weights.load(onto, path, **options)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in onto.state_dict().items())


# What is read


@pytest.mark.parametrize(("member", "layout"), FITTING)
@pytest.mark.parametrize("named", [True, False], ids=["named", "told from its keys"])
def test_a_file_of_each_layout_comes_back_as_it_was(
    member: str, layout: str, named: bool, tmp_path: Path
) -> None:
    trained = network(member, seed=1)
    torch.save(official(trained, layout), tmp_path / "a.pth")
    ours = network(member)
    assert not same(ours, trained)
    assert weights.load(ours, tmp_path / "a.pth", layout if named else None) is ours
    assert same(ours, trained)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3, "auc": 0.9},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {key: nn.Parameter(value, requires_grad=False) for key, value in state.items()},
    ],
    ids=["bare", "several GPUs", "state_dict", "model", "parameters"],
)
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "fold0.PTH"])
def test_the_published_forms_of_a_state_dict_are_read(
    wrap: Callable[[dict[str, Tensor]], Any], name: str, trained: nn.Module, state: Any, tmp_path: Path
) -> None:
    torch.save(wrap(state), tmp_path / name)
    assert same(weights.load(network(), tmp_path / name), trained)


def test_files_of_old_torch_are_read(trained: nn.Module, state: Any, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert same(weights.load(network(), tmp_path / "a.pth"), trained)


def test_safetensors_are_read(trained: nn.Module, state: Any, tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    assert same(weights.load(network(), tmp_path / "a.safetensors"), trained)


def test_a_network_without_values_gets_the_files(trained: nn.Module, state: Any, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    with torch.device("meta"):
        empty = assemble(TINY).eval()
    loaded = weights.load(empty, tmp_path / "a.pth")
    assert same(loaded, trained)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_numbers_take_the_type_of_the_network(dtype: torch.dtype, state: Any, tmp_path: Path) -> None:
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    torch.save(stored, tmp_path / "a.pth")
    loaded = weights.load(network(), tmp_path / "a.pth")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(loaded.head.weight, stored["myfc.weight"].float())


def test_reading_alone_keeps_the_names_of_the_file(state: Any, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    assert list(read(str(tmp_path / "a.pth"))) == list(state)


# What is refused


class Payload:
    """Unpickled without care, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_never_run(zipped: bool, state: Any, tmp_path: Path) -> None:
    payload = {"state_dict": state, "hyperparameters": Payload(tmp_path / "executed")}
    torch.save(payload, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "a.pth", r"needs code to be read \(posix.mkdir\), which is never run")
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "executed").exists()  # the payload was live


def test_a_pickled_network_is_refused(trained: nn.Module, tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"needs code to be read \(zoo.networks.Network\).*state_dict\(\)")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(nn.Identity(), torch.zeros(1)).save(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", r"needs code to be read \(TorchScript\)")


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "a.pth", "there is no such file")


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.pth").mkdir()
    refused(tmp_path / "a.pth", "is not a file")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.h5"])
def test_an_empty_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    refused(tmp_path / name, "the file is empty; fetch it again")


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"onnx")
    refused(tmp_path / "a.onnx", "a trained file ends in .pth, .pt, .safetensors, .h5")


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch, state: Any, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(
        torch, "load", deny
    )  # an administrator may read anything, so permissions prove nothing
    refused(tmp_path / "a.pth", "may not be read; change its permissions")


@pytest.mark.parametrize(
    "held", [[1, 2], {}, {"epoch": 3}, {3: torch.zeros(1)}, {"model": 3}, torch.zeros(3)]
)
def test_a_file_without_a_state_dict(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "holds no state_dict|is not a plain tensor")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, 2).to_sparse(), torch.zeros(2, dtype=torch.complex64), torch.zeros(2, device="meta")],
    ids=["sparse", "complex", "meta"],
)
def test_tensors_that_are_no_plain_numbers(tensor: Tensor, state: Any, tmp_path: Path) -> None:
    torch.save(state | {"myfc.bias": tensor}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "myfc.bias is not a plain tensor of real numbers")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(value: float, state: Any, tmp_path: Path) -> None:
    state["enet.bn1.weight"][3] = value
    torch.save(state, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "enet.bn1.weight: 1 of 24 values are NaN or infinite as torch.float32")


def test_values_too_large_for_the_network(state: Any, tmp_path: Path) -> None:
    state["myfc.bias"] = torch.full((2,), 1e300, dtype=torch.float64)
    torch.save(state, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "myfc.bias: 2 of 2 values are NaN or infinite as torch.float32")


def test_an_unknown_layout(state: Any, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        UsageError, match="no layout is called 'onnx'; layouts: ours, attention, enet, gem, keras"
    ):
        weights.load(network(), tmp_path / "a.pth", "onnx")


# What does not fit


def test_differing_keys_are_named_with_both_shapes(state: Any, tmp_path: Path) -> None:
    del state["enet.conv_stem.weight"]
    state["myfc.weight"] = torch.zeros(9, 256)
    state["meta.0.weight"] = torch.zeros(512, 14)
    torch.save(state, tmp_path / "a.pth")
    refused(
        tmp_path / "a.pth",
        r"under layout 'enet': "
        r"enet.conv_stem.weight is absent in the file, \(24, 3, 3, 3\) in the network; "
        r"myfc.weight is \(9, 256\) in the file, \(2, 256\) in the network; "
        r"meta.0.weight is \(512, 14\) in the file, absent in the network; check the card's backbone",
    )


def test_of_many_differing_keys_the_first_are_named(state: Any, tmp_path: Path) -> None:
    few = dict(list(state.items())[5:])
    torch.save(few, tmp_path / "a.pth")
    refused(
        tmp_path / "a.pth", r"enet.conv_stem.weight is absent .* enet.bn1.bias is absent [^;]* and 2 more; "
    )


def test_integers_are_no_weights(state: Any, tmp_path: Path) -> None:
    state["myfc.bias"] = torch.zeros(2, dtype=torch.int32)
    torch.save(state, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"myfc.bias is \(2,\) of integers in the file, \(2,\) in the network")


def test_a_file_of_another_kernel_that_does_not_fit_elsewhere_changes_nothing(tmp_path: Path) -> None:
    state = official(network("attention"), "attention")
    state["blocks.4.sa.conv.weight"] = torch.zeros(1, 2, 7, 7)
    state["classifier.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "a.pth")
    onto = network("attention")
    refused(
        tmp_path / "a.pth",
        r"'attention': classifier.bias is \(3,\) in the file, \(2,\) in the network; check",
        onto,
    )
    assert onto.backbone.blocks[4].sa.conv.kernel_size == (9, 9)


def test_a_file_of_another_network(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"none of its 1 keys \(layer1.0.conv1.weight, ...\) is one of this network's")


def test_a_layout_without_a_name_for_a_key(tmp_path: Path) -> None:
    trained = network("metadata")
    torch.save(official(trained, "enet"), tmp_path / "a.pth")
    refused(
        tmp_path / "a.pth",
        "layout 'gem' has no name for meta.0.weight",
        onto=network("metadata"),
        layout="gem",
    )


# What is damaged


def stored(kind: str, folder: Path) -> Path:
    path = folder / f"a.{kind.removeprefix('old.')}"
    values = {"a.weight": torch.arange(64.0), "b.weight": torch.ones(3, 5)}
    if kind == "safetensors":
        save_file(values, path)
    elif kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for key, value in values.items():
                file[key.replace(".", "/")] = value.numpy()
    else:
        torch.save(values, path, _use_new_zipfile_serialization=kind == "pth")
    return path


@pytest.mark.parametrize("kind", ["pth", "old.pth", "safetensors", "h5"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(kind: str, part: float, tmp_path: Path) -> None:
    path = stored(kind, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match=r"fetch it again|needs code") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_does_not_matter(part: float, mask: int, tmp_path: Path) -> None:
    path = stored("pth", tmp_path)
    whole = read(path)
    damaged = bytearray(path.read_bytes())
    damaged[int(part * len(damaged))] ^= mask
    path.write_bytes(damaged)
    with contextlib.suppress(CheckpointError):
        found = read(path)
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[key], value) for key, value in whole.items())


class _Run:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("this must never be printed",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_an_older_kind_is_not_run_either(
    protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"conv.weight": _Run()}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"a\.pth: needs code to be read"):
        read(tmp_path / "a.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.h5"])
@pytest.mark.parametrize("content", [b"<html>please log in</html>", b"PK\x05\x06" * 20, b"\0" * 100])
def test_another_file_under_the_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "damaged, cut short, or not the kind of file that its name says; fetch it again")
