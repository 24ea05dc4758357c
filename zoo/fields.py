"""What the tables of a card have in common: they refuse unknown keys, and say what a value may be."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
SystemName = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]*|(timm|torch|onnx|csv):\S.*)$")]
Network = Annotated[
    str, Meta(pattern=r"^(assembled|timm|torch|onnx|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)$")
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML table that refuses keys it does not know."""
