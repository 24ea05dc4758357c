"""The benchmark of `make gpu`, end to end on a CPU with a tiny network; its figures are judged nowhere."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import bench_gpu, bench_gpu_rates, limited
from benchmarks.bench_gpu_rates import Row
from evaluate.images import decode
from reports import gpu, pixels
from zoo.errors import InputError, MachineError

SYSTEM = "timm:test_efficientnet,size=48"
HEAD = "| precision | what | batch | views/s | of timm's | of the forward rate |"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for number in range(2):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "photographs" / f"{number}.jpg", quality=90)
    return tmp_path / "photographs"


def rows_of(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and line != HEAD
    ]


def number(cell: str) -> float:
    found = re.match(r"[\d,.]+", cell)
    assert found, cell
    return float(found[0].replace(",", ""))


@pytest.mark.slow
def test_it_runs_on_a_cpu_and_writes_its_tables(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row is measured in a fresh process, as all are; the others here, by the same words, to save their imports."""
    real = limited.run

    def run(command: list[str], limit_s: float, **options: Any) -> limited.Ended:
        words = command[command.index("benchmarks.bench_gpu") + 1 :]
        if "predict" in words:
            return real(command, limit_s, **options)
        bench_gpu.main(words)
        return limited.Ended(0, capsys.readouterr().out, "", late=False)

    monkeypatch.setattr(limited, "run", run)
    monkeypatch.chdir(gpu.ROOT)
    for setting in ("benchmark", "allow_tf32"):  # given back at the end
        monkeypatch.setattr(torch.backends.cudnn, setting, getattr(torch.backends.cudnn, setting))
    bench_gpu.main(
        ["--device", "cpu", "--system", SYSTEM, "--batch", "2", "--images", str(photographs), "--count", "40",
         "--rounds", "1", "--precisions", "fp32", "--no-compile", "--output", str(tmp_path / "gpu.md")]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert (tmp_path / "gpu.md").read_text() == printed
    assert HEAD in printed
    assert "test_efficientnet at 48 px, random weights, 40 JPEG files,\n1 view of each, on cpu" in printed
    timm, forward, whole, going, head, threads, theirs = rows_of(printed)
    assert [row[:3] for row in (timm, forward, whole, going)] == [
        ["fp32", "timm: the backbone alone", "2"],
        ["fp32", "forward", "2"],
        ["fp32", "predict, whole", "2"],
        ["fp32", "predict, going", "2"],
    ]
    assert timm[4:] == ["1.00", "–"]
    assert number(forward[4]) == pytest.approx(number(forward[3]) / number(timm[3]), rel=0.01, abs=0.006)
    assert forward[5] == "1.00"
    for row in (whole, going):
        assert number(row[5]) == pytest.approx(number(row[3]) / number(forward[3]), rel=0.01, abs=0.006)
    assert head[0] == "decoder"
    assert threads[2:] == ["0", "0"]
    assert number(threads[1]) > 0
    if "n/a" not in theirs[1]:
        assert theirs[0] == "torchvision on cpu, without it, over 32 images"
        assert 0 <= number(theirs[3]) <= number(theirs[2]) <= 255


def test_jpeg_files_are_told_by_their_endings_whatever_the_case(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.jpeg", "c.jpg", "d.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [each.name for each in bench_gpu.images(tmp_path, tmp_path)] == ["a.jpeg", "b.JPG", "c.jpg"]
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        bench_gpu.images(tmp_path / "nowhere", tmp_path)


def test_images_without_a_jpeg_file_fail_nothing(
    tmp_path: Path, draw: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "images" / "one.png")
    words = ["--device", "cpu", "--system", SYSTEM, "--output", str(tmp_path / "predict.md")]
    bench_gpu.main([*words, "--images", str(tmp_path / "images")])
    assert capsys.readouterr().err == f"bench_gpu: not run: {tmp_path / 'images'} holds no JPEG file\n"
    assert not (tmp_path / "predict.md").exists()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "predict needs cv2, which is not installed"),
        (ImportError("libGL.so.1: cannot open"), "predict: libGL.so.1: cannot open"),
    ],
)  # fmt: skip
def test_what_predict_lacks_is_one_line_and_fails_nothing(
    missing: ImportError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(module: str) -> None:
        raise missing

    monkeypatch.setattr(pixels, "import_module", broken)
    bench_gpu.main(["--device", "cpu"])
    assert capsys.readouterr().err == f"bench_gpu: not run: {said}\n"


def test_what_predict_needs_is_looked_for_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pixels, "import_module", asked.append)
    assert pixels.lacking("evaluate.predict") == ""
    assert asked == ["cv2", "evaluate.preprocess", "evaluate.predict"]


def test_files_that_do_not_fit_are_one_line(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    with pytest.raises(MachineError, match=r"2 image files: .*; name another place for them with TMPDIR"):
        bench_gpu.copies(sorted(photographs.iterdir()), 2, tmp_path / "full")


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"gone\.jpg: cannot be read: No such file"):
        bench_gpu.copies([tmp_path / "gone.jpg"], 2, tmp_path / "copies")


def test_a_gpu_without_a_precision_is_not_timed_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(MachineError, match=r"^precision tf32: Tesla T4 "):
        bench_gpu_rates.timm_rate(SYSTEM, "tf32", 2, "cuda")


def test_decoders_are_told_apart_by_their_pixels(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("torchvision.io", reason="needs torchvision")
    before = bench_gpu_rates.decoders(photographs, SYSTEM, "cpu")
    assert before["compared"] == 2
    assert before["largest"] <= 3, "both are libjpeg-turbo"
    right = image.decode_jpeg
    monkeypatch.setattr(
        image, "decode_jpeg", lambda *given, **more: [255 - each for each in right(*given, **more)]
    )
    after = bench_gpu_rates.decoders(photographs, SYSTEM, "cpu")
    assert after["largest"] > 100
    assert after["mean"] > 20

    def lacking(*_: object, **__: object) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr(image, "decode_jpeg", lacking)
    said = bench_gpu_rates.decoders(photographs, SYSTEM, "cpu")
    assert said["reason"].endswith("not compiled with nvJPEG support")
    assert "n/a (decode_jpegs_cuda" in "\n".join(bench_gpu._decoders(said, "cuda"))


@pytest.mark.parametrize(
    ("device", "batch", "views", "images"),
    [("cuda", 256, 1, 256), ("cuda", 256, 8, 32), ("cuda", 100, 6, 16), ("cuda", 8, 1, 16), ("cpu", 256, 1, 16)],
)  # fmt: skip
def test_predict_is_going_when_its_first_batch_is_through(
    device: Any, batch: int, views: int, images: int
) -> None:
    assert bench_gpu_rates.batch_images(device, batch, views) == images
    # Units of a batch come at the same time, and one batch takes a second.
    done = range(16, 4 * images + 1, 16)
    marks = [(0.0, 0), *((5.0 + (count - 1) // images, count) for count in done)]
    assert bench_gpu_rates.going(marks, images, views) == images * views
    assert bench_gpu_rates.going(marks[: 1 + images // 16], images, views) is None
    assert bench_gpu_rates.going([(0.0, 0), (5.0, 8)], images, views) is None


def test_a_gpu_is_given_more_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, count in ([], 8192), (["--device", "cpu"], 1024), (["--count", "9"], 9):
        monkeypatch.setattr(sys, "argv", ["bench_gpu", *words])
        assert bench_gpu.arguments().count == bench_gpu.arguments(words).count == count


def test_quick_is_one_round_of_fewer_files_unless_told_otherwise() -> None:
    for device in ("cuda", "cpu"):
        short, long = (bench_gpu.arguments(["--device", device, *more]) for more in (["--quick"], []))
        assert (short.rounds, long.rounds) == (1, 3)
        assert short.count < long.count
        assert short.count > 2 * short.batch, "there is something left after the first batch"
    given = bench_gpu.arguments(["--quick", "--count", "9", "--rounds", "2", "--batch", "4"])
    assert (given.count, given.rounds, given.batch) == (9, 2, 4)


def test_copies_are_other_files_with_the_same_pixels(photographs: Path, tmp_path: Path) -> None:
    sources = sorted(photographs.glob("*.jpg"))
    bench_gpu.copies(sources, 5, tmp_path / "many")
    made = sorted((tmp_path / "many").iterdir())
    assert len({each.read_bytes() for each in made}) == 5
    assert all(np.array_equal(decode(each), decode(sources[at % 2])) for at, each in enumerate(made))


@pytest.fixture
def given() -> Callable[..., argparse.Namespace]:
    def make(**more: object) -> argparse.Namespace:
        usual = {
            "precisions": None,
            "device": "cuda",
            "no_compile": False,
            "system": "baseline_b3",
            "batch": 8,
            "quick": False,
        }
        return argparse.Namespace(**{**usual, "count": 9, "views": 1, "rounds": 2, **more})

    return make


def test_what_failed_is_a_row_that_says_why(given: Callable[..., argparse.Namespace]) -> None:
    asked = given()
    rows = bench_gpu.wanted(asked, 8)
    assert [row.precision for row in rows[:-1]] == ["tf32"] * 5 + ["bf16"] * 5
    found = {row: [{"rate": 100.0, "going": 90.0, "batch": 8}] * 2 for row in rows}
    found[Row("forward", "bf16", True, 8)] = [{"error": "MachineError: no | compiler"}] * 2
    found[Row("predict", "bf16", True, 8)] = [{"rate": 50.0, "going": None, "batch": 8}] * 2
    found[rows[-1]] = [{"error": "no torchvision"}]
    text = bench_gpu.report(found, asked, real=False)
    assert "| bf16 | forward, compiled | – | n/a (MachineError: no / compiler) | – | – |" in text
    assert "| bf16 | predict, whole, compiled | 8 | 50.0 (50.0–50.0) | 0.50 | – |" in text
    assert "| bf16 | predict, going, compiled | 8 | n/a (all images go through at once) | – | – |" in text
    assert "| tf32 | predict, going, compiled | 8 | 90.0 (90.0–90.0) | 0.90 | 0.90 |" in text
    assert "Decoders: n/a (no torchvision)." in text


def test_a_round_that_failed_costs_no_other(given: Callable[..., argparse.Namespace]) -> None:
    asked = given(rounds=3, no_compile=True, precisions=["bf16"])
    rows = bench_gpu.wanted(asked, 8)
    found = {row: [{"rate": 100.0, "going": 90.0, "batch": 8}] * 3 for row in rows}
    good = {"rate": 40.0, "going": None, "batch": 8}
    found[rows[2]] = [good, {"error": "no | memory"}, {**good, "rate": 60.0}]
    found[rows[-1]] = [{"error": "no torchvision"}]
    assert rows[2].what == "predict"
    text = bench_gpu.report(found, asked, real=True)
    assert (
        "| predict, whole | 8 | 50.0 (40.0–60.0) [1 of 3 rounds failed: no / memory] | 0.50 | 0.50 |" in text
    )


def test_a_process_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    inner = f"import time; open({str(begun)!r}, 'w').close(); time.sleep(600)"
    code = (
        "import subprocess, sys, time\nprint('so far', flush=True)\n"
        f"subprocess.Popen([sys.executable, '-c', {inner!r}])\ntime.sleep(600)"
    )
    before = time.monotonic()
    done = limited.run([sys.executable, "-c", code], 10)
    assert done.late
    assert done.code < 0
    assert done.out == "so far\n", "all are ended that hold the pipe"
    assert begun.exists()
    assert time.monotonic() - before < 300
    asked = limited.run([sys.executable, "-c", "import sys; print('ä'); sys.exit('no')"], 100)
    assert (asked.code, asked.err, asked.late) == (1, "no\n", False)


def test_a_row_that_takes_too_long_says_so(given: Callable[..., argparse.Namespace], tmp_path: Path) -> None:
    asked = given(images=tmp_path, workers=None, limit=0.01)
    row = Row("forward", "bf16", False, 8)
    assert bench_gpu.fresh(row, asked, tmp_path) == {"error": "not done after 0.01 s"}


def test_its_tables_lie_in_the_folder_of_make_gpu(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(bench_gpu, "fresh", lambda *_: {"error": "not measured"})
    words = ["--device", "cpu", "--system", SYSTEM, "--images", str(photographs), "--count", "2"]
    bench_gpu.main(words)
    (written,) = (tmp_path / "reports" / "results" / gpu.folder_name("cpu")).iterdir()
    assert written.name == "predict.md"
    assert written.read_text() == capsys.readouterr().out


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize(("views", "batch", "own"), [(1, 256, 16), (8, 256, 128), (1, 8, 8)])
def test_predict_is_compared_with_forward_passes_of_its_own_batch(
    given: Callable[..., argparse.Namespace], views: int, batch: int, own: int, device: str
) -> None:
    """On a GPU that is the one that was asked for, since units share it."""
    fits = batch if device == "cuda" else own
    asked = given(device=device, views=views, batch=batch, no_compile=True, precisions=["bf16"])
    assert bench_gpu.fitting(asked) == fits
    rows = bench_gpu.wanted(asked, fits)
    assert [(row.what, row.batch) for row in rows] == [
        ("timm", batch), ("forward", batch), *([("forward", fits)] if fits < batch else []), ("predict", fits), ("decode", 0),
    ]  # fmt: skip
    rates = {"timm": 200.0, "forward": 100.0, "predict": 30.0}
    found = {
        row: [{"rate": rates.get(row.what, 0) * (0.6 if row.what == "forward" and row.batch < batch else 1),
               "going": 40.0, "batch": row.batch}]
        for row in rows
    }  # fmt: skip
    found[rows[-1]] = [{"error": "no torchvision"}]
    text = bench_gpu.report(found, asked, real=True)
    share = 30.0 / (60.0 if fits < batch else 100.0)
    assert f"| bf16 | predict, whole | {fits} | 30.0 (30.0–30.0) | 0.15 | {share:.2f} |" in text
    assert (f"predict passes {fits} views at a time" in text) == (fits < batch)
    found[Row("predict", "bf16", False, fits)][0]["batch"] = fits // 2
    text = bench_gpu.report(found, asked, real=True)
    assert (
        f"| bf16 | predict, whole | {fits // 2} | 30.0 (30.0–30.0) | 0.15 | – (forward at {fits}) |" in text
    )
