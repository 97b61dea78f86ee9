"""Samples on which ranges are found: what their activations take, and what is done where that is not to be had."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress import feeds as feeds_module
from vidkd.compress.calibration import calibration_of
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export_metadata import classifier_metadata
from vidkd.compress.feeds import HELD, Feed, activation_bytes, check_fits, fitting, one_by_one
from vidkd.compress.quantise import quantise
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier

ONE = (4 + 4 + 2) * 4
"""Bytes of what `two_layers` puts out for a sample: two of four numbers, and one of two."""


def two_layers(batch: int | str = "batch") -> onnx.ModelProto:
    """Four numbers, a Relu and a product with weights that makes two of them, whose batch is open."""
    rng = np.random.default_rng(0)
    weights = [onnx.numpy_helper.from_array(rng.random(shape).astype(np.float32), name) for name, shape in (("w", (4, 4)), ("v", (4, 2)))]
    nodes = [
        helper.make_node("MatMul", ["clip", "w"], ["hidden"], name="one"),
        helper.make_node("Relu", ["hidden"], ["positive"], name="relu"),
        helper.make_node("MatMul", ["positive", "v"], ["out"], name="two"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width]) for name, width in (("clip", 4), ("out", 2))]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def feeds(*sizes: int) -> list[Feed]:
    rng = np.random.default_rng(1)
    return [{"clip": rng.random((size, 4)).astype(np.float32)} for size in sizes]


def sizes(found: object) -> list[int]:
    assert isinstance(found, list)
    return [len(feed["clip"]) for feed in found]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], None]:
    """Sets how many bytes are to be had."""

    def told(number: float | None) -> None:
        monkeypatch.setattr(feeds_module, "available_bytes", lambda: None if number is None else int(number))

    return told


@pytest.mark.parametrize("batch", ["batch", 1])
def test_activations_of_one_sample_are_counted(batch: int | str) -> None:
    model = two_layers(batch)
    before = model.SerializeToString()
    assert activation_bytes(model) == ONE
    assert model.SerializeToString() == before


def test_the_count_is_that_of_torch() -> None:
    """Of a network of the kind that is exported, whose every activation is caught as torch computes it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5))
    clip, caught = torch.rand(2, 3, 7, 7, 7), []
    for layer in net:
        layer.register_forward_hook(lambda _layer, _given, output: caught.append(output[:1].numel() * output.element_size()))
    net(clip)
    counted = sum(caught)
    program = torch.onnx.export(net.eval(), (clip,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
    assert program is not None
    assert counted <= activation_bytes(program.model_proto) <= counted + 200, "and shapes, which are a few integers"


@pytest.mark.parametrize(
    ("available", "expected"),
    [(None, [3, 2]), (3 * HELD * ONE, [3, 2]), (3 * HELD * ONE - 1, [1] * 5), (HELD * ONE, [1] * 5)],
)
def test_batches_that_do_not_fit_are_parted(
    available: float | None, expected: list[int], free: Callable[[float | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    free(available)
    given = feeds(3, 2)
    with caplog.at_level(logging.INFO, "vidkd"):
        found = fitting(two_layers(), given, keeps=False)
    assert sizes(found) == expected
    assert np.array_equal(*(np.concatenate([feed["clip"] for feed in each]) for each in (given, found)))
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == (
        ["ranges are found sample by sample"] if expected == [1] * 5 else []
    )


def test_one_sample_that_does_not_fit_is_refused_before_anything_runs(free: Callable[[float | None], None]) -> None:
    free(HELD * ONE - 1)
    with pytest.raises(ConfigError, match="the activations of one sample do not fit into memory") as told:
        fitting(two_layers(), feeds(3), keeps=False)
    assert list(told.value.lines) == ["needed", "available", "fix"]
    assert "data.window.frames" in told.value.lines["fix"]


def test_histograms_need_all_at_once(free: Callable[[float | None], None]) -> None:
    free((5 + HELD) * ONE)
    assert sizes(fitting(two_layers(), feeds(3, 2), keeps=True)) == [1] * 5
    free((5 + HELD) * ONE - 1)
    with pytest.raises(ConfigError, match="the activations of 5 samples do not fit into memory, where histograms") as told:
        fitting(two_layers(), feeds(3, 2), keeps=True)
    assert told.value.lines["fix"] == "ranges: minmax, or fewer clips (4 would fit)"
    free(None)
    assert sizes(fitting(two_layers(), feeds(3, 2), keeps=True)) == [1] * 5


def test_ranges_found_sample_by_sample_are_the_same(free: Callable[[float | None], None]) -> None:
    graph = two_layers().SerializeToString()
    free(None)
    whole = quantise(graph, feeds(3, 2), QuantiseConfig())
    free(HELD * ONE)
    assert quantise(graph, feeds(3, 2), QuantiseConfig()).graph == whole.graph
    free(0)
    with pytest.raises(ConfigError, match="do not fit into memory"):
        quantise(graph, feeds(3, 2), QuantiseConfig())
    assert list(quantise(graph, [], QuantiseConfig(kind="dynamic")).layers) == ["one", "two"], "which finds no ranges beforehand"


def test_what_fits_is_told_in_gibibytes(free: Callable[[float | None], None]) -> None:
    free(2**31)
    check_fits(2**31, "all of it", hint="less")
    with pytest.raises(ConfigError, match="all of it") as told:
        check_fits(2**32, "all of it", hint="less")
    assert told.value.lines == {"needed": "about 4.0 GiB", "available": "2.0 GiB", "fix": "less"}


def test_clips_that_do_not_fit_are_refused_before_one_is_read(tiny_root: Path, free: Callable[[float | None], None]) -> None:
    data = {"root": str(tiny_root), "window": {"frames": 4, "stride": 1}, "transform": {"short_side": 36, "crop": 32}}
    config = load_config(settings={"data": data})
    saved = SavedClassifier(model=VideoClassifier(ModelConfig(), 3, "rgb").eval(), classes=("Right", "Down", "Grow"), view="rgb", run={})
    metadata = classifier_metadata(saved, config.data)
    free(6 * 3 * 4 * 32 * 32)
    assert [feed["clip"].shape for feed in calibration_of(config, metadata, clips=6).feeds] == [(6, 3, 4, 32, 32)]
    free(6 * 3 * 4 * 32 * 32 - 1)
    with pytest.raises(ConfigError, match="6 clips to find ranges on do not fit into memory") as told:
        calibration_of(config, metadata, clips=6)
    assert "--int8-clips" in told.value.lines["fix"]


def test_batches_are_parted_for_a_graph_that_takes_one() -> None:
    given = [{"clip": np.arange(6).reshape(3, 2), "observed": np.arange(3)}, {"clip": np.full((1, 2), 9), "observed": np.full(1, 9)}]
    found = one_by_one(given)
    assert [feed["clip"].tolist() for feed in found] == [[[0, 1]], [[2, 3]], [[4, 5]], [[9, 9]]]
    assert [feed["observed"].tolist() for feed in found] == [[0], [1], [2], [9]]
