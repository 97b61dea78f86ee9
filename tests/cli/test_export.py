"""vidkd export as a user runs it, and its files through predict, anticipate and evaluate: the first two where torch cannot be imported."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from started import run_to_end
from street_runs import street_config, write_streets

from vidkd.base.files import read_json, sha256, write_json
from vidkd.bench.intervals import Cell, bootstrap_ci
from vidkd.cli.main import run_verb
from vidkd.compress.parity import video_clips
from vidkd.detection.config import load_detector_config
from vidkd.detection.fit import fit_detector
from vidkd.detection.frames import read_frames
from vidkd.detection.saved import load_detector
from vidkd.engine.config import load_config
from vidkd.models.saved import checkpoint_in, load_classifier, read_checkpoint
from vidkd.runtime.opening import open_exported_classifier
from vidkd.video import write_video

SHORT_LIST = ("vidkd", "numpy", "cv2", "av", "yaml", "msgspec", "onnxruntime", "openvino")
"""What docs/guides/deployment.md names."""
THEIRS = ("_yaml", "flatbuffers", "google", "openvino_telemetry", "packaging")
"""What these themselves require, and the compiled half of PyYAML."""
ROUNDING = 5e-5  # of float32 in another order, which the head below makes larger
BLOCKED = f"""
import sys
from importlib.abc import MetaPathFinder
ALLOWED = {{*{SHORT_LIST + THEIRS}, *sys.stdlib_module_names}}
class ShortList(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, ShortList())
from vidkd.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def verb(name: str, *arguments: object) -> int:
    return run_verb(name, [*map(str, arguments)])


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_to_end([sys.executable, "-c", BLOCKED, *map(str, arguments)])


@pytest.fixture(scope="module")
def teacher(tiny_root: Path, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flow network with a head under which clips differ, in the folder of a run that was evaluated."""
    folder = tmp_path_factory.mktemp("run") / "teacher"
    (folder / "checkpoints").mkdir(parents=True)
    content = read_checkpoint(tiny_teacher)
    content.pop("ema", None)
    saved = load_classifier(tiny_teacher)
    clips = video_clips(sorted((tiny_root / "videos").rglob("*.mp4"))[::3], load_config(settings=saved.run).data, "flow")
    with torch.inference_mode():
        pooled = saved.model(torch.from_numpy(clips.values)).pooled
    weight = torch.randn(3, pooled.shape[1], generator=torch.Generator().manual_seed(0)) / (pooled.std(0).norm() / 2)
    content["student"]["state"] |= {"fc.weight": weight, "fc.bias": -weight @ pooled.mean(0)}
    torch.save(content, folder / "checkpoints" / "last.pt")
    assert verb("evaluate", "--model", folder, "--device", "cpu", "--subset", "test") == 0
    return folder


@pytest.fixture(scope="module")
def exported(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "teacher.onnx"
    assert verb("export", "--model", teacher, "--out", path, "--licence", "MIT") == 0
    return path


@pytest.fixture(scope="module")
def video(frames_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "v.mp4"
    write_video(path, np.concatenate([frames_of(0, 4), frames_of(1, 4), frames_of(2, 5)]), fps=25)
    return path


def test_what_export_prints_and_writes(teacher: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = next((tiny_root / "videos").rglob("*.mp4"))
    path = tmp_path / "new" / "net.pt2"
    assert verb("export", "--model", teacher / "checkpoints" / "last.pt", "--out", path, "--clips", clip) == 0
    printed = capsys.readouterr().out
    assert "largest difference to the network: " in printed
    assert "windows of 1 video)" in printed
    assert f"written: {path} (" in printed
    assert sorted(file.name for file in path.parent.iterdir()) == ["net.pt2", "net.pt2.md"]
    assert verb("predict", clip, "--model", path) == 2
    assert f"a program of torch.export, which vidkd writes but does not run: {path}" in capsys.readouterr().err


@pytest.mark.slow
def test_integers_are_counted_printed_and_run(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "net.onnx", tmp_path / "net.xml"]
    command = ["--model", teacher, "--out", ",".join(map(str, files)), "--int8", "--int8-clips", 6, "--int8-exclude", "backbone.net.stem*"]
    assert verb("export", *command) == 0
    printed = capsys.readouterr().out
    assert "ranges of activations found on 6 training clips of 3 classes\n" in printed
    assert printed.count("6 layers in eight-bit integers: 5 convolutions and 1 linear layer; in float: backbone.net.stem.0\n") == 2
    assert verb("export", "--model", teacher, "--out", tmp_path / "float.onnx") == 0
    assert files[0].stat().st_size < (tmp_path / "float.onnx").stat().st_size / 2.5
    card = (tmp_path / "net.onnx.md").read_text(encoding="utf-8")
    assert "| Integers | 6 layers in eight-bit integers: 5 convolutions and 1 linear layer; in float" in card
    assert "| Judged, before export | the network in float: top1 " in card
    for path in files:
        assert verb("evaluate", "--model", path, "--data.root", load_classifier(teacher).run["data"]["root"], "--out", tmp_path / "e") == 0
        assert open_exported_classifier(path).metadata.trained["changes"] == ["quantise"]


def test_the_card_tells_what_the_run_was_judged_by(teacher: Path, exported: Path) -> None:
    card = exported.with_name("teacher.onnx.md").read_text(encoding="utf-8")
    found = read_json(teacher / "evaluation.json")
    with (teacher / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cell = Cell(seed=0, place="all", correct=[float(row["correct"]) for row in rows], group=[row["group"] for row in rows])
    low, high = bootstrap_ci([cell], over=("groups",)).ci95 or (-1, -1)
    assert f"top1 {found['metrics']['top1']:.3f} (95 % interval {low:.3f} to {high:.3f}), 6 clips of 'test'" in card
    assert "| Data | tiny, split 1 |" in card
    assert "| Licence of the weights | MIT |" in card
    assert "clips of 'val')" in card, "checked on the run's own clips"


@pytest.mark.slow
def test_the_card_tells_nothing_of_other_weights(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(teacher, run)
    content = read_checkpoint(run)
    content["student"]["state"]["fc.bias"] = content["student"]["state"]["fc.bias"] + 1
    torch.save(content, run / "checkpoints" / "last.pt")
    files = [tmp_path / name for name in ("others.onnx", "none.onnx", "again.onnx")]
    assert verb("export", "--model", run, "--out", files[0]) == 0
    found = read_json(run / "evaluation.json")
    write_json(run / "evaluation.json", {key: value for key, value in found.items() if key != "checkpoint"})
    assert verb("export", "--model", run, "--out", files[1]) == 0
    assert verb("evaluate", "--model", run, "--device", "cpu", "--subset", "test") == 0
    assert read_json(run / "evaluation.json")["checkpoint"] == sha256(run / "checkpoints" / "last.pt") != found["checkpoint"]
    assert verb("export", "--model", run, "--out", files[2]) == 0
    others, none, again = (path.with_name(f"{path.name}.md").read_text(encoding="utf-8") for path in files)
    assert "| Judged, before export | not judged: the evaluation of the run is of other weights (vidkd evaluate --model run) |" in others
    assert "| Judged, before export | not judged: the evaluation of the run does not say of which weights it is" in none
    assert "| Judged, before export | top1 " in again
    assert "| Judged, this file | not judged: vidkd evaluate judges again.onnx |" in again


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_predict_without_torch_says_what_the_checkpoint_says(
    suffix: str, teacher: Path, exported: Path, video: Path, tmp_path: Path
) -> None:
    if suffix == ".xml":
        exported = tmp_path / "teacher.xml"
        assert verb("export", "--model", teacher, "--out", exported) == 0
    assert verb("predict", video, "--model", teacher, "--out", tmp_path / "here.jsonl", "--all", "--step-s", 0.2) == 0
    overlay, there = tmp_path / "there.mp4", tmp_path / "there.jsonl"
    done = without_torch("predict", video, "--model", exported, "--out", there, "--all", "--step-s", 0.2, "--overlay", overlay)
    assert done.returncode == 0, done.stderr
    assert overlay.stat().st_size > 1000
    one, two = ([json.loads(line) for line in path.read_text().splitlines()] for path in (tmp_path / "here.jsonl", there))
    assert [(row.get("start_s"), row.get("end_s")) for row in one] == [(row.get("start_s"), row.get("end_s")) for row in two]
    probabilities = np.array([list(row["probabilities"].values()) for row in one])
    assert np.ptp(probabilities, axis=0).max() > 0.01, "windows differ"
    np.testing.assert_allclose(probabilities, [list(row["probabilities"].values()) for row in two], atol=ROUNDING)


def with_metadata(path: Path, new: Path, **observe: Any) -> Path:
    """A copy whose network was trained for something else, as its metadata say."""
    model = onnx.load(path)
    (entry,) = [entry for entry in model.metadata_props if entry.key == "vidkd"]
    content = json.loads(entry.value)
    content["shown"]["observe"] |= observe
    entry.value = json.dumps(content)
    onnx.save(model, new)
    return new


def test_anticipate_without_torch_says_what_the_checkpoint_says(teacher: Path, exported: Path, video: Path, tmp_path: Path) -> None:
    content = read_checkpoint(teacher)
    later = {"protocol": "anticipation", "gap_s": 0.2, "observe_s": 0.5}
    content["run"]["data"]["observe"] |= later
    torch.save(content, tmp_path / "later.pt")
    file = with_metadata(exported, tmp_path / "later.onnx", **later)
    common = ("predict", video, "--step-s", "0.2", "--all")
    assert verb(*common, "--model", tmp_path / "later.pt", "--out", tmp_path / "here.jsonl") == 0
    done = without_torch(*common, "--model", file, "--out", tmp_path / "there.jsonl", "--overlay", tmp_path / "o.mp4")
    assert done.returncode == 0, done.stderr
    assert "trained for anticipation: sees 0.5 s, and names what begins 0.2 s later" in done.stdout
    here, there = ([json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("here", "there"))
    assert len(here) > 3
    assert [(row["time_s"], row["frames"], row["held"]) for row in here] == [(row["time_s"], row["frames"], row["held"]) for row in there]
    for one, two in zip(here, there, strict=True):
        assert one["probabilities"] == pytest.approx(two["probabilities"], abs=ROUNDING)


def test_evaluate_judges_the_file_as_it_judges_the_run(
    teacher: Path, exported: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert verb("evaluate", "--model", exported, "--subset", "test") == 2
    assert "data.root is not set" in capsys.readouterr().err
    assert verb("evaluate", "--model", exported, "--subset", "test", "--device", "cpu", "--data.root", tiny_root) == 0
    for setting, text in (
        ("--data.window.frames=16", "data.window.frames 4, not 16"),
        ("--data.transform.crop=24", "data.transform.crop 32"),
    ):
        assert verb("evaluate", "--model", exported, "--device", "cpu", "--data.root", tiny_root, setting) == 2
        assert f"{exported} takes {text}" in capsys.readouterr().err
    folder = exported.with_name("teacher.onnx_evaluation")
    for name in ("metrics", "confusion", "clips"):
        one, two = read_json(teacher / "evaluation.json")[name], read_json(folder / "evaluation.json")[name]
        assert one == (pytest.approx(two, abs=1e-4) if isinstance(two, dict) else two)
    rows = [list(csv.reader((where / "predictions.csv").open(encoding="utf-8", newline=""))) for where in (teacher, folder)]
    assert [row[:7] for row in rows[0]] == [row[:7] for row in rows[1]]
    one, two = (np.array([row[7:] for row in each[1:]], float) for each in rows)
    np.testing.assert_allclose(one, two, atol=ROUNDING)


def test_what_cannot_be_exported(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (("--out", tmp_path / "net.h5"), "not a format of export of this network"),
        (("--out", tmp_path / "net.onnx", "--tolerance", 0), "--tolerance"),
        (("--out", tmp_path / "net.onnx", "--tolerance", 1e-12), "fix     : --tolerance X, if so much does not matter"),
        (("--out", tmp_path / "net.onnx", "--clips", tmp_path / "none.mp4"), "none.mp4"),
    ):
        assert verb("export", "--model", teacher, *arguments) == 2
        assert text in capsys.readouterr().err
    assert verb("export", "--model", tmp_path / "none", "--out", tmp_path / "net.onnx") == 2
    assert "checkpoint not found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_run_to_check_on_is_said(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_checkpoint(teacher)
    content["run"]["data"]["root"] = str(tmp_path / "gone")
    torch.save(content, tmp_path / "moved.pt")
    capsys.readouterr()
    assert verb("export", "--model", tmp_path / "moved.pt", "--out", tmp_path / "net.pt2") == 0
    captured = capsys.readouterr()
    assert "checked on generated clips, as the run's own cannot be read" in captured.err
    assert "(4 generated clips)" in captured.out
    assert "| Data | unknown |" in (tmp_path / "net.pt2.md").read_text(encoding="utf-8")


def test_what_does_not_belong_together_is_told(teacher: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "net.onnx")
    assert verb("export", "--model", exported, *out) == 2
    assert "exported already" in capsys.readouterr().err
    for flag, value in (("--int8-exclude", "fc"), ("--int8-clips", 10), ("--int8-weight-bits", 7)):
        assert verb("export", "--model", teacher, *out, flag, value) == 2
        assert f"only with --int8: {flag}\n" in capsys.readouterr().err
    assert verb("export", "--model", teacher, *out, "--weights", "a.weights") == 2
    assert "--weights belongs to a detector" in capsys.readouterr().err
    assert verb("export", "--model", teacher, *out, "--int8", "--int8-clips", 6, "--int8-exclude", "bakcbone*") == 2
    assert "unknown layer 'bakcbone*'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_asked(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights that OpenVINO writes next to its file, and the card, are somebody's files too."""
    for there, out in (("net.onnx", "net.onnx"), ("net.bin", "net.xml"), ("net.onnx.md", "net.onnx")):
        (tmp_path / there).write_text("mine")
        assert verb("export", "--model", teacher, "--out", tmp_path / out) == 2
        assert f"the output exists: {tmp_path / there}" in capsys.readouterr().err
        assert (tmp_path / there).read_text() == "mine"
        if there != "net.onnx.md":
            (tmp_path / there).unlink()
    assert verb("export", "--model", teacher, "--out", tmp_path / "net.onnx", "--overwrite") == 0
    assert "mine" not in (tmp_path / "net.onnx.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def student(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_detector(street_config(streets, tmp_path_factory.mktemp("runs")), quiet=True).folder


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_detect_without_torch_finds_what_the_run_finds(
    suffix: str, student: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, video = tmp_path / f"net.{suffix}", next(streets.rglob("test*.mp4"))
    assert verb("export", "--model", student, "--out", file, "--licence", "MIT") == 0
    printed = capsys.readouterr().out
    assert "frames of 'val')" in printed, "checked on the run's own frames"
    score = ("--score", "0.0001")
    assert verb("detect", video, "--model", student, "--out", tmp_path / "here", *score) == 0
    blocked = [sys.executable, "-c", BLOCKED, "detect", str(video), "--model", str(file), "--out", str(tmp_path / "there"), *score]
    done = run_to_end(blocked)
    assert done.returncode == 0, done.stderr
    found = [json.loads(next((tmp_path / name).rglob("coco.json")).read_text())["annotations"] for name in ("here", "there")]
    scores = [np.sort([each["score"] for each in annotations])[::-1][:20] for annotations in found]
    assert len(scores[0]) == 20
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_integers_of_a_detector(student: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "net.onnx", tmp_path / "net.xml"]
    assert verb("export", "--model", student, "--out", ",".join(map(str, files)), "--int8", "--int8-clips", 4) == 0
    printed = capsys.readouterr().out
    assert "ranges of activations found on 4 training frames\n" in printed
    assert printed.count("3 layers in eight-bit integers: 3 convolutions; in float: none\n") == 2
    darknet = ["--weights", student / "student.weights", "--names", student / "student.names", "--out", tmp_path / "cfg.onnx"]
    assert verb("export", "--model", student / "student.cfg", *darknet, "--int8") == 2
    assert "--int8-footage VIDEO" in capsys.readouterr().err
    footage = next(streets.rglob("test*.mp4"))
    judged = ["--out", tmp_path / "judged.onnx", "--int8", "--int8-footage", footage]
    assert verb("export", "--model", student, *judged) == 2
    assert "the footage is judged, or of a group that is" in capsys.readouterr().err
    assert verb("export", "--model", student / "student.cfg", *darknet, "--int8", "--int8-footage", footage, "--int8-clips", 4) == 0
    captured = capsys.readouterr()
    assert "found on 4 frames of 1 videos" in captured.out
    assert "checked on drawn pictures: a .cfg has no data of its own" in captured.err
    assert "8 drawn pictures" in captured.out
    assert "Judged, before export | not judged: a .cfg has no run" in (tmp_path / "cfg.onnx.md").read_text(encoding="utf-8")


def test_the_card_of_a_run_that_was_evaluated(student: Path, tmp_path: Path) -> None:
    assert verb("evaluate", "--model", student, "--device", "cpu", "--subset", "val") == 0
    found = json.loads((student / "evaluation.json").read_text())
    assert found["checkpoint"] == sha256(checkpoint_in(student))
    assert verb("export", "--model", student, "--out", tmp_path / "net.onnx") == 0
    card = (tmp_path / "net.onnx.md").read_text(encoding="utf-8")
    assert f"| Data | {read_frames(load_detector_config(settings=load_detector(student).run).data).manifest.name} |" in card
    text = [
        f"{name} {found['metrics'][name]:.3f} (95 % interval {found['ci95'][name][0]:.3f} to {found['ci95'][name][1]:.3f}), "
        f"{found['frames']} frames of 'val'"
        for name in ("ap50", "map", "recall50")
    ]
    assert f"| Judged, before export | {'; '.join(text)} |" in card


def test_packages_of_all_files_are_told_in_one_message_before_anything_is_read(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("onnx", "onnxscript", "onnxruntime")]:
        monkeypatch.delitem(sys.modules, name)
    for package in ("onnx", "openvino"):  # onnxscript and onnxruntime.quantization import onnx
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("vidkd.compress.export_classifier.integers_of", lambda *_: pytest.fail("ranges were found"))
    assert verb("export", "--model", teacher, "--out", f"{tmp_path}/a.onnx,{tmp_path}/a.xml", "--int8") == 2
    text = capsys.readouterr().err
    assert "'onnx', 'openvino' are not installed" in text
    assert "pip install 'vidkd[compress,openvino]'" in text


def test_formats_are_checked_before_anything_is_written(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("export", "--model", student, "--out", tmp_path / "a.onnx", "--out", tmp_path / "a.pt2") == 2
    assert "not a format of export of this network" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
