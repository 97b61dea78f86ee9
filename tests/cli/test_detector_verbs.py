"""make_data, train and evaluate with a detector, as a user runs them, on the shipped configurations."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from learning_files import make_video
from picture_model import picture_model

from vidkd.base.errors import ConfigError
from vidkd.cli.main import run_verb
from vidkd.cli.train import kind_of_run
from vidkd.data.synthetic.street import StreetShapesConfig
from vidkd.detection.config import load_detector_config

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "configs" / "detection").glob("*.yaml"))
SMALL = "--videos-plain 1 --videos-wide 1 --videos-val 1 --video-scenes 8 --scene-frames 1 --arrivals-per-s 1.5"
STREAMS = "--streams-train 0 --streams-val 0 --streams-test 1 --stream-s 2 --shortest-visit-s 0.2"


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verbs") / "streets"
    arguments = ["--variant", "street", "--out", str(root), "--workers", "1", *SMALL.split(), *STREAMS.split()]
    assert run_verb("make_data", arguments) == 0
    return root


def short(config: Path, root: Path, runs: Path) -> list[str]:
    """The arguments that the first line of a configuration promises, and settings that make the run short."""
    command = config.read_text(encoding="utf-8").splitlines()[0].removeprefix("# vidkd train ").replace("DIR", str(root)).split()
    assert command[:2] == ["--config", f"configs/detection/{config.name}"]
    few = ["--train.steps=2", "--data.batch_size=2", "--train.threads=1", "--train.device=cpu", f"--runs={runs}"]
    return ["--config", str(config), *command[2:], *few]


@pytest.fixture(scope="module")
def student(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the shipped student, two steps long."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        assert run_verb("train", short(REPOSITORY / "configs/detection/shapes_student.yaml", streets, runs)) == 0
    return runs / "shapes-student"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_trains_two_steps(
    config: Path, streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert run_verb("train", short(config, streets, tmp_path)) == 0
    name = config.stem.replace("_", "-")
    text = capsys.readouterr().out
    assert f"trained: {tmp_path / name}  2 steps in" in text
    assert "best AP50 on val" in text
    kept = {path.name for path in (tmp_path / name).iterdir()}
    assert {"config.yaml", "metrics.jsonl", "report.html", "student.cfg", "student.weights", "student.names"} <= kept


def test_oracle_and_student_share_cells_and_see_frames_as_large_as_they_are() -> None:
    from vidkd.detection.fit import build_student

    configs = [load_detector_config(path) for path in CONFIGS]
    heads = []
    for config in configs:
        settings = {"model": {"cfg": str(REPOSITORY / config.model.cfg)}, "data": {"transform": {"width": 112, "height": 112}}}
        net = build_student(load_detector_config(settings=settings), ("a", "b", "c", "d"))
        heads.append([(head.anchors, head.stride, head.classes) for head in net.heads])
    assert heads[0] == heads[1]
    assert {(config.data.transform.width, config.data.transform.height) for config in configs} == {(StreetShapesConfig().size,) * 2}
    assert configs[0].data.paths != configs[1].data.paths


def test_a_run_is_judged_and_its_files_give_the_same_figures(
    student: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("evaluate", ["--model", str(student), "--subset", "test", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "'test': 30 frames, " in text
    assert "ap50" in text
    assert f"written: {student / 'report.html'}" in text
    found = json.loads((student / "evaluation.json").read_text())
    assert (found["split"], found["frames"]) == ("test", 30)
    with (student / "classes.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["disc", "square", "triangle", "cross"]
    files = ["--model", str(student / "student.cfg"), "--weights", str(student / "student.weights")]
    files += ["--names", str(student / "student.names"), "--device", "cpu"]
    data = ["--data.root", str(streets), "--data.layout", "motion_shapes"]
    assert run_verb("evaluate", [*files, *data, "--subset", "test", "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "evaluation.json").read_text())
    assert again["boxes"] == found["boxes"] > 10
    assert np.allclose(list(again["metrics"].values()), list(found["metrics"].values()), atol=1e-6)
    assert run_verb("evaluate", [*files, *data]) == 0
    assert "not written" in capsys.readouterr().out


def test_what_does_not_belong_together_is_told(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("evaluate", ["--model", str(student), "--names", "x.names"]) == 2
    assert "--names means nothing to the checkpoint of a detector" in capsys.readouterr().err
    assert run_verb("evaluate", ["--model", str(student), "--data.root", "/none"]) == 2
    assert "data set not found: /none" in capsys.readouterr().err
    assert run_verb("evaluate", ["--model", str(student), "--data.rot", "x"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert run_verb("evaluate", ["--model", str(student), "--submission", "x.json"]) == 2
    assert "--submission means nothing to the checkpoint of a detector" in capsys.readouterr().err


def test_the_kind_of_run_is_that_of_its_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector, clips, wrong = (tmp_path / f"{task}.yaml" for task in ("yolo", "mars", "yolov9"))
    for path in (detector, clips, wrong):
        path.write_text(f"task: {path.stem}\n")
    assert kind_of_run(detector, [])[0].best == "AP50"
    assert kind_of_run(clips, [])[0].best == "top-1"
    assert kind_of_run(clips, ["--task", "yolo"])[0].best == "AP50"
    assert kind_of_run(REPOSITORY / "configs/detection/shapes_student.yaml", [])[1] == "yolo", "the task of the file that it inherits from"
    assert kind_of_run(None, [])[1] == "supervised"
    with pytest.raises(ConfigError, match=r"yolov9[\s\S]*yolo"):
        kind_of_run(wrong, [])
    assert run_verb("train", ["--config", str(detector), "--settings"]) == 0
    assert "--model.cfg" in capsys.readouterr().out


def test_footage_in_which_not_every_object_has_a_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cat that grows to the right from 0.3 to 0.7 of the frame, half of it high: its box is right while it is at most twice as wide."""
    (tmp_path / "davis" / "videos").mkdir(parents=True)
    make_video(tmp_path / "davis" / "videos" / "walk.mp4", 10)
    walk = {"coco": "cat", "width": 64, "height": 64, "n": 10, "box_xyxy": [*[[0, 0, 0.3 * 64, 32]] * 9, None]}
    (tmp_path / "davis" / "boxes.json").write_text(json.dumps({"walk": walk}))
    model = ["--model", str(picture_model(tmp_path / "net.onnx")), "--device", "cpu", "--out", str(tmp_path / "out")]
    data = ["--data.root", str(tmp_path / "davis"), "--data.layout", "davis", "--judge.score", "0.5"]
    assert run_verb("evaluate", [*model, *data]) == 0
    said = capsys.readouterr().out
    assert "'test': 9 frames, 9 objects, 0.5 score" in said
    text = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    # 0.3 + 0.04 * frame is at most 0.6 up to frame 7
    assert text["metrics"]["recall50"] == pytest.approx(8 / 9)
    assert text["videos"] == [{"video": "videos/walk.mp4", "objects": 9, "recall50": 8 / 9}]
    assert run_verb("evaluate", [*model, *data, "--subset", "train"]) == 2
    assert "no frame in subset 'train'" in capsys.readouterr().err
    assert run_verb("evaluate", [*model, *data, "--resize", "stretch"]) == 2
    assert "--resize means nothing to" in capsys.readouterr().err
