"""A benchmark read strictly: what it may say, what flags put over it, and what is refused with file, line and a way out."""

from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.config import BenchmarkConfig, DataSpec, ModelSpec, located, read_benchmark

GOOD = """
name: try
models:
  one: {checkpoint: runs/one}
  two: {checkpoint: one.onnx, source: runs/one}
  peer: {backbone: r3d_18, compile: true}
data: {root: here, split: "2"}
"""


def benchmark_file(folder: Path, text: str = GOOD) -> Path:
    path = folder / "benchmark.yaml"
    path.write_text(text)
    return path


def test_a_file_and_flags_over_it(tmp_path: Path) -> None:
    config = read_benchmark(benchmark_file(tmp_path))
    assert list(config.models) == ["one", "two", "peer"]
    assert [config.against(label) for label in config.models] == [None, "one", "one"]
    assert config.models["two"] == ModelSpec(checkpoint="one.onnx", source="runs/one")
    assert [config.models[label].is_exported for label in ("one", "two")] == [False, True]
    flags = "--data.root there --rounds=3 --batches [1,4] --baseline two --models.peer.compile false --data.classes car --threads 2"
    config = read_benchmark(benchmark_file(tmp_path), flags.split())
    assert config.data == DataSpec(root="there", split="2", classes=["car"])
    assert config.data.of_frames == ["classes"]
    assert (config.base, config.rounds, config.batches, config.threads) == ("two", 3, [1, 4], [2])
    assert not config.models["peer"].compile
    path = benchmark_file(tmp_path, "models: {one: {checkpoint: runs/one}}")
    assert read_benchmark(path).data is None
    assert read_benchmark(path, ["--data.root", "here"]).data == DataSpec(root="here")


def test_a_run_is_one_under_either_key(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    runs = [{"checkpoint": "runs/one"}, {"detector": str(tmp_path / "street")}, {"detector": "runs/street/checkpoints/best.pt"}]
    files = [{"checkpoint": "one.onnx"}, {"detector": "tiny.onnx"}, {"detector": "tiny.cfg"}, {"detector": "torchvision:ssd"}]
    files += [{"detector": str(tmp_path / "gone")}, {"backbone": "r3d_18"}]
    assert [ModelSpec(**spec).is_run for spec in (*runs, *files)] == [True] * 3 + [False] * 6


def test_a_model_may_be_compared_with_another_than_the_baseline(tmp_path: Path) -> None:
    path = benchmark_file(tmp_path, "models: {a: {checkpoint: a}, b: {checkpoint: b.onnx}, c: {checkpoint: c.onnx, reference: b}}")
    for flags, wanted in (([], [None, "a", "b"]), (["--baseline", "b"], ["b", None, "b"])):
        config = read_benchmark(path, flags)
        assert [config.against(label) for label in config.models] == wanted


ONE = "models: {one: {checkpoint: x}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {one: {checkpoint: x}, one: {checkpoint: y}}", "'models.one' is set twice"),
        (f"{ONE}\nbaseline: noe", "unknown baseline 'noe' where : "),
        ("models: {one: {checkpoint: x}, two: {checkpoint: y, reference: oen}}", "unknown model 'oen'"),
        ("models: {one: {checkpoint: x}, two: {checkpoint: y, reference: two}}", "'two' is the baseline or its own reference"),
        ("models: {one: {checkpoint: x, reference: two}, two: {checkpoint: y}}", "'one' is the baseline or its own reference"),
        ("name: x", "a benchmark needs a model"),
        ("models: {one: {checkpoint: x, backbone: r3d_18}}", "found     : checkpoint, backbone"),
        ("models: {one: {checkpont: x}}", "did you mean : models.one.checkpoint"),
        ("models: {one: {checkpoint: x, weights: y}}", "weights, names, metadata and resize are for detectors"),
        ("models: {one: {checkpoint: x, runtime: openvino}}", "runtime onnxruntime or openvino is for exported files"),
        (
            "models: {one: {checkpoint: x.onnx, ensemble_with: y, runtime: openvino}}",
            "runtime onnxruntime or openvino is for exported files",
        ),
        ("models: {one: {detector: x.onnx, direct: opencv, runtime: openvino}}", "runtime onnxruntime or openvino is for exported files"),
        ("models: {one: {detector: x.onnx, runtime: onnx}}", "runtime eager or onnx is for darknet detectors"),
        ("models: {one: {checkpoint: x, runtime: eager}}", "runtime eager or onnx is for darknet detectors"),
        ("models: {one: {checkpoint: x.onnx, runtime: tensorrt}}", "expected : one of eager, onnx"),
        ("models: {one: {checkpoint: x.onnx, compile: true}}", "compile is for classifiers in torch"),
        ("models: {one: {checkpoint: x, source: y}}", "source is for exported files"),
        ("models: {one: {detector: x.cfg, ensemble_with: y}}", "ensemble_with is for the checkpoint"),
        ("models: {one: {detector: x.cfg, direct: opencv}}", "direct is for .onnx files"),
        ("models: {one: {detector: x.onnx, input: [1]}}", "input is for networks that are called directly"),
        (f"{ONE}\nrounds: 0", "must be at least 1"),
        (f"{ONE}\nrounds: few", "'rounds' has a wrong value"),
        (f"{ONE}\nthreads: [0]", "must be at least 1"),
        (f"{ONE}\ndata: {{subset: tst}}", "expected  : one of train, val, test"),
    ],
)
def test_what_cannot_be_meant_is_reported_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = benchmark_file(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_benchmark(path)
    words = " ".join(str(error.value).split())
    assert " ".join(message.split()) in words
    assert str(path) in words


# --- where files are ---


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


def found_below(data: DataSpec | None = None, **models: ModelSpec) -> BenchmarkConfig:
    models = models or {"one": ModelSpec(backbone="tiny3d")}
    return located(BenchmarkConfig(models=models, data=data), [Path("first"), Path("second")])


def test_the_first_folder_that_has_a_file_gives_it(here: Path) -> None:
    darknet = ModelSpec(detector="a.cfg", weights="a.weights", names="a.names", runtime="onnx")
    exported = ModelSpec(checkpoint=str(here / "a.onnx"), source="a.cfg")
    torchvision = ModelSpec(detector="torchvision:ssd", weights="a.weights")
    assert found_below(darknet=darknet, exported=exported, torchvision=torchvision).models == {
        "darknet": ModelSpec(detector="first/a.cfg", weights="first/a.weights", names="a.names", runtime="onnx"),
        "exported": ModelSpec(checkpoint=str(here / "a.onnx"), source="first/a.cfg"),
        "torchvision": ModelSpec(detector="torchvision:ssd", weights="first/a.weights"),
    }
    with pytest.raises(ConfigError, match=r"not there: gone\.weights") as error:
        found_below(good=ModelSpec(detector="a.onnx"), poor=ModelSpec(detector="a.cfg", weights="gone.weights"))
    assert error.value.lines["named by"] == "models.poor.weights"
    assert error.value.lines["looked in"] == "first, second, ."


def test_annotations_lie_in_the_data_set_or_where_any_file_may(here: Path) -> None:
    found = found_below(DataSpec(root="set", layout="mot", annotations=["gt.txt", "b.txt"], classes=["person"])).data
    assert found is not None
    assert (found.root, found.classes) == ("second/set", ["person"])
    assert found.annotations == [str(here / "second" / "set" / "gt.txt"), str(here / "second" / "b.txt")]
    with pytest.raises(ConfigError, match=r"not there: gone\.txt"):
        found_below(DataSpec(root="set", layout="mot", annotations=["gone.txt"]))
    nowhere = DataSpec(root="gone", manifest="gone.jsonl", layout="mot", annotations=["gt.txt"])
    assert found_below(nowhere).data == nowhere, "left to its reader"
    assert found_below(DataSpec(root="", manifest="b.txt")).data == DataSpec(root="", manifest="second/b.txt")
