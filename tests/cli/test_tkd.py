"""vidkd tkd as a user runs it: files, going on after a kill, learning beside the stream."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_files import STUDENT_NAMES, student_arguments
from tkd_runs import lines, run, weights_of, without_seconds

from vidkd.cli.main import open_verb, run_verb
from vidkd.detection.online import AsynchronousLearner, SynchronousLearner
from vidkd.detection.online.update import LearningConfig, load_learning_config
from vidkd.detection.policies import save_selector
from vidkd.models.darknet import Darknet
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig


def test_all_that_comes_of_a_video(
    video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(video, networks, tmp_path, "--formats", "csv,video", "--save-student", tmp_path / "after") == 0
    folder = tmp_path / "street"
    names = {"detections.csv", "annotated.mp4", "detections.jsonl", "run.json", "summary.json"}
    assert {path.name for path in folder.iterdir()} == names | {"key_frames.jsonl", "losses.csv", "report.html"}
    keys = lines(folder / "key_frames.jsonl")
    assert [(key["frame"], key["time_s"]) for key in keys] == [(0, 0.0), (5, 0.5), (10, 1.0), (15, 1.5)]
    assert all(0 <= key["disagreement"] <= 1 and key["failed"] is None for key in keys)
    with (folder / "losses.csv").open(newline="") as file:
        losses = list(csv.DictReader(file))
    assert [float(row["loss_before"]) for row in losses] == [key["loss_before"] for key in keys]
    assert [row["outcome"] for row in losses] == [key["outcome"] for key in keys]
    learning = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["learning"]
    assert (learning["policy"], learning["calls"], learning["share"]) == ("fixed", 4, 0.2)
    assert sum(learning["outcomes"].values()) == 4
    assert learning["disagreement"] == {"first_quarter": keys[0]["disagreement"], "last_quarter": keys[-1]["disagreement"]}
    said = capsys.readouterr().out
    assert "20 frames, 4 calls of the oracle (20.0 %)" in said
    cost = learning["cost"]
    assert cost["learning_ms_per_frame"] == pytest.approx(sum(learning["ms_a_frame"].values()), abs=0.01)
    assert cost["ratio"] == pytest.approx(cost["learning_ms_per_frame"] / cost["oracle_ms_per_frame"], rel=0.01)
    shown = said.partition("cost: ")[2].partition(" ms per frame, ")[0]
    assert float(shown) == pytest.approx(cost["learning_ms_per_frame"], abs=0.06), "rounded apart: to a tenth here, to a hundredth there"
    first, last = keys[0]["disagreement"], keys[-1]["disagreement"]
    assert f"(0: none), first quarter of the calls {first:.3f}, last {last:.3f}" in said
    compared = learning["compared_with_frozen"]
    assert compared["key_frames"] == len(keys) - 1 - [key["outcome"] for key in keys].index("kept")
    assert compared["learned"] == pytest.approx(np.mean([key["disagreement"] for key in keys[-compared["key_frames"] :]]))
    assert f"{compared['learned']:.3f}, frozen {compared['frozen']:.3f}; too few to say" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 4
    assert "Disagreement, calls and updates" in page
    assert "<script" not in page
    left_out = [record.message for record in caplog.records if "left out" in record.message]
    assert left_out == ["classes that only the student knows are left out: bird"]
    learned, before = (weights_of(Path(where)) for where in (tmp_path / "after" / "student.weights", networks[1].partition("=")[2]))
    assert (tmp_path / "after" / "student.names").read_text().split() == list(STUDENT_NAMES)
    assert any(key["outcome"] == "kept" for key in keys)
    assert not np.array_equal(learned, before)
    (folder / "report.html").unlink()
    assert run(video, networks, tmp_path, "--formats", "csv,video") == 0
    assert "found finished: 20 frames, 4 calls" in capsys.readouterr().out
    assert (folder / "report.html").exists()
    assert run(video, networks, tmp_path, "--formats", "csv,video", "--save-student", tmp_path / "late") == 2
    assert "finished without --save-student" in capsys.readouterr().err


def test_a_video_that_is_shorter_than_the_window_is_the_window(video: Path, networks: list[str], tmp_path: Path) -> None:
    for policy in ("random", "fixed"):
        assert run(video, networks, tmp_path / policy, "--policy", policy, "--window", 200, "--budget", 0.1) == 0
        assert len(lines(tmp_path / policy / "street" / "key_frames.jsonl")) == 2
    assert run(video, networks, tmp_path / "half", "--window", 200, "--budget", 0.2, "--every", 2) == 0
    assert len(lines(tmp_path / "half" / "street" / "key_frames.jsonl")) == 2, "of the ten frames that are looked at"


def test_a_saved_student_is_opened_by_its_folder_and_meets_frames_as_it_did(video: Path, networks: list[str], tmp_path: Path) -> None:
    assert run(video, networks, tmp_path / "out", "--resize", "stretch", "--save-student", tmp_path / "after") == 0
    cfg, weights, names = (str(tmp_path / "after" / f"student.{suffix}") for suffix in ("cfg", "weights", "names"))
    given = {"folder": [str(tmp_path / "after")], "files": [cfg, "--weights", weights, "--names", names]}
    found = {}
    for name, words in given.items():
        out = tmp_path / name
        common = ("--device", "cpu", "--formats", "jsonl", "--score", "0.3", "--out", str(out))
        assert run_verb("detect", [str(video), "--model", *words, *common]) == 0
        found[name] = lines(out / "street" / "detections.jsonl")
        record = json.loads((out / "street" / "run.json").read_text(encoding="utf-8"))
        assert (record["resize"], record["called"]) == ("stretch", {"model": "student.cfg"})
    assert found["folder"] == found["files"]


def break_at(monkeypatch: pytest.MonkeyPatch, learner: type, position: int) -> None:
    """Die at a frame."""
    true = learner.step

    def step(self: Any, *given: Any, **more: Any) -> Any:
        if self.position == position:
            raise SystemError("killed")
        return true(self, *given, **more)

    monkeypatch.setattr(learner, "step", step)


def test_a_head_that_is_added_is_saved_with_the_student_and_learns_on(video: Path, networks: list[str], tmp_path: Path) -> None:
    chosen = ("--policy", selector_file(tmp_path / "selector.pt"), "--update.trains", "added")
    assert run(video, networks, tmp_path, *chosen, "--save-student", tmp_path / "after") == 0
    (begun,) = (Darknet.from_cfg(word.partition("=")[2]) for word in networks if word.startswith("--model="))
    grown = Darknet.from_cfg(tmp_path / "after" / "student.cfg")
    assert [len(net.added_parameters()) for net in (begun, grown)] == [0, 4]
    assert weights_of(tmp_path / "after" / "student.weights").size > sum(value.numel() for value in begun.state_dict().values())
    after = [f"--{flag}={tmp_path / 'after' / name}" for flag, name in (("model", "student.cfg"), ("weights", "student.weights"))]
    again = [*after, f"--names={tmp_path / 'after' / 'student.names'}", *(word for word in networks if word.startswith("--oracle"))]
    assert run(video, again, tmp_path / "again", *chosen, "--save-student", tmp_path / "later") == 0
    assert (tmp_path / "later" / "student.cfg").read_text() == (tmp_path / "after" / "student.cfg").read_text()


def selector_file(path: Path) -> Path:
    """Of the student's eight features, with weights at random."""
    torch.manual_seed(0)
    save_selector(path, KeyFrameLSTM(SelectorConfig(features=8, units=4)))
    return path


@pytest.mark.parametrize(("selector", "position"), [("random", 3), ("lstm", 13)])
def test_killed_and_gone_on_is_the_uninterrupted_run(
    video: Path, networks: list[str], tmp_path: Path, selector: str, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("--policy", selector if selector == "random" else selector_file(tmp_path / "selector.pt"), "--seed", "3")
    assert run(video, networks, tmp_path / "whole", *chosen, "--save-student", tmp_path / "after_whole") == 0
    with monkeypatch.context() as patch:
        break_at(patch, SynchronousLearner, position)
        with pytest.raises(SystemError):
            run(video, networks, tmp_path / "parts", *chosen, "--save-student", tmp_path / "after_parts")
    assert not (tmp_path / "parts" / "street" / "key_frames.jsonl").exists()
    assert run(video, networks, tmp_path / "parts", *chosen, "--save-student", tmp_path / "after_parts") == 0
    whole, parts = tmp_path / "whole" / "street", tmp_path / "parts" / "street"
    assert without_seconds(parts / "detections.jsonl") == without_seconds(whole / "detections.jsonl")
    for name in ("key_frames.jsonl", "losses.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert (tmp_path / "after_parts" / "student.weights").read_bytes() == (tmp_path / "after_whole" / "student.weights").read_bytes()
    assert len(lines(whole / "key_frames.jsonl")) == 4


def test_beside_the_stream(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    assert run(video, networks, tmp_path / "whole", "--asynchronous", "--save-student", tmp_path / "after") == 0
    assert time.monotonic() - start > 1.9  # 20 frames at 10 a second
    assert "read at its own frame rate" in capsys.readouterr().err
    assert 1 <= len(lines(tmp_path / "whole" / "street" / "key_frames.jsonl")) <= 4
    assert (tmp_path / "after" / "student.weights").exists()
    with monkeypatch.context() as patch:
        break_at(patch, AsynchronousLearner, 9)
        with pytest.raises(SystemError):
            run(video, networks, tmp_path / "parts", "--asynchronous")
    capsys.readouterr()
    assert run(video, networks, tmp_path / "parts", "--asynchronous") == 2
    assert "cannot be resumed" in capsys.readouterr().err
    assert run(video, networks, tmp_path / "parts", "--asynchronous", "--overwrite") == 0


def test_an_oracle_with_the_students_cells(video: Path, networks: list[str], tmp_path: Path) -> None:
    """Another network of the same cfg, whose raw heads are followed: on each key frame the student comes nearer to them."""
    (tmp_path / "heavy").mkdir()
    flags = {"model": "oracle", "weights": "oracle-weights", "names": "oracle-names"}
    theirs = [
        part.replace(f"--{flag}=", f"--{flags[flag]}=") for flag, part in zip(flags, student_arguments(tmp_path / "heavy", 5), strict=True)
    ]
    assert run(video, [*networks[:3], *theirs], tmp_path / "out", "--update.loss", "matched_heads", "--update.replay", "0") == 0
    keys = lines(tmp_path / "out" / "street" / "key_frames.jsonl")
    assert [key["outcome"] for key in keys] == ["kept"] * 4
    assert all(key["loss_after"] < key["loss_before"] for key in keys)


def test_the_settings_are_listed_without_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("tkd", ["--settings"]) == 0
    listed = capsys.readouterr().out
    assert "--update.lr" in listed
    assert "--replay.evict" in listed
    assert "usage" not in listed
    assert "configuration file" not in listed
    assert "Literal[" not in listed


def test_a_file_holds_flags_and_settings_and_flags_win(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("base: tkd/shapes\nbudget: 0.1\nseed: 3\nupdate: {lr: 0.5}\n")
    parser, _, words = open_verb("tkd", ["x.mp4", "--config", str(tmp_path / "own.yaml"), "--out", "out", "--budget", "0.2"])
    given = parser.read([*words, "--update.retain", "0.9"])
    assert (given.model, given.budget, given.seed) == ("runs/shapes-student", 0.2, 3)
    update = load_learning_config(LearningConfig, given.settings).update
    assert (update.lr, update.steps, update.retain, update.options.iou_loss) == (0.5, 6, 0.9, "ciou")
