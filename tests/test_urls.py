"""Test sets and results at a URL: an S3-compatible server on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import cli
from evaluate.images import ImageError, read
from evaluate.jobs import untrained
from evaluate.launchers.local import Local
from evaluate.launchers.processes import Processes
from evaluate.lesions import Disagreement, Disagreements
from evaluate.predict import predict
from evaluate.predictions import write_predictions
from evaluate.stores import Store
from evaluate.tables import read_csv
from evaluate.testset import TestSet, read_test_set
from reports.thumbnails import with_thumbnails
from zoo.card import System
from zoo.errors import InputError, MachineError, UsageError
from zoo.urls import files, place

pytest.importorskip("s3fs", reason="needs the extra s3")
moto_server = pytest.importorskip("moto.server", reason="needs moto's server")

pytestmark = [
    pytest.mark.usefixtures("kept"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore", "ignore::DeprecationWarning:aiobotocore"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def images(tmp_path: Path, draw: Callable[..., None]) -> Path:
    folder = tmp_path / "images"
    for number in range(40):
        draw(folder / f"part{number % 2}" / f"I_{number:03d}.png", number)
    table = {
        "image": [f"I_{number:03d}" for number in range(40)],
        "target": [number % 2 for number in range(40)],
    }
    pd.DataFrame(table).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture
def bucket(server: str, images: Path, request: pytest.FixtureRequest) -> str:
    """The images at a URL of this test's own."""
    import s3fs

    name = f"bucket-{abs(hash(request.node.name))}"
    system = s3fs.S3FileSystem()
    system.mkdir(name)
    system.put(f"{images}/", f"{name}/set/", recursive=True)
    return f"s3://{name}"


def written(card: System, test_set: TestSet, to: Path, **more: object) -> bytes:
    (found,) = predict([untrained(card, 0)], test_set, **more)  # type: ignore[arg-type]
    write_predictions(found, to)
    return to.read_bytes()


@pytest.mark.slow
def test_a_test_set_and_results_at_a_url_give_the_same_file(
    bucket: str, images: Path, small_system: Callable[..., System], tmp_path: Path, kept: Path
) -> None:
    card = small_system()
    local = written(card, read_test_set(images), tmp_path / "a.parquet", launcher=Local(1))
    there = read_test_set(f"{bucket}/set", workers=4)
    assert [str(image.path) for image in there.images][:2] == [
        f"{bucket}/set/part0/I_000.png", f"{bucket}/set/part1/I_001.png"
    ]  # fmt: skip
    assert there.labels is not None
    assert there.digest == read_test_set(images).digest
    store = Store(location=f"{bucket}/results")
    before = len(list(kept.iterdir()))
    assert written(card, there, tmp_path / "b.parquet", launcher=Processes(2), store=store) == local
    assert len(list(kept.iterdir())) == before, "results are at the URL, and not here"
    listed = list(place(f"{bucket}/results").iterdir())
    assert len(listed) == 6 + 1, "six units, and how long they took"

    class Nothing(Local):
        def run(self, portions, store) -> Iterator:
            assert not list(portions)
            yield from ()

    assert written(card, there, tmp_path / "c.parquet", launcher=Nothing(1), store=store) == local
    listed[0].write_bytes(b"{")
    assert written(card, there, tmp_path / "c.parquet", launcher=Local(1), store=store) == local


def test_the_command_takes_urls(bucket: str, tmp_path: Path) -> None:
    words = [
        "predict",
        "timm:test_efficientnet,classes=2,melanoma=0,size=32",
        "--untrained",
        "0",
        "--limit",
        "3",
    ]
    words += [
        "--test-set",
        f"{bucket}/set",
        "--results",
        f"{bucket}/kept",
        "--output",
        str(tmp_path / "a.parquet"),
    ]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 0, done.output
    kept = {each.name.partition("-")[0] for each in place(f"{bucket}/kept").iterdir()}
    assert kept == {"probabilities", "unit"}


def test_what_is_wrong_with_a_url_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"s3://.*/nothing: holds no image"):
        read_test_set(f"{bucket}/nothing")
    with pytest.raises(UsageError, match="no file system is known by gopher://"):
        read_test_set("gopher://there/is")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MachineError, match=r"gs://bucket/x: the package for gs:// is not installed; pip install 'melanoma-zoo\[gcs\]'"):  # fmt: skip
        read_test_set("gs://bucket/x")
    with pytest.raises(MachineError, match="results cannot be kept there"):
        Store(location="s3://no-such-bucket-at-all/x").write("name", b"content")
    broken = place(f"{bucket}/set/part0/I_000.png")
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=r"I_000\.png: cut short"):
        read_test_set(f"{bucket}/set")
    done = CliRunner().invoke(cli.main, ["predict", "sge_b3", "--untrained", "0", "--test-set", "gopher://x", "--output", "a.parquet"])  # fmt: skip
    assert done.exit_code == 2
    assert done.stderr.strip().splitlines()[-1].startswith("Error: gopher://x: no file system is known")


def test_errors_that_packages_have_of_their_own_are_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials botocore raises what is no OSError."""
    from botocore.exceptions import NoCredentialsError

    class Refusing:
        def invalidate_cache(self) -> None: ...

        def find(self, _: str) -> None:
            raise NoCredentialsError

        def cat_file(self, _: str) -> None:
            raise NoCredentialsError

        def pipe_file(self, _: str, __: bytes) -> None:
            raise NoCredentialsError

    monkeypatch.setattr("zoo.urls.file_system", lambda _: Refusing())
    monkeypatch.setattr("evaluate.stores.file_system", lambda _: Refusing())
    with pytest.raises(
        MachineError, match=r"s3://bucket/set: cannot be listed: Unable to locate credentials"
    ):
        files(place("s3://bucket/set"))
    store = Store(location="s3://bucket/kept")
    for act in (lambda: store.read("name"), lambda: store.write("name", b"content")):
        with pytest.raises(MachineError, match="cannot be kept there: Unable to locate credentials"):
            act()

    def refused(_: object) -> None:
        raise NoCredentialsError

    image = place("s3://bucket/set/a.jpg")
    monkeypatch.setattr(type(image), "read_bytes", refused)
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read \(Unable to locate credentials\)"):
        read(image)
    with pytest.raises(
        InputError, match=r"a\.csv: cannot be read as a CSV table: Unable to locate credentials"
    ):
        read_csv(place("s3://bucket/set/a.csv"), ())


def test_pictures_of_lesions_come_from_a_url_too(bucket: str) -> None:
    lesion = Disagreement(
        image="I_000", melanoma=True, diagnosis="", scores=(0.1, 0.9), ranks=(0.1, 0.9), spread=0.8
    )
    shown = Disagreements(systems=("a", "b"), titles=("A", "B"), lesions=(lesion,))
    (found,) = with_thumbnails(shown, f"{bucket}/set").lesions
    assert found.thumbnail.startswith("data:image/jpeg;base64,")
