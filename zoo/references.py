"""Systems without a card: a model of timm, a file that holds a network, or scores made elsewhere.

    timm:convnextv2_tiny
    timm:convnextv2_tiny,size=384,classes=9,melanoma=6
    torch:exported.pt2
    onnx:model.onnx,outputs=probabilities
    csv:scores.csv,kind=probability

What stands after a comma replaces what the model or file says. Such a name works wherever a
system's name does, and is the name of the system in results.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.card import Assumption, Checkpoints, Member, Preprocess, PublishedPredictions, System
from zoo.errors import CardError, UnknownNameError, UsageError

SCHEMES: dict[str, str] = {
    "timm": "any model of timm, by its name there",
    "torch": "a network exported by torch.export, a .pt2 file",
    "onnx": "an ONNX file; needs the extra `onnx`",
    "csv": "scores that were made elsewhere: a CSV file with a row per image, and no network",
}
"""What a reference may begin with, and what it then means."""

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

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def scheme(name: str) -> str | None:
    """What a name begins with, where it is a reference.

    >>> scheme("timm:resnet18"), scheme("sge_b3")
    ('timm', None)
    """
    before, colon, after = name.partition(":")
    return before if colon and after and before in SCHEMES else None


def resolve(name: str) -> System:
    """The card that a reference stands for.

    Raises:
        UnknownNameError: timm has no such model, or there is no such file.
        UsageError: An option is not one of `OPTIONS`, or has no such value.
        CardError: The file cannot be read, or leaves open what must be said.
    """
    kind, _, rest = name.strip().partition(":")
    target, options = _split(rest, name)
    if kind == "timm":
        return _resolved(name.strip(), kind, target, options, (0, 0))
    path = Path(target)
    if not path.is_file():
        raise UnknownNameError(
            f"{name}: {target} " + ("is not a file" if path.exists() else "is not there") + "; check the path"
        )
    status = path.stat()
    return _resolved(name.strip(), kind, target, options, (status.st_mtime_ns, status.st_size))


def matching(pattern: str) -> list[str]:
    """References that a pattern such as `timm:convnext*` matches; files stand for themselves."""
    kind, _, rest = pattern.partition(":")
    if kind != "timm" or not set("*?[") & set(rest):
        return [resolve(pattern).name]
    import timm

    return [f"timm:{name}" for name in timm.list_models(rest)]


def scores_file(system: System) -> Path | None:
    """The file of a system that is `csv:`; None of any other."""
    if scheme(system.name) != "csv":
        return None
    return Path(_split(system.name.partition(":")[2], system.name)[0])


def _split(rest: str, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
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


@lru_cache(maxsize=256)
def _resolved(
    name: str, kind: str, target: str, options: tuple[tuple[str, str], ...], _state: tuple[int, int]
) -> System:
    given = dict(options)
    own = {"timm": {"outputs", "kind"}, "torch": {"kind"}, "onnx": {"kind"}, "csv": set(OPTIONS) - {"kind"}}
    if wrong := sorted(own[kind] & given.keys()):
        raise UsageError(f"{name}: {wrong[0]} says nothing of {SCHEMES[kind]}; leave it out")
    return _CARDS[kind](name, target, given)


def _timm(name: str, target: str, given: dict[str, str]) -> System:
    import timm

    if not timm.is_model(target):
        import difflib

        near = difflib.get_close_matches(target, timm.list_models(), n=3, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(f'timm:{each}' for each in near)}?"
            if near
            else "list timm:* names them"
        )
        raise UnknownNameError(f"{name}: timm has no model {target!r}; {hint}")
    config = timm.get_pretrained_cfg(target)
    _, height, width = config.input_size if config is not None else (3, 224, 224)
    size = _number(name, given, "size", height)
    classes, melanoma = _classes(name, given, 2)
    squash = config is not None and config.crop_mode == "squash"
    share = config.crop_pct if config is not None and config.crop_pct else 0.875
    assumptions = [
        Assumption(
            about="classes",
            text="timm's classes are ImageNet's, and melanoma is none of them: two are taken, the second "
            f"melanoma, unless the name says otherwise ({target},classes=9,melanoma=6).",
        )
    ]
    if height != width:
        assumptions.append(
            Assumption(
                about="size", text=f"timm's input is {height} x {width}; squares of {height} are taken."
            )
        )
    if {"classes"} <= given.keys():
        assumptions = assumptions[1:]
    member = Member(
        name=target,
        backbone=target,
        network="timm",
        size=size,
        classes=classes,
        melanoma=melanoma,
        preprocess=_preprocess(
            name,
            given,
            Preprocess(
                resize=None if squash else int(size / share),
                keep_shape=not squash,
                crop=None if squash else size,
                interpolation=config.interpolation if config is not None and config.interpolation in ("bilinear", "bicubic") else "bicubic",
                antialias=True,
                mean=config.mean if config is not None else _IMAGENET[0],
                std=config.std if config is not None else _IMAGENET[1],
            ),
            size,
        ),
    )  # fmt: skip
    return System(
        schema=1,
        name=name,
        title=name,
        group="own",
        summary=f"{target} of timm, with timm's size, normalisation, interpolation and crop.",
        folds=1,
        members=(member,),
        checkpoints=Checkpoints(layout="ours", pattern="{member}.pth"),
        assumptions=tuple(assumptions),
    )


def _file(name: str, target: str, given: dict[str, str]) -> System:
    kind = name.partition(":")[0]
    if kind == "torch":
        from zoo.exported import exported_form as form
    else:
        from zoo.onnx_file import onnx_form as form
    found = form(Path(target))
    if found.inputs != 1:
        raise CardError(f"{name}: reads metadata too; write a card for it that says what they are")
    if found.size is None and "size" not in given:
        raise CardError(f"{name}: takes images of any size; say which: {name},size=384")
    size = _number(name, given, "size", found.size or 0)
    if found.size not in (None, size):
        raise UsageError(f"{name}: takes images of {found.size} px and no others")
    if found.outputs is None and "classes" not in given:
        raise CardError(f"{name}: leaves open how many classes it has; say it: {name},classes=9,melanoma=6")
    classes, melanoma = _classes(name, given, found.outputs or 0)
    if found.outputs not in (None, len(classes)):
        raise UsageError(f"{name}: has {found.outputs} outputs, not {len(classes)} classes")
    member = Member(
        name=Path(target).stem,
        network="torch" if kind == "torch" else "onnx",
        file=target,
        options={"outputs": given["outputs"]} if "outputs" in given else {},
        size=size,
        classes=classes,
        melanoma=melanoma,
        preprocess=_preprocess(name, given, Preprocess(), size),
    )
    assumed = []
    if not {"mean", "std"} <= given.keys():
        assumed.append(
            Assumption(about="normalisation", text="The file does not say it: ImageNet's is taken, unless the name says otherwise.")
        )  # fmt: skip
    if not {"resize", "interpolation", "keep_shape", "antialias"} & given.keys():
        assumed.append(
            Assumption(about="resize", text="The file does not say it: bilinear to a square without antialiasing.")
        )  # fmt: skip
    return System(
        schema=1,
        name=name,
        title=f"{kind}:{Path(target).name}",
        group="own",
        summary=f"The network of the file {Path(target).name}, weights and all.",
        folds=1,
        members=(member,),
        assumptions=tuple(assumed),
    )


def _csv(name: str, target: str, given: dict[str, str]) -> System:
    if Path(target).suffix.lower() != ".csv":
        raise UsageError(f"{name}: scores made elsewhere are a CSV file, with image_name and target")
    kind = given.get("kind", "rank")
    if kind not in ("probability", "rank"):
        raise UsageError(f"{name}: kind is {kind!r}; it is probability or rank")
    note = (
        ""
        if "kind" in given
        else "Nothing says whether the scores are probabilities: they are taken as ranks."
    )
    return System(
        schema=1,
        name=name,
        title=f"csv:{Path(target).name}",
        group="own",
        summary="Scores that were made elsewhere; there is no network.",
        folds=1,
        members=(),
        predictions=(
            PublishedPredictions(
                file=Path(target).name, kind="probability" if kind == "probability" else "rank", note=note
            ),
        ),
        limits=("Nothing is known of its network: it is scored, and neither counted nor timed.",),
    )


_CARDS: dict[str, Callable[[str, str, dict[str, str]], System]] = {
    "timm": _timm, "torch": _file, "onnx": _file, "csv": _csv,
}  # fmt: skip


def _classes(name: str, given: dict[str, str], count: int) -> tuple[tuple[str, ...], int]:
    """Names of the classes and the index of melanoma.

    >>> _classes("timm:x", {"classes": "3", "melanoma": "0"}, 2)
    (('MEL', 'class_1', 'class_2'), 0)
    """
    text = given.get("classes", str(count))
    if not text.isdecimal():
        names = tuple(text.split("+"))
        if "MEL" not in names or given.get("melanoma", str(names.index("MEL"))) != str(names.index("MEL")):
            raise UsageError(
                f"{name}: one of the classes {text} must be MEL, at the index that melanoma says"
            )
        return names, names.index("MEL")
    number = int(text)
    if not 1 <= number <= 10_000:
        raise UsageError(f"{name}: {number} classes; there are 1 to 10000")
    if number > 2 and "melanoma" not in given:
        raise UsageError(
            f"{name}: which of {number} classes is melanoma? Say its index from 0: {name},melanoma=6"
        )
    melanoma = _number(name, given, "melanoma", number - 1, least=0)
    if melanoma >= number:
        raise UsageError(f"{name}: melanoma={melanoma} is not an index of {number} classes")
    names = ("other", "other") if number == 2 else tuple(f"class_{index}" for index in range(number))
    return (*names[:melanoma], "MEL", *names[melanoma + 1 :]), melanoma


def _preprocess(name: str, given: dict[str, str], default: Preprocess, size: int) -> Preprocess:
    import msgspec

    changed: dict[str, Any] = {
        key: _three(name, key, given[key]) for key in ("mean", "std") if key in given
    } | {
        key: _truth(name, key, given[key]) for key in ("keep_shape", "antialias") if key in given
    }  # fmt: skip
    if "interpolation" in given:
        changed["interpolation"] = given["interpolation"]
    if "resize" in given:
        changed["resize"] = _number(name, given, "resize", size)
        changed["crop"] = size
    try:
        return msgspec.convert({**msgspec.to_builtins(default), **changed}, Preprocess)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {error}") from error


def _number(name: str, given: dict[str, str], key: str, default: int, *, least: int = 1) -> int:
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name}: {key}={text} is not a whole number from {least}")
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
