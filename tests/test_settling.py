"""Options that the shapes in a trained file tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.torch import save_file
from torch import Tensor, nn

import weights
import zoo
from weights.checkpoint import read, shapes
from weights.files import WeightFile
from zoo.attention import MODULES
from zoo.card import Attention, Member
from zoo.errors import CardError, CheckpointError
from zoo.networks import assemble
from zoo.reading import parse

ASSUMED = Member(
    name="assumed",
    backbone="test_efficientnet",
    size=32,
    classes=("NV", "MEL"),
    melanoma=1,
    attention=(
        Attention(module="s2_mlp_v2", after=(3,)),
        Attention(module="sge", after=(1, 3), options={"groups": 8}),
        Attention(module="cbam", after=(2, 3), options={"kernel_size": 49, "reduction": 8}),
        Attention(module="spatial", after=(4,), options={"kernel_size": 7}),
    ),
)
TOLD = ("sge.groups", "cbam.kernel_size", "spatial.kernel_size")


def member(groups: int = 8, cbam: int = 49, spatial: int = 7) -> Member:
    values = {"sge": {"groups": groups}, "cbam": {"kernel_size": cbam}, "spatial": {"kernel_size": spatial}}
    return replace(
        ASSUMED,
        attention=tuple(
            replace(each, options={**each.options, **values.get(each.module, {})})
            for each in ASSUMED.attention
        ),
    )


def network(of: Member = ASSUMED, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = assemble(of).eval()
        for parameter in made.parameters():  # SGE starts at 0, which would hide it
            parameter.data += 0.01 * torch.randn_like(parameter)
        return made


def saved(trained: nn.Module, path: Path, layout: str = "attention", **changed: Tensor) -> Path:
    state = trained.state_dict()
    named = {name: state[ours].clone() for name, ours in weights.official_keys(trained, layout).items()}
    named |= {key.replace("__", "."): value for key, value in changed.items()}
    if path.suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save(named, path, _use_new_zipfile_serialization="old" not in path.stem)
    return path


# Loading


@pytest.mark.parametrize("layout", ["ours", "attention", "enet", "gem"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@torch.inference_mode()
def test_a_network_takes_the_options_of_its_file(layout: str, device: str, tmp_path: Path) -> None:
    trained = network(member(groups=4, cbam=5, spatial=9), seed=1)
    with torch.device(device):
        ours = assemble(ASSUMED).eval()
    loaded = weights.load(ours, saved(trained, tmp_path / "a.pth", layout))
    assert loaded is ours
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded(image), trained(image), rtol=0, atol=0)
    assert {key: v.shape for key, v in loaded.state_dict().items()} == {
        key: v.shape for key, v in trained.state_dict().items()
    }


def test_a_module_that_is_adapted_stays_what_it_was_otherwise(tmp_path: Path) -> None:
    path = saved(network(member(cbam=5)), tmp_path / "a.pth")
    ours = assemble(ASSUMED).double().requires_grad_(False).eval()
    modules = [type(module) for module in ours.modules()]
    weights.load(ours, path)
    gate = ours.backbone.blocks[4].sa
    assert gate.conv.weight.dtype == torch.float64
    assert not gate.conv.weight.requires_grad
    assert gate.conv.padding == (2, 2)
    assert not any(module.training for module in ours.modules())
    assert [type(module) for module in ours.modules()] == modules


def test_an_attention_module_alone_is_adapted(tmp_path: Path) -> None:
    for name, options in (
        ("sge", {"groups": 2}),
        ("cbam", {"kernel_size": 3}),
        ("spatial", {"kernel_size": 3}),
    ):
        trained = MODULES[name](16, **options)
        torch.save(trained.state_dict(), tmp_path / f"{name}.pth")
        image = torch.randn(1, 16, 8, 8)
        loaded = weights.load(MODULES[name](16), tmp_path / f"{name}.pth", "ours")
        torch.testing.assert_close(loaded(image), trained(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 6, 6), r"blocks.4.sa.conv.weight: a kernel of 6x6, but .* a square one of an odd side"),
        ((1, 2, 7, 5), r"blocks.4.sa.conv.weight: a kernel of 7x5, but"),
        ((1, 2, 0, 0), r"blocks.4.sa.conv.weight: a kernel of 0x0, but"),
        (
            (1, 3, 7, 7),
            r"blocks.4.sa.conv.weight is \(1, 3, 7, 7\) in the file, \(1, 2, 49, 49\) in the network",
        ),
        ((2, 7, 7), r"blocks.4.sa.conv.weight is \(2, 7, 7\) in the file"),
    ],
)
def test_kernels_that_no_network_has_are_refused(
    shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    path = saved(network(), tmp_path / "a.pth", blocks__4__sa__conv__weight=torch.zeros(shape))
    ours = network(seed=2)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        weights.load(ours, path)
    assert str(caught.value).startswith(str(path))
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 5, 1, 1), "backbone.blocks.2.weight: 24 channels cannot be divided into 5 groups"),
        ((1, 0, 1, 1), "cannot be divided into 0 groups"),
        ((4, 1, 1), r"blocks.2.weight is \(4, 1, 1\) in the file, \(1, 8, 1, 1\) in the network"),
    ],
)
def test_groups_that_no_network_has_are_refused(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    changed = {"blocks__2__weight": torch.zeros(shape), "blocks__2__bias": torch.zeros(shape)}
    path = saved(network(), tmp_path / "a.pth", **changed)
    with pytest.raises(CheckpointError, match=message):
        weights.load(network(), path)


# Members


@settings(max_examples=15, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4, 8]),
    cbam=st.integers(0, 24).map(lambda n: 2 * n + 1),
    spatial=st.integers(0, 10).map(lambda n: 2 * n + 1),
    layout=st.sampled_from(["ours", "attention", "enet", "gem"]),
)
def test_a_member_takes_the_options_of_its_file(groups: int, cbam: int, spatial: int, layout: str, tmp_path_factory: Any) -> None:  # fmt: skip
    wanted = member(groups, cbam, spatial)
    with torch.device("meta"):
        trained = assemble(wanted)
    trained = trained.to_empty(device="cpu")
    path = saved(trained, tmp_path_factory.mktemp("settle") / "a.safetensors", layout)
    found, told = weights.settle(ASSUMED, path)
    assert found == wanted
    assert told == TOLD


@pytest.mark.parametrize("name", ["a.pth", "old.pth", "a.safetensors", "A.PTH"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_shapes_are_those_of_the_values(name: str, prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}{key}": value for key, value in network().state_dict().items()}
    if name.endswith("safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization="old" not in name)
    assert shapes(tmp_path / name) == {key: tuple(v.shape) for key, v in read(tmp_path / name).items()}


def test_shapes_are_read_without_the_values(tmp_path: Path) -> None:
    path = saved(network(member(cbam=5)), tmp_path / "a.pth")
    content = bytearray(path.read_bytes())
    values = read(path)["blocks.0.0.conv.weight"].numpy().tobytes()
    content[content.index(values) + 2] ^= 255
    path.write_bytes(content)
    assert weights.settle(ASSUMED, path)[0] == member(cbam=5)
    with pytest.raises(CheckpointError, match="damaged"):
        weights.load(network(), path)


def test_stages_of_different_kernels_are_told_apart(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "a.pth", blocks__4__sa__conv__weight=torch.zeros(1, 2, 3, 3))
    found, told = weights.settle(ASSUMED, path)
    assert [
        (a.module, a.after, a.options.get("kernel_size")) for a in found.attention if a.module == "cbam"
    ] == [
        ("cbam", (2,), 3),
        ("cbam", (3,), 49),
    ]
    assert told == TOLD
    loaded = weights.load(assemble(found), path)
    assert loaded.backbone.blocks[4].sa.conv.kernel_size == (3, 3)


def test_a_member_that_agrees_with_its_file_stays_as_it_is(tmp_path: Path) -> None:
    backwards = replace(ASSUMED, attention=(replace(ASSUMED.attention[1], after=(3, 1)),))
    path = saved(network(backwards), tmp_path / "a.pth")
    assert weights.settle(backwards, path) == (backwards, ("sge.groups",))


def test_what_has_no_such_option_is_not_even_read(tmp_path: Path) -> None:
    plain = replace(ASSUMED, attention=(Attention(module="s2_mlp_v2", after=(3,)),))
    assert weights.settle(plain, tmp_path / "absent.pth") == (plain, ())
    with pytest.raises(CheckpointError, match="there is no such file"):
        weights.settle(ASSUMED, tmp_path / "absent.pth")


def test_a_file_of_another_network_settles_nothing(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "a.pth")
    assert weights.settle(ASSUMED, tmp_path / "a.pth") == (ASSUMED, ())


# Cards


def files(path: Path, *folds: int) -> list[WeightFile]:
    name = zoo.card("s2_cbam_b3").members[0].name
    return [WeightFile(member=name, fold=fold, path=path, stage="best") for fold in folds]


@pytest.fixture(scope="module")
def card_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files of the CBAM network by their kernel, with values of one byte: only shapes matter."""
    folder = tmp_path_factory.mktemp("cbam")
    return {side: kernel_file(folder / f"{side}.safetensors", side) for side in (7, 49)}


def kernel_file(path: Path, side: int) -> Path:
    places = (1, 3, 5, 7, 9, 12, 14)
    save_file({f"blocks.{p}.sa.conv.weight": torch.zeros(1, 2, side, side) for p in places}, path)
    return path


def test_the_places_of_modules_are_those_of_the_network() -> None:
    with torch.device("meta"):
        keys = assemble(zoo.card("s2_cbam_b3").members[0]).state_dict()
    assert [key for key in keys if key.endswith("sa.conv.weight")] == [
        f"backbone.blocks.{place}.sa.conv.weight" for place in (1, 3, 5, 7, 9, 12, 14)
    ]


@pytest.mark.parametrize("side", [7, 49])
def test_the_files_settle_the_assumption_of_the_card(side: int, card_files: dict[int, Path]) -> None:
    card = zoo.card("s2_cbam_b3")
    found = weights.settled(card, files(card_files[side], 0, 1))
    assert found.members[0].attention[1].options == {"reduction": 16, "kernel_size": side}
    said = {each.about: (each.kind, each.statement) for each in found.assumptions}
    kind, statement = said["CBAM spatial kernel"]
    assert kind == "settled"
    assert statement.startswith(f"cbam.kernel_size is {side} in the trained files (was assumed: 49x49.")
    assert {about for about, (kind, _) in said.items() if kind == "assumed"} == {
        each.about for each in card.assumptions if not each.option
    }


def test_the_tables_show_what_is_settled(card_files: dict[int, Path]) -> None:
    from reports.cards import full

    facts = dict(full(weights.settled(zoo.card("s2_cbam_b3"), files(card_files[7], 0)))[0].rows)
    assert facts["settled: CBAM spatial kernel"].startswith("cbam.kernel_size is 7 in the trained files")
    assert "assumed: CBAM spatial kernel" not in facts
    assert "assumed: CBAM spatial kernel" in dict(full(zoo.card("s2_cbam_b3"))[0].rows)


def test_folds_of_one_member_must_agree(card_files: dict[int, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"share one: cbam.kernel_size is 7 and cbam.kernel_size is 49"):
        weights.settled(zoo.card("s2_cbam_b3"), files(card_files[7], 0) + files(card_files[49], 1))


def test_a_file_that_tells_nothing_leaves_the_assumption(card_files: dict[int, Path], tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "a.safetensors")
    both = files(card_files[49], 0) + files(tmp_path / "a.safetensors", 1)
    for order in (both, both[::-1]):
        found = weights.settled(zoo.card("s2_cbam_b3"), order)
        assert {each.kind for each in found.assumptions} == {"assumed"}


def test_without_files_nothing_is_settled() -> None:
    for name in zoo.systems():
        assert weights.settled(zoo.card(name), []) == zoo.card(name)


def test_every_kernel_that_a_card_assumes_names_its_option() -> None:
    named = {a.option for name in zoo.systems() for a in zoo.card(name).assumptions if a.option}
    assert named == {"cbam.kernel_size", "spatial.kernel_size"}


def test_an_assumption_on_an_option_that_no_member_has_is_refused() -> None:
    text = (Path(zoo.__file__).parent / "cards" / "s2_cbam_b3.toml").read_text(encoding="utf-8")
    with pytest.raises(CardError, match=r"no attention of a member has the option 'cbam.kernel'"):
        parse(text.replace('option = "cbam.kernel_size"', 'option = "cbam.kernel"'))
