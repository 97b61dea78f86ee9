"""A benchmark read strictly: what it may say, what flags put over it, and what is refused with file, line and a way out."""

from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.config import Benchmark, BenchmarkConfig, DataSpec, ModelSpec, located, read_benchmark

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


def test_labels_keep_their_order_and_the_first_is_the_baseline(tmp_path: Path) -> None:
    config = read_benchmark(benchmark_file(tmp_path)).config
    assert list(config.models) == ["one", "two", "peer"]
    assert config.base == "one"
    assert [config.against(label) for label in config.models] == [None, "one", "one"]
    assert config.models["two"] == ModelSpec(checkpoint="one.onnx", source="runs/one")
    assert config.models["two"].is_exported
    assert not config.models["one"].is_exported
    assert config.data is not None
    assert (config.data.root, config.data.split, config.data.subset) == ("here", "2", "test")


def test_a_run_is_one_under_either_key(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    runs = [{"checkpoint": "runs/one"}, {"detector": str(tmp_path / "street")}, {"detector": "runs/street/checkpoints/best.pt"}]
    files = [{"checkpoint": "one.onnx"}, {"detector": "tiny.onnx"}, {"detector": "tiny.cfg"}, {"detector": "torchvision:ssd"}]
    files += [{"detector": str(tmp_path / "gone")}, {"backbone": "r3d_18"}]
    assert [ModelSpec(**spec).is_run for spec in (*runs, *files)] == [True] * 3 + [False] * 6


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    flags = [
        "--data.root",
        "there",
        "--rounds=3",
        "--batches",
        "[1, 4]",
        "--baseline",
        "two",
        "--models.one.amp",
        "bfloat16",
        "--data.split=1",
    ]
    config = read_benchmark(benchmark_file(tmp_path), flags).config
    assert config.data is not None
    assert (config.data.root, config.data.split, config.rounds, config.batches) == ("there", "1", 3, [1, 4])
    assert (config.base, config.models["one"].amp) == ("two", "bfloat16")


def test_a_model_may_be_held_against_another_than_the_baseline(tmp_path: Path) -> None:
    text = "models: {a: {checkpoint: a}, b: {checkpoint: b.onnx}, c: {checkpoint: c.onnx, reference: b}}"
    config = read_benchmark(benchmark_file(tmp_path, text)).config
    assert [config.against(label) for label in config.models] == [None, "a", "b"]
    config = read_benchmark(benchmark_file(tmp_path, text), ["--baseline", "b"]).config
    assert [config.against(label) for label in config.models] == ["b", None, "b"]


def test_a_flag_makes_the_section_that_the_file_lacks(tmp_path: Path) -> None:
    path = benchmark_file(tmp_path, "models: {one: {checkpoint: runs/one}}")
    assert read_benchmark(path).config.data is None
    data = read_benchmark(path, ["--data.root", "here"]).config.data
    assert data is not None
    assert data.root == "here"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {one: {checkpoint: x}, one: {checkpoint: y}}", "'models.one' is set twice"),
        ("models: {one: {checkpoint: x}}\nbaseline: tow", "unknown baseline 'tow'"),
        ("models: {one: {checkpoint: x}}\nbaseline: noe", "did you mean : one"),
        ("models: {one: {checkpoint: x}, two: {checkpoint: y, reference: oen}}", "unknown model 'oen' where : models.two.reference"),
        ("models: {one: {checkpoint: x}, two: {checkpoint: y, reference: two}}", "'two' is compared with itself"),
        ("models: {one: {checkpoint: x, reference: two}, two: {checkpoint: y}}", "'one' is compared with 'two', and is the baseline"),
        ("models: {}", "a benchmark needs a model"),
        ("name: x", "a benchmark needs a model"),
        ("models: {one: {checkpoint: x, backbone: r3d_18}}", "found     : checkpoint, backbone"),
        ("models: {one: {amp: bfloat16}}", "none of them"),
        ("models: {one: {checkpont: x}}", "did you mean : models.one.checkpoint"),
        ("models: {one: {checkpoint: x}}\nruonds: 3", "did you mean : rounds"),
        ("models: {one: {checkpoint: x, weights: y}}", "weights belongs to a detector"),
        ("models: {one: {checkpoint: x, runtime: openvino}}", "runtime openvino is for exported files"),
        ("models: {one: {detector: x.cfg, runtime: onnxruntime}}", "runtime onnxruntime is for exported files"),
        ("models: {one: {backbone: r3d_18, runtime: openvino}}", "runtime openvino is for exported files"),
        ("models: {one: {checkpoint: x.onnx, ensemble_with: y, runtime: openvino}}", "found : x.onnx and y"),
        ("models: {one: {detector: x.onnx, direct: opencv, runtime: openvino}}", "found : direct: opencv"),
        ("models: {one: {detector: x.onnx, runtime: onnx}}", "fix : runtime: onnxruntime or openvino, or leave it out"),
        ("models: {one: {checkpoint: x, runtime: eager}}", "runtime eager is for a darknet detector, not for x"),
        ("models: {one: {checkpoint: x.onnx, runtime: tensorrt}}", "tensorrt"),
        ("models: {one: {checkpoint: x.onnx, compile: true}}", "compile and amp are for classifiers in torch"),
        ("models: {one: {detector: x.cfg, amp: float16}}", "compile and amp are for classifiers in torch"),
        ("models: {one: {checkpoint: x, source: y}}", "source is for an exported file"),
        ("models: {one: {checkpoint: x}}\nrounds: 0", "rounds must be at least 1, not 0"),
        ("models: {one: {checkpoint: x}}\nrounds: few", "'rounds' has a wrong value"),
        ("models: {one: {checkpoint: x}}\nbatches: [1, 1]", "batches are counts from 1 on"),
        ("models: {one: {checkpoint: x}}\nthreads: [0]", "threads are counts from 1 on"),
        ("models: {one: {checkpoint: x}}\nblock_s: 0", "block_s must be above 0"),
        ("models: {one: {checkpoint: x}}\nshape: {size: 0}", "shape.size must be at least 1"),
        ("models: {one: {checkpoint: x}}\ndata: {validation_fraction: 1}", "data.validation_fraction must lie in [0, 1)"),
    ],
)
def test_what_cannot_be_meant_is_told_with_the_file(tmp_path: Path, text: str, told: str) -> None:
    path = benchmark_file(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_benchmark(path)
    words = " ".join(str(error.value).split())
    assert " ".join(told.split()) in words
    assert str(path) in words


@pytest.mark.parametrize(
    ("flags", "told"), [(["--rounds"], "needs a value"), (["--rounds", "[1"], "wrong value"), (["--round", "3"], "rounds")]
)
def test_wrong_flags_are_told(tmp_path: Path, flags: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_benchmark(benchmark_file(tmp_path), flags)


def test_annotations_and_classes_are_lists_of_names_in_flags_too(tmp_path: Path) -> None:
    path = benchmark_file(tmp_path, "models: {one: {detector: x.onnx}}\ndata: {root: pets, layout: mot, classes: [person]}")
    data = read_benchmark(path, ["--data.annotations", "[one.txt, two.txt]"]).config.data
    assert data is not None
    assert (data.annotations, data.classes) == (["one.txt", "two.txt"], ["person"])
    assert data.of_frames == ["layout", "annotations", "classes"]
    assert DataSpec(root="here", split="2", subset="val").of_frames == []
    single = read_benchmark(path, ["--data.classes", "car", "--threads", "2", "--batches=1"]).config
    assert single.data is not None
    assert (single.data.classes, single.threads, single.batches) == (["car"], [2], [1])
    with pytest.raises(ConfigError, match=r"'threads' has a wrong value(.|\n)*found +: many(.|\n)*expected +: a list of whole numbers"):
        read_benchmark(path, ["--threads", "many"])
    with pytest.raises(ConfigError, match=r"'data\.subset' has a wrong value(.|\n)*found +: tst(.|\n)*expected +: one of train, val, test"):
        read_benchmark(path, ["--data.subset", "tst"])
    with pytest.raises(ConfigError, match=r"'models\.one\.runtime' has a wrong value(.|\n)*expected +: one of eager, onnx"):
        read_benchmark(path, ["--models.one.runtime", "tensorrt"])


def test_defaults_measure_enough_for_an_interval() -> None:
    config = BenchmarkConfig(models={"one": ModelSpec(backbone="tiny3d")})
    assert config.rounds >= 10
    assert config.warmup_rounds >= 1


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
