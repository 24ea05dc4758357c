"""Networks in ONNX form as torch modules: one thin wrapper for each library that runs them.

A module takes and returns CPU tensors, as the network that it stands for does. Where memory does not
suffice, that is raised as `MemoryError`; whatever else a library stumbles over, as `MachineError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import MachineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT_S = 900
"""How long another process is waited for that compiles the same model; minutes are usual on a busy machine."""

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
        batch: Images of most calls. What is compiled for just so many is faster (EfficientNet-B3 on two
            cores: 2 to 8%); calls with other numbers run what is compiled for any, when the first comes.
        folder: Where OpenVINO keeps what it makes of a model before it compiles it for a precision; it looks
            for itself whether that is of this model and version, and makes what is broken again.

    Raises:
        MachineError: OpenVINO is not installed.
        ValueError: The bytes are no model that it can compile.
    """

    def __init__(
        self,
        model: bytes,
        threads: int,
        precision: str = "f32",
        streams: int = 1,
        batch: int | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        try:
            import openvino
        except ImportError as error:
            raise MachineError(missing("openvino", "openvino")) from error
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            **({"CACHE_DIR": str(folder)} if folder else {}),
        }
        self._core = openvino.Core()
        self._model, self._batch, self._folder = model, batch, folder
        self._compiled: dict[int | None, Any] = {}
        self._compiling = Lock()
        self._requests = local()
        usual = self._form(batch)
        self.precision = usual.get_property("INFERENCE_PRECISION_HINT").to_string()

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the model returns for a batch."""
        form = self._batch if len(inputs[0]) == self._batch else None
        with _errors("OpenVINO"):
            found = self._request(form).infer(list(_arrays(inputs)), share_inputs=True)
        # The request writes its next output to the same place.
        return torch.from_numpy(found[0].copy())

    def _request(self, batch: int | None) -> Any:
        """Of this thread: a request is used by one at a time."""
        if not hasattr(self._requests, "own"):
            self._requests.own = {}
        own: dict[int | None, Any] = self._requests.own
        if batch not in own:
            own[batch] = self._form(batch).create_infer_request()
        return own[batch]

    def _form(self, batch: int | None) -> Any:
        """The model compiled for so many images, or for any number; once, whichever thread asks first."""
        with self._compiling:
            if batch not in self._compiled:
                try:
                    model = self._core.read_model(model=self._model, weights=b"")
                    if batch is not None:
                        model.reshape({each: [batch, *each.partial_shape[1:]] for each in model.inputs})
                    with _alone(self._folder, self._model):
                        self._compiled[batch] = self._core.compile_model(model, "CPU", self._settings)
                except Exception as error:
                    if of_memory(error):
                        raise MemoryError(str(error)) from error
                    raise ValueError(f"OpenVINO cannot run the model: {_one_line(error)}") from error
        return self._compiled[batch]


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
        if of_memory(error):
            raise MemoryError(str(error)) from error
        raise MachineError(f"{library} cannot run the network: {_one_line(error)}") from error


@contextmanager
def _alone(folder: Path | None, model: bytes) -> Iterator[None]:
    """Lets no other process keep a form of a model meanwhile: OpenVINO writes in place, and maps what it reads."""
    if folder is None:
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f"{sha256(model).hexdigest()[:16]}.lock")
    try:
        lock.acquire(timeout=_KEPT_S)
    except Timeout as error:
        raise TimeoutError(
            f"another process has kept {lock.lock_file} for {_KEPT_S} s; end that process, "
            "or name another folder with MELANOMA_ZOO_CACHE"
        ) from error
    except (OSError, NotImplementedError):  # A file system without locks.
        yield
        return
    try:
        yield
    finally:
        lock.release()


def of_memory(error: Exception) -> bool:
    """Whether a library that runs ONNX says that memory did not suffice."""
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
