"""A process that measures or counts for another.

It reads requests from stdin and answers each on stdout, in one line of JSON: it calls a function
by its name, and sends back what that returns or why there is nothing. The function decides what
is imported; the process itself needs little beyond the standard library. The asking side is here too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.lifeline import follow
from zoo.errors import MelanomaZooError

if TYPE_CHECKING:
    from torch import nn

    from zoo.card import Member

FORKS = sys.platform == "linux"
"""Whether a worker can answer in a fresh copy of itself. Elsewhere it must be asked only once."""

STANDARD = "zoo.networks:assemble"
"""The standard assembly, as requests name functions: module and function."""

Answer = dict[str, Any]
"""`{"result": ...}`, or `{"error": reason}` with the reason on one line; `"ended"` where the worker did."""

_GRACE_S = 20
"""How long after its time limit a process is ended from outside, where it could not end itself."""


class Ask(Protocol):
    """Asks a worker to call a function.

    Args:
        call: The function, as `module:function`. It takes a dictionary and returns one.
        given: What it is called with.
        limit_s: Seconds after which the process that answers is ended.
        copy: Answer in a fresh copy of the process, which has computed nothing before. Not of a
            worker that has: a copy of a process whose threads have run can hang.
    """

    def __call__(  # noqa: D102
        self, call: str, given: Mapping[str, Any], *, limit_s: int | None = None, copy: bool = False
    ) -> Answer: ...


def name(build: Callable[[Member], nn.Module]) -> str | None:
    """What requests call a builder; None where a fresh process could not import it."""
    module, function = getattr(build, "__module__", ""), getattr(build, "__qualname__", "")
    if module == "__main__" or getattr(sys.modules.get(module), function, None) is not build:
        return None
    return f"{module}:{function}"


def imported(call: str) -> Callable[..., Any]:
    """The function of a name such as `zoo.networks:assemble`."""
    module, _, function = call.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


@contextmanager
def running(threads: int, **environment: str) -> Iterator[Ask]:
    """Starts a worker, and ends it with the block; it ends too where this process is killed.

    Args:
        threads: Threads of an operator on the CPU.
        environment: Further variables of its environment.

    Yields:
        What asks it.
    """
    with subprocess.Popen(  # noqa: S603
        [*_COMMAND, str(os.getpid())],
        env={**_environment(threads), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, replies = process.stdin, process.stdout

        def end() -> None:
            # The number of a process that was waited for may be another's by now.
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):  # macOS answers so where it has ended.
                    os.killpg(process.pid, signal.SIGKILL)

        def ask(
            call: str, given: Mapping[str, Any], *, limit_s: int | None = None, copy: bool = False
        ) -> Answer:
            request = {"call": call, "given": given, "limit_s": limit_s, "copy": copy}
            with _deadline(limit_s, end) as late, suppress(BrokenPipeError, ValueError):
                # The pipes break when the worker ends, and are closed when the block does.
                requests.write(json.dumps(request).encode() + b"\n")
                requests.flush()
                if line := replies.readline():
                    answer: Answer = json.loads(line)
                    return answer
            code = process.wait()
            return {"error": _ending(-signal.SIGALRM if late else code), "ended": True}

        try:
            yield ask
        finally:
            end()


@contextmanager
def _deadline(limit_s: int | None, end: Callable[[], None]) -> Iterator[list[bool]]:
    """Ends a process that is well over its time limit; what it yields is empty until then."""
    late: list[bool] = []

    def over() -> None:
        late.append(True)
        end()

    timer = Timer((limit_s or 0) + _GRACE_S, over)
    timer.daemon = True
    if limit_s:
        timer.start()
    try:
        yield late
    finally:
        timer.cancel()


# The import path is handed on as it is; -m alone would put the working directory before it.
_COMMAND = (sys.executable, "-P", "-m", "benchmarks.worker")


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENCV_FOR_THREADS_NUM": "1",  # Images are read in threads of our own.
    }


def _answer(request: Mapping[str, Any]) -> Answer:
    call, given, limit_s = request["call"], request["given"], request["limit_s"]
    if not (request["copy"] and FORKS):
        return _called(call, given, limit_s)
    # What is imported here need not be imported again; what fails here fails in the copy too.
    for each in (call, given.get("builder", STANDARD)):
        with suppress(Exception):
            imported(each)
    return _in_a_copy(lambda: _called(call, given, limit_s))


def _called(call: str, given: Mapping[str, Any], limit_s: int | None) -> Answer:
    # Ends the process, whatever library it hangs in.
    signal.alarm(limit_s or 0)
    try:
        return {"result": imported(call)(given)}
    except Exception as error:
        kind = "" if isinstance(error, MelanomaZooError) else f"{type(error).__name__}: "
        return {"error": " ".join(f"{kind}{error}".split())[:200]}
    finally:
        signal.alarm(0)


def _in_a_copy(work: Callable[[], Answer]) -> Answer:
    reader, writer = os.pipe()
    worker = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            follow(worker)
            with os.fdopen(writer, "wb") as replies:
                replies.write(json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as replies:
        encoded = replies.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answer: Answer = json.loads(encoded) if encoded else {"error": _ending(code)}
    return answer


def _ending(code: int) -> str:
    """Why a process ended without an answer.

    >>> _ending(-9)
    'ended by SIGKILL (out of memory?)'
    """
    hints = {-signal.SIGKILL: " (out of memory?)", -signal.SIGALRM: " (over the time limit)"}
    return f"ended by {signal.Signals(-code).name}{hints.get(code, '')}" if code < 0 else "ended early"


def main() -> None:
    """Answers requests until there are no more, or the process whose id is the first argument ends."""
    follow(int(sys.argv[1]))
    # What libraries print goes to stderr: stdout carries answers only.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin.buffer:
            answers.write(json.dumps(_answer(json.loads(line))).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    main()
