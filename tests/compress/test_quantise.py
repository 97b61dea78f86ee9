"""Integer layers: rounding as it is bounded, what is counted, what stays in float, and graphs of networks of two and three dimensions."""

import dataclasses
import io
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from test_export_classifier import plain
from torch import nn

from vidkd.base.errors import ConfigError, DataError
from vidkd.compress import parity as parity_module
from vidkd.compress import quantise as quantise_module
from vidkd.compress.export import Exported, check_integers, export
from vidkd.compress.export_classifier import classifier_metadata, drawn, integers_of
from vidkd.compress.parity import Parity, generated_clips, signal_to_noise_db
from vidkd.compress.quantise import (
    HELD,
    Integers,
    Quantised,
    activation_bytes,
    quantise,
    run_in_integers,
    warn_if_saturating,
    weighted_layers,
)
from vidkd.compress.recipe import QuantiseConfig
from vidkd.compress.subject import add_to_notes
from vidkd.data.manifest import Clip
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.networks import NOT_AS_WRITTEN

CLIP = (2, 3, 4, 8, 8)
OLD = {"sse4_1", "avx2"}


class ThreeLayers(nn.Module):
    """Two convolutions of video and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.fc = nn.Conv3d(3, 8, 3, padding=1), nn.Conv3d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(clip))))
        scores: torch.Tensor = self.fc(hidden.mean((2, 3, 4)))
        return scores


class Attention(nn.Module):
    """Two heads over six tokens, with a position added to their scores, between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 5)
        self.position = nn.Parameter(torch.rand(1, 2, 6, 6))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(clip).reshape(len(clip), 6, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-2, -1) + self.position).softmax(-1)
        scores: torch.Tensor = self.out((weights @ value).transpose(1, 2).reshape(len(clip), 6, 16))
        return scores


def graph_of(net: nn.Module, example: torch.Tensor, outputs: Sequence[str] = ("out",)) -> bytes:
    open_batch = ({0: torch.export.Dim("batch")},) if len(example) > 1 else None
    names: dict[str, Any] = {"input_names": ["clip"], "output_names": list(outputs)}
    program = torch.onnx.export(net.eval(), (example,), dynamo=True, dynamic_shapes=open_batch, verbose=False, **names)
    assert program is not None
    file = io.BytesIO()
    onnx.save(program.model_proto, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def graph() -> bytes:
    return graph_of(ThreeLayers(), torch.rand(CLIP))


def feeds(count: int = 3, seed: int = 0, shape: Sequence[int] = CLIP) -> list[dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(seed)
    return [{"clip": rng.random(shape).astype(np.float32)} for _ in range(count)]


def run(graph: bytes, given: Sequence[dict[str, NDArray[Any]]]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"], disabled_optimizers=NOT_AS_WRITTEN)
    return [session.run(None, feed)[0] for feed in given]


def test_values_are_rounded_by_at_most_half_a_step() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 1, 1, bias=False)
            nn.init.ones_(self.conv.weight)

        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            same: torch.Tensor = self.conv(clip)
            return same

    given = feeds(shape=(1, 1, 4, 16, 16))
    given[0]["clip"].flat[:2] = 0, 1
    made = quantise(graph_of(Same(), torch.rand(1, 1, 4, 16, 16)), given, QuantiseConfig())
    step = 1 / 255
    values, found = np.concatenate([feed["clip"] for feed in given]), np.concatenate(run(made.graph, given))
    assert made.layers == {"conv": "Conv"}
    assert np.abs(found - values).max() <= step / 2 + 1e-6
    assert np.abs(found - values).max() > step / 4, "it does round"
    np.testing.assert_allclose(found / step, np.rint(found / step), atol=1e-3)


def test_every_layer_computes_in_integers_and_says_nearly_the_same(graph: bytes, tmp_path: Path) -> None:
    made = quantise(graph, feeds(), QuantiseConfig())
    assert made.layers == {"first": "Conv", "second": "Conv", "fc": "Gemm"}
    assert (made.convolutions, made.left) == (2, {})
    assert len(made.graph) < len(graph)
    scales = {tensor.name: list(tensor.dims) for tensor in onnx.load_from_string(made.graph).graph.initializer}
    assert scales["first.weight_scale"] == scales["second.weight_scale"] == [8], "one for each filter"
    other = feeds(seed=1)
    assert 25 < signal_to_noise_db(run(graph, other), run(made.graph, other)) < 80
    (tmp_path / "net.onnx").write_bytes(made.graph)
    (tmp_path / "float.onnx").write_bytes(graph)
    assert run_in_integers(tmp_path / "net.onnx") == (2, 2, 1)
    assert run_in_integers(tmp_path / "float.onnx") == (0, 2, 0)


def test_softmax_and_products_of_activations_stay_in_float(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    made = quantise(graph_of(Attention(), torch.rand(2, 6, 16)), feeds(shape=(2, 6, 16)), QuantiseConfig())
    assert sorted(made.layers.values()) == ["MatMul", "MatMul"]
    path.write_bytes(made.graph)
    model = onnx.load(path)
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    rounded = [name for node in model.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]]
    assert "Softmax" not in {made_by.get(name) for name in rounded}
    assert [made_by.get(name) for name in rounded].count("MatMul") <= 2, "the linear layers alone"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=NOT_AS_WRITTEN)
    kinds = [node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node]
    assert "Softmax" in kinds
    assert "QLinearSoftmax" not in kinds
    assert run_in_integers(path) == (0, 0, 2)
    pytest.importorskip("openvino")
    import openvino

    openvino.save_model(openvino.Core().read_model(path), str(tmp_path / "net.xml"), compress_to_fp16=False)
    assert run_in_integers(tmp_path / "net.xml") == (0, 0, 2)


def test_linear_layers_that_a_runtime_computes_in_float_are_an_error(graph: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    whole, excluded = quantise(graph, feeds(), QuantiseConfig()), quantise(graph, feeds(), QuantiseConfig(exclude=("fc",)))
    path.write_bytes(excluded.graph)
    check_integers(path, excluded)
    with pytest.raises(ConfigError, match=r"2 of 2 convolutions and 0 linear layers compute in integers here, 2 and 1 are in the file"):
        check_integers(path, whole)


def test_activations_of_one_sample_are_counted_as_torch_computes_them_and_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5))
    clip, caught = torch.rand(2, 3, 7, 7, 7), []
    whole = graph_of(net, clip)
    for layer in net:
        layer.register_forward_hook(lambda _layer, _given, output: caught.append(output[:1].numel() * output.element_size()))
    net(clip)
    counted = activation_bytes(onnx.load_from_string(whole))
    assert sum(caught) <= counted <= sum(caught) + 200, "and shapes, which are a few integers"
    free = {"available": round(HELD * counted)}
    monkeypatch.setattr(quantise_module.psutil, "virtual_memory", lambda: SimpleNamespace(**free))
    given = feeds(1, shape=(1, 3, 7, 7, 7))
    assert quantise(whole, given, QuantiseConfig()).convolutions == 2
    free["available"] -= 1
    with pytest.raises(ConfigError, match="the activations of one sample do not fit into memory"):
        quantise(whole, given, QuantiseConfig())


def test_what_cannot_be_quantised_is_refused(graph: bytes) -> None:
    with pytest.raises(ConfigError, match="nothing to find the ranges of activations on"):
        quantise(graph, [], QuantiseConfig())
    with pytest.raises(ConfigError, match="no layer of this network may compute in integers"):
        quantise(graph, feeds(), QuantiseConfig(exclude=("*",)))
    with pytest.raises(ConfigError, match="unknown layer 'frist'") as text:
        quantise(graph, feeds(), QuantiseConfig(exclude=("frist",)))
    assert text.value.lines["did you mean"] == "first"


def test_a_quantiser_that_skips_a_convolution_is_an_error(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = quantise_module.require("onnxruntime.quantization", "compress")
    whole = tools.quantize_static

    def skipping(*given: Any, nodes_to_exclude: list[str], **settings: Any) -> None:
        first = next(iter(weighted_layers(onnx.load(given[0])).values()))
        whole(*given, nodes_to_exclude=[*nodes_to_exclude, first], **settings)

    monkeypatch.setattr(tools, "quantize_static", skipping)
    with pytest.raises(ConfigError, match="left layers in float that it was to change") as text:
        quantise(graph, feeds(), QuantiseConfig())
    assert text.value.lines["layers"] == "first"


@pytest.mark.parametrize(("bits", "flags", "text"), [(8, OLD, True), (7, OLD, False), (8, {*OLD, "avx_vnni"}, False)])
def test_eight_bits_saturate_without_vnni(bits: Any, flags: set[str], text: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vidkd"):
        warn_if_saturating(QuantiseConfig(weight_bits=bits), "weight_bits: 7", flags)
    expected = ["this processor has no VNNI: its eight-bit products may saturate (weight_bits: 7 for files that run here)"]
    assert [record.getMessage() for record in caplog.records] == expected * text


CLASSES = ("Right", "Down", "Grow")
DATA = {"split": "1", "window": {"frames": 4, "stride": 1}, "transform": {"short_side": 36, "crop": 32}, "validation_fraction": 0.34}


def found(root: Path, *, condition_on_observed: bool = False, clips: int = 4, **data: object) -> Integers:
    config = load_config(settings={"data": {**DATA, "root": str(root), **data}})
    model = VideoClassifier(ModelConfig(condition_on_observed=condition_on_observed), 3, "rgb").eval()
    metadata = classifier_metadata(SavedClassifier(model=model, classes=CLASSES, view="rgb", run={}), config.data)
    return integers_of(config, metadata, QuantiseConfig(clips=clips))


def test_the_draw_walks_over_the_classes_and_differs_by_seed() -> None:
    clips = [
        Clip(path=f"{label}.mp4", start_s=0.0, end_s=1.0, label=label, group="g", subsets={"1": "train"})
        for label in [0] * 10 + [1] * 3 + [2] * 2
    ]
    first, second = (drawn(clips, QuantiseConfig(clips=6, seed=seed), CLASSES) for seed in (0, 1))
    assert first == drawn(clips, QuantiseConfig(clips=6), CLASSES)
    assert first != second
    for chosen in (first, second):
        assert [sorted(clips[number].label or 0 for number in chosen[turn : turn + 3]) for turn in (0, 3)] == [[0, 1, 2]] * 2
        assert len(set(chosen)) == 6
    assert sorted(drawn(clips, QuantiseConfig(), CLASSES)) == list(range(15))
    with pytest.raises(ConfigError, match="all 1 clips to find ranges on are of one class"):
        drawn(clips, QuantiseConfig(clips=1), CLASSES)
    with pytest.raises(DataError, match="no labelled training clips to find ranges on"):
        drawn([], QuantiseConfig(), CLASSES)


def test_only_training_clips_are_read(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(tiny_root, root)
    clips = read_clips_of_run(load_config(settings={"data": {**DATA, "root": str(root)}}))
    kept = {clip.path for clip in clips.train}
    assert clips.val
    for clip in clips.manifest.clips:
        if clip.path not in kept:
            (root / clip.path).unlink()
    made = found(root, clips=99)
    assert made.source == f"{len(kept)} training clips of 3 classes"
    assert [feed["clip"].shape for feed in made.feeds] == [(1, 3, 4, 32, 32)] * len(kept)
    assert made.feeds[0]["clip"].dtype == np.uint8


def test_observed_fractions_take_turns_and_are_inputs(tiny_root: Path) -> None:
    made = found(tiny_root, condition_on_observed=True, observe={"protocol": "early", "fractions": [0.5, 1.0]})
    assert [feed["observed"].tolist() for feed in made.feeds] == [[0.5], [1.0], [0.5], [1.0]]
    whole = found(tiny_root)
    assert list(whole.feeds[0]) == ["clip"]
    same = [np.array_equal(one["clip"], two["clip"]) for one, two in zip(made.feeds, whole.feeds, strict=True)]
    assert same == [False, True, False, True], "half a clip shows other frames"


NEAR = Parity(difference=0.1, scale=5.0, signal_db=30.0, agreement=1.0, answers="the same in 8 of 8", source="8 clips")
INTEGERS = Quantised(graph=b"", layers={"a": "Conv"}, left={"b": "exclude"})


@pytest.mark.parametrize(
    ("agreement", "signal_db", "expected"),
    [
        (1.0, 30.0, ""),
        (0.5, 3.0, ""),
        (0.375, 30.0, "the same in 8 of 8"),
        (None, 2.9, "signal to noise of its outputs 2.9 dB, below 3"),
        (0.0, -3.0, "the same in 8 of 8; signal to noise of its outputs -3.0 dB, below 3"),
    ],
)
def test_when_a_file_mostly_differs(agreement: float | None, signal_db: float, expected: str) -> None:
    assert dataclasses.replace(NEAR, agreement=agreement, signal_db=signal_db).apart == expected


def test_notes_hold_every_file_and_warn_of_integers_alone() -> None:
    apart, notes = dataclasses.replace(NEAR, agreement=0.0), dict[str, Any](calibration="clips")
    for name, parity, quantised in (("m.onnx", apart, INTEGERS), ("m.xml", NEAR, INTEGERS), ("m.pt2", apart, None)):
        add_to_notes(notes, Exported(source=None, path=Path(name), files=(), parity=parity, quantised=quantised))  # type: ignore[arg-type]
    assert notes["calibration"] == "clips"
    assert (notes["layers"], notes["left"], notes["integer_convolutions"]) == ({"a": "Conv"}, {"b": "exclude"}, 1)
    assert notes["parity"] == {
        "m.onnx": {"said": str(apart), "warning": "mostly differs from its network: the same in 8 of 8"},
        "m.xml": {"said": str(NEAR)},
        "m.pt2": {"said": str(apart)},
    }


def test_a_file_that_mostly_differs_is_kept_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_module, "LEAST_SIGNAL_DB", 99.0)
    source = plain(VideoClassifier(ModelConfig(), 2, "rgb"))
    feed = {"clip": generated_clips(source.metadata, 1).values}
    integers = Integers(config=QuantiseConfig(), feeds=[feed], source="noise")
    with caplog.at_level(logging.WARNING, "vidkd"):
        exported = export(source, tmp_path / "net.onnx", integers=integers)
    assert exported.parity.apart
    assert "net.onnx mostly differs from its network: " in caplog.text
    assert exported.path.exists()
