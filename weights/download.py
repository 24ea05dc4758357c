"""Files over HTTP: gone on with where they broke off, tried again, checked, and put in place whole."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from zoo import __version__
from zoo.errors import InputError, MachineError
from zoo.files import sha256

if TYPE_CHECKING:
    from httpx2 import Client, Request, Response

T = TypeVar("T")

LONGEST_PAUSE_S = 8.0
"""Seconds between two tries, at most."""

GRACE_S = 1.0
"""Seconds that work which was given up has to end by itself, before it is left behind."""

_BUSY = frozenset({408, 425, 429})
"""Answers below 500 that say "later" rather than "no"."""


class Transport(msgspec.Struct, frozen=True, kw_only=True):
    """How patiently files are fetched.

    Attributes:
        timeout: Seconds without a byte after which a connection counts as broken.
        retries: Tries in a row that bring nothing new before it is given up.
        pause: Seconds before the first new try; each further one waits twice as long.
        plain: Whether plain `http` will do; of servers that the user named.
    """

    timeout: float = 20.0
    retries: int = 4
    pause: float = 0.5
    plain: bool = False


USUAL = Transport()
"""For a person who waits."""


class _AgainError(Exception):
    """What went wrong may pass."""


@contextmanager
def client(transport: Transport) -> Iterator[Client]:
    """A connection pool that follows redirects, and refuses those to plain `http`.

    Proxies are taken from the environment, certificates from the operating system.
    """
    import httpx2  # Here, since half of a command's start would go into it.

    def guarded(request: Request) -> None:
        if request.url.scheme != "https" and not transport.plain:
            raise InputError(f"{shown(request.url)}: refused: it is not https")

    with httpx2.Client(
        timeout=transport.timeout,
        follow_redirects=True,
        event_hooks={"request": [guarded]},
        # A compressed answer has other bytes, and could not be gone on with from the middle.
        headers={"Accept-Encoding": "identity", "User-Agent": f"melanoma-zoo/{__version__}"},
    ) as pool:
        yield pool


def download(
    pool: Client,
    url: str,
    path: Path,
    *,
    size: int,
    digest: str,
    transport: Transport = USUAL,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fetches a file of known size and SHA-256.

    What has come so far is in `path` + `.part`; a later call goes on from there where the server
    can, and starts anew where it cannot. `path` appears at once and whole, after the check.

    Args:
        pool: From `client`.
        url: Where it is.
        path: Where it goes, in a folder that exists.
        size: Its length in bytes.
        digest: Its SHA-256 in hexadecimal.
        transport: How patiently.
        progress: Called with the number of bytes that are there.

    Raises:
        InputError: There is no such file, or it has other bytes than it must; nothing is kept of it.
        MachineError: The server cannot be reached or broke off too often, or the file cannot be
            written; what has come is kept.
    """
    part = path.with_name(f"{path.name}.part")
    kept = _size(part)
    _receive_all(pool, url, part, size, transport, progress)
    if (found := sha256(part)) != digest:
        part.unlink()
        if kept:  # The damage may be in what an earlier run left behind.
            return download(pool, url, path, size=size, digest=digest, transport=transport, progress=progress)
        raise InputError(
            f"{shown(url)}: has other bytes than it must: expected sha256 {digest}, got {found}; "
            "nothing of it was kept"
        )
    with _writing(path):
        part.replace(path)
    return None


def within(seconds: float | None, work: Callable[[Callable[[], None]], T]) -> T:
    """The result of `work`, unless it takes too long.

    Time-outs of connections do not bound a fetch: bytes may trickle in, and a look-up of a
    server's name can hang where neither a time-out nor a signal reaches it. So the work runs in a
    thread that is left behind.

    Args:
        seconds: How long, in all; None waits for ever.
        work: Gets what it calls now and then, so that it ends soon after it was given up.

    Raises:
        MachineError: The time is over.
    """
    if seconds is None:
        return work(lambda: None)
    given_up = threading.Event()
    result: Future[T] = Future()

    def check() -> None:
        if given_up.is_set():
            raise MachineError("given up")

    def run() -> None:
        try:
            result.set_result(work(check))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return result.result(timeout=seconds)
    except TimeoutError:
        raise MachineError(
            f"not done after {seconds:g} s; what has come is kept, and a later try goes on from there"
        ) from None
    finally:
        given_up.set()
        thread.join(GRACE_S)


def shown(url: object) -> str:
    """A URL without the user name and password that it may hold.

    >>> shown("https://me:secret@example.org/a.csv")
    'https://example.org/a.csv'
    """
    return re.sub(r"(?<=://)[^/@]*@", "", str(url))


def _receive_all(
    pool: Client, url: str, part: Path, size: int, transport: Transport, progress: Callable[[int], None]
) -> None:
    """Fills `part` with `size` bytes, in as many tries as are worth it."""
    import httpx2

    most, idle = _size(part), 0
    while True:
        try:
            return _receive(pool, url, part, size, progress)
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            raise InputError(f"{shown(url)}: is not an address to fetch from: {error}") from error
        except (_AgainError, httpx2.TransportError) as error:
            held = _size(part)
            most, idle = max(most, held), (0 if held > most else idle + 1)
            reason = _reason(error, url)
            if idle > transport.retries:
                raise MachineError(
                    f"{reason}; {held:,} of {size:,} bytes of {part.stem} are here, and the same command goes on"
                ) from error
            pause = min(transport.pause * 2 ** max(idle - 1, 0), LONGEST_PAUSE_S)
        except httpx2.HTTPError as error:
            raise InputError(f"{shown(url)}: cannot be fetched: {error}") from error
        logging.getLogger(__name__).warning("%s; trying again in %.1f s", reason, pause)
        time.sleep(pause)


def _receive(pool: Client, url: str, part: Path, size: int, progress: Callable[[int], None]) -> None:
    """One try: what `part` lacks, or all of it where the server sends all of it."""
    have = _size(part)
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    with pool.stream("GET", url, headers=headers) as response:
        have = _start(response, url, part, have)
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and have + int(announced) != size and not _encoded(response):
            part.unlink(missing_ok=True)
            raise InputError(
                f"{shown(url)}: has the wrong length: expected {size:,} bytes, got {have + int(announced):,}; "
                "is something between here and the server answering in its place?"
            )
        with _writing(part), part.open("ab" if have else "wb") as file:
            for chunk in response.iter_bytes():
                have += len(chunk)
                if have > size:
                    part.unlink()
                    raise InputError(
                        f"{shown(url)}: has the wrong length: more than the {size:,} bytes expected"
                    )
                file.write(chunk)
                progress(have)
    if have < size:
        raise _AgainError("the connection ended early")


def _start(response: Response, url: str, part: Path, have: int) -> int:
    """The byte that the answer begins with.

    Raises:
        InputError: The server will not give the file.
        _AgainError: It cannot now, or not from the middle.
    """
    status = response.status_code
    if status == 200:
        return 0
    if status == 206 and have and not _encoded(response):
        begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if begin and int(begin[1]) == have:
            return have
    if status in (206, 416):
        part.unlink(missing_ok=True)
        raise _AgainError(f"the server does not go on from byte {have}")
    said = f"the server answered {status} {response.reason_phrase}".rstrip()
    if status >= 500 or status in _BUSY:
        raise _AgainError(said)
    raise InputError(f"{shown(url)}: {said}")


def _encoded(response: Response) -> bool:
    return response.headers.get("Content-Encoding", "identity") != "identity"


def _reason(error: Exception, url: str) -> str:
    """What broke, for a person: the libraries' words can be empty, or begin with an error's number."""
    import httpx2

    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        said = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
        return f"{httpx2.URL(url).host} cannot be reached ({said})"
    if isinstance(error, httpx2.TimeoutException):
        return f"{shown(url)}: no answer in time"
    return f"{shown(url)}: {error if isinstance(error, _AgainError) else 'the connection broke off'}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error
