"""Export of classifiers: the file says what the network says, on frames of real video files; and networks that cannot be exported."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress import export_classifier as export_module
from vidkd.compress.export import Exported
from vidkd.compress.export_card import Judged, judged_rows, resizing_text, write_card
from vidkd.compress.export_classifier import (
    ExportedOutputs,
    adaptive_avg_pool3d,
    classifier_metadata,
    export_classifier,
    onnx_program,
    said_of,
    traced,
)
from vidkd.compress.parity import Clips, compare, generated_clips, video_clips
from vidkd.data.config import DataConfig
from vidkd.data.exported import shown_data
from vidkd.engine.config import load_config
from vidkd.inference.predict import predict_video
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.exported import ExportedModule
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.opening import open_exported_classifier

DATA = {"window": {"frames": 4, "stride": 2}, "transform": {"short_side": 36, "crop": 32}, "eval_clips": 2, "eval_crops": 2}


def data_config() -> DataConfig:
    return load_config(settings={"data": DATA}).data


@pytest.fixture(scope="module")
def saved() -> SavedClassifier:
    """An RGB network with a map, a further label, and told which share of a clip it sees; its logits spread as those of a trained one."""
    torch.manual_seed(0)
    config = ModelConfig(attention=AttentionConfig(pooling="soft", residual=True), condition_on_observed=True)
    model = VideoClassifier(config, 3, "rgb", {"verb": 2}).eval()
    with torch.no_grad():
        for parameter in (model.fc.weight, model.target_fc["verb"].weight, model.observed.net[2].weight):  # type: ignore[union-attr, index]
            parameter.normal_()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return SavedClassifier(model=model, classes=("a", "b|c", "d"), targets={"verb": ("go", "stay")}, view="rgb", run={"data": DATA})


@pytest.fixture(scope="module")
def exported(saved: SavedClassifier, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_classifier(saved, data_config(), tmp_path_factory.mktemp("exported") / "net.onnx")


def videos(root: Path) -> list[Path]:
    return sorted((root / "videos").rglob("*.mp4"))[:3]


def test_every_value_is_that_of_the_network_on_video(saved: SavedClassifier, exported: Exported, tiny_root: Path) -> None:
    clips = video_clips(videos(tiny_root), data_config(), "rgb")
    classifier = open_exported_classifier(exported.path, device="cpu")
    shares = np.linspace(0.1, 1, len(clips.values), dtype=np.float32)
    found = classifier.raw(clips.values, shares)
    with torch.inference_mode():
        output = saved.model(torch.from_numpy(clips.values), torch.from_numpy(shares))
    assert len(clips.values) >= 6
    assert float(output.logits.std(0).min()) > 0.1, "clips differ for the network"
    for name, wanted in {"logits": output.logits, "target_verb": output.targets["verb"], "attention": output.attention["motion"]}.items():
        np.testing.assert_allclose(found[name], wanted.numpy(), atol=2e-5, rtol=1e-5)
    assert np.abs(found["logits"] - classifier.raw(clips.values)["logits"]).max() > 0.01, "it is told the share"


def test_along_a_video_it_sees_the_same_windows_and_says_the_same(saved: SavedClassifier, exported: Exported, tiny_root: Path) -> None:
    video = videos(tiny_root)[0]
    here = list(predict_video(video, TorchClassifier(saved.model), data_config(), step_s=0.1))
    classifier = open_exported_classifier(exported.path, device="cpu")
    there = list(predict_video(video, classifier, shown_data(classifier.metadata, "net.onnx"), step_s=0.1))
    assert len(here) == len(there) > 1
    for one, two in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.frames, two.frames)
        assert (one.geometry, one.size, one.shift_cells) == (two.geometry, two.size, two.shift_cells)
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-6)
        np.testing.assert_allclose(one.attention, two.attention, atol=1e-6)


def test_where_a_network_is_asked_for_it_gives_what_the_network_gives(saved: SavedClassifier, exported: Exported) -> None:
    clip = torch.from_numpy(generated_clips(exported.metadata).values)
    module = ExportedModule(open_exported_classifier(exported.path, device="cpu"))
    shares = torch.tensor([0.2, 0.4, 0.6, 1.0])
    with torch.inference_mode():
        found, wanted = module(clip, shares), saved.model(clip, shares)
    torch.testing.assert_close(found.logits, wanted.logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.targets["verb"], wanted.targets["verb"], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.attention["motion"], wanted.attention["motion"], atol=2e-5, rtol=1e-5)
    assert (module.view, module.targets) == ("rgb", {"verb": 2})


def test_the_file_holds_all_that_running_it_needs_and_nothing_of_this_machine(exported: Exported) -> None:
    metadata = open_exported_classifier(exported.path).metadata
    assert metadata.to_json() == exported.metadata.to_json()
    assert (metadata.classes, metadata.targets, metadata.observed) == (("a", "b|c", "d"), {"verb": ("go", "stay")}, True)
    assert (metadata.input.mean, metadata.input.std) == ((0.45,) * 3, (0.225,) * 3)
    assert metadata.map_shift_cells == -0.4375
    content = exported.path.read_bytes()
    assert str(Path(export_module.__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content
    model = onnx.load(exported.path)
    assert [side.dim_param != "" for side in model.graph.input[0].type.tensor_type.shape.dim] == [True, False, False, False, False]
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 6, "five of the backbone and that of the map"
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_a_flow_network_and_its_pt2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(flow_bound_px=5.0), 2, "flow").eval()
    data = load_config(settings={"data": DATA}).data
    flow = SavedClassifier(model=model, classes=("a", "b"), view="flow", run={})
    found = export_classifier(flow, data, tmp_path / "flow.pt2")
    assert found.parity.logits < 1e-5
    assert found.parity.clips == 4
    program = torch.export.load(tmp_path / "flow.pt2", extra_files=(extra := {"vidkd.json": ""}))
    assert json.loads(extra["vidkd.json"])["input"]["bound_px"] == 5.0
    clip = torch.randn(3, 2, 4, 32, 32) * 4
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(clip)[0], model(clip).logits, atol=1e-5, rtol=1e-5)
    assert b"site-packages" not in (tmp_path / "flow.pt2").read_bytes()


def wrong(clips: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.full((len(clips), 3), clips.mean(), np.float32)}


def test_openvino_says_the_same_from_two_files(saved: SavedClassifier, exported: Exported, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    found = export_classifier(saved, data_config(), tmp_path / "net.xml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    assert found.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert found.metadata.to_json() == exported.metadata.to_json()
    assert str(tmp_path) not in found.path.read_text(encoding="utf-8")
    clips = generated_clips(found.metadata).values
    one, two = (open_exported_classifier(path, device="cpu")(clips) for path in (exported.path, found.path))
    np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-5)
    np.testing.assert_allclose(one.attention, two.attention, atol=1e-5)


def no_numbers(clips: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.full((len(clips), 3), np.nan)}


def other_shape(clips: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.zeros((len(clips), 2))}


def test_the_check_by_hand() -> None:
    """A network whose logits are 0 against a file that says the mean: off by it, the most probable class the same where both are even."""
    model = VideoClassifier(ModelConfig(), 3, "rgb").eval()
    nn.init.zeros_(model.fc.weight)
    clips = Clips(values=np.full((2, 3, 4, 32, 32), 2, np.uint8), source="by hand")
    said = said_of(ExportedOutputs(model), clips)
    parity = compare(said, wrong, clips, tolerance=2.0, what="net.onnx")
    assert (parity.logits, parity.probabilities, parity.scale, parity.clips, parity.agree) == (2.0, 0.0, 0.0, 2, 2)
    assert "largest difference to the network: 2 of outputs up to 0, 0 of probabilities" in str(parity)
    assert "the same in 2 of 2 clips (by hand)" in str(parity)
    for raw in (wrong, no_numbers, other_shape):
        with pytest.raises(ConfigError, match=r"the exported file does not say what the network says: net\.onnx"):
            compare(said, raw, clips, tolerance=1.9, what="net.onnx")


def test_a_file_that_says_something_else_is_not_kept(saved: SavedClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(graph: Any, path: Path) -> Any:
        path.write_bytes(b"new")
        return _zeros(graph.outputs)

    monkeypatch.setitem(export_module.FORMATS, ".onnx", write)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match="does not say what the network says"):
        export_classifier(saved, data_config(), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def _zeros(outputs: ExportedOutputs) -> Any:
    shapes = {"logits": (3,), "target_verb": (2,), "attention": (2, 4, 4)}
    return lambda clips, shares: {name: np.zeros((len(clips), *shapes[name]), np.float32) for name in outputs.names}


def test_a_format_that_is_not_known(saved: SavedClassifier, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a format of export: .*net\.h5"):
        export_classifier(saved, data_config(), tmp_path / "net.h5")


@pytest.mark.parametrize("grid", [(2, 4, 4), (4, 3, 5), (1, 1, 1), (3, 7, 8), (4, 7, 8)])
def test_adaptive_pooling_is_that_of_torch(grid: tuple[int, int, int]) -> None:
    values = torch.randn(2, 3, 4, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(adaptive_avg_pool3d(values, grid), nn.functional.adaptive_avg_pool3d(values, grid))


class Pooled(nn.Module):
    """A map of an even grid brought to one that does not divide it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        coarse = nn.functional.adaptive_avg_pool3d(x, (x.shape[2] - 1, 3, 3))
        return x + coarse.mean(dim=(2, 3, 4), keepdim=True) * coarse.amax(dim=(2, 3, 4), keepdim=True)


def test_a_network_with_adaptive_pooling_is_exported(tmp_path: Path) -> None:
    model = VideoClassifier(ModelConfig(), 2, "rgb").eval()
    model.backbone.net.get_submodule("stage3").append(Pooled())  # type: ignore[operator]
    saved = SavedClassifier(model=model, classes=("a", "b"), view="rgb", run={})
    assert export_classifier(saved, data_config(), tmp_path / "net.onnx").parity.logits < 1e-5


class Undecided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


class Eigenvalues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = x[..., :4, :4]
        return x + torch.linalg.eigvals(square @ square.transpose(-1, -2)).real.sum()


@pytest.fixture
def small() -> tuple[VideoClassifier, Any]:
    model = VideoClassifier(ModelConfig(), 2, "rgb").eval()
    return model, classifier_metadata(SavedClassifier(model=model, classes=("a", "b"), view="rgb", run={}), data_config())


def test_what_depends_on_its_data_is_refused_with_the_module(small: tuple[VideoClassifier, Any]) -> None:
    model, metadata = small
    model.backbone.net.get_submodule("stage4").add_module("spatial", Undecided())
    with pytest.raises(ConfigError) as caught:
        traced(ExportedOutputs(model), metadata)
    assert "torch.export does not follow it" in str(caught.value)
    assert re.search(r"module +: backbone\.net\.stage4\.spatial$", str(caught.value), re.MULTILINE)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_an_operation_that_onnx_lacks_is_refused_with_the_module(small: tuple[VideoClassifier, Any]) -> None:
    model, metadata = small
    model.backbone.net.get_submodule("stage2").append(Eigenvalues())  # type: ignore[operator]
    outputs = ExportedOutputs(model)
    with pytest.raises(ConfigError) as caught:
        onnx_program(traced(outputs, metadata), outputs, metadata)
    text = str(caught.value)
    assert "ONNX has no counterpart of an operation" in text
    assert re.search(r"module +: backbone\.net\.stage2\.3$", text, re.MULTILINE)
    assert re.search(r"operation +: aten\.linalg_eig", text)


def test_the_card(exported: Exported) -> None:
    top1 = Judged(metric="top1", value=0.75, ci95=(0.5, 0.9), on="8 clips of 'test'")
    judged = [top1, Judged(metric="top5", value=1, ci95=None, on="8")]
    text = write_card(exported, data="tiny, split 1", judged=judged, licence="CC-BY-4.0").read_text(encoding="utf-8")
    assert text.startswith("# net.onnx\n\n| | |\n|---|---|\n")
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines()[4:])
    assert rows["Classes"] == "3: a, b\\|c, d"
    assert rows["Further label verb"] == "2: go, stay"
    assert rows["Resizing"] == resizing_text(exported.metadata.shown)
    told = "top1 0.750 (95 % interval 0.500 to 0.900), 8 clips of 'test'; top5 1.000 (no interval), 8"
    assert rows["Judged, before export"] == told
    assert rows["Size"].startswith(f"{exported.path.stat().st_size:,} bytes, ")
    assert rows["Licence of the weights"] == "CC-BY-4.0"
    assert rows["Parity"] == str(exported.parity)
    assert re.match(r"one clip, network alone: median [\d.]+ ms, 95th percentile [\d.]+ ms of 20 runs, 1 thread", rows["Speed"])
    plain = write_card(exported).read_text(encoding="utf-8")
    assert "| Licence of the weights | unknown: nobody stated it |" in plain
    assert "| Judged, before export | not judged: nothing is known of an evaluation |" in plain
    assert "| Judged, this file | not judged: vidkd evaluate judges net.onnx |" in plain


def test_a_card_tells_the_network_in_float_from_the_file_in_integers() -> None:
    before, after = (Judged(metric="top1", value=value, ci95=None, on="8 clips") for value in (0.75, 0.5))
    rows = judged_rows(Path("net.xml"), [before], [after], integers=True)
    assert rows == {
        "Judged, before export": "the network in float: top1 0.750 (no interval), 8 clips",
        "Judged, this file": "top1 0.500 (no interval), 8 clips",
    }
    rows = judged_rows(Path("net.pt2"), [], [], integers=False, why_not="other weights")
    assert list(rows.values()) == ["not judged: other weights", "not judged: vidkd does not run this format"]


class BoundToItsBatch(nn.Module):
    """Code that holds for the batch size that it was recorded with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([row * 2 for row in x.unbind(0)])


def test_a_network_that_is_bound_to_its_batch_takes_one_clip_at_a_time(tmp_path: Path) -> None:
    model = VideoClassifier(ModelConfig(), 2, "rgb").eval()
    model.backbone.net.get_submodule("stage3").append(BoundToItsBatch())  # type: ignore[operator]
    saved = SavedClassifier(model=model, classes=("a", "b"), view="rgb", run={})
    exported = export_classifier(saved, data_config(), tmp_path / "net.onnx")
    assert not exported.open_batch
    assert exported.parity.clips == 4
    clips = torch.from_numpy(generated_clips(exported.metadata).values)
    found = open_exported_classifier(exported.path, device="cpu").raw(clips.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(found["logits"], model(clips).logits.numpy(), atol=1e-5)
    assert export_classifier(saved, data_config(), tmp_path / "net.pt2").parity.clips == 4
    assert "| Batch | one clip at a time" in write_card(exported).read_text(encoding="utf-8")
