"""Parameters, multiply-accumulates and bytes: counted where a network is there, told where a file tells, unknown otherwise."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from speed_models import tiny_checkpoint, tiny_export
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.bench.speed import cost as cost_module
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.cost import Cost, cost_of
from vidkd.bench.speed.opening import OpenModel, clip_input, open_model
from vidkd.compress.export import export
from vidkd.compress.export_detector import DetectorSource
from vidkd.models.darknet import Darknet, to_cfg
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.macs import network_cost

TINY = Path(__file__).parents[3] / "configs" / "darknet" / "tiny_student.cfg"


class ByHand(nn.Module):
    """Three channels to five by a 1 x 3 x 3 filter without padding, then a linear layer on the means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 5, (1, 3, 3), bias=False)
        self.fc = nn.Linear(5, 7)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(clip.float()).mean((2, 3, 4)))


def by_hand() -> OpenModel:
    network = ByHand()
    return OpenModel(
        kind="classifier",
        runs_on="torch",
        threads=1,
        answer=lambda batch: network(torch.from_numpy(batch)),
        model=network,
        network=network,
        input=clip_input(["rgb"], 4, 10),
    )


def test_a_net_counted_by_hand() -> None:
    found = cost_of(ModelSpec(backbone="by hand"), by_hand())
    assert found.macs == found.macs_torch == 4 * 8 * 8 * 5 * 3 * 9 + 5 * 7
    assert found.parameters == 5 * 3 * 9 + 5 * 7 + 7
    assert 4 * found.parameters < found.file_bytes < 4 * found.parameters + 4000
    assert found.notes == []


def test_both_counters_agree_on_a_network_with_attention() -> None:
    spec = ModelSpec(backbone="mvit_v2_s")
    found = cost_of(spec, open_model(spec, threads=1, shape=ShapeSpec(frames=4, size=64)))
    assert found.macs == found.macs_torch
    assert found.notes == []


def cost_and_model(**spec: Any) -> Cost:
    given = ModelSpec(**{name: str(path) for name, path in spec.items()})
    return cost_of(given, open_model(given, threads=1))


def test_an_exported_file_records_its_parameters_and_its_source_has_the_rest(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    alone, own = cost_and_model(checkpoint=exported), cost_and_model(checkpoint=checkpoint)
    assert (alone.parameters, alone.macs, alone.file_bytes) == (own.parameters, None, exported.stat().st_size)
    assert "multiply-accumulates: not in the file" in alone.notes[0]
    found = cost_and_model(checkpoint=exported, source=checkpoint)
    assert (found.macs, found.macs_torch, found.parameters) == (own.macs, own.macs_torch, own.parameters)
    assert found.file_bytes == exported.stat().st_size
    other = tiny_checkpoint(tmp_path / "four.pt", classes=("Right", "Down", "Grow", "Turn"))
    with pytest.raises(ConfigError, match="was not written from"):
        cost_and_model(checkpoint=exported, source=other)


@pytest.fixture(scope="module")
def found_by_net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Darknet, Path]:
    """A darknet detector of two classes at 96 x 64 pixels, and the file that it becomes, with its cfg next to it."""
    folder = tmp_path_factory.mktemp("darknet")
    net = Darknet.from_cfg(TINY, classes=2, input_size=(96, 64)).eval()
    export(DetectorSource(DarknetDetector(net, ("one", "two")), "net"), folder / "net.onnx", tolerance=math.inf)
    (folder / "net.cfg").write_text(to_cfg(net.config))
    return net, folder / "net.onnx"


def test_the_source_of_a_detector_has_what_it_costs(found_by_net: tuple[Darknet, Path]) -> None:
    net, path = found_by_net
    found, bare = cost_and_model(detector=path, source=path.with_suffix(".cfg")), cost_and_model(detector=path)
    own = network_cost(net, torch.zeros(1, 3, 64, 96))
    assert (found.macs, found.macs_torch, found.parameters) == (own.macs, own.macs, own.parameters)
    assert (found.file_bytes, found.notes) == (path.stat().st_size, [])
    assert (bare.macs, bare.parameters, bare.file_bytes) == (None, None, path.stat().st_size)
    assert "name its `source`" in bare.notes[0]


@pytest.mark.parametrize(("changed", "text"), [({"classes": 3}, "3 classes"), ({"input_size": (64, 64)}, "64 x 64 pixels")])
def test_a_cfg_of_another_detector_is_no_source(
    changed: dict[str, Any], text: str, found_by_net: tuple[Darknet, Path], tmp_path: Path
) -> None:
    _, path = found_by_net
    settings: dict[str, Any] = {"classes": 2, "input_size": (96, 64), **changed}
    other = tmp_path / "other.cfg"
    other.write_text(to_cfg(Darknet.from_cfg(TINY, **settings).config))
    with pytest.raises(ConfigError, match="was not written from") as error:
        cost_and_model(detector=path, source=other)
    assert text in error.value.lines["source"]
    assert error.value.lines["file"] == "96 x 64 pixels, 2 classes"


def test_openvino_counts_both_of_its_files(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tiny_export(tmp_path / "rgb.xml")
    assert cost_and_model(checkpoint=path).file_bytes == path.stat().st_size + path.with_suffix(".bin").stat().st_size


def test_an_operation_that_is_not_known_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("the multiply-accumulates of aten.new are not known")

    monkeypatch.setattr(cost_module, "network_cost", fail)
    found = cost_of(ModelSpec(backbone="by hand"), by_hand())
    assert found.macs is None
    assert "aten.new" in found.notes[0]
