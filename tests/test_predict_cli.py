"""`predict` and `compare --test-set` as a user runs them: real processes, real files, real ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import cli
import zoo
from evaluate.predictions import read_predictions
from reports import inputs
from weights.untrained import enliven
from zoo.card import VIEWS, Assumption, Attention, Checkpoints, Member, System, Views
from zoo.errors import MachineError
from zoo.files import write

ROOT = Path(__file__).parents[1]
PREDICT = [sys.executable, str(ROOT / "cli.py"), "predict", "sge_b3", "--untrained", "0", "--folds", "0", "--views", "1"]  # fmt: skip


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 JPEG images and their table."""
    place = tmp_path_factory.mktemp("test_set")
    random = np.random.default_rng(3)
    for number in range(40):
        small = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(small).resize((280, 200), Image.Resampling.BICUBIC).save(
            place / f"I_{number:03d}.jpg"
        )
    pd.DataFrame(
        {
            "image": [f"I_{number:03d}" for number in range(40)],
            "target": [number % 4 == 0 for number in range(40)],
        }
    ).astype({"target": int}).to_csv(place / "table.csv", index=False)
    return place


@pytest.fixture
def tiny() -> Iterator[System]:
    """A system whose attention has another kernel in its files than the card assumes."""

    def card(kernel: int) -> System:
        attention = (Attention(module="spatial", after=(1,), options={"kernel_size": kernel}),)
        member = Member(
            name="small",
            backbone="test_efficientnet",
            size=48,
            classes=("MEL", "NV"),
            melanoma=0,
            attention=attention,
        )
        return System(
            schema=1, name="tiny", title="Tiny", group="test", summary="A tiny one.", folds=2, members=(member,),
            views=Views(transforms=VIEWS),
            checkpoints=Checkpoints(layout="ours", pattern="{member}_fold{fold}.pth"),
            assumptions=(Assumption(about="kernel", text="Seven.", option="spatial.kernel_size"),),
        )  # fmt: skip

    zoo.register(card(5))
    yield zoo.register(card(7), replace=True)
    zoo.unregister("tiny")


@pytest.fixture
def trained(tiny: System, tmp_path: Path) -> Path:
    place = tmp_path / "trained"
    place.mkdir()
    five = Attention(module="spatial", after=(1,), options={"kernel_size": 5})
    from zoo.networks import assemble

    for fold in range(2):
        torch.manual_seed(fold)
        member = tiny.members[0]
        network = assemble(
            Member(name="small", backbone=member.backbone, size=48, classes=member.classes, melanoma=0, attention=(five,))
        ).eval()  # fmt: skip
        enliven(network, fold)
        torch.save(network.state_dict(), place / f"small_fold{fold}.pth")
    return place


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "kept"))


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words], catch_exceptions=False)


def process(images: Path, output: Path, *more: object, cache: Path | None = None) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if cache:
        environment["MELANOMA_ZOO_CACHE"] = str(cache)
    command = [*PREDICT, "--test-set", images, "--output", output, *more]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment)


def kept_after(cache: Path, count: int, running: subprocess.Popen[str]) -> None:
    """Waits until a process has kept so many results."""
    for _ in range(6000):
        if cache.is_dir() and len(list(cache.glob("probabilities-*.json"))) >= count:
            return
        assert running.poll() is None, running.stderr.read() if running.stderr else ""
        time.sleep(0.02)
    raise AssertionError("nothing was kept")


@pytest.fixture(scope="session")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an uninterrupted run writes."""
    place = tmp_path_factory.mktemp("undisturbed")
    running = process(images, place / "a.parquet", cache=place / "kept")
    _, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    assert re.search(r"predicting: 40 of 40\nwrote .*a\.parquet\n", said)
    assert "note: Untrained weights (seed 0): the scores mean nothing." in said
    return (place / "a.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_goes_on_to_the_same_bytes(
    how: signal.Signals, images: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    output, kept = tmp_path / "a.parquet", tmp_path / "kept"
    running = process(images, output)
    kept_after(kept, 1, running)
    running.send_signal(how)
    if how is signal.SIGINT:  # Once more, while it ends.
        time.sleep(0.1)
        running.send_signal(how)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 130)
    if how is signal.SIGINT:
        assert said.splitlines()[-1] == "Error: stopped; what was finished is kept, the same command goes on"
    assert not output.exists()
    done = {file.name: file.stat().st_mtime_ns for file in kept.glob("probabilities-*.json")}
    assert 1 <= len(done) < 3
    running = process(images, output)
    _, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    assert f"predicting: {16 * len(done)} of 40" in said or len(done) == 0
    assert output.read_bytes() == undisturbed
    assert done == {name: (kept / name).stat().st_mtime_ns for name in done}, (
        "finished work was computed again"
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.parquet", "kept"]


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_corrupt_each_other(
    images: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    both = [process(images, tmp_path / "a.parquet") for _ in range(2)]
    for running in both:
        _, said = running.communicate(timeout=600)
        assert running.returncode == 0, said
    assert (tmp_path / "a.parquet").read_bytes() == undisturbed
    assert len(list((tmp_path / "kept").glob("probabilities-*.json"))) == 3
    assert not [file for file in (tmp_path / "kept").iterdir() if file.name.startswith(".")]


@pytest.mark.slow
def test_the_650_real_images_go_through_sge_b3(tmp_path: Path) -> None:
    """Killed in the middle, continued, scored; a truncated and a missing image are skipped and named."""
    shared = ROOT.parent / "shared" / "data" / "isic2017"
    if not shared.is_dir():
        pytest.skip("needs the images in ../shared/data/isic2017, which are not part of the project")
    place, output, kept = tmp_path / "set", tmp_path / "a.parquet", tmp_path / "kept"
    shutil.copytree(shared, place, copy_function=os.link if os.access(shared, os.W_OK) else shutil.copy)
    images = sorted((place / "images").iterdir())
    broken, missing = images[100], images[200]
    content = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(content[: len(content) // 2])
    missing.unlink()
    stopped = process(place, output)
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == 3
    assert f"2 of 650 images cannot be used: {broken}: cut short; {missing.stem}: missing" in said
    assert not kept.exists(), "all files are checked before anything is computed"
    running = process(place, output, "--on-error", "skip")
    kept_after(kept, 5, running)
    running.kill()
    running.communicate()
    running = process(place, output, "--on-error", "skip", "--csv")
    _, said = running.communicate(timeout=800)
    assert running.returncode == 0, said
    assert f"note: {broken.stem} was skipped: cut short." in said
    found = read_predictions(output)
    assert found.table["score"].notna().sum() == 648
    assert found.table["score"].std() > 1e-3
    scored = run("score", output, "--labels", shared / "labels.csv", "--resamples", "40", "--json")
    assert scored.exit_code == 0, scored.output
    answer = json.loads(scored.stdout)
    assert answer["n"] == 648
    assert answer["skipped"] == {broken.stem: "cut short", missing.stem: "missing"}
    assert pd.read_csv(output.with_suffix(".csv"))["image_name"].tolist()[-2:] == [broken.stem, missing.stem]


def test_compare_runs_what_has_weights_and_names_the_rest(
    tiny: System, trained: Path, images: Path, tmp_path: Path
) -> None:
    result = run(
        "compare", "tiny", "sge_b3", "--no-latency", "--test-set", images, "--weights", trained,
        "--resamples", "40", "--format", "json", "--output", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "left out: sge_b3: weights not found: " in result.stderr
    answer = json.loads(result.stdout)
    rows = {row["system"]: row for row in answer["systems"]}
    assert 0 <= rows["tiny"]["roc_auc"] <= 1
    assert rows["sge_b3"]["roc_auc"] is None
    assert rows["sge_b3"]["roc_auc_reason"].startswith("weights not found: ")
    roles = [each["role"] for each in answer["inputs"]]
    assert roles == ["labels", "weights", "weights", "images"]
    assert all(len(each["sha256"]) == 64 for each in answer["inputs"])
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    (card,) = [entry["card"] for entry in record["entries"] if entry["card"]["name"] == "tiny"]
    assert card["members"][0]["attention"][0]["options"] == {"kernel_size": 5}, "the file decides"
    assert "5 in the trained files" in card["assumptions"][0]["settled"]
    printed = (tmp_path / "out" / "comparison.md").read_text()
    assert "n/a (weights not found: " in printed


def test_compare_runs_the_rest_with_random_weights_where_asked(
    tiny: System, trained: Path, images: Path
) -> None:
    words = ("compare", "tiny", "timm:test_resnet", "--no-latency", "--test-set", images, "--limit", "12", "--resamples", "40")  # fmt: skip
    refused = run(*words)
    assert refused.exit_code == 3
    assert "--untrained SEED runs such systems with random weights" in refused.stderr
    result = run(*words, "--weights", trained, "--untrained", "4", "--format", "markdown")
    assert result.exit_code == 0, result.output
    assert "Untrained weights, so the scores mean nothing: timm:test\\_resnet." in result.stdout
    assert "timm:test\\_resnet: Untrained weights (seed 4)" in result.stdout
    without = run("compare", "tiny", "--untrained", "0", "--no-latency")
    assert without.exit_code == 2
    assert "--untrained is about networks that are run" in without.stderr


def test_a_trial_on_the_first_images_is_scored_with_the_whole_table(
    tiny: System, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tiny.parquet"
    made = run(
        "predict", "tiny", "--test-set", images, "--untrained", "0", "--limit", "12", "--output", output
    )
    assert made.exit_code == 0, made.output
    scored = run("score", output, "--labels", images / "table.csv", "--resamples", "40", "--json")
    assert scored.exit_code == 0, scored.output
    answer = json.loads(scored.stdout)
    assert (answer["n"], len(answer["skipped"])) == (12, 28)
    assert set(answer["skipped"].values()) == {"beyond the limit of 12"}


def test_fetched_weights_are_found_by_themselves(
    tiny: System, trained: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_DATA", str(tmp_path / "data"))
    shutil.copytree(trained, tmp_path / "data" / "weights" / "tiny")
    output = tmp_path / "tiny.parquet"
    assert run("predict", "tiny", "--test-set", images, "--output", output).exit_code == 0
    named = {each["file"] for each in read_predictions(output).metadata["weights"]}
    assert named == {"small_fold0.pth", "small_fold1.pth"}
    compared = run("compare", "tiny", "--no-latency", "--test-set", images, "--resamples", "40")
    assert compared.exit_code == 0, compared.output
    assert "weights not found" not in compared.stderr


def test_a_broken_training_table_is_told_before_any_network_runs(
    tiny: System, trained: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(*_: object, **__: object) -> None:
        raise AssertionError("networks ran")

    monkeypatch.setattr(inputs, "predict", ran)
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    words = ("compare", "tiny", "--no-latency", "--test-set", images, "--weights", trained)
    done = run(*words, "--train-table", tmp_path / "train.csv")
    assert done.exit_code == 3
    assert "train.csv" in done.stderr


def test_predict_then_score_is_what_compare_says(
    tiny: System, trained: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tiny.parquet"
    assert (
        run("predict", "tiny", "--test-set", images, "--weights", trained, "--output", output).exit_code == 0
    )
    scored = json.loads(
        run("score", output, "--labels", images / "table.csv", "--resamples", "40", "--json").stdout
    )
    compared = json.loads(
        run(
            "compare", "tiny", "--no-latency", "--test-set", images, "--weights", trained, "--resamples", "40",
            "--format", "json",
        ).stdout
    )  # fmt: skip
    assert compared["systems"][0]["roc_auc"] == scored["systems"][0]["metrics"]["roc_auc"]["value"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--untrained", "0", "--weights", "{w}"], 2, "not both"),
        ([], 2, "--weights DIR for trained files, or --untrained SEED for random ones"),
        (["--weights", "{images}"], 3, "2 of 2 files of tiny are missing: small_fold0.pth; small_fold1.pth"),
        (["--untrained", str(2**64)], 2, f"seed {2**64}: the largest is {2**64 - 2}"),
        (["--untrained", str(2**64 - 1)], 2, "the largest is"),
        (["--untrained", "0", "--folds", "2"], 2, "tiny has no fold 2; its folds are 0 to 1"),
        (["--untrained", "0", "--folds", "one"], 2, "'one' is not a number"),
        (["--untrained", "0", "--members", "large"], 2, "tiny has no member 'large'"),
        (["--untrained", "0", "--views", "9"], 2, "the procedure has 1 to 8"),
        (["--untrained", "0", "--batch-size", "0"], 2, "neither auto nor a number from 1"),
        (["--untrained", "0", "--precision", "tf32", "--device", "cpu"], 4, "tf32 is NVIDIA's"),
        (["--untrained", "0", "--output", "{images}/I_000.jpg/a.parquet"], 4, "choose another folder"),
        (["--untrained", "0", "--output", "{tmp}/a.csv"], 2, "end it in .parquet and add --csv"),
        (["--untrained", "0", "--output", "{images}/I_000.jpg"], 2, "end it in .parquet"),
        (["--untrained", "0", "--test-set", "{w}"], 3, "image"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    words: list[str], code: int, message: str, tiny: System, trained: Path, images: Path, tmp_path: Path
) -> None:
    given = [word.format(w=trained, images=images, tmp=tmp_path) for word in words]
    start = ["predict", "tiny"]
    if "--test-set" not in given:
        start += ["--test-set", str(images)]
    if "--output" not in given:
        start += ["--output", str(tmp_path / "a.parquet")]
    result = run(*start, *given)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert not (tmp_path / "kept").exists(), "nothing runs before everything is checked"


def test_no_file_that_is_read_is_written_over(images: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    before = shutil.copy(images / "table.csv", labels).read_bytes()
    found = run(
        "predict", "timm:test_efficientnet", "--test-set", images, "--labels", labels, "--untrained", "0",
        "--output", tmp_path / "labels.parquet", "--csv",
    )  # fmt: skip
    assert found.exit_code == 2, found.stderr
    assert found.stderr.splitlines()[-1] == (
        f"Error: {labels}: is read, and would be written over; choose another --output"
    )
    assert labels.read_bytes() == before
    assert not (tmp_path / "kept").exists(), "networks ran"


def test_outputs_that_differ_in_another_ending_have_a_csv_each(images: Path, tmp_path: Path) -> None:
    for fold in range(2):
        found = run(
            "predict", "timm:test_efficientnet", "--test-set", images, "--untrained", fold, "--limit", "2",
            "--output", tmp_path / f"a.{fold}", "--csv",
        )  # fmt: skip
        assert found.exit_code == 0, found.stderr
    assert sorted(file.name for file in tmp_path.glob("a*")) == ["a.0", "a.0.csv", "a.1", "a.1.csv"]


def test_a_pipe_or_device_is_not_replaced_by_a_file(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "pipe.parquet"
    os.mkfifo(output)
    found = run(
        "predict", "timm:test_efficientnet", "--test-set", images, "--untrained", "0", "--output", output
    )
    assert found.exit_code == 4, found.stderr
    assert found.stderr.splitlines() == [
        f"Error: {output}: cannot be written: what is there is not a file; choose another name"
    ]
    assert output.is_fifo()
    with pytest.raises(MachineError, match="is not a file"):
        write(output, b"")
    assert output.is_fifo()


def test_options_without_networks_to_run_are_refused(images: Path) -> None:
    for words, code, message in (
        (["--test-set", images], 3, "weights not found: give their folder with --weights DIR"),
        (["--weights", images], 2, "give the images too, with --test-set"),
        (["--precision", "bf16"], 2, "--precision is about networks that are run"),
        (["--test-set", images, "--weights", images, "--predictions", images], 2, "give one of them"),
    ):
        result = run("compare", "sge_b3", "--no-latency", *words)
        assert result.exit_code == code
        assert message in result.stderr


def test_a_test_set_of_one_class_cannot_be_compared(
    tiny: System, trained: Path, images: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    pd.read_csv(images / "table.csv").assign(target=0).to_csv(table, index=False)
    words = ["--no-latency", "--test-set", images, "--weights", trained, "--labels", table]
    result = run("compare", "tiny", *words)
    assert result.exit_code == 3
    assert "all 40 lesion images are of one class; scores need both" in result.stderr
    assert run("predict", "tiny", *words[1:], "--output", tmp_path / "a.parquet").exit_code == 0


def test_a_full_disk_loses_nothing_that_is_done(
    tiny: System, trained: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last write fails as on a full disk; the same command then only has to write."""
    words = [
        "predict",
        "tiny",
        "--test-set",
        images,
        "--weights",
        trained,
        "--output",
        tmp_path / "a.parquet",
    ]
    from pyarrow import parquet

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet.ParquetWriter, "write_table", full)
        result = run(*words)
    assert result.exit_code == 4
    assert "a.parquet: cannot be written: No space left on device" in result.stderr
    assert not (tmp_path / "a.parquet").exists()
    again = run(*words)
    assert again.exit_code == 0
    assert "predicting: 80 of 80" in again.stderr
    assert "predicting: 0 of 80" not in again.stderr


def test_wandb_gets_settings_progress_and_scores_offline(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb: pip install 'melanoma-zoo[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    running = process(images, tmp_path / "a.parquet", "--limit", 4, "--wandb")
    _, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for written in (b"roc_auc", b"average_precision", b"predicting", b"precision", b"sge_b3"):
        assert written in content
