"""Networks of ONNX files, run by onnxruntime."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import CardError, MachineError
from zoo.sessions import of_memory
from zoo.whole import Form, Whole, form, trusted


class OnnxNetwork(Whole):
    """The network of an ONNX file; it runs on the CPU, or on CUDA where onnxruntime can.

    Args:
        path: The file.
        probabilities: Whether it returns probabilities.

    Raises:
        CardError: The file cannot be read, or holds no classifier of images.
        MachineError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, *, probabilities: bool = False) -> None:
        self_session = session(path)
        super().__init__(_form(self_session, path), probabilities=probabilities, where=str(path))
        self.session = self_session
        self.names = [each.name for each in self_session.get_inputs()]

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        # A session cannot be copied, and nothing in it changes.
        return self

    def once(self, *inputs: Tensor) -> Tensor:
        """What the session returns.

        Raises:
            CardError: It fails, as where the file takes images of one size alone and does not say so.
            MemoryError: Memory does not suffice.
        """
        given = {name: each.detach().cpu().numpy() for name, each in zip(self.names, inputs, strict=True)}
        try:
            (found,) = self.session.run(None, given)
        except Exception as error:  # The library's own have no common base.
            if of_memory(error):
                raise MemoryError(str(error)) from error
            raise CardError(
                f"{self.where}: cannot be run on images of {inputs[0].shape[-1]} px "
                f"({' '.join(str(error).split())[:200]}); say the size that it takes, or export it again"
            ) from error
        return torch.from_numpy(found).to(inputs[0].device)


def session(path: Path) -> Any:
    """An onnxruntime session for a file.

    Raises:
        CardError: The file cannot be read.
        MachineError: onnxruntime is not installed.
    """
    runtime = required("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in runtime.get_available_providers()]  # fmt: skip
    return trusted(lambda: runtime.InferenceSession(str(path), options, providers=providers), str(path))


def required(module: str) -> Any:
    """A module of the extra `onnx`.

    Raises:
        MachineError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MachineError(f"ONNX files need {module}: pip install 'melanoma-zoo[onnx]'") from error


def onnx_form(path: Path) -> Form:
    """What an ONNX file says of its network.

    Raises:
        CardError: The file cannot be read, or holds no classifier of images.
        MachineError: onnxruntime is not installed.
    """
    return _form(session(path), path)


def _form(opened: Any, path: Path) -> Form:
    inputs, outputs = opened.get_inputs(), opened.get_outputs()
    if len(outputs) != 1 or len(inputs) not in (1, 2):
        raise CardError(
            f"{path}: takes {len(inputs)} tensors and returns {len(outputs)}; a classifier takes images "
            "(and perhaps metadata) and returns one tensor of logits"
        )
    if wrong := [each for each in (*inputs, *outputs) if each.type != "tensor(float)"]:
        raise CardError(f"{path}: {wrong[0].name} is {wrong[0].type}, not tensor(float); export it in fp32")
    return form(list(inputs[0].shape), list(outputs[0].shape), len(inputs), str(path))
