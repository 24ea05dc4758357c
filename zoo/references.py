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

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from zoo.card import Assumption, Checkpoints, Member, Preprocess, PublishedPredictions, System
from zoo.errors import CardError, MelanomaZooError, UnknownFileError, UnknownNameError, UsageError
from zoo.reference_options import OPTIONS, classes_of, number, preprocess_of, split

SCHEMES: dict[str, str] = {
    "timm": "any model of timm, by its name there",
    "torch": "a network exported by torch.export, a .pt2 file",
    "onnx": "an ONNX file; needs the extra `onnx`",
    "csv": "scores that were made elsewhere: a CSV file with a row per image, and no network",
}
"""What a reference may begin with, and what it then means."""

_ENDINGS = {".csv": "csv", ".onnx": "onnx", ".pt2": "torch"}

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def scheme(name: str) -> str | None:
    """What a name begins with, where it is a reference.

    >>> scheme("timm:resnet18"), scheme("sge_b3")
    ('timm', None)
    """
    before, colon, after = name.partition(":")
    return before if colon and after and before in SCHEMES else None


def of_file(name: str) -> str | None:
    """What a file is called as a system, by its ending; None for what is no such file.

    >>> of_file("scores.csv"), of_file("sge_b3")
    ('csv:scores.csv', None)
    """
    scheme = _ENDINGS.get(Path(name).suffix.lower())
    return f"{scheme}:{name}" if scheme else None


def resolve(name: str) -> System:
    """The card that a reference stands for.

    Raises:
        UnknownNameError: timm has no such model.
        UnknownFileError: There is no such file.
        UsageError: An option is not one of `OPTIONS`, or has no such value.
        CardError: The file cannot be read, or leaves open what must be said.
    """
    kind, _, rest = name.strip().partition(":")
    target, options = split(rest, name)
    if kind == "timm":
        return _resolved(name.strip(), kind, target, options, (0, 0))
    path = Path(target)
    if not path.is_file():
        raise UnknownFileError(
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
    return Path(split(system.name.partition(":")[2], system.name)[0])


@lru_cache(maxsize=256)
def _resolved(
    name: str, kind: str, target: str, options: tuple[tuple[str, str], ...], _state: tuple[int, int]
) -> System:
    given = dict(options)
    own = {"timm": {"outputs", "kind"}, "torch": {"kind"}, "onnx": {"kind"}, "csv": set(OPTIONS) - {"kind"}}
    if wrong := sorted(own[kind] & given.keys()):
        raise UsageError(f"{name}: {wrong[0]} says nothing of {SCHEMES[kind]}; leave it out")
    try:
        return _CARDS[kind](name, target, given)
    except MelanomaZooError:
        raise
    except ValueError as error:  # What a card of these options may not say.
        raise UsageError(f"{name}: {error}") from error


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
    size = number(name, given, "size", height)
    classes, melanoma = classes_of(name, given, 2)
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
    if "classes" in given:
        assumptions = assumptions[1:]
    if share > 1 and not squash and "resize" not in given:
        assumptions.append(
            Assumption(
                about="resize",
                text=f"timm resizes to {int(size / share)} and fills up with black; images of {size} are taken whole.",
            )
        )
    member = Member(
        name=target,
        backbone=target,
        network="timm",
        size=size,
        classes=classes,
        melanoma=melanoma,
        preprocess=preprocess_of(
            name,
            given,
            Preprocess(
                resize=None if squash else max(size, int(size / share)),
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
    size = number(name, given, "size", found.size or 0)
    if found.size not in (None, size):
        raise UsageError(f"{name}: takes images of {found.size} px and no others")
    if found.outputs is None and "classes" not in given:
        raise CardError(f"{name}: leaves open how many classes it has; say it: {name},classes=9,melanoma=6")
    classes, melanoma = classes_of(name, given, found.outputs or 0)
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
        preprocess=preprocess_of(name, given, Preprocess(), size),
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
