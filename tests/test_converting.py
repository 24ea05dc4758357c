"""Copies of trained files as safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

import weights
import zoo
from weights import copies
from weights.files import WeightFile
from zoo.card import System
from zoo.errors import CheckpointError, MachineError, UsageError
from zoo.files import sha256
from zoo.reading import parse

CARD = """\
schema = 1
name = "tiny_networks"
title = "Tiny networks"
group = "own"
summary = "Small enough to be trained files in a test."
folds = 2

[defaults]
classes = ["NV", "MEL"]
melanoma = 1
backbone = "test_efficientnet"
size = 32

[[members]]
name = "plain"

[[members]]
name = "attentive_0.9"
attention = [{ module = "cbam", after = [2], options = { kernel_size = 49 } }]

[[members]]
name = "metadata"
metadata = { features = 3, hidden = 8, out = 4 }

[[metadata]]
name = "age"
definition = "in years"
width = 3

[checkpoints]
layout = "enet"
pattern = "{member}/{stage}_fold{fold}.PTH"
stages = ["best", "final"]
"""


@pytest.fixture(scope="module", autouse=True)
def system() -> Iterator[System]:
    """A system of three small networks."""
    yield zoo.register(parse(CARD))
    zoo.unregister("tiny_networks")


def filled(system: System, member: str, seed: int) -> nn.Module:
    network = zoo.build(system.name, member, seed=seed)
    if member.startswith("attentive"):
        network.backbone.blocks[3].sa.conv = nn.Conv2d(2, 1, 5, padding=2)
    return network


def official(network: nn.Module, layout: str = "enet") -> dict[str, Tensor]:
    state = network.state_dict()
    return {key: state[ours].clone() for key, ours in weights.official_keys(network, layout).items()}


def put(system: System, folder: Path, member: str = "plain", fold: int = 0, layout: str = "enet", **how: Any) -> WeightFile:  # fmt: skip
    path = folder / member / f"best_fold{fold}.PTH"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(official(filled(system, member, seed=fold), layout), path, **how)
    return WeightFile(member=member, fold=fold, stage="best", path=path)


def same(one: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return one.state_dict().keys() == state.keys() and all(
        torch.equal(value, state[key]) for key, value in one.state_dict().items()
    )


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    member=st.sampled_from(["plain", "attentive_0.9", "metadata"]),
    layout=st.sampled_from(["enet", "ours"]),
    zipped=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.float64]),
)
def test_loading_a_copy_is_loading_the_original(system: System, member: str, layout: str, zipped: bool, dtype: torch.dtype, tmp_path_factory: Any) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("convert")
    file = put(system, folder, member, layout=layout)
    state = torch.load(file.path, weights_only=True)
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    torch.save(
        {f"module.{key}": value for key, value in state.items()},
        file.path,
        _use_new_zipfile_serialization=zipped,
    )
    copy = weights.convert(system, file, folder / "out")
    from_copy = weights.load(zoo.build(system.name, member), copy)
    assert same(from_copy, weights.load(zoo.build(system.name, member), file.path))
    assert same(from_copy, weights.load(zoo.build(system.name, member), copy, "ours"))


def test_a_copy_says_what_it_was_made_from(system: System, tmp_path: Path) -> None:
    file = put(system, tmp_path, "attentive_0.9", fold=1)
    copy = weights.convert(system, file, tmp_path / "out")
    assert copy == tmp_path / "out" / "attentive_0.9" / "best_fold1.safetensors"
    with safe_open(copy, framework="pt") as opened:
        assert opened.metadata() == {
            "card": "tiny_networks", "member": "attentive_0.9", "fold": "1", "stage": "best", "layout": "ours",
            "source": "best_fold1.PTH", "source_sha256": sha256(file.path), "source_layout": "enet",
            "tool": f"melanoma-zoo {zoo.__version__}",
        }  # fmt: skip
        assert set(opened.keys()) == set(filled(system, "attentive_0.9", 0).state_dict())
    assert copies.origin(copy).fold == 1


def test_the_same_file_gives_the_same_bytes(system: System, tmp_path: Path) -> None:
    file = put(system, tmp_path)
    made = {sha256(weights.convert(system, file, tmp_path / str(number))) for number in range(5)}
    assert len(made) == 1


def test_values_begin_at_a_multiple_of_eight_bytes(system: System, tmp_path: Path) -> None:
    content = weights.convert(system, put(system, tmp_path), tmp_path / "out").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert list(json.loads(content[8 : 8 + length])["__metadata__"]) == sorted(
        copies.Origin.__struct_fields__
    )


def test_copies_alone_are_found_and_loaded(system: System, tmp_path: Path) -> None:
    for member in ("plain", "attentive_0.9", "metadata"):
        for fold in (0, 1):
            weights.convert(system, put(system, tmp_path / "in", member, fold), tmp_path / "out")
    found = weights.find(system, tmp_path / "out")
    assert [file.path.suffix for file in found] == [".safetensors"] * 6
    assert found[0].stage == "best"
    for file in found:
        trained = filled(system, file.member, seed=file.fold)
        loaded = weights.load(zoo.build(system.name, file.member), file.path)
        assert same(loaded, weights.load(filled(system, file.member, 9), file.path))
        if not file.member.startswith("attentive"):
            assert same(loaded, trained)
    assert weights.settled(system, found).members[1].attention[0].options == {"kernel_size": 5}


def test_copies_of_copies_are_copies(system: System, tmp_path: Path) -> None:
    file = put(system, tmp_path)
    once = weights.convert(system, file, tmp_path / "once")
    again = weights.convert(
        system, WeightFile(member="plain", fold=0, stage="best", path=once), tmp_path / "again"
    )
    assert same(weights.load(zoo.build(system.name), again), weights.load(zoo.build(system.name), file.path))
    assert copies.origin(again).source_sha256 == sha256(once)


def test_a_copy_of_a_keras_file_is_its_network(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    text = CARD.replace("tiny_networks", "tiny_keras").replace("Tiny networks", "Tiny Keras")
    text = (
        text.replace("test_efficientnet", "tf_efficientnet_b0")
        .replace('"enet"', '"keras"')
        .replace(".PTH", ".h5")
    )
    system = zoo.register(parse(text))
    try:
        trained = zoo.build(system.name, "plain", seed=3)
        path = tmp_path / "plain" / "final_fold0.h5"
        path.parent.mkdir()
        with h5py.File(path, "w") as file:
            for name, ours in weights.official_keys(trained, "keras").items():
                value = trained.state_dict()[ours]
                order = {2: (1, 0), 4: (2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0)}
                file[f"model_weights/any/{name}"] = value.permute(order.get(value.ndim, (0,))).numpy()
        (found,) = weights.find(system, tmp_path, members=["plain"], folds=[0])
        copy = weights.convert(system, found, tmp_path / "out")
        assert copy == tmp_path / "out" / "plain" / "final_fold0.safetensors"
        assert same(weights.load(zoo.build(system.name, "plain"), copy), trained)
        assert copies.origin(copy).source_layout == "keras"
    finally:
        zoo.unregister("tiny_keras")


# Writing


def test_a_copy_that_is_there_is_left_alone(system: System, tmp_path: Path) -> None:
    file = put(system, tmp_path)
    copy = weights.convert(system, file, tmp_path / "out")
    before = copy.stat()
    assert weights.convert(system, file, tmp_path / "out") == copy
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_copy_of_another_version_of_the_tool_is_the_same(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(system, tmp_path)
    copy = weights.convert(system, file, tmp_path / "out")
    content = copy.read_bytes().replace(b"melanoma-zoo ", b"melanoma-zoO ")
    copy.write_bytes(content)
    weights.convert(system, file, tmp_path / "out")
    assert copy.read_bytes() == content


@pytest.mark.parametrize("kind", ["text", "another fold", "damaged"])
def test_another_file_is_replaced_with_force_alone(kind: str, system: System, tmp_path: Path) -> None:
    file = put(system, tmp_path)
    copy = weights.convert(system, file, tmp_path / "out")
    whole = copy.read_bytes()
    if kind == "text":
        copy.write_text("mine", encoding="utf-8")
    elif kind == "damaged":
        copy.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        copy.write_bytes(
            weights.convert(system, put(system, tmp_path, fold=1), tmp_path / "other").read_bytes()
        )
    kept = copy.read_bytes()
    with pytest.raises(
        UsageError, match="there is another file of that name; choose another folder, or use --force"
    ):
        weights.convert(system, file, tmp_path / "out")
    assert copy.read_bytes() == kept
    weights.convert(system, file, tmp_path / "out", force=True)
    assert copy.read_bytes() == whole


def test_a_file_is_never_replaced_by_its_own_copy(system: System, tmp_path: Path) -> None:
    copy = weights.convert(system, put(system, tmp_path), tmp_path / "out")
    file = WeightFile(member="plain", fold=0, stage="best", path=copy)
    with pytest.raises(UsageError, match="would replace the file that it is made from"):
        weights.convert(system, file, tmp_path / "out", force=True)


def test_a_file_that_changes_meanwhile_leaves_no_copy(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(system, tmp_path)

    def write_and_disturb(*args: Any) -> None:
        original(*args)
        file.path.write_bytes(b"other")

    original = copies.write
    monkeypatch.setattr(copies, "write", write_and_disturb)
    with pytest.raises(CheckpointError, match="the file changed while it was read"):
        weights.convert(system, file, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.*")) == []


def test_a_write_that_fails_leaves_nothing(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "write", full)
    with pytest.raises(MachineError, match="cannot be written: No space left on device"):
        weights.convert(system, put(system, tmp_path), tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.*")) == []


def test_a_file_of_another_network_is_refused(system: System, tmp_path: Path) -> None:
    file = put(system, tmp_path, "metadata")
    wrong = WeightFile(member="plain", fold=0, stage="best", path=file.path)
    with pytest.raises(CheckpointError, match="does not fit this network under layout 'enet'"):
        weights.convert(system, wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Copies that were tampered with


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path: Path, text: bytes, values: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda head, key: head[key].update(shape=[10**9, 10**9]),
        lambda head, key: head[key].update(data_offsets=[0, 2**62]),
        lambda head, key: head[key].update(data_offsets=[8, 4]),
        lambda head, key: head[key].update(dtype="F99"),
        lambda head, key: head.update({"more": dict(head[key])}),
        lambda head, key: head.pop(key),
        lambda head, key: head.update(__metadata__={"card": {"nested": 1}}),
    ],
)
def test_a_header_that_lies_is_refused(tamper: Any, system: System, tmp_path: Path) -> None:
    copy = weights.convert(system, put(system, tmp_path), tmp_path / "out")
    head, values = header(copy)
    tamper(head, "head.weight")
    with_header(copy, json.dumps(head).encode(), values)
    with pytest.raises(CheckpointError, match="damaged, cut short, or not the kind of file"):
        weights.load(zoo.build(system.name), copy)
    assert copies.origin(copy) is None


@pytest.mark.parametrize("length", [2**63, 2**40, 101 * 2**20])
def test_a_huge_header_is_refused(length: int, system: System, tmp_path: Path) -> None:
    copy = weights.convert(system, put(system, tmp_path), tmp_path / "out")
    content = copy.read_bytes()
    copy.write_bytes(struct.pack("<Q", length) + content[8:])
    with pytest.raises(CheckpointError, match="damaged"):
        weights.load(zoo.build(system.name), copy)
    with pytest.raises(CheckpointError, match="damaged"):
        weights.checkpoint.shapes(copy)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_copy_cut_short_anywhere_is_refused(part: float, system: System, tmp_path: Path) -> None:
    copy = weights.convert(system, put(system, tmp_path), tmp_path / "out", force=True)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match="fetch it again"):
        weights.load(zoo.build(system.name), copy)
    assert copies.origin(copy) is None
