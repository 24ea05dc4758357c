"""What pages are made of by code: the card reference, and for mkdocs the pages that no entry of the navigation names."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def on_config(config: Any) -> Any:
    """Adds pages that no entry of the navigation names."""
    named = {page for entry in config.nav for page in entry.values()}
    here = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    for page in here:
        if page not in named:
            config.nav.append({page.removesuffix(".md").replace("-", " ").capitalize(): page})
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Names what is outside of this folder instead of linking it: a site has the pages of this folder only."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2` of the repository)", markdown)


def card_reference() -> str:
    """Every table and key of a card: its type, its default and what it means, from the code."""
    from typing import get_type_hints

    import msgspec

    card = import_module("zoo.card")
    tables = ("System", "Member", "Attention", "Metadata", "Preprocess", "Views", "Blend", "MetadataFeature", "Checkpoints", "TrainingSet", "PublishedPredictions", "Expected", "Assumption", "Source")  # fmt: skip
    keys = {"System": "The card itself", "Member": "`[[members]]`", "Attention": "`members.attention`", "Metadata": "`members.metadata`", "Preprocess": "`members.preprocess`", "Views": "`[views]`", "Blend": "`[blend]`", "MetadataFeature": "`[[metadata]]`", "Checkpoints": "`[checkpoints]`", "TrainingSet": "`[[trained_on]]`", "PublishedPredictions": "`[[predictions]]`", "Expected": "`[[expected]]`", "Assumption": "`[[assumptions]]`", "Source": "`[[sources]]`"}  # fmt: skip
    parts = []
    for name in tables:
        kind = getattr(card, name)
        meanings = _attributes(kind.__doc__ or "")
        get_type_hints(kind)
        summary = (kind.__doc__ or "").partition("\n")[0]
        rows = []
        for field in msgspec.structs.fields(kind):
            required = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
            default = "required" if required else f"`{_default(field.default)}`"
            rows.append(
                f"| `{field.name}` | {default} | {meanings.get(field.name, '').replace('|', chr(92) + '|')} |"
            )
        body = "\n".join(rows)
        parts.append(f"### {keys[name]}\n\n{summary}\n\n| key | default | meaning |\n|---|---|---|\n{body}\n")
    return "\n".join(parts)


def _default(value: Any) -> str:
    import msgspec

    if value is msgspec.NODEFAULT:
        return "{}"
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    return "none" if value is None else msgspec.json.encode(value).decode()


def _attributes(docstring: str) -> dict[str, str]:
    """What the section `Attributes` of a Google-style docstring says of each."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in cleandoc(docstring).splitlines():
        text = line.strip()
        if text == "Attributes:":
            inside = True
        elif inside and line.startswith(" " * 8) and name:
            found[name] += f" {text}"
        elif inside and text and ":" in text:
            name, _, meaning = text.partition(":")
            found[name] = meaning.strip()
    return found
