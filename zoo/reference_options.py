"""What may stand after the comma of a reference, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from zoo.card import Preprocess
from zoo.errors import UsageError

OPTIONS: dict[str, str] = {
    "size": "side of the square input, in pixels",
    "classes": "how many classes, or their names joined by +, with MEL among them",
    "melanoma": "index of melanoma among the classes, from 0",
    "mean": "subtracted after division by 255: one number, or three joined by +",
    "std": "divided by after that: one number, or three joined by +",
    "interpolation": "bilinear, bicubic or area",
    "antialias": "whether the resize smooths before it shrinks: true or false",
    "resize": "side that the image is resized to before the centre is cut out",
    "keep_shape": "whether the resize keeps the image's shape: true or false",
    "outputs": "of torch and onnx: logits or probabilities",
    "kind": "of csv: probability or rank",
}
"""What may stand after a comma, and what it means."""

MOST = 10_000
"""Classes, and pixels along a side: more are a slip of the keyboard."""


def split(rest: str, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The target of a reference, and its options."""
    target, *parts = rest.split(",")
    # A comma may be part of a file's name: options are what has an equals sign at the end.
    while parts and "=" not in parts[0]:
        target += f",{parts.pop(0)}"
    options = []
    for part in parts:
        key, _, value = (text.strip() for text in part.partition("="))
        if key not in OPTIONS or not value:
            raise UsageError(
                f"{name}: no option {part!r}; options are {', '.join(OPTIONS)}, each as KEY=VALUE"
            )
        options.append((key, value))
    if len(dict(options)) < len(options):
        raise UsageError(f"{name}: an option is there twice")
    return target, tuple(options)


def classes_of(name: str, given: Mapping[str, str], default: int) -> tuple[tuple[str, ...], int]:
    """Names of the classes and the index of melanoma.

    >>> classes_of("timm:x", {"classes": "3", "melanoma": "0"}, 2)
    (('MEL', 'class_1', 'class_2'), 0)
    """
    text = given.get("classes", str(default))
    if not text.isdecimal():
        names = tuple(text.split("+"))
        if "" in names:
            raise UsageError(f"{name}: one of the classes {text} has no name")
        if "MEL" not in names or given.get("melanoma", str(names.index("MEL"))) != str(names.index("MEL")):
            raise UsageError(
                f"{name}: one of the classes {text} must be MEL, at the index that melanoma says"
            )
        return names, names.index("MEL")
    count = number(name, given, "classes", default)
    if count > 2 and "melanoma" not in given:
        raise UsageError(
            f"{name}: which of {count} classes is melanoma? Say its index from 0: {name},melanoma=6"
        )
    melanoma = number(name, given, "melanoma", count - 1, least=0)
    if melanoma >= count:
        raise UsageError(f"{name}: melanoma={melanoma} is not an index of {count} classes")
    names = ("other", "other") if count == 2 else tuple(f"class_{index}" for index in range(count))
    return (*names[:melanoma], "MEL", *names[melanoma + 1 :]), melanoma


def preprocess_of(name: str, given: Mapping[str, str], default: Preprocess, size: int) -> Preprocess:
    """The preprocessing that the options of a reference make of a default.

    Raises:
        UsageError: A value is none that the option can have.
    """
    changed: dict[str, Any] = {
        key: _three(name, key, given[key]) for key in ("mean", "std") if key in given
    } | {
        key: _truth(name, key, given[key]) for key in ("keep_shape", "antialias") if key in given
    }  # fmt: skip
    if "interpolation" in given:
        changed["interpolation"] = given["interpolation"]
    if "resize" in given:
        changed["resize"] = number(name, given, "resize", size)
        changed["crop"] = size
    try:
        return msgspec.convert({**msgspec.to_builtins(default), **changed}, Preprocess)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {error}") from error


def number(name: str, given: Mapping[str, str], key: str, default: int, *, least: int = 1) -> int:
    """An option that is a whole number.

    Raises:
        UsageError: It is none, too small or too large.
    """
    text = given.get(key, str(default))
    if not re.fullmatch(r"\d{1,5}", text) or not least <= int(text) <= MOST:
        raise UsageError(f"{name}: {key}={text} is not a whole number from {least} to {MOST}")
    return int(text)


def _three(name: str, key: str, text: str) -> tuple[float, ...]:
    parts = text.split("+")
    if not all(re.fullmatch(r"\d*\.?\d+", part) for part in parts) or len(parts) not in (1, 3):
        raise UsageError(f"{name}: {key}={text} is neither one number nor three joined by +")
    return tuple(float(part) for part in (parts * 3)[:3])


def _truth(name: str, key: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise UsageError(f"{name}: {key}={text} is neither true nor false")
    return text == "true"
