"""vidkd benchmark as a user runs it: measures, compares, and refuses what cannot be meant."""

import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmark_runs import benchmark, write
from picture_model import picture_model
from speed_models import tiny_checkpoint, tiny_export

from vidkd.base import cores
from vidkd.base.errors import WriteError
from vidkd.bench import summary as summary_module
from vidkd.bench.speed import run as speed_run
from vidkd.bench.speed.accuracy import shown_frames
from vidkd.bench.speed.config import DataSpec, read_benchmark
from vidkd.bench.summary import read_summary
from vidkd.data.config import DataConfig
from vidkd.detection.frames import frames_identity
from vidkd.engine.clips import read_clips
from vidkd.models import BACKBONES
from vidkd.video import write_video


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    tiny_checkpoint(folder / "rgb.pt")
    tiny_export(folder / "rgb.onnx")
    return folder


@pytest.fixture(scope="module")
def config(files: Path, tiny_root: Path) -> Path:
    """The original, the file that was exported from it, and a network that nobody trained."""
    models = {
        "original": {"checkpoint": str(files / "rgb.pt")},
        "onnx": {"checkpoint": str(files / "rgb.onnx"), "source": str(files / "rgb.pt")},
        "peer": {"backbone": "tiny3d"},
    }
    return write(files / "clips.yaml", models, data={"root": str(tiny_root)}, shape={"frames": 4, "size": 32})


@pytest.fixture(scope="module")
def measured(config: Path, files: Path) -> Path:
    """The folder of a benchmark that has run."""
    assert benchmark(config, "--out", files / "out", "--device", "cpu") == 0
    return files / "out"


@pytest.fixture
def copy(measured: Path, tmp_path: Path) -> Path:
    shutil.copytree(measured, tmp_path / "out")
    return tmp_path / "out"


def test_what_a_benchmark_leaves(measured: Path, config: Path, tiny_root: Path) -> None:
    summary = read_summary(measured / "summary.json")
    assert list(summary["methods"]) == ["original", "onnx", "peer"]
    original, onnx, peer = (method["metrics"] for method in summary["methods"].values())
    assert original["top1"]["mean"] == onnx["top1"]["mean"]
    assert original["top1"]["ci95"] is not None
    assert "top1" not in peer
    for metrics in (original, onnx, peer):
        assert {"latency_ms@b1t1", "latency_p95_ms@b2t1", "throughput@b2t1", "end_to_end_ms@b1t1", "macs", "file_bytes"} <= set(metrics)
        assert metrics["macs"]["mean"] == metrics["macs_torch"]["mean"]
        assert metrics["latency_n@b1t1"]["mean"] >= 2
    assert onnx["latency_ratio@b1t1"]["mean"] > 0
    assert original["macs"] == onnx["macs"]
    assert summary["data"]["manifest"] == read_clips(DataConfig(root=str(tiny_root))).data
    (pair,) = summary["paired"]
    assert (pair["method"], pair["reference"], pair["difference"]) == ("onnx", "original", 0.0)
    page = (measured / "report.html").read_text(encoding="utf-8")
    assert f"vidkd benchmark --config {config}" in page
    assert "top-1 against latency" in page
    assert summary["data"]["models"]["onnx"]["judged_on"].endswith("one window and crop of each, 2 groups")
    assert [summary["data"]["models"][label]["reference"] for label in ("original", "onnx")] == [None, "original"]


def test_a_run_compared_with_itself_is_the_same(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark("compare", measured / "summary.json", measured / "summary.json") == 0
    text = capsys.readouterr().out
    assert "worse" not in text


def test_a_regression_is_told_and_ends_with_1(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    row = summary["methods"]["onnx"]["metrics"]["file_bytes"]
    before = row["mean"]
    row |= {"values": {"0/1": 1.5 * before}, "mean": 1.5 * before}
    (copy / "bigger.json").write_text(json.dumps(summary))
    assert benchmark("compare", copy / "summary.json", copy / "bigger.json") == 1
    text = capsys.readouterr().out
    assert "onnx  file_bytes" in text
    assert "1 worse" in text
    assert benchmark("compare", copy / "summary.json", copy / "bigger.json", "--tolerance", "0.6") == 0
    assert benchmark("compare", copy / "bigger.json", copy / "summary.json") == 0
    assert "1 better" in capsys.readouterr().out
    del summary["methods"]["peer"]
    (copy / "fewer.json").write_text(json.dumps(summary))
    assert benchmark("compare", copy / "summary.json", copy / "fewer.json", "--tolerance", "0.6") == 1
    assert "gone" in capsys.readouterr().out


def test_a_summary_is_replaced_only_when_asked(
    config: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_run, "run_benchmark", lambda *_, **__: pytest.fail("something was measured"))
    assert benchmark(config, "--out", copy) == 2
    assert f"results exist already: {copy / 'summary.json'}" in capsys.readouterr().err
    with pytest.raises(pytest.fail.Exception, match="something was measured"):
        benchmark(config, "--out", copy, "--overwrite")


def test_a_summary_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = {
        "schema_version": 1,
        "study": "small",
        "data": {"subset": "test"},
        "environment": {},
        "methods": {},
        "paired": [],
        "seconds": 1,
    }
    (tmp_path / "summary.json").write_text(json.dumps(study), encoding="utf-8")
    assert benchmark("compare", tmp_path / "summary.json", tmp_path / "summary.json") == 2
    assert "not the summary of a benchmark: small" in capsys.readouterr().err
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)))
    assert benchmark("compare", tmp_path / "summary.json", tmp_path / "model.onnx") == 2
    assert "not a JSON file" in capsys.readouterr().err


def test_speed_alone_on_noise_with_cold_starts(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a data set nothing is judged, and nothing comes from a file."""
    path = write(tmp_path / "noise.yaml", {"onnx": {"checkpoint": str(files / "rgb.onnx")}}, cold_starts=2, threads=[1])
    assert benchmark(path, "--out", tmp_path / "out", "--batches", "[1]") == 0
    metrics = read_summary(tmp_path / "out" / "summary.json")["methods"]["onnx"]["metrics"]
    assert {"cold_start_s", "memory_mib", "latency_ms@b1t1"} <= set(metrics)
    assert not {"top1", "end_to_end_ms@b1t1", "latency_ms@b2t1", "macs"} & set(metrics)
    assert metrics["cold_start_s"]["ci95"] is None, "two are too few"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "noise: speed only" in page
    assert "written: " in capsys.readouterr().out


def test_files_below_a_root_are_named_as_the_benchmark_wrote_them(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opened, counted, started anew in a fresh process and measured again wherever they lie; what is kept does not say where that is."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    models = {"onnx": {"checkpoint": "rgb.onnx", "source": "rgb.pt"}}
    path = write(Path("noise.yaml"), models, cold_starts=1, batches=[1], rounds=1)
    monkeypatch.setenv("VIDKD_DATA", str(files))
    assert benchmark(path, "--out", "out") == 0
    text = Path("out/summary.json").read_text(encoding="utf-8")
    message = json.loads(text)
    assert message["data"]["models"]["onnx"]["what"] == "rgb.onnx"
    assert {"macs", "cold_start_s"} <= set(message["methods"]["onnx"]["metrics"])
    assert str(files) not in text
    capsys.readouterr()
    assert benchmark(path, "--data.root", "elsewhere", "--out", "none") == 2
    error = " ".join(capsys.readouterr().err.split())
    for line in (
        "a file that is named is not there: rgb.onnx",
        "models.onnx.checkpoint in noise.yaml:3",
        "looked in : elsewhere, .",
        "--data.root DIR",
    ):
        assert line in error
    assert not Path("none").exists()


def test_what_cannot_be_measured_is_told_before_anything_is(
    files: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    monkeypatch.setattr(speed_run, "interleave", lambda *_, **__: pytest.fail("something was timed"))
    rgb, onnx = {"checkpoint": str(files / "rgb.pt")}, {"checkpoint": str(files / "rgb.onnx")}
    half = tmp_path / "half.onnx"
    half.write_bytes((files / "rgb.onnx").read_bytes()[:2000])
    two = {"checkpoint": str(tiny_checkpoint(tmp_path / "two.pt", classes=("Right", "Down")))}
    detector = {"detector": str(picture_model(tmp_path / "picture.onnx"))}
    root = ["--data.root", tiny_root]
    for models, words, text in (
        ({"a": rgb}, ["--threads", "[3]"], ["3 threads on 2 cores"]),
        ({"a": rgb}, ["--data.root", tmp_path / "gone"], ["not found", "--data.root on the command line"]),
        ({"a": rgb}, ["--device", "cuda"], ["cannot use device 'cuda'", "model of the benchmark : a"]),
        ({"a": onnx}, ["--device", "cuda"], ["cannot use device 'cuda'"]),
        ({"a": rgb, "cut": {"checkpoint": str(half)}}, [], ["not a model that ONNX Runtime can run", "cut"]),
        ({"a": rgb, "foreign": {"checkpoint": detector["detector"]}}, [], ["a detector, not a classifier", "foreign"]),
        ({"a": rgb, "two": two}, root, ["classes that are not those of tiny", "two"]),
        ({"a": rgb, "boxes": detector}, root, ["classifiers and detectors in one benchmark"]),
        ({"a": {**onnx, "source": two["checkpoint"]}}, [], ["was not written from"]),
        ({"a": {"backbone": "r3d"}}, [], ["unknown backbone 'r3d'"]),
    ):
        out = tmp_path / "out"
        assert benchmark(write(tmp_path / "bad.yaml", models), "--out", out, *words) == 2, text
        said = " ".join(capsys.readouterr().err.split())
        for line in text:
            assert line in said
        assert not out.exists()


def test_a_folder_that_takes_no_files_is_told_before_anything_is_measured(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(speed_run, "run_benchmark", lambda *_, **__: pytest.fail("something was measured"))
        (tmp_path / "file").write_text("of the user")
        for out in (tmp_path / "file", tmp_path / "file" / "out"):
            assert benchmark(config, "--out", out) == 2
            text = capsys.readouterr().err
            assert f"cannot write --out {out}\n  reason : {tmp_path / 'file'} is no folder" in text
            assert "fix    : another --out" in text
    assert (tmp_path / "file").read_text() == "of the user"

    def full(*_: object) -> None:
        raise WriteError.of("summary.json", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr(summary_module, "write_json", full)
    assert benchmark(write(tmp_path / "noise.yaml", {"peer": {"backbone": "tiny3d"}}), "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "cannot write" in said.err
    assert "No space left on device" in said.err
    assert "peer" in said.out, "the figures are told all the same"


def test_words_that_do_not_fit(measured: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = measured / "summary.json"
    (tmp_path / "broken.json").write_text("{}")
    for words, text in (
        ([], "no benchmark given"),
        (["compare", summary], "missing: B.json"),
        (["compare", summary, summary, "--rounds", "3"], "unknown flag '--rounds'"),
        (["compare", summary, measured], f"not a file: {measured}"),
        (["compare", summary, tmp_path / "broken.json"], "not a summary of this schema"),
        ([config, config], "unexpected argument"),
        ([tmp_path / "none.yaml"], "config not found"),
        ([config, "--ruonds", "3"], "unknown setting '--ruonds'\n  did you mean : --rounds"),
    ):
        assert benchmark(*words) == 2
        assert text in capsys.readouterr().err


def test_every_setting_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark("--settings") == 0
    listed = set(re.findall(r"^  (--[\w.]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"--rounds", "--data.root", "--shape.size", "--models.NAME.checkpoint"} <= listed


@pytest.mark.parametrize(
    ("models", "data", "text"),
    [
        ({"a": {"backbone": "tiny3d"}}, {"root": "nowhere"}, "data set 'nowhere' not found"),
        ({"a": {"backbone": "tiny3d"}}, {"manifest": "none.jsonl"}, "manifest not found: none.jsonl"),
        ({"a": {"backbone": "tiny3d"}}, {}, "data.root is not set"),
        ({"a": {"detector": "picture.onnx"}}, {"root": "nowhere", "layout": "mot"}, "data set not found: nowhere"),
        ({"a": {"detector": "picture.onnx"}}, {"root": "nowhere"}, "data.layout is not set"),
    ],
)
def test_data_that_is_not_there_is_told_before_models_are_opened(
    models: dict, data: dict, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed_run, "open_model", lambda *_, **__: pytest.fail("a model was opened"))
    picture_model(Path("picture.onnx"))
    assert benchmark(write(Path("b.yaml"), models, data=data), "--out", "out") == 2
    assert text in capsys.readouterr().err
    assert not Path("out").exists()


def test_detectors_on_a_video_below_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person stands where the detector says, in the second of two stretches; the baseline looks for persons too, but finds none."""
    root = tmp_path / "root"
    (root / "walk").mkdir(parents=True)
    for name, classes in (("good", "[person, dog]"), ("bad", "[dog, person]")):
        found = picture_model(root / f"{name}.onnx").with_suffix(".yaml")
        found.write_text(found.read_text().replace("[cat, dog]", classes))
    values = np.zeros(48)
    values[:6] = (0, 0, 0.5, 0.5, 0.9, 0)
    picture = np.kron((values * 255).round().astype(np.uint8).reshape(4, 4, 3), np.ones((16, 16, 1), np.uint8))
    write_video(root / "walk" / "walk.mp4", [picture] * 60, fps=10, lossless=True)
    (root / "walk" / "keyframes.txt").write_text("1,1,0,0,32,32,1\n60,1,0,0,32,32,1\n")
    data = {"root": "walk", "layout": "mot", "annotations": ["keyframes.txt"], "classes": ["person"]}
    models = {"bad": {"detector": "bad.onnx"}, "good": {"detector": "good.onnx"}}
    path = write(tmp_path / "frames.yaml", models, data=data, batches=[1])
    assert benchmark(path, "--data.root", root, "--out", tmp_path / "out", "--end_to_end", "0") == 0
    summary = read_summary(tmp_path / "out" / "summary.json")
    assert [summary["methods"][label]["metrics"]["ap50"]["mean"] for label in models] == [0.0, 1.0]
    (pair,) = summary["paired"]
    assert (pair["method"], pair["metric"], pair["difference"], pair["ci95"]) == ("good", "ap50", 1.0, [1.0, 1.0])
    assert summary["data"]["models"]["good"]["judged_on"] == "2 frames of mot"
    assert summary["data"]["models"]["good"]["input"] == "frames 64x64", "those of the video"
    truth = shown_frames(DataSpec(**{**data, "root": str(root / "walk")}), runs=False)
    assert summary["data"]["manifest"] == frames_identity(("person",), truth)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2][:8] == ["good", "bad", "100.0", "[100.0,", "100.0]", "+100.0", "[+100.0,", "+100.0]"]
    assert str(root) not in (tmp_path / "out" / "summary.json").read_text(encoding="utf-8")


def test_a_detector_on_noise(tmp_path: Path) -> None:
    models = {"pictures": {"detector": str(picture_model(tmp_path / "picture.onnx"))}}
    path = write(tmp_path / "frames.yaml", models, shape={"height": 8, "width": 12})
    assert benchmark(path, "--out", tmp_path / "out") == 0
    summary = read_summary(tmp_path / "out" / "summary.json")
    assert summary["data"]["models"]["pictures"]["input"] == "frames 12x8"
    assert summary["methods"]["pictures"]["parameters"] is None


REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "configs" / "benchmark").glob("*.yaml"))
COMPRESSED = {f"{method}-s0-1" for method in ("pruned", "lowrank", "int8", "pruned_int8", "all")}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_begin_with_their_command(path: Path) -> None:
    command = path.read_text(encoding="utf-8").splitlines()[0]
    assert command == f"# vidkd benchmark --config configs/benchmark/{path.name} --data.root DIR"
    named = read_benchmark(path).data
    config = read_benchmark(path, [] if named is not None and named.root else shlex.split(command)[-2:])
    assert config.data is not None
    assert config.data.root
    assert config.base in config.models
    assert {model.backbone for model in config.models.values() if model.backbone} <= set(BACKBONES)


def test_compression_is_held_against_the_original_in_the_same_runtime() -> None:
    """In shipped configurations; the ratio of the exported original itself, where the baseline is in torch, is what the runtime gains."""
    found = {}
    for path in CONFIGS:
        config = read_benchmark(path)
        compressed = {label: spec for label, spec in config.models.items() if spec.is_exported and set(spec.what.split("/")) & COMPRESSED}
        for label, spec in compressed.items():
            original = config.models[str(config.against(label))]
            assert (original.is_exported, original.runtime) == (True, spec.runtime), f"{path.name}: {label}"
            assert not set(original.what.split("/")) & COMPRESSED
        found[path.stem] = len(compressed)
    assert (found["ucf101_4"], found["compressed_motion_shapes"]) == (5, 5)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_measure_cold_starts(path: Path) -> None:
    """But those of DAVIS, whose detectors are those of PETS 2009 and are started there, and those of one student in several runtimes."""
    wanted = 0 if path.stem.startswith(("davis_", "pretrained")) else 5
    assert read_benchmark(path).cold_starts == wanted
