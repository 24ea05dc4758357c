"""Layouts: names of published files to ours and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import weights
import zoo
from weights.layouts import detect, layouts, rename
from zoo.errors import CheckpointError
from zoo.networks import assemble

ROOTS = {"ours": ("", "any."), "attention": ("backbone.", "head.")}
ROOTS |= {"enet": ("backbone.", "meta.", "head."), "gem": ("backbone.", "head.")}
OUR_KEYS = st.lists(
    st.lists(st.sampled_from(["conv", "bn1", "0", "weight", "bias"]), min_size=1, max_size=4).map(".".join),
    unique=True,
)


@given(layout=st.sampled_from(list(ROOTS)), tails=OUR_KEYS, data=st.data())
def test_a_prefix_layout_maps_keys_one_to_one_and_back(layout: str, tails: list[str], data: Any) -> None:
    ours = [data.draw(st.sampled_from(ROOTS[layout])) + tail for tail in tails]
    names = rename(ours, layout)
    assert list(names.values()) == ours
    assert len(names) == len(set(ours))


@given(tails=OUR_KEYS)
def test_no_layout_drops_a_key_that_it_does_not_know(tails: list[str]) -> None:
    for layout in layouts():
        if layout != "ours" and tails:
            with pytest.raises(CheckpointError, match=f"layout '{layout}' has no name for"):
                rename([f"elsewhere.{tail}" for tail in tails], layout)


def test_keys_that_would_fall_together_are_refused() -> None:
    with pytest.raises(CheckpointError, match="layout 'attention' gives two keys one name"):
        rename(["backbone.classifier.weight", "head.weight"], "attention")


@pytest.mark.parametrize("system", zoo.systems())
def test_the_layout_of_each_card_names_every_key_of_its_networks(system: str) -> None:
    card = zoo.card(system)
    assert card.checkpoints is not None
    layout = card.checkpoints.layout
    for member in {(m.architecture, m.pool, m.metadata): m for m in card.members}.values():
        with torch.device("meta"):
            unfilled = assemble(member)
        names = weights.official_keys(unfilled, layout)
        counters = {key for key in unfilled.state_dict() if key.endswith("num_batches_tracked")}
        assert set(names.values()) | counters == set(unfilled.state_dict())
        assert detect(unfilled, names) == layout


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, weights; assert not {'torch', 'timm', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="module 'weights' has no attribute 'save'"):
        weights.save  # noqa: B018
