"""Networks in ONNX form as torch modules: one thin wrapper for each library that runs them.

A module takes and returns CPU tensors, as the network that it stands for does. Where memory does not
suffice, that is raised as `MemoryError`; whatever else a library stumbles over, as `MachineError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import MachineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate", "out of memory", "allocate memory")


class OnnxRuntime(nn.Module):
    """A model run by ONNX Runtime on the CPU, in single precision.

    Args:
        model: The serialised model; inputs and its one output have the batch as first dimension.
        threads: Of one call. Calls may come from several threads at once.

    Raises:
        MachineError: ONNX Runtime is not installed.
        ValueError: The bytes are no model that it can run.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise MachineError(missing("onnxruntime", "onnx")) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(f"ONNX Runtime cannot run the model: {_one_line(error)}") from error
        self._names = [each.name for each in self._session.get_inputs()]

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the model returns for a batch."""
        with _errors("ONNX Runtime"):
            (output,) = self._session.run(None, dict(zip(self._names, _arrays(inputs), strict=True)))
        return torch.from_numpy(output)


class OpenVino(nn.Module):
    """A model compiled by OpenVINO for the CPU.

    Args:
        model: As of `OnnxRuntime`.
        threads: As of `OnnxRuntime`.
        precision: `f32`, `bf16` or `f16`. Without being told, OpenVINO takes a low one where the CPU has it.
        streams: Calls that run at once; more of them wait.

    Raises:
        MachineError: OpenVINO is not installed.
        ValueError: The bytes are no model that it can compile.
    """

    def __init__(self, model: bytes, threads: int, precision: str = "f32", streams: int = 1) -> None:
        super().__init__()
        try:
            import openvino
        except ImportError as error:
            raise MachineError(missing("openvino", "openvino")) from error
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(model=model, weights=b""), "CPU", settings)
        except Exception as error:
            raise ValueError(f"OpenVINO cannot run the model: {_one_line(error)}") from error
        self._compiled = compiled
        self._requests = local()
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the model returns for a batch."""
        with _errors("OpenVINO"):
            if not hasattr(self._requests, "own"):
                self._requests.own = self._compiled.create_infer_request()
            found = self._requests.own.infer(list(_arrays(inputs)), share_inputs=True)
        # The request writes its next output to the same place.
        return torch.from_numpy(found[0].copy())


def missing(package: str, extra: str) -> str:
    """What to do where a package of an extra is not installed."""
    return f"engine {package}: {package} is not installed; pip install 'melanoma-zoo[{extra}]'"


def _arrays(inputs: tuple[Tensor, ...]) -> Iterator[NDArray[Any]]:
    """The inputs as both libraries take them: row-major arrays, which share memory where they are so."""
    return (each.detach().contiguous().numpy() for each in inputs)


@contextmanager
def _errors(library: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise MemoryError(str(error)) from error
        raise MachineError(f"{library} cannot run the network: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
