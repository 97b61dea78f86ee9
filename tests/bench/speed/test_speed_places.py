"""Files of a benchmark looked for below the folders of --root, then from the working folder; what is written of them stays."""

from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.config import Benchmark, BenchmarkConfig, DataSpec, ModelSpec
from vidkd.bench.speed.places import located


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """first/ has a.cfg, both roots have a.weights, the working folder has all three and a.onnx."""
    for name in ("first/a.cfg", "first/a.weights", "second/a.weights", "second/set/gt.txt", "second/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a.cfg", "a.weights", "a.names", "a.onnx"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def benchmark(models: dict[str, ModelSpec], data: DataSpec | None = None) -> Benchmark:
    return Benchmark(BenchmarkConfig(models=models, data=data), Path("b.yaml"), roots=(Path("first"), Path("second")))


def test_the_first_folder_that_has_a_file_gives_it(here: Path) -> None:
    darknet = ModelSpec(detector="a.cfg", weights="a.weights", names="a.names", runtime="onnx")
    exported = ModelSpec(checkpoint=str(here / "a.onnx"), source="a.cfg")
    given = benchmark({"darknet": darknet, "exported": exported, "nothing": ModelSpec(backbone="tiny3d")})
    found = located(given)
    assert found.models == {
        "darknet": ModelSpec(detector="first/a.cfg", weights="first/a.weights", names="a.names", runtime="onnx"),
        "exported": ModelSpec(checkpoint=str(here / "a.onnx"), source="first/a.cfg"),
        "nothing": ModelSpec(backbone="tiny3d"),
    }
    assert given.config.models["darknet"] == darknet
    assert found.data is None


def test_a_detector_of_torchvision_is_no_file(here: Path) -> None:
    spec = ModelSpec(detector="torchvision:fasterrcnn_resnet50_fpn", weights="a.weights")
    found = located(benchmark({"one": spec})).models["one"]
    assert (found.detector, found.weights) == (spec.detector, "first/a.weights")


def test_a_file_that_no_folder_has_is_told_with_its_model(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"not there: gone\.weights") as error:
        located(benchmark({"good": ModelSpec(detector="a.onnx"), "poor": ModelSpec(detector="a.cfg", weights="gone.weights")}))
    assert error.value.lines["named by"] == "models.poor.weights in b.yaml"
    assert error.value.lines["looked in"] == "first, second, ."


def test_annotations_lie_in_the_data_set_or_where_any_file_may(here: Path) -> None:
    models = {"one": ModelSpec(backbone="tiny3d")}
    found = located(benchmark(models, DataSpec(root="set", layout="mot", annotations=["gt.txt", "b.txt"], classes=["person"]))).data
    assert found is not None
    assert (found.root, found.classes) == ("second/set", ["person"])
    assert found.annotations == [str(here / "second" / "set" / "gt.txt"), str(here / "second" / "b.txt")]
    with pytest.raises(ConfigError, match=r"not there: gone\.txt") as error:
        located(benchmark(models, DataSpec(root="set", layout="mot", annotations=["gone.txt"])))
    assert error.value.lines["named by"] == "data.annotations of b.yaml"


def test_a_data_set_that_is_nowhere_is_left_to_its_reader(here: Path) -> None:
    models = {"one": ModelSpec(backbone="tiny3d")}
    nowhere = DataSpec(root="gone", manifest="gone.jsonl", layout="mot", annotations=["gt.txt"])
    assert located(benchmark(models, nowhere)).data == nowhere
    assert located(benchmark(models, DataSpec(root="", manifest="b.txt"))).data == DataSpec(root="", manifest="second/b.txt")
