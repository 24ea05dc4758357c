"""Assembly of networks from cards."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.attention import CBAM, S2MLPv2
from zoo.card import Attention, Member, Metadata
from zoo.errors import CardError, UsageError
from zoo.networks import GeM, assemble

TINY = Member(
    name="tiny", backbone="test_efficientnet", size=32, classes=("NV", "MEL"), melanoma=1
)  # five stages of 16, 24, 32, 48 and 64 channels
WITH_METADATA = msgspec.structs.replace(TINY, metadata=Metadata(features=14, hidden=8, out=4))
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def changed(**values: object) -> Member:
    return msgspec.structs.replace(TINY, **values)


def distinct_members() -> list[Member]:
    """One member of the zoo for each distinct network, whatever its name and preprocessing."""
    found: dict[object, Member] = {}
    for name in zoo.systems():
        for member in zoo.card(name).members:
            found.setdefault((member.architecture, member.pool, member.metadata, len(member.classes)), member)
    return list(found.values())


@pytest.mark.parametrize("member", distinct_members(), ids=lambda member: member.name)
def test_every_network_of_the_zoo_maps_its_input_to_its_classes(member: Member) -> None:
    with torch.device("meta"):
        network = assemble(member).eval()
        metadata = torch.empty(2, member.metadata.features) if member.metadata else None
        logits = network(torch.empty(2, 3, member.size, member.size), metadata)
    assert logits.shape == (2, len(member.classes))
    assert {key.split(".")[0] for key in network.state_dict()} == {
        "backbone",
        "head",
        *(["meta"] if member.metadata else []),
    }


def test_attention_stands_after_its_stage_in_the_order_of_the_card() -> None:
    member = changed(
        attention=(
            Attention(module="s2_mlp_v2", after=(3,)),
            Attention(module="cbam", after=(1, 3), options={"kernel_size": 7}),
        )
    )
    network = assemble(member)
    kinds = [type(block) for block in network.backbone.blocks]
    stages = [type(stage) for stage in assemble(TINY).backbone.blocks]
    assert kinds == [*stages[:2], CBAM, *stages[2:4], S2MLPv2, CBAM, stages[4]]
    assert network.backbone.blocks[2].ca.se[0].in_channels == 24
    assert network.backbone.blocks[5].mlp2.in_features == 48
    assert network(IMAGES).shape == (3, 2)


def test_attention_changes_the_logits() -> None:
    member = changed(attention=(Attention(module="sge", after=(4,)),))
    plain, attentive = assemble(TINY).eval(), assemble(member).eval()
    moved = {key.replace("blocks.5.", "blocks.6."): value for key, value in plain.state_dict().items()}
    attentive.load_state_dict(moved, strict=False)
    assert not torch.allclose(plain(IMAGES), attentive(IMAGES))


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "ghostnet_050", "efficientnet_lite0"])
def test_other_backbones_with_stages_take_attention(backbone: str) -> None:
    with torch.device("meta"):
        network = assemble(changed(backbone=backbone, attention=(Attention(module="cbam", after=(0, 2, 5)),)))
        assert network.eval()(torch.empty(1, 3, 32, 32)).shape == (1, 2)


def test_the_metadata_branch_is_that_of_first_place_and_counts() -> None:
    network = assemble(WITH_METADATA).eval()
    kinds = [type(module).__name__ for module in network.meta]
    assert kinds == ["Linear", "BatchNorm1d", "SiLU", "Dropout", "Linear", "BatchNorm1d", "SiLU"]
    assert network.head.in_features == assemble(TINY).head.in_features + 4
    one, other = torch.zeros(3, 14), torch.ones(3, 14)
    assert not torch.allclose(network(IMAGES, one), network(IMAGES, other))


def test_metadata_that_is_missing_or_unread_is_named() -> None:
    with pytest.raises(UsageError, match=r"reads metadata too; pass metadata of shape \(N, 14\)"):
        assemble(WITH_METADATA)(IMAGES)
    with pytest.raises(UsageError, match="reads no metadata"):
        assemble(TINY)(IMAGES, torch.zeros(3, 14))


def test_gem_replaces_the_pooling() -> None:
    network = assemble(changed(pool="gem"))
    assert network.state_dict()["backbone.global_pool.p"].tolist() == [3.0]
    assert network(IMAGES).shape == (3, 2)
    # Of a map of a single pixel the exponent changes nothing but the rounding.
    network(torch.rand(2, 3, 96, 96)).sum().backward()
    assert network.backbone.global_pool.p.grad.abs() > 1e-4


@settings(deadline=None, max_examples=30)
@given(p=st.floats(1, 20), seed=st.integers(0, 2**31))
def test_gem_lies_between_the_average_and_the_maximum(p: float, seed: int) -> None:
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) + 1e-3
    pooled = GeM(p)(x)
    torch.testing.assert_close(pooled, x.double().pow(p).mean((2, 3)).pow(1 / p).float())
    assert (pooled >= x.mean((2, 3)) - 1e-5).all()
    assert (pooled <= x.amax((2, 3)) + 1e-5).all()


def test_gem_does_not_overflow_in_half_precision() -> None:
    x = torch.full((1, 2, 3, 3), 1000.0)
    pooled = GeM().half()(x.half())
    assert pooled.dtype == torch.float16
    torch.testing.assert_close(pooled.float(), x.mean((2, 3)), rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            changed(backbone="tf_eficientnet_b3"),
            "timm has no backbone 'tf_eficientnet_b3'; did you mean tf_efficientnet_b3",
        ),
        (changed(backbone="§"), r"timm has no backbone '§'; timm.list_models\(\) has the names"),
        (changed(backbone="hf-hub:someone/something"), "timm has no backbone 'hf-hub:someone/something'"),
        (
            changed(attention=(Attention(module="sge", after=(2, 7)),)),
            "after stage 7, but .* has stages 0 to 4",
        ),
        (
            changed(backbone="test_resnet", attention=(Attention(module="sge", after=(0,)),)),
            "test_resnet has no `blocks` to put attention between",
        ),
        (
            changed(backbone="test_vit", attention=(Attention(module="sge", after=(0,)),)),
            "blocks of test_vit hand on no feature maps",
        ),
        (
            changed(attention=(Attention(module="sge", after=(0,), options={"group": 4}),)),
            "attention 'sge': .*unexpected keyword argument 'group'",
        ),
        (
            changed(attention=(Attention(module="cbam", after=(0,), options={"kernel_size": 6}),)),
            "attention 'cbam': kernel_size = 6 must be odd",
        ),
        (changed(backbone="test_vit", pool="gem"), "test_vit has no global pooling that GeM could replace"),
    ],
)
def test_what_cannot_be_assembled_is_refused_in_one_line(member: Member, message: str) -> None:
    with pytest.raises(CardError, match=f"^tiny: .*{message}") as caught:
        assemble(member)
    assert "\n" not in str(caught.value)
