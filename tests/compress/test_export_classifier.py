"""Export of classifiers: the file says what the network says, on frames of real video files; and networks that cannot be exported."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from quick_backbones import quick_first
from torch import nn
from zeroed_filters import lively

from vidkd.base.errors import ConfigError
from vidkd.compress import export_classifier as export_module
from vidkd.compress import quantise as quantise_module
from vidkd.compress.export import Exported, Judged, export, write_card
from vidkd.compress.export_classifier import ClassifierSource, adaptive_avg_pool3d, resizing_text
from vidkd.compress.parity import Samples, compare_clips, generated_clips, signal_to_noise_db, video_clips
from vidkd.compress.quantise import Integers, run_in_integers
from vidkd.compress.recipe import QuantiseConfig
from vidkd.data.config import DataConfig
from vidkd.data.transforms import TransformConfig, evaluation_geometry, working_size
from vidkd.engine.config import load_config
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.backbones import BACKBONES
from vidkd.models.config import TemporalConfig
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


def source_of(saved: SavedClassifier) -> ClassifierSource:
    return ClassifierSource(saved, data_config(), "runs/a")


def plain(model: VideoClassifier) -> ClassifierSource:
    return source_of(SavedClassifier(model=model.eval(), classes=("a", "b"), view="rgb", run={}))


@pytest.fixture(scope="module")
def exported(saved: SavedClassifier, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(source_of(saved), tmp_path_factory.mktemp("exported") / "net.onnx")


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


def test_the_file_holds_all_that_running_it_needs_and_nothing_of_this_machine(exported: Exported) -> None:
    metadata = open_exported_classifier(exported.path).metadata
    assert metadata.to_json() == exported.source.metadata.to_json()
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
    model = VideoClassifier(ModelConfig(flow_bound_px=5.0), 2, "flow", flow_stack=3).eval()
    found = export(source_of(SavedClassifier(model=model, classes=("a", "b"), view="flow", run={})), tmp_path / "flow.pt2")
    assert found.source.metadata.clip_shape[0] == 6
    assert found.parity.difference < 1e-5
    program = torch.export.load(tmp_path / "flow.pt2", extra_files=(extra := {"vidkd.json": ""}))
    assert json.loads(extra["vidkd.json"])["input"]["bound_px"] == 5.0
    clip = torch.randn(3, 6, 4, 32, 32) * 4
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(clip)[0], model(clip).logits, atol=1e-5, rtol=1e-5)
    assert b"site-packages" not in (tmp_path / "flow.pt2").read_bytes()


def test_the_check_by_hand() -> None:
    """A network whose logits are 0 against a file that says the mean: off by it, the most probable class the same where both are even."""
    clips = Samples(values=np.full((2, 3, 4, 32, 32), 2, np.uint8), source="by hand")
    said = {"logits": np.zeros((2, 3), np.float32)}
    parity = compare_clips(said, lambda clips, _: {"logits": np.full((len(clips), 3), clips.mean(), np.float32)}, clips)
    assert (parity.difference, parity.scale, parity.agreement) == (2.0, 0.0, 1.0)
    assert str(parity) == (
        "largest difference to the network: 2 of outputs up to 0; most probable class the same in 2 of 2 clips (by hand)"
    )
    parity.check(2.0, "net.onnx", "--tolerance X")
    nothing = compare_clips(said, lambda clips, _: {"logits": np.full((len(clips), 3), np.nan)}, clips)
    for wrong in (parity, nothing):
        with pytest.raises(ConfigError, match=r"computes something else than the network: net\.onnx(.|\n)*--tolerance X, if so much"):
            wrong.check(1.9, "net.onnx", "--tolerance X")


def test_a_file_that_says_something_else_is_not_kept(saved: SavedClassifier, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match="computes something else than the network"):
        export(source_of(saved), path, tolerance=0.0)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_format_that_is_not_known(saved: SavedClassifier, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a format of export of this network: .*net\.h5"):
        export(source_of(saved), tmp_path / "net.h5")
    with pytest.raises(ConfigError, match=r"not a format of integers: .*net\.pt2"):
        export(source_of(saved), tmp_path / "net.pt2", integers=Integers(config=QuantiseConfig(), feeds=[], source=""))


@pytest.mark.parametrize("grid", [(2, 4, 4), (4, 3, 5), (1, 1, 1), (3, 7, 8), (4, 7, 8)])
def test_adaptive_pooling_is_that_of_torch(grid: tuple[int, int, int]) -> None:
    values = torch.randn(2, 3, 4, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(adaptive_avg_pool3d(values, grid), nn.functional.adaptive_avg_pool3d(values, grid))


class Undecided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


class Eigenvalues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = x[..., :4, :4]
        return x + torch.linalg.eigvals(square @ square.transpose(-1, -2)).real.sum()


def test_what_cannot_be_recorded_or_converted_is_refused_with_module_or_operation(tmp_path: Path) -> None:
    model = VideoClassifier(ModelConfig(), 2, "rgb")
    model.backbone.net.get_submodule("stage4").add_module("spatial", Undecided())
    with pytest.raises(ConfigError, match=r"torch\.export does not follow it(.|\n)*reason +: .*data-dependent"):
        export(plain(model), tmp_path / "net.onnx")
    model = VideoClassifier(ModelConfig(), 2, "rgb")
    model.backbone.net.get_submodule("stage2").append(Eigenvalues())  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"ONNX has no counterpart of an operation(.|\n)*operation +: aten\.linalg_eig"):
        export(plain(model), tmp_path / "net.onnx")


def test_the_card(exported: Exported) -> None:
    top1 = Judged(metric="top1", value=0.75, ci95=(0.5, 0.9), on="8 clips of 'test'")
    judged = [top1, Judged(metric="top5", value=1, ci95=None, on="8")]
    text = write_card(exported, data="tiny, split 1", judged=judged, licence="CC-BY-4.0").read_text(encoding="utf-8")
    assert text.startswith("# net.onnx\n\n| | |\n|---|---|\n")
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines()[4:])
    assert rows["Classes"] == "3: a, b\\|c, d"
    assert rows["Further label verb"] == "2: go, stay"
    assert rows["Resizing"] == resizing_text(data_config())
    message = "top1 0.750 (95 % interval 0.500 to 0.900), 8 clips of 'test'; top5 1.000 (no interval), 8"
    assert rows["Judged, before export"] == message
    assert rows["Size"].startswith(f"{exported.path.stat().st_size:,} bytes, ")
    assert rows["Licence of the weights"] == "CC-BY-4.0"
    assert rows["Parity"] == str(exported.parity)
    assert re.match(r"one clip, network alone: median [\d.]+ ms, 95th percentile [\d.]+ ms of 20 runs, 1 thread", rows["Speed"])
    plain = write_card(exported).read_text(encoding="utf-8")
    assert "| Licence of the weights | unknown: not stated |" in plain
    assert "| Judged, before export | not judged: nothing is known of an evaluation |" in plain
    assert "| Judged, this file | not judged: vidkd evaluate judges net.onnx |" in plain


def test_words_of_resizing_tell_the_geometry() -> None:
    config = DataConfig(transform=TransformConfig(short_side=72, crop=64), decode_short_side=128)
    assert resizing_text(config) == (
        "a shorter side above 128 pixels is shrunk to that when decoded; crop: aspect kept, the shorter side to 72 pixels; "
        "the middle square of that side is cut out and resized to 64 x 64; nothing padded"
    )
    height, width = working_size(100, 200, config.transform)
    square = evaluation_geometry(height, width, config.transform)
    assert (height, width, square.side, square.left, square.size) == (72, 144, 72, 36, 64)
    stretched = DataConfig(transform=TransformConfig(short_side=72, crop=64, square=True), decode_short_side=None)
    assert resizing_text(stretched).startswith("stretch: both sides scaled apart to 72 x 72 pixels, then to 64 x 64")
    assert "judged on 2 squares along the longer side" in resizing_text(data_config())


class BoundToItsBatch(nn.Module):
    """Code that holds for the batch size that it was recorded with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([row * 2 for row in x.unbind(0)])


def test_a_network_that_is_bound_to_its_batch_takes_one_clip_at_a_time(tmp_path: Path) -> None:
    model = VideoClassifier(ModelConfig(), 2, "rgb")
    model.backbone.net.get_submodule("stage3").append(BoundToItsBatch())  # type: ignore[operator]
    source = plain(model)
    exported = export(source, tmp_path / "net.onnx")
    assert not source.open_batch
    clips = torch.from_numpy(generated_clips(source.metadata).values)
    found = open_exported_classifier(exported.path, device="cpu").raw(clips.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(found["logits"], model(clips).logits.numpy(), atol=1e-5)
    assert export(source, tmp_path / "net.pt2").parity.agreement == 1
    assert "| Batch | one clip at a time" in write_card(exported).read_text(encoding="utf-8")


SIZES = {"tiny3d": (4, 32), "mvit_v2_s": (16, 224), "swin3d_t": (4, 64), "s3d": (16, 64)}
"""Frames and size of the crop, where 8 and 64 are not the least that a network takes, or more than it needs."""
BOUND_TO_ITS_BATCH = {"mvit_v2_s"}
TOO_LARGE_FOR_INTEGERS = {"mvit_v2_s": 20}
"""Finding the ranges of its activations, at the one size that it takes, needs more than so many GiB of memory."""
REFUSED_BY_OPENVINO = {"swin3d_t": "ScatterND-20"}
"""The operation that it does not convert: masks of windows that are not shifted along an axis are set on none of its places."""
CONVOLUTIONS = {
    **{"tiny3d": 5, "mobilenet_v3_small": 52, "r3d_18": 20, "mc3_18": 20, "r2plus1d_18": 37, "s3d": 77, "swin3d_t": 1},
    **{"x3d_xs": 114, "x3d_s": 114, "x3d_m": 114, "slow_r50": 53, "c2d_r50": 53, "r2plus1d_r50": 69},
}
"""Convolutions of each, in a count of their own."""
LEAST_SIGNAL_DB = {
    **{"tiny3d": 30, "mc3_18": 25, "r3d_18": 18, "swin3d_t": 18, "mobilenet_v3_small": 15, "c2d_r50": 11, "slow_r50": 8},
    **{"x3d_xs": 5, "x3d_s": 5, "x3d_m": 5, "r2plus1d_18": 4, "r2plus1d_r50": 25, "s3d": 5},
}
"""Signal to noise of the logits in integers, some decibels below what was measured with these random weights, of which little is left
after many layers; outputs of one size that have nothing to do with each other lie at -3. Where the weights of one layer of tiny3d are off
by a factor of two, 4 to 10 dB are left."""
SCALES = {"s3d": (0.8, 1.2), "r2plus1d_r50": (0.8, 1.2)}
SHIFTS = {"s3d": (2.0, 3.0), "r2plus1d_r50": (2.0, 3.0)}
"""Scales and shifts of normalisations under which the deepest networks of convolutions keep a signal in integers; with those of all others
1 dB and less is left."""
QUICK = {"tiny3d"}
"""Which `make test` runs too; test_detector_recipe.py counts those of a net of two dimensions there."""


def check_float_xml(name: str, source: ClassifierSource, path: Path, compared: Samples) -> None:
    """OpenVINO's file in float says what the network says, or is refused with the operation that it does not convert."""
    if name in REFUSED_BY_OPENVINO:
        check_refused(name, lambda: export(source, path, compared), path)
        return
    written = export(source, path, compared, tolerance=1e-3)
    assert written.parity.scale > 1e-3
    with torch.inference_mode():
        wanted = torch.cat([source.saved.model(torch.from_numpy(clip[None])).logits for clip in compared.values]).numpy()
    found = open_exported_classifier(path, device="cpu").raw(compared.values)["logits"]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def check_refused(name: str, write: Callable[[], object], path: Path) -> None:
    with pytest.raises(ConfigError, match="OpenVINO refuses the network") as text:
        write()
    assert text.value.lines["operations"] == REFUSED_BY_OPENVINO[name]
    assert not path.exists()


@pytest.mark.timeout(1200)  # of mvit_v2_s on one core
@pytest.mark.parametrize("name", quick_first(BACKBONES, QUICK))
def test_a_backbone_in_float_and_in_integers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    frames, crop = SIZES.get(name, (8, 64))
    data = load_config(settings={"data": {"window": {"frames": frames}, "transform": {"short_side": crop, "crop": crop}}}).data
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(backbone=name), 3, "rgb")
    clips = np.random.default_rng(0).integers(0, 256, (3, 3, frames, crop, crop), dtype=np.uint8)
    # with statistics of these clips, so that nothing vanishes on the way
    lively(model, torch.from_numpy(clips), scales=SCALES.get(name, (0.5, 1.5)), shifts=SHIFTS.get(name, (-0.5, 0.5)))
    saved = SavedClassifier(model=model.eval(), classes=("a", "b", "c"), view="rgb", run={})
    compared, source = Samples(values=clips, source="noise"), ClassifierSource(saved, data, "runs/a")
    whole = export(source, tmp_path / "net.onnx", compared, tolerance=1e-3)  # of random weights, whose rounding grows
    assert source.open_batch == (name not in BOUND_TO_ITS_BATCH)
    assert whole.parity.scale > 1e-3, "the network says something"
    check_float_xml(name, source, tmp_path / "net.xml", compared)
    integers = Integers(config=QuantiseConfig(), feeds=[{"clip": clip[None]} for clip in clips], source="noise")
    if name in TOO_LARGE_FOR_INTEGERS:  # never found out by taking the memory
        memory = SimpleNamespace(available=TOO_LARGE_FOR_INTEGERS[name] * 2**30)
        monkeypatch.setattr(quantise_module.psutil, "virtual_memory", lambda: memory)
        with pytest.raises(ConfigError, match="the activations of one sample do not fit into memory"):
            export(source, tmp_path / "net8.onnx", compared, integers=integers)
        return
    made = export(source, tmp_path / "net8.onnx", compared, integers=integers)
    assert made.quantised is not None
    assert made.quantised.convolutions == CONVOLUTIONS[name]
    assert not made.quantised.left
    assert made.bytes < 0.4 * whole.bytes
    with torch.inference_mode():
        wanted = saved.model(torch.from_numpy(clips)).logits.numpy()
    found = open_exported_classifier(made.path, device="cpu").raw(clips)["logits"]
    assert signal_to_noise_db([wanted], [found]) > LEAST_SIGNAL_DB[name]
    path = tmp_path / "net8.xml"
    if name in REFUSED_BY_OPENVINO:
        check_refused(name, lambda: export(source, path, compared, integers=integers), path)
        return
    written = export(source, path, compared, integers=integers)
    assert run_in_integers(path)[:2] == (CONVOLUTIONS[name], CONVOLUTIONS[name]), "all of them, as OpenVINO runs the file"
    assert written.parity.signal_db > LEAST_SIGNAL_DB[name]


@pytest.mark.parametrize(
    ("name", "pooling", "temporal"),
    [
        ("timm:test_efficientnet", "soft", {"pooling": "gru", "width": 16}),
        pytest.param("timm:test_efficientnet", "mean", {"pooling": "transformer", "width": 16}, marks=pytest.mark.slow),
        pytest.param("timm:resnet10t", "probabilistic", {"pooling": "difference", "shift": "both"}, marks=pytest.mark.slow),
    ],
)
def test_image_networks_with_their_pooling_over_time(name: str, pooling: Any, temporal: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    model = VideoClassifier(
        ModelConfig(backbone=name, attention=AttentionConfig(pooling=pooling), temporal=TemporalConfig(**temporal)), 2, "rgb"
    )
    clips = np.random.default_rng(0).integers(0, 256, (4, 3, 4, 32, 32), dtype=np.uint8)
    lively(model, torch.from_numpy(clips))
    nn.init.normal_(model.fc.weight)
    source, compared = plain(model), Samples(values=clips, source="noise")
    with torch.inference_mode():
        wanted = model(torch.from_numpy(clips)).logits.numpy()
        moved = model(torch.from_numpy(clips[:, :, ::-1].copy())).logits.numpy()
    assert np.abs(wanted - moved).max() > 0.01 or temporal["pooling"] != "gru", "the order of frames counts"
    integers = Integers(config=QuantiseConfig(), feeds=[{"clip": clip[None]} for clip in clips], source="noise")
    for suffix in (".onnx", ".xml"):
        written = export(source, tmp_path / f"net{suffix}", compared, tolerance=1e-3)
        found = open_exported_classifier(written.path, device="cpu").raw(clips)["logits"]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
        made = export(source, tmp_path / f"net8{suffix}", compared, integers=integers)
        found = open_exported_classifier(made.path, device="cpu").raw(clips)["logits"]
        assert made.quantised is not None
        assert not made.quantised.left
        assert signal_to_noise_db([wanted], [found]) > 8
