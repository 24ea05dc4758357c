"""Other libraries that run networks: exported, checked, kept, chosen, and refused where they are off."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import cli
import zoo
from evaluate import portions
from evaluate.drifting import sample, system_scores
from evaluate.jobs import trained, untrained
from evaluate.loading import network as loaded
from evaluate.predict import Settings, predict
from evaluate.predictions import read_predictions, write_predictions
from evaluate.testset import TestSet, read_test_set
from weights.files import WeightFile
from weights.untrained import enliven
from zoo import compiling, engines, export, sessions
from zoo.card import VIEWS, Attention, Checkpoints, Member, Metadata, System, Views
from zoo.engines import check, choose, installed, prepare
from zoo.errors import MachineError, MelanomaZooError
from zoo.networks import assemble
from zoo.runtime import arithmetic
from zoo.sessions import OnnxRuntime, OpenVino

OTHERS = ("onnxruntime", "openvino")
TINY = Member(
    name="small", backbone="test_efficientnet", size=48, classes=("BKL", "MEL", "NV"), melanoma=1,
    attention=(Attention(module="sge", after=(2,)),),
)  # fmt: skip


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture(params=OTHERS)
def engine(request: pytest.FixtureRequest) -> str:
    if not installed(request.param):
        pytest.skip(f"needs the extra of {request.param}")
    return request.param


def alive(member: Member, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = assemble(member).eval()
    enliven(network, seed, member.metadata.features if member.metadata else 0)
    return network


def outputs(network: nn.Module, member: Member, count: int, seed: int = 7) -> torch.Tensor:
    with arithmetic("cpu", "fp32"):
        return network(*export.sample(member, count, seed))


def distinct_members() -> list[Member]:
    found: dict[object, Member] = {}
    for name in zoo.systems():
        for member in zoo.card(name).members:
            found.setdefault((member.architecture, member.pool, bool(member.metadata)), member)
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("member", distinct_members(), ids=lambda member: member.name)
def test_every_network_of_the_zoo_runs_in_every_engine(member: Member) -> None:
    """At 64 px, which every architecture takes; one at its own size is below."""
    small = msgspec.structs.replace(member, size=64)
    network = alive(small)
    expected = outputs(network, small, 5)
    assert expected.softmax(1).std(0).max() > 1e-3, "a test that any constant would pass"
    for name in filter(installed, OTHERS):
        found = outputs(prepare(network, small, name, "fp32", "cpu"), small, 5)
        assert (found.softmax(1) - expected.softmax(1)).abs().max() < export.TOLERANCE, name


@pytest.mark.slow
def test_a_network_at_its_own_size_and_any_batch(engine: str) -> None:
    member = zoo.card("sge_b3").member()
    network = alive(member)
    ready = prepare(network, member, engine, "fp32", "cpu")
    expected = outputs(network, member, 4).softmax(1)
    for count in (1, 4):
        inputs = [each[:count] for each in export.sample(member, 4, 7)]
        assert (ready(*inputs).softmax(1) - expected[:count]).abs().max() < export.TOLERANCE


def test_an_export_is_made_once_for_the_same_weights(engine: str, kept: Path) -> None:
    network = alive(TINY)
    prepare(network, TINY, engine, "fp32", "cpu")
    (file,) = kept.glob("export-*.onnx")
    made = file.stat().st_mtime_ns
    assert len(list(kept.glob("checked-*.json"))) == 1
    prepare(alive(TINY), TINY, engine, "fp32", "cpu")
    assert [each.stat().st_mtime_ns for each in kept.glob("export-*.onnx")] == [made]
    prepare(alive(TINY, 1), TINY, engine, "fp32", "cpu")
    assert len(list(kept.glob("export-*.onnx"))) == 2, "other weights are another export"
    assert not list(kept.glob(".*")), "nothing half-written is left"


def test_a_changed_module_is_another_export(kept: Path) -> None:
    class Twice(type(alive(TINY))):  # type: ignore[misc]
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(*inputs)

    network = alive(TINY)
    plain = export.export(network, TINY).name
    network.__class__ = Twice
    assert export.export(network, TINY).name != plain


def test_a_broken_file_is_made_again(engine: str, kept: Path) -> None:
    network = alive(TINY)
    prepare(network, TINY, engine, "fp32", "cpu")
    (file,) = kept.glob("export-*.onnx")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    ready = prepare(network, TINY, engine, "fp32", "cpu")
    torch.testing.assert_close(outputs(ready, TINY, 2), outputs(network, TINY, 2), atol=1e-4, rtol=1e-4)
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_no_run(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "file" / "below"))
    network = alive(TINY)
    ready = prepare(network, TINY, engine, "fp32", "cpu")
    torch.testing.assert_close(outputs(ready, TINY, 2), outputs(network, TINY, 2), atol=1e-4, rtol=1e-4)


def test_an_engine_that_is_off_is_refused_with_the_difference(
    engine: str, monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    kind = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}[engine]
    right = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *inputs: right(self, *inputs) * 1.01)
    for _ in range(2):
        with pytest.raises(MachineError, match=rf"{engine} in fp32 differs from torch by \d.*--engine torch"):
            prepare(alive(TINY), TINY, engine, "fp32", "cpu")
    assert not list(kept.glob("checked-*")), "what failed is not kept as good"


def test_a_network_that_cannot_be_exported_says_why(engine: str) -> None:
    class Odd(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(image.flatten(2))

    with pytest.raises(MachineError, match=r"small: cannot be exported to ONNX .*choose --engine torch"):
        prepare(Odd().eval(), TINY, engine, "fp32", "cpu")


def test_metadata_goes_in_by_its_place(engine: str) -> None:
    member = msgspec.structs.replace(TINY, metadata=Metadata(features=5, hidden=8, out=4))
    network = alive(member)
    ready = prepare(network, member, engine, "fp32", "cpu")
    image, rows = export.sample(member, 3)
    torch.testing.assert_close(ready(image, rows), outputs(network, member, 3, 0), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ready(image, rows), ready(image, rows.flip(0)), atol=1e-4)


def test_openvino_computes_in_single_precision_unless_told_otherwise() -> None:
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    model = export.export(alive(TINY), TINY).model
    assert OpenVino(model, 1).precision == "f32"
    if "BF16" in engines._openvino_capabilities():
        assert OpenVino(model, 1, "bf16").precision == "bf16"


def test_forms_of_each_precision_are_kept_apart(kept: Path) -> None:
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    low = [
        each for each in ("fp16", "bf16") if engines._CAPABILITIES[each] in engines._openvino_capabilities()
    ]
    if not low:
        pytest.skip("needs a CPU with a precision below fp32")
    network = alive(TINY)
    exact = outputs(network, TINY, 2)
    for precision in low:
        off = (outputs(prepare(network, TINY, "openvino", precision, "cpu"), TINY, 2) - exact).abs().max()
        assert off > 1e-4, "a lower precision shows"
    torch.testing.assert_close(
        outputs(prepare(network, TINY, "openvino", "fp32", "cpu"), TINY, 2), exact, atol=1e-5, rtol=1e-4
    )
    assert {each.name for each in (kept / "openvino").iterdir()} == {"fp32", *low}


def test_forms_are_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    from filelock import FileLock

    model = export.export(alive(TINY), TINY).model
    thread = Thread(target=OpenVino, args=(model, 1), kwargs={"folder": tmp_path})
    OpenVino(model, 1, folder=tmp_path)
    (lock,) = tmp_path.glob("*.lock")
    for form in tmp_path.glob("*.blob"):
        form.unlink()
    with FileLock(lock):  # as another process holds it
        thread.start()
        thread.join(2)
        assert thread.is_alive()
        assert not list(tmp_path.glob("*.blob"))
    thread.join(60)
    assert list(tmp_path.glob("*.blob"))


def test_a_process_that_never_lets_go_of_a_form_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    from filelock import FileLock

    model = export.export(alive(TINY), TINY).model
    OpenVino(model, 1, folder=tmp_path)
    (lock,) = tmp_path.glob("*.lock")
    monkeypatch.setattr(sessions, "_KEPT_S", 0.2)
    with FileLock(lock), pytest.raises(ValueError, match=r"another process has kept .*\.lock for 0.2 s"):
        OpenVino(model, 1, folder=tmp_path)


@pytest.mark.parametrize("usual", [1, 2, 5])
def test_openvino_compiles_for_the_usual_batch_and_runs_any(usual: int) -> None:
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    network = alive(TINY)
    ready = OpenVino(export.export(network, TINY).model, 1, batch=usual)
    for count in (usual, usual + 1, 1):
        torch.testing.assert_close(
            outputs(ready, TINY, count), outputs(network, TINY, count), atol=1e-4, rtol=1e-4
        )
    shapes = {form: model.inputs[0].partial_shape for form, model in ready._compiled.items()}
    assert {form: shape.is_static for form, shape in shapes.items()} == {usual: True, None: False}


def test_what_openvino_makes_is_kept_and_made_again_where_it_is_broken(kept: Path) -> None:
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    network = alive(TINY)
    expected = outputs(prepare(network, TINY, "openvino", "fp32", "cpu"), TINY, 2)
    (form,) = (each for each in (kept / "openvino" / "fp32").iterdir() if each.suffix != ".lock")
    made = form.stat().st_mtime_ns
    torch.testing.assert_close(outputs(prepare(network, TINY, "openvino", "fp32", "cpu"), TINY, 2), expected)
    assert form.stat().st_mtime_ns == made
    form.write_bytes(form.read_bytes()[:100])
    torch.testing.assert_close(outputs(prepare(network, TINY, "openvino", "fp32", "cpu"), TINY, 2), expected)
    assert form.stat().st_size > 100


def test_what_is_compiled_for_a_batch_is_checked_itself(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    """A form that is off for one number of images alone is met by the check."""
    if not installed("openvino"):
        pytest.skip("needs the extra openvino")
    right = OpenVino.forward
    monkeypatch.setattr(
        OpenVino, "forward", lambda self, *inputs: right(self, *inputs) * (1.01 if len(inputs[0]) == 2 else 1)
    )
    network = alive(TINY)
    prepare(network, TINY, "openvino", "fp32", "cpu")
    prepare(network, TINY, "openvino", "fp32", "cpu", batch=1)
    with pytest.raises(MachineError, match="differs from torch"):
        prepare(network, TINY, "openvino", "fp32", "cpu", batch=2)
    assert len(list(kept.glob("checked-*"))) == 2


def test_what_engines_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(map(installed, OTHERS)):
        pytest.skip("needs both extras")
    with pytest.raises(MachineError, match="onnxruntime has no bf16 on a CPU; choose --precision fp32"):
        check("onnxruntime", "cpu", "bf16")
    with pytest.raises(MachineError, match="openvino has no tf32 on this CPU"):
        check("openvino", "cpu", "tf32")
    with pytest.raises(MachineError, match="openvino runs on CPUs only; choose --device cpu"):
        check("openvino", "cuda", "fp32")
    check("torch", "cuda", "bf16")
    monkeypatch.setitem(engines._PACKAGES, "openvino", ("no-such-package",))
    with pytest.raises(MachineError, match=r"not installed; pip install 'melanoma-zoo\[openvino\]'"):
        check("openvino", "cpu", "fp32")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r"pip install 'melanoma-zoo\[onnx\]'"):
        OnnxRuntime(b"", 1)


def test_auto_goes_by_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(map(installed, OTHERS)):
        pytest.skip("needs both extras")
    monkeypatch.setattr(engines, "_openvino_capabilities", lambda: ("FP32", "BF16"))
    many = engines.WORTH_EXPORTING
    assert choose("openvino", "cpu", "fp32", 1) == engines.Choice(engine="openvino")
    assert choose("auto", "cuda", "fp32", many).engine == "torch"
    assert choose("auto", "cpu", "fp32", many - 1).engine == "torch"
    assert choose("auto", "cpu", "fp32", many, compiled=True).engine == "torch"
    assert choose("auto", "cpu", "fp32", many).engine == "onnxruntime"
    assert choose("auto", "cpu", "bf16", many).engine == "openvino"
    assert choose("auto", "cpu", "fp16", many).engine == "torch"
    assert "has no fp16" in choose("auto", "cpu", "fp16", many).why
    monkeypatch.setitem(engines._PACKAGES, "onnxruntime", ("no-such-package",))
    assert choose("auto", "cpu", "fp32", many).why == "engine onnxruntime is not installed"


@pytest.mark.parametrize("size", [(31, 48), (48, 31), (64, 64)])
def test_fixed_padding_is_that_of_the_layer(size: tuple[int, int]) -> None:
    from timm.layers import Conv2dSame

    for kernel, stride, dilation in ((3, 2, 1), (5, 2, 1), (3, 1, 1), (3, 2, 2), (1, 3, 1)):
        layer = Conv2dSame(4, 6, kernel, stride, dilation=dilation)
        image = torch.randn(1, 4, *size)
        torch.testing.assert_close(export._with_padding(layer, size)(image), layer(image))


# ---- predictions --------------------------------------------------------------------------------


@pytest.fixture
def tiny():
    card = System(
        schema=1, name="tiny", title="Tiny", group="test", summary="A tiny one.", folds=2, members=(TINY,),
        views=Views(transforms=VIEWS), checkpoints=Checkpoints(layout="ours", pattern="{member}_fold{fold}.pth"),
    )  # fmt: skip
    yield zoo.register(card)
    zoo.unregister("tiny")


@pytest.fixture(scope="module")
def test_set(tmp_path_factory: pytest.TempPathFactory) -> TestSet:
    place = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(5)
    for number in range(20):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC)
        picture.save(place / f"I_{number:02d}.png")
    names = [f"I_{number:02d}" for number in range(20)]
    pd.DataFrame({"image": names, "target": [int(number < 5) for number in range(20)]}).to_csv(
        place / "table.csv", index=False
    )
    return read_test_set(place)


def test_what_is_exported_is_not_built_again(
    engine: str, tiny: System, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluate import compute

    settings = Settings(engine=engine)
    some = msgspec.structs.replace(test_set, images=test_set.images[:4])
    predict([untrained(tiny, 0)], some, settings)
    built: list[str] = []
    monkeypatch.setattr(
        compute,
        "network",
        lambda training, build: built.append(training.member.name) or loaded(training, build),
    )
    (again,) = predict([untrained(tiny, 0)], test_set, settings)
    assert not built
    (exact,) = predict([untrained(tiny, 0)], test_set)
    assert len(built) == 2, "torch runs each fold itself"
    assert (again.table["score"] - exact.table["score"]).abs().max() < export.TOLERANCE
    predict([untrained(tiny, 0, number_of_views=1)], test_set, settings)
    assert len(built) == 2, "what it is run on is no part of an export"
    predict([untrained(tiny, 1)], test_set, settings)
    assert len(built) == 4, "other weights are built, and exported"


def test_what_code_of_others_makes_is_built_each_time(
    engine: str, test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export by the name of what is called would miss what that imports."""

    def forget() -> None:
        for name in ("own_blocks", "own_builder"):
            sys.modules.pop(name, None)

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_blocks.py").write_text(BLOCKS.format(factor=1))
    (tmp_path / "own_builder.py").write_text("from own_blocks import Blocks as build\n")
    own = Member(name="own", network="own_builder:build", size=8, classes=("MEL", "NV"), melanoma=0)
    card = System(schema=1, name="own", title="Own", group="test", summary="Own.", folds=1, members=(own,))
    zoo.register(card)
    try:
        predict([untrained(card, 0)], test_set, Settings(engine=engine))
        (tmp_path / "own_blocks.py").write_text(BLOCKS.format(factor=3.5))
        forget()
        (job,) = [untrained(card, 0)]
        some = msgspec.structs.replace(test_set, images=test_set.images[:5])
        (exact,) = predict([job], some)
        (found,) = predict([job], some, Settings(engine=engine))
    finally:
        zoo.unregister("own")
        forget()
    assert (exact.table["score"] - found.table["score"]).abs().max() < export.TOLERANCE


BLOCKS = """
import torch
from torch import nn

class Blocks(nn.Module):
    def __init__(self, member):
        super().__init__()
        self.linear = nn.Linear(12, len(member.classes))

    def forward(self, images):
        pooled = nn.functional.avg_pool2d(images, 4).flatten(1)
        return {factor} * self.linear(pooled)
"""


def test_a_file_that_has_changed_is_not_answered_for_by_its_export(
    engine: str, tiny: System, test_set: TestSet, tmp_path: Path
) -> None:
    path = tmp_path / "small_fold0.pth"
    torch.save(alive(TINY).state_dict(), path)
    job = trained(tiny, [WeightFile(member=TINY.name, fold=0, path=path)])
    predict([job], msgspec.structs.replace(test_set, images=test_set.images[:4]), Settings(engine=engine))
    torch.save(alive(TINY, 1).state_dict(), path)
    with pytest.raises(MelanomaZooError, match="has changed since it was checked"):
        predict([job], test_set, Settings(engine=engine))


def test_predictions_of_all_engines_agree_and_say_what_made_them(
    engine: str, tiny: System, test_set: TestSet, tmp_path: Path
) -> None:
    (exact,) = predict([untrained(tiny, 0)], test_set)
    (found,) = predict([untrained(tiny, 0)], test_set, Settings(engine=engine, drift=6))
    apart = (found.table["score"] - exact.table["score"]).abs().max()
    assert 0 < apart < export.TOLERANCE, "0 would mean that torch ran again"
    assert exact.metadata["engine"] == {"engine": "torch", "why": ""}
    assert found.metadata["engine"] == {"engine": engine, "why": ""}
    assert found.metadata["software"][engine] == engines.versions(engine)[engine]
    assert found.metadata["drift"]["images"] == 6
    assert found.metadata["drift"]["max_difference"] <= apart
    write_predictions(found, tmp_path / "tiny.parquet")
    read = read_predictions(tmp_path / "tiny.parquet")
    assert read.notes == found.notes
    assert f"Run by {engine}." in read.notes


def test_each_engine_and_version_keeps_its_own_results(
    engine: str, tiny: System, test_set: TestSet, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        return len(list(kept.glob("probabilities-*.json")))

    predict([untrained(tiny, 0)], test_set)
    torchs = count()
    (first,) = predict([untrained(tiny, 0)], test_set, Settings(engine=engine))
    assert count() == 2 * torchs
    monkeypatch.setattr(engines, "_session", None)  # nothing may be computed again
    (again,) = predict([untrained(tiny, 0)], test_set, Settings(engine=engine))
    pd.testing.assert_frame_equal(first.table, again.table)
    assert count() == 2 * torchs


def test_drift_of_a_lower_precision_is_measured_unasked(tiny: System, test_set: TestSet) -> None:
    (exact,) = predict([untrained(tiny, 0)], test_set)
    (found,) = predict([untrained(tiny, 0)], test_set, Settings(precision="bf16"))
    told = found.metadata["drift"]
    some = sample(test_set, 8)
    assert told["images"] == len(some.images) == 8
    ids = [image.id for image in some.images]
    assert sum(name < "I_05" for name in ids) == 4, "half are melanomas"
    low, high = (each.table[each.table["image"].isin(ids)]["score"].to_numpy() for each in (found, exact))
    assert told["max_difference"] == pytest.approx(np.abs(low - high).max(), abs=1e-7)
    score = system_scores(found.table)
    threshold = score[[f"I_{number:02d}" for number in range(5)]].min()
    assert told["threshold"] == pytest.approx(threshold), "sensitivity 95% of 5 melanomas is all of them"
    changed = (score[ids] >= threshold) != (system_scores(exact.table)[ids] >= threshold)
    assert told["changed"] == changed.sum()
    assert told["auc_difference"] is not None
    (note,) = [note for note in found.notes if note.startswith("Against single precision in torch")]
    assert f"on 8 images: probabilities move by up to {told['max_difference']:.1g}" in note
    assert "sensitivity 95% on this test set" in note


def test_drift_without_labels_says_what_it_lacks(tiny: System, test_set: TestSet) -> None:
    bare = msgspec.structs.replace(test_set, labels=None, table=None)
    (found,) = predict([untrained(tiny, 0)], bare, Settings(precision="bf16", drift=100))
    told = found.metadata["drift"]
    assert (told["images"], told["threshold"], told["auc_reason"]) == (20, 0.5, "no labels")
    assert "ROC-AUC by n/a (no labels)" in " ".join(found.notes)


def predicted(test_set: TestSet, output: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        cli.main, ["predict", "tiny", "--untrained", "0", "--test-set", test_set.path, "--output", str(output), *words]
    )  # fmt: skip
    return result.exit_code, result.stderr


def test_the_command_says_what_auto_took_and_why(tiny: System, test_set: TestSet, tmp_path: Path) -> None:
    code, said = predicted(test_set, tmp_path / "a.parquet", "--engine", "auto")
    assert code == 0
    why = "160 forward passes of each network do not pay for an export (500 would)"
    assert f"note: Run by torch, which auto took since {why}." in said.splitlines()
    metadata = read_predictions(tmp_path / "a.parquet").metadata
    assert metadata["engine"] == {"engine": "torch", "why": why}


def test_the_command_refuses_in_one_line_before_it_works(
    tiny: System, test_set: TestSet, tmp_path: Path
) -> None:
    if not installed("onnxruntime"):
        pytest.skip("needs the extra onnx")
    code, said = predicted(test_set, tmp_path / "a.parquet", "--engine", "onnxruntime", "--precision", "bf16")
    assert code == 4
    (line,) = said.splitlines()
    assert "engine onnxruntime has no bf16 on a CPU" in line
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize("words", [["--engine", "torch"], ["--compile"]])
def test_an_engine_is_about_networks_that_are_run(words: list[str]) -> None:
    result = CliRunner().invoke(cli.main, ["compare", "--no-latency", *words])
    assert result.exit_code == 2
    assert f"{words[0]} is about networks that are run" in result.stderr


@pytest.mark.parametrize("other", OTHERS)
def test_only_torch_compiles(other: str, tiny: System, test_set: TestSet, tmp_path: Path) -> None:
    code, said = predicted(test_set, tmp_path / "a.parquet", "--engine", other, "--compile")
    assert code == 2
    (line,) = said.splitlines()
    assert f"--compile is torch's, and engine {other} compiles by itself; leave one of them out" in line


@pytest.mark.slow
def test_compiled_predictions_are_kept_apart_and_say_so(
    tiny: System, test_set: TestSet, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.utils import counters

    (exact,) = predict([untrained(tiny, 0)], test_set)
    before = list(kept.glob("probabilities-*"))
    monkeypatch.setattr(portions, "MOST_SHARDS", 1)
    compiling.forget()
    counters.clear()
    code, said = predicted(test_set, tmp_path / "a.parquet", "--compile", "--drift", "0")
    if "torch.compile fails here" in said:
        pytest.skip(f"needs what torch.compile needs: {said}")
    assert code == 0, said
    assert len(list(kept.glob("probabilities-*"))) == 2 * len(before)
    found = read_predictions(tmp_path / "a.parquet")
    assert found.metadata["compiled"] is True
    assert "compiled" not in exact.metadata
    assert "Compiled by torch.compile." in found.notes
    assert "note: Compiled by torch.compile." in said.splitlines()
    assert counters["stats"]["unique_graphs"] == 1, (
        "a member is compiled once for both folds and all portions"
    )
    pairs = found.table.merge(exact.table, on=["image", "member", "fold"], suffixes=("", "_exact"))
    assert len(pairs) == 40
    assert (pairs["score"] - pairs["score_exact"]).abs().max() < 1e-5


def test_drift_of_a_compiler_is_measured_unasked() -> None:
    assert Settings().drift_images == 0
    assert Settings(compiled=True).drift_images == Settings(precision="bf16").drift_images == 8
    assert Settings(compiled=True, drift=0).drift_images == 0
