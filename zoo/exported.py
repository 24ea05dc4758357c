"""Networks exported by `torch.export`: `.pt2` files, read without running code that they carry.

`torch.export.load` unpickles, evaluates expressions, looks functions up by name and opens compiled
libraries. What a file of a plain network holds needs none of the dangerous part of that; a file that
does is refused.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import CardError
from zoo.whole import Form, Whole, form, trusted

_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""The variable by which torch.load reads plain tensors and nothing else, whatever its caller says."""

_TARGET = re.compile(r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)")  # fmt: skip
_EXPRESSION = re.compile(r"[\w\s'(),=+\-*/<>]*(\d\.\d[\w\s'(),=+\-*/<>]*)*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_WORDS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "Mod",
        "PythonMod",
        "ModularIndexing",
        "Max",
        "Min",
        "Add",
        "Mul",
        "Pow",
        "PowByNatural",
        "IntTrueDiv",
        "FloatTrueDiv",
        "TruncToInt",
        "CeilToInt",
        "FloorToInt",
        "RoundToInt",
        "ToFloat",
        "Identity",
        "True",
        "False",
        "positive",
        "integer",
        "nonnegative",
        "negative",
        "nonpositive",
        "real",
    ]
)
_OBJECTS = ("custom_obj_", "opaque_obj_")
_PARTS = re.compile(
    r"[^/]+/(models/[^/]+\.json|data/(weights|constants|sample_inputs)/[^/]+|archive_format|archive_version"
    r"|byteorder|version|\.data/[^/]+)|serialized_\w+\.(json|pt)|version"
)
"""What a file of a plain network is made of, today (in a folder of any name) and by torch 2.6 and 2.7."""
_NOTES = re.compile(r"[^/]+/extra/.+|extra_files/.+")
"""What its author put beside the network, which nothing reads."""


class Exported(Whole):
    """The network of a `.pt2` file.

    Args:
        path: The file.
        probabilities: Whether it returns probabilities.

    Raises:
        CardError: The file cannot be read, or needs code to be read.
    """

    def __init__(self, path: Path, *, probabilities: bool = False) -> None:
        program = trusted(lambda: _load(path), str(path))
        super().__init__(_form(program, path), probabilities=probabilities, where=str(path))
        # The guards of a program are code in the file; what they would say is checked by `form`.
        guarded = "check_guards" in inspect.signature(program.module).parameters
        self.program = program.module(check_guards=False) if guarded else program.module()
        for parameter in self.program.parameters():
            parameter.requires_grad_(requires_grad=False)

    def once(self, *inputs: Tensor) -> Tensor:
        """What the program returns."""
        found: Tensor | tuple[Tensor, ...] = self.program(*inputs)
        return found[0] if isinstance(found, tuple | list) else found


def exported_form(path: Path) -> Form:
    """What a `.pt2` file says of its network.

    Raises:
        CardError: The file cannot be read, needs code to be read, or holds no classifier of images.
    """
    return _form(trusted(lambda: _load(path), str(path)), path)


def _form(program: Any, path: Path) -> Form:
    def read() -> Form:
        shapes = {
            node.name: node.meta["val"].shape
            for node in program.graph.nodes
            if isinstance(node.meta.get("val"), Tensor)
        }
        signature = program.graph_signature
        inputs = [shapes[name] for name in signature.user_inputs]
        outputs = [shapes[name] for name in signature.user_outputs]
        if len(outputs) != 1 or len(inputs) not in (1, 2):
            raise CardError(
                f"{path}: takes {len(inputs)} tensors and returns {len(outputs)}; a classifier takes images "
                "(and perhaps metadata) and returns one tensor of logits"
            )
        return form(list(inputs[0]), list(outputs[0]), len(inputs), str(path))

    return trusted(read, str(path))  # type: ignore[no-any-return]


def _load(path: Path) -> Any:
    with _plain_tensors(), warnings.catch_warnings(action="ignore"):
        return torch.export.load(_checked(path))


def _checked(path: Path) -> io.BytesIO:
    """A copy of the archive, made of nothing but what was checked.

    Readers of archives differ in what they make of a name that is there twice, or in other letters.
    """
    copied = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copied, "w") as copy:
        for part in archive.infolist():
            if _NOTES.fullmatch(part.filename):
                continue
            content = archive.read(part)  # Compares the checksum too.
            _check(part.filename, content, path)
            copy.writestr(part.filename, content)
        if not copy.namelist():
            raise CardError(f"{path}: holds no network; write it with torch.export.save")
    copied.seek(0)
    return copied


def _check(name: str, content: bytes, path: Path) -> None:
    last = name.rpartition("/")[2]
    if not _PARTS.fullmatch(name) or last.startswith(_OBJECTS):
        raise CardError(f"{path}: needs code to be read ({name}), which is never run; export a plain network")
    if not last.endswith(".json"):
        return
    for kind, value in _walk(json.loads(content)):
        fine = _TARGET.fullmatch(value) if kind == "target" else _harmless(value)
        if not fine:
            raise CardError(
                f"{path}: needs code to be read ({value[:60]!r}), which is never run; "
                "export a network of torch's own operators"
            )


def _harmless(expression: str) -> bool:
    words = _WORD.findall(expression)
    return bool(_EXPRESSION.fullmatch(expression)) and all(
        word in _WORDS or re.fullmatch(r"[suz]+\d+", word) for word in words
    )


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    """All functions and expressions that a program names."""
    if isinstance(value, dict):
        if {"target", "inputs", "outputs"} <= value.keys():
            yield "target", str(value["target"])
        if "expr_str" in value:
            yield "expression", str(value["expr_str"])
        for each in value.values():
            yield from _walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from _walk(each)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before
