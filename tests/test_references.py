"""Systems without a card: models of timm, exported files, ONNX files and scores made elsewhere."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import cli
import zoo
from evaluate.predictions import read_elsewhere, read_predictions
from evaluate.preprocess import Geometry, normalise, shape
from zoo.card import Views
from zoo.errors import CardError, MachineError, MelanomaZooError, UnknownNameError, UsageError

SIDE = 32


class Small(nn.Module):
    """A classifier of three outputs whose batch norm has statistics of its own."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, outputs)
        self.norm.running_mean.uniform_(-1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(image)).relu().mean((2, 3)))


def small(outputs: int = 3) -> nn.Module:
    torch.manual_seed(3)
    return Small(outputs).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network exported for one image and for any number, by torch.export and as ONNX."""
    folder = tmp_path_factory.mktemp("exported")
    one, some = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(2, 3, SIDE, SIDE)
    any_batch = ({0: torch.export.Dim("batch")},)
    for name, network in (("small", small()), ("softmax", nn.Sequential(small(), nn.Softmax(1)))):
        torch.export.save(torch.export.export(network.eval(), (some,), dynamic_shapes=(any_batch[0],)), folder / f"{name}.pt2")  # fmt: skip
    torch.export.save(torch.export.export(small(), (one,)), folder / "one.pt2")
    if _have_onnx():
        from torch.onnx import export

        export(small(), (some,), str(folder / "small.onnx"), dynamo=True, dynamic_shapes=any_batch, external_data=False, verbose=False)  # fmt: skip
        export(small(), (one,), str(folder / "one.onnx"), dynamo=True, external_data=False, verbose=False)
    return folder


def _have_onnx() -> bool:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        return False
    return True


needs_onnx = pytest.mark.skipif(not _have_onnx(), reason="needs the extra `onnx` and onnxscript")
KINDS = ["small.pt2", "one.pt2", pytest.param("small.onnx", marks=needs_onnx), pytest.param("one.onnx", marks=needs_onnx)]  # fmt: skip


def reference(path: Path, options: str = ",melanoma=1") -> str:
    return f"{'onnx' if path.suffix == '.onnx' else 'torch'}:{path}{options}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_file_computes_what_its_network_did(files: Path, kind: str, batch: int) -> None:
    image = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = zoo.build(reference(files / kind))
    with torch.inference_mode():
        torch.testing.assert_close(network(image), small()(image), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            network(image.to(memory_format=torch.channels_last)), network(image), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_says_what_the_file_says(files: Path, kind: str) -> None:
    card = zoo.card(reference(files / kind))
    (member,) = card.members
    assert (member.size, member.classes, member.melanoma) == (SIDE, ("class_0", "MEL", "class_2"), 1)
    assert zoo.card(card.name) == card
    assert {each.about for each in card.assumptions} == {"normalisation", "resize"}


def test_options_replace_what_is_assumed(files: Path) -> None:
    name = reference(files / "small.pt2", ",classes=NV+BKL+MEL,mean=0.5,std=0.1+0.2+0.3,interpolation=bicubic,antialias=true,resize=40")  # fmt: skip
    (member,) = zoo.card(name).members
    assert (member.classes, member.melanoma) == (("NV", "BKL", "MEL"), 2)
    assert member.preprocess.mean == (0.5, 0.5, 0.5)
    assert member.preprocess.std == (0.1, 0.2, 0.3)
    assert (member.preprocess.interpolation, member.preprocess.antialias) == ("bicubic", True)
    assert (member.preprocess.resize, member.preprocess.crop) == (40, SIDE)
    assert zoo.card(name).assumptions == ()


def test_probabilities_become_logits_with_the_same_softmax(files: Path) -> None:
    image = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = zoo.build(reference(files / "softmax.pt2", ",melanoma=1,outputs=probabilities"))
    with torch.inference_mode():
        torch.testing.assert_close(network(image).softmax(1), small()(image).softmax(1))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ("", CardError, "which of 3 classes is melanoma|Say its index"),
        (",melanoma=3", UsageError, "not an index of 3 classes"),
        (",classes=2", UsageError, "has 3 outputs, not 2"),
        (",melanoma=1,size=64", UsageError, "takes images of 32 px and no others"),
        (",melanoma=1,colour=red", UsageError, "no option 'colour=red'"),
        (",melanoma=1,melanoma=2", UsageError, "there twice"),
        (",melanoma=1,mean=a", UsageError, "neither one number nor three"),
        (",melanoma=1,interpolation=cubic", UsageError, "Invalid enum value"),
        (",melanoma=1,kind=rank", UsageError, "kind says nothing"),
        (",classes=NV+BKL+AK", UsageError, "must be MEL"),
        (",classes=NV+MEL+MEL", UsageError, "two classes are 'MEL'"),
        (",classes=NV++MEL", UsageError, "has no name"),
        (",classes=10001,melanoma=1", UsageError, "not a whole number from 1 to 10000"),
        (f",melanoma={'9' * 5000}", UsageError, "not a whole number from 0"),
        (",melanoma=1,std=0", UsageError, "std above 0"),
        (",melanoma=1,resize=10,keep_shape=true", UsageError, "resize = 10 is less than the input size 32"),
    ],
)
def test_what_does_not_fit_is_told(files: Path, options: str, error: type[Exception], said: str) -> None:
    with pytest.raises((error, UsageError), match=said):
        zoo.card(reference(files / "small.pt2", options))


def test_files_that_are_not_there_or_broken_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="is not there") as met:
        zoo.card(f"torch:{tmp_path / 'no.pt2'}")
    assert met.value.exit_code == 3, "a file that is named and missing, as everywhere"
    for scheme in ("torch", "onnx") if _have_onnx() else ("torch",):
        path = tmp_path / f"broken.{scheme}"
        path.write_bytes(b"PK\x03\x04 nothing of it")
        with pytest.raises(CardError, match="damaged, or not the kind of file"):
            zoo.card(f"{scheme}:{path}")


def test_a_missing_extra_is_told(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (files / "any.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r"pip install 'melanoma-zoo\[onnx\]'"):
        zoo.card(f"onnx:{files / 'any.onnx'}")


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def _replant(source: Path, target: Path, change) -> Path:
    """A copy of an archive, its members changed by name and content; None leaves one as it is."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            content = old.read(item)
            changed = change(item.filename, content)
            new.writestr(item.filename, content if changed is None else changed)
    return target


def test_code_in_an_exported_file_never_runs(files: Path, tmp_path: Path) -> None:
    hit = tmp_path / "hit"
    pickled = io.BytesIO()
    torch.save(_Evil(hit), pickled)

    def unpickle(name: str, content: bytes) -> bytes | None:
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            first = next(iter(config["config"].values()))
            first["use_pickle"] = True
            return json.dumps(config).encode()
        return pickled.getvalue() if name.endswith("weights/weight_0") else None

    def call(name: str, content: bytes) -> bytes | None:
        text = content.decode(errors="ignore")
        return text.replace("torch.ops.aten.relu.default", "torch.hub.load").encode() if name.endswith("model.json") else None  # fmt: skip

    def evaluate(name: str, content: bytes) -> bytes | None:
        return _evaluating(hit, content) if name.endswith("model.json") else None

    for number, change in enumerate((unpickle, call, evaluate)):
        planted = _replant(files / "small.pt2", tmp_path / f"evil{number}.pt2", change)
        with pytest.raises(CardError):
            zoo.card(reference(planted))
    assert not hit.exists()


def _evaluating(hit: Path, content: bytes) -> bytes:
    evil = f"__import__('pathlib').Path('{hit}').touch()"
    return re.sub(r'"expr_str": "[^"]*"', f'"expr_str": "{evil}"', content.decode()).encode()


@pytest.mark.parametrize("place", ["constants/opaque_obj_0", "aotinductor/model/model.so", "aotinductor/model/model.wrapper_metadata.json"])  # fmt: skip
def test_a_part_that_carries_code_is_refused(files: Path, tmp_path: Path, place: str) -> None:
    planted = tmp_path / "evil.pt2"
    with zipfile.ZipFile(_replant(files / "small.pt2", planted, lambda *_: None), "a") as archive:
        archive.writestr(f"small/data/{place}", pickle.dumps(_Evil(tmp_path / "hit")))
    with pytest.raises(CardError, match="needs code to be read"):
        zoo.card(reference(planted))
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("root", ["small", "extra", "extra_files"])
@pytest.mark.parametrize("place", ["data/aotinductor/model/model.so", "models/model.JSON"])
def test_code_is_refused_whatever_the_folder_of_a_file_is_called(
    files: Path, tmp_path: Path, root: str, place: str
) -> None:
    """torch takes the first folder of an archive for its own, also one with the name of a part that nothing reads."""
    planted = tmp_path / "evil.pt2"
    with zipfile.ZipFile(files / "small.pt2") as old, zipfile.ZipFile(planted, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            name = f"{root}/{item.filename.partition('/')[2]}"
            if name.endswith("models/model.json") and place.endswith("JSON"):
                new.writestr(f"{root}/{place}", _evaluating(tmp_path / "hit", content))
            else:
                new.writestr(name, content)
        if not place.endswith("JSON"):
            new.writestr(f"{root}/{place}", b"a library")
    with pytest.raises(CardError) as refused:
        zoo.card(reference(planted))
    assert ("holds no network" if root == "extra_files" else "needs code to be read") in str(refused.value)
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("root", ["extra", "other"])
def test_the_folder_of_a_plain_network_may_have_any_name(files: Path, tmp_path: Path, root: str) -> None:
    renamed = tmp_path / "plain.pt2"
    with zipfile.ZipFile(files / "small.pt2") as old, zipfile.ZipFile(renamed, "w") as new:
        for item in old.infolist():
            new.writestr(f"{root}/{item.filename.partition('/')[2]}", old.read(item))
        new.writestr(f"{root}/extra/notes.txt", "of its author")
    assert zoo.card(reference(renamed)).members


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("first", ["model.json", "model.JSON", "model.anew"])
def test_what_is_checked_is_what_is_read(files: Path, tmp_path: Path, first: str) -> None:
    """torch takes the first of two parts of one name, in any letters, and programs of any ending."""
    with zipfile.ZipFile(files / "small.pt2") as old, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("/model.json"):
                new.writestr(f"small/models/{first}", _evaluating(tmp_path / "hit", content))
                if first == "model.anew":
                    continue
            new.writestr(item.filename, content)
    with pytest.raises(CardError, match="needs code to be read"):
        zoo.card(reference(tmp_path / "evil.pt2"))
    assert not (tmp_path / "hit").exists()


# --- timm


def test_timm_says_size_and_normalisation() -> None:
    (member,) = zoo.card("timm:vit_tiny_patch16_224").members
    assert (member.size, member.classes, member.melanoma) == (224, ("other", "MEL"), 1)
    assert member.preprocess.mean == (0.5, 0.5, 0.5)
    assert (member.preprocess.interpolation, member.preprocess.resize) == ("bicubic", 248)
    assert zoo.systems("timm:resnet10t") == ["timm:resnet10t"]
    assert "timm:resnet18" in zoo.systems("timm:resnet1*")
    with pytest.raises(UnknownNameError, match="did you mean timm:resnet18"):
        zoo.card("timm:resnet81")


def test_every_model_of_timm_has_a_card() -> None:
    for name in timm.list_models():
        zoo.card(f"timm:{name}")
    volo = zoo.card("timm:volo_d4_448")  # timm resizes to 389 pixels and adds a border
    assert volo.members[0].preprocess.resize == 448
    assert "resize" in [each.about for each in volo.assumptions]


@pytest.mark.parametrize("name", ["timm:test_vit,size=64,classes=9,melanoma=6", "timm:test_resnet,classes=1"])
def test_timm_models_are_timms_own(name: str) -> None:
    (member,) = zoo.card(name).members
    network = zoo.build(name, seed=5)
    assert network(torch.zeros(2, 3, member.size, member.size)).shape == (2, len(member.classes))
    extra = {"img_size": 64} if "vit" in name else {}
    theirs = timm.create_model(member.backbone, num_classes=len(member.classes), **extra)
    assert list(network.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("size", [(96, 96), (120, 90), (90, 121), (300, 400), (401, 299)])
@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "convnextv2_atto"])
def test_pixels_are_those_of_timms_own_transform(name: str, size: tuple[int, int]) -> None:
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    (member,) = zoo.card(f"timm:{name}").members
    ours = normalise(torch.from_numpy(shape(pixels, Geometry.of(member, Views()))), member.preprocess)[0]
    theirs = timm.data.create_transform(**config)(Image.fromarray(pixels))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.main, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def rows(*words: str) -> list[dict[str, object]]:
    """The frame's rows of a comparison of systems without latency."""
    more = ("--no-latency", "--resamples", "40", "--format", "json")
    result = CliRunner().invoke(cli.main, [*map(str, ("compare", *words, *more))], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["systems"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        draw(folder / f"ISIC_{number:07d}.jpg", number)
    table = pd.DataFrame(
        {"isic_id": [f"ISIC_{n:07d}" for n in range(6)], "diagnosis": ["melanoma", "nevus"] * 3}
    )
    table.to_csv(folder / "labels.csv", index=False)
    return folder


def test_a_timm_model_goes_all_the_way(photos: Path, tmp_path: Path) -> None:
    name = "timm:test_vit,size=64"
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=2, img_size=64).eval()
    torch.save(theirs.state_dict(), tmp_path / "anything.pth")
    run("predict", name, "--test-set", photos, "--weights", tmp_path / "anything.pth", "--output", tmp_path / "p.parquet")  # fmt: skip
    found = read_predictions(tmp_path / "p.parquet")
    config = timm.data.resolve_data_config({"img_size": 64}, model=theirs) | {"input_size": (3, 64, 64)}
    transform = timm.data.create_transform(**config)
    # A JPEG is decoded by the project's own rule, which timm's loader is not asked about here.
    from evaluate.images import decode

    images = [transform(Image.fromarray(decode(photos / f"{image}.jpg"))) for image in found.table["image"]]
    with torch.inference_mode():
        expected = theirs(torch.stack(images)).softmax(1)[:, 1].numpy()
    np.testing.assert_allclose(found.table["score"], expected, atol=1e-5)
    assert (found.system, found.metadata["weights"][0]["file"]) == (name, "anything.pth")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_goes_all_the_way(files: Path, photos: Path, tmp_path: Path, kind: str) -> None:
    name = reference(files / kind)
    run("predict", name, "--test-set", photos, "--output", tmp_path / "p.parquet")
    found = read_predictions(tmp_path / "p.parquet")
    assert found.metadata["weights"][0]["sha256"]
    assert found.table["score"].nunique() == 6
    (row,) = rows(name, "--test-set", photos)
    assert row["macs_pass"] == 3 * 4 * 9 * SIDE * SIDE + 4 * 3
    assert row["roc_auc"] is not None
    assert "leave --weights" in run("predict", name, "--test-set", photos, "--untrained", "0", "--output", tmp_path / "q.parquet", code=2)  # fmt: skip


def _onnx(path: Path, network: nn.Module, **open_axes: int) -> None:
    image = torch.zeros(2, 3, SIDE, SIDE)
    torch.onnx.export(network.eval(), (image,), path, dynamo=False, input_names=["i"], output_names=["o"], dynamic_axes={"i": {0: "b"} | {axis: name for name, axis in open_axes.items()}, "o": {0: "b"}})  # fmt: skip


@needs_onnx
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("weights", ["weights.bin", "w" * 200 + ".bin"])
def test_weights_beside_an_onnx_file_decide_what_is_kept(photos: Path, tmp_path: Path, weights: str) -> None:
    import onnx

    scores = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        _onnx(tmp_path / "whole.onnx", Small(2))
        (tmp_path / weights).unlink(missing_ok=True)
        onnx.save_model(onnx.load(tmp_path / "whole.onnx"), tmp_path / "net.onnx", save_as_external_data=True, location=weights, size_threshold=0)  # fmt: skip
        run("predict", f"onnx:{tmp_path / 'net.onnx'}", "--test-set", photos, "--output", tmp_path / "p.parquet")  # fmt: skip
        scores.append(read_predictions(tmp_path / "p.parquet").table["score"])
    assert not np.allclose(*scores)


@needs_onnx
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_file_that_cannot_be_run_is_one_line(photos: Path, tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    _onnx(tmp_path / "flat.onnx", flat, height=2, width=3)
    said = run("predict", f"onnx:{tmp_path / 'flat.onnx'},size=64", "--test-set", photos, "--output", tmp_path / "p.parquet", code=3)  # fmt: skip
    assert "cannot be run on images of 64 px" in said


@needs_onnx
def test_an_onnx_file_refuses_another_precision(files: Path, photos: Path, tmp_path: Path) -> None:
    name = reference(files / "small.onnx")
    text = run("predict", name, "--test-set", photos, "--precision", "bf16", "--output", tmp_path / "p.parquet", code=2)  # fmt: skip
    assert "leave --precision at fp32" in text


# --- scores made elsewhere


def test_scores_made_elsewhere_stand_beside_networks(
    photos: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # However long the name is, other columns are not folded.
    scores = tmp_path / "mine.csv"
    names = [f"ISIC_{n:07d}" for n in range(6)]
    pd.DataFrame({"image_name": names, "target": [0.9, 0.1, 0.8, 0.2, 0.3, 0.4]}).to_csv(scores, index=False)
    elsewhere = f"csv:{scores},kind=probability"
    assert read_elsewhere(zoo.card(elsewhere)).kind == "probability"
    assert read_elsewhere(zoo.card(f"csv:{scores}")).kind == "rank"
    both = (elsewhere, reference(files / "small.pt2"), "--test-set", photos)
    found = {row["system"]: row for row in rows(*both)}
    assert found[elsewhere]["parameters_networks"] is None
    assert found[elsewhere]["latency_ms_reason"] == "no network, scores alone"
    text = run("compare", *both, "--no-latency", "--resamples", "40", "--format", "markdown")
    assert "n/a (no network, scores alone)" in text
    (alone,) = rows(elsewhere, "--labels", photos / "labels.csv")
    assert alone["roc_auc"] == pytest.approx(8 / 9)
    assert "scores alone" in run("list", elsewhere)
    assert "made elsewhere" in run("show", elsewhere)
    assert "no network to run" in run("predict", elsewhere, "--test-set", photos, "--untrained", "0", "--output", tmp_path / "p.parquet", code=2)  # fmt: skip
    assert "by thop" in run("count", elsewhere)


def test_every_error_of_a_reference_is_of_the_family(tmp_path: Path) -> None:
    for name in ("timm:", "timm:?", "torch:.", f"csv:{tmp_path}", "csv:nothing.csv", "onnx:a,b"):
        with pytest.raises(MelanomaZooError):
            zoo.card(name)
