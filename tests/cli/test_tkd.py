"""vidkd tkd as a user runs it: files, going on after a kill, an oracle that fails, and what cannot be."""

import contextlib
import csv
import errno
import itertools
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_files import STUDENT_NAMES, make_video, oracle_arguments, student_arguments

from vidkd.base.errors import VideoError
from vidkd.cli.main import run_verb
from vidkd.detection.online import AsynchronousLearner, BoxOracle, SynchronousLearner, account
from vidkd.detection.policies import save_selector
from vidkd.engine import sources
from vidkd.models.darknet import Darknet, load_weights
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.video import open_video


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("networks")
    return [*student_arguments(folder), *oracle_arguments(folder)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "street.mp4")


def run(video: Path, networks: list[str], out: Path, *more: object) -> int:
    common = (
        "--device",
        "cpu",
        "--threads",
        "1",
        "--part",
        "4",
        "--budget",
        "0.2",
        "--window",
        "10",
        "--formats",
        "jsonl",
        "--score",
        "0.3",
    )
    learning = ("--update.trains", "all", "--update.lr", "0.01", "--update.steps", "2")
    return run_verb("tkd", [str(video), *networks, *common, "--out", str(out), *map(str, more), *learning])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_seconds(path: Path) -> list[dict[str, Any]]:
    rows = lines(path)
    for row in rows:
        assert row["learning"].pop("seconds")["student"] > 0
    return rows


def test_all_that_comes_of_a_video(
    video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(video, networks, tmp_path, "--formats", "csv", "video", "--save-student", tmp_path / "after") == 0
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
    said = capsys.readouterr().out
    assert "20 frames, 4 calls of the oracle (20.0 %)" in said
    first, last = keys[0]["disagreement"], keys[-1]["disagreement"]
    assert f"first quarter {first:.3f}, last quarter {last:.3f}" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 4
    assert "Disagreement, calls and updates" in page
    assert "<script" not in page
    told = [record.message for record in caplog.records if "left out" in record.message]
    assert told == ["classes that only the student knows are left out: bird"]
    learned, before = (weights_of(Path(where)) for where in (tmp_path / "after" / "student.weights", networks[1].partition("=")[2]))
    assert (tmp_path / "after" / "student.names").read_text().split() == list(STUDENT_NAMES)
    assert any(key["outcome"] == "kept" for key in keys)
    assert not np.array_equal(learned, before)
    (folder / "report.html").unlink()
    assert run(video, networks, tmp_path, "--formats", "csv", "video") == 0
    assert "found finished: 20 frames, 4 calls" in capsys.readouterr().out
    assert (folder / "report.html").exists()
    assert run(video, networks, tmp_path, "--formats", "csv", "video", "--save-student", tmp_path / "late") == 2
    assert "finished without --save-student" in capsys.readouterr().err


def weights_of(path: Path) -> np.ndarray:
    net = Darknet.from_cfg(path.with_suffix(".cfg"))
    load_weights(net, path)
    return np.concatenate([value.numpy().ravel() for value in net.state_dict().values() if value.is_floating_point()])


def break_at(monkeypatch: pytest.MonkeyPatch, learner: type, position: int) -> None:
    """Die at a frame."""
    true = learner.step

    def step(self: Any, *given: Any, **more: Any) -> Any:
        if self.position == position:
            raise SystemError("killed")
        return true(self, *given, **more)

    monkeypatch.setattr(learner, "step", step)


def selector_file(path: Path) -> Path:
    """Of the student's eight features, with weights at random."""
    torch.manual_seed(0)
    save_selector(path, KeyFrameLSTM(SelectorConfig(features=8, units=4)))
    return path


@pytest.mark.parametrize(("selector", "position"), [("random", 3), ("lstm", 13)])
def test_killed_and_gone_on_is_the_uninterrupted_run(
    video: Path, networks: list[str], tmp_path: Path, selector: str, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("--selector", selector if selector == "random" else selector_file(tmp_path / "selector.pt"), "--seed", "3")
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


def test_boxes_of_key_frames(video: Path, networks: list[str], tmp_path: Path) -> None:
    assert run(video, networks, tmp_path / "own") == 0
    assert run(video, networks, tmp_path / "theirs", "--emit-oracle") == 0
    own, theirs = (lines(tmp_path / name / "street" / "detections.jsonl") for name in ("own", "theirs"))
    assert {row["boxes_of"] for row in own} == {"student"}
    assert [row["frame"] for row in theirs if row["boxes_of"] == "oracle"] == [0, 5, 10, 15]
    assert theirs[10]["classes"] == ["cat", "dog"]
    assert theirs[10]["boxes"] == own[10]["key"]["oracle"]["boxes"]
    assert own[10]["boxes"] == own[10]["key"]["student"]["boxes"] == theirs[10]["key"]["student"]["boxes"]


def test_an_oracle_that_throws(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def throw(_self: Any, _frame: Any) -> Any:
        raise RuntimeError("out of order")

    monkeypatch.setattr(BoxOracle, "__call__", throw)
    assert run(video, networks, tmp_path) == 0
    keys = lines(tmp_path / "street" / "key_frames.jsonl")
    assert [(key["outcome"], key["failed"]) for key in keys] == [("failed", "RuntimeError: out of order")] * 4
    assert (tmp_path / "street" / "losses.csv").read_text().count("\n") == 1
    said = capsys.readouterr().out
    assert "20 frames, 4 calls" in said
    assert "quarter" not in said
    assert "the oracle or the update failed" in (tmp_path / "street" / "report.html").read_text()


def test_an_oracle_that_hangs_is_given_up(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, networks, tmp_path / "waited", "--timeout", "600") == 0
    assert [key["failed"] for key in lines(tmp_path / "waited" / "street" / "key_frames.jsonl")] == [None] * 4
    true, calls, let = BoxOracle.__call__, [0], threading.Event()

    def hang(self: BoxOracle, frame: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            let.wait(60)
        return true(self, frame)

    monkeypatch.setattr(BoxOracle, "__call__", hang)
    try:
        assert run(video, networks, tmp_path / "given_up", "--timeout", "3") == 0
    finally:
        let.set()
    keys = lines(tmp_path / "given_up" / "street" / "key_frames.jsonl")
    assert [key["failed"] for key in keys[1:]] == [
        "TimeoutError: no answer within 3 s",
        *["TimeoutError: the oracle has not come back from an earlier call"] * 2,
    ]
    assert keys[0]["failed"] is None
    assert len(lines(tmp_path / "given_up" / "street" / "detections.jsonl")) == 20
    assert run(video, networks, tmp_path / "given_up") == 2
    assert "timeout s" in capsys.readouterr().err


def test_beside_the_stream(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, networks, tmp_path / "whole", "--asynchronous", "--save-student", tmp_path / "after") == 0
    assert 1 <= len(lines(tmp_path / "whole" / "street" / "key_frames.jsonl")) <= 4
    assert (tmp_path / "after" / "student.weights").exists()
    with monkeypatch.context() as patch:
        break_at(patch, AsynchronousLearner, 9)
        with pytest.raises(SystemError):
            run(video, networks, tmp_path / "parts", "--asynchronous")
    capsys.readouterr()
    assert run(video, networks, tmp_path / "parts", "--asynchronous") == 2
    assert "cannot go on where it was" in capsys.readouterr().err
    assert run(video, networks, tmp_path / "parts", "--asynchronous", "--overwrite") == 0


def test_a_student_in_onnx_runtime(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    low = ("--score", "0.002")
    assert run(video, networks, tmp_path / "eager", *low) == 0
    assert run(video, networks, tmp_path / "onnx", "--student-runtime", "onnx", *low) == 0
    eager, onnx = (without_seconds(tmp_path / name / "street" / "detections.jsonl") for name in ("eager", "onnx"))
    assert any(row["boxes"] for row in eager)
    for one, other in zip(eager, onnx, strict=True):
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-3)
        assert one["learning"]["version"] == other["learning"]["version"]
    with monkeypatch.context() as patch:
        break_at(patch, SynchronousLearner, 13)
        with pytest.raises(SystemError):
            run(video, networks, tmp_path / "parts", "--student-runtime", "onnx", *low)
    assert run(video, networks, tmp_path / "parts", "--student-runtime", "onnx", *low) == 0
    assert without_seconds(tmp_path / "parts" / "street" / "detections.jsonl") == onnx
    assert run(video, networks, tmp_path / "beside", "--student-runtime", "onnx", "--asynchronous") == 0
    capsys.readouterr()
    assert run(video, networks, tmp_path / "parts", *low) == 2
    assert "runtime" in capsys.readouterr().err


def test_an_oracle_with_the_students_cells(video: Path, networks: list[str], tmp_path: Path) -> None:
    """Another network of the same cfg, whose raw heads are followed: on each key frame the student comes nearer to them."""
    (tmp_path / "heavy").mkdir()
    flags = {"student": "oracle", "weights": "oracle-weights", "names": "oracle-names"}
    theirs = [
        part.replace(f"--{flag}=", f"--{flags[flag]}=") for flag, part in zip(flags, student_arguments(tmp_path / "heavy", 5), strict=True)
    ]
    assert run(video, [*networks[:3], *theirs], tmp_path / "out", "--update.loss", "matched_heads", "--update.replay", "0") == 0
    keys = lines(tmp_path / "out" / "street" / "key_frames.jsonl")
    assert [key["outcome"] for key in keys] == ["kept"] * 4
    assert all(key["loss_after"] < key["loss_before"] for key in keys)


def test_several_videos_of_which_one_is_broken(networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_video(folder / "a.mp4", 5)
    make_video(folder / "c.mp4", 5)
    (folder / "b.mp4").write_bytes(b"nothing")
    assert run(folder, networks, tmp_path / "out", "--save-student", tmp_path / "after") == 1
    captured = capsys.readouterr()
    assert captured.out.count("5 frames, 1 calls") == 2
    assert "b.mp4: cannot open video" in captured.err
    assert sorted(path.name for path in (tmp_path / "after").iterdir()) == ["a", "c"]
    # a student that learned along one video does not begin the next with that
    a, c = (without_seconds(tmp_path / "out" / name / "detections.jsonl") for name in ("a", "c"))
    assert a == c


def test_a_video_that_is_damaged_in_the_middle(networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = make_video(tmp_path / "street.mp4", 40)
    data = bytearray(video.read_bytes())
    half = len(data) // 2
    data[half : half + 400] = bytes(np.random.default_rng(3).integers(0, 256, 400, dtype=np.uint8))
    video.write_bytes(data)
    assert run(video, networks, tmp_path / "out", "--save-student", tmp_path / "after") == 2
    folder = tmp_path / "out" / "street"
    frames = [row["frame"] for row in lines(folder / "detections.jsonl")]
    assert frames == list(range(len(frames)))
    assert 5 < len(frames) < 40
    assert f"{len(frames)} frames, " in capsys.readouterr().err
    assert [key["frame"] for key in lines(folder / "key_frames.jsonl")] == list(range(0, len(frames), 5))
    assert (folder / "report.html").read_text(encoding="utf-8").count("data:image/png") == len(range(0, len(frames), 5))
    assert (tmp_path / "after" / "student.weights").exists()


@pytest.mark.parametrize("beside", [True, False])
def test_a_camera_that_disappears(
    beside: bool, video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextlib.contextmanager
    def camera(_source: Any) -> Iterator[Iterator[Any]]:
        with open_video(video) as reader:
            yield gone_after(reader.stream(), 12)

    monkeypatch.setattr(sources, "open_stream", camera)
    assert run(Path("0"), networks, tmp_path, *(["--asynchronous"] if beside else [])) == 2
    told = capsys.readouterr().err
    assert "No such device" in told
    assert "12 frames, " in told
    assert ("a live source waits for oracle and training" in told) is not beside
    folder = tmp_path / "camera0"
    assert [row["frame"] for row in lines(folder / "detections.jsonl")] == list(range(12))
    assert len(lines(folder / "key_frames.jsonl")) == 3 or beside
    assert "data:image/png" not in (folder / "report.html").read_text(encoding="utf-8"), "its frames cannot be seen again"


@pytest.mark.parametrize("beside", [True, False])
def test_a_camera_stopped_by_the_user_leaves_its_student(
    beside: bool, video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_stopped(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            yield frame
            if frame.index == 12:
                signal.raise_signal(signal.SIGINT)

    @contextlib.contextmanager
    def camera(_source: Any) -> Iterator[Iterator[Any]]:
        with open_video(video) as reader:
            yield until_stopped(reader.stream())

    monkeypatch.setattr(sources, "open_stream", camera)
    more = ("--part", "50", "--save-student", tmp_path / "after")
    assert run(Path("0"), networks, tmp_path, *more, *(["--asynchronous"] if beside else [])) == 0
    found = lines(tmp_path / "camera0" / "detections.jsonl")
    assert 12 < len(found) < 20
    learned, before = (weights_of(Path(where)) for where in (tmp_path / "after" / "student.weights", networks[1].partition("=")[2]))
    assert np.array_equal(learned, before) is not any(row["learning"]["outcome"] == "kept" for row in found if "outcome" in row["learning"])


def gone_after(frames: Iterator[Any], count: int) -> Iterator[Any]:
    yield from itertools.islice(frames, count)
    raise VideoError("cannot decode video: /dev/video0", after_frames=count, reason="No such device")


def test_files_of_others_are_not_replaced(video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "out" / "street" / "report.html"
    saved = tmp_path / "after" / "student.weights"
    for file in (mine, saved):
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    assert run(video, networks, tmp_path / "out") == 2
    assert f"the output exists: {mine}" in capsys.readouterr().err
    assert run(video, networks, tmp_path / "other", "--save-student", tmp_path / "after") == 2
    assert f"the output exists: {saved}" in capsys.readouterr().err
    assert (mine.read_text(), saved.read_text()) == ("mine", "mine")
    assert not (tmp_path / "other").exists()
    assert run(video, networks, tmp_path / "out", "--save-student", tmp_path / "after", "--overwrite") == 0
    assert mine.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert np.isfinite(weights_of(saved)).all()


def test_a_disk_that_is_full_at_the_end(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_path: Path, _keys: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(account, "write_losses", full)
        assert run(video, networks, tmp_path) == 2
    told = capsys.readouterr().err
    assert "cannot write to" in told
    assert "No space left on device" in told
    assert "20 frames, which stay" in told
    assert not (tmp_path / "street" / "losses.csv").exists()
    assert run(video, networks, tmp_path) == 0
    assert "found finished: 20 frames" in capsys.readouterr().out
    assert {"key_frames.jsonl", "losses.csv", "report.html"} <= {path.name for path in (tmp_path / "street").iterdir()}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--update.lrr", "1"], "did you mean : --update.lr"),
        (["--update.lr", "fast"], "'update.lr' has a wrong value"),
        (["--replay.frames=-1"], "replay.frames must be 0 or more"),
        (["--selector", "fixd"], "did you mean : fixed"),
        (["--budget", "0"], "must lie in (0, 1]"),
        (["--window", "0"], "--window must be at least 1"),
        (["--classes", "dgo"], "did you mean : dog"),
        (["--asynchronous", "--emit-oracle"], "an answer comes too late"),
        (["--asynchronous", "--timeout", "0"], "--timeout must be above 0"),
        (["--timeout", "-1"], "--timeout must be above 0"),
        (["--update.loss", "matched_heads"], "--update.loss oracle_assigned"),
        (["--student", "light.onnx"], "an exported model cannot learn"),
        (["--student", "torchvision:ssd300_vgg16"], "a detector of torchvision cannot learn"),
        (["--oracle", "torchvision:ssd300_vgg16"], "a detector of torchvision needs --oracle-weights too"),
        (["--oracle-weights", "x.weights"], "--oracle-weights means nothing to"),
        (["--resize", "strech"], "did you mean : stretch"),
    ],
)
def test_what_cannot_be(
    video: Path, networks: list[str], tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, networks, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "street" / "summary.json").exists()


def test_a_run_goes_on_only_as_it_was_begun(video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(video, networks, tmp_path) == 0
    assert run(video, networks, tmp_path, "--update.blocks", "1") == 2
    assert "update.blocks" in capsys.readouterr().err


def test_the_settings_are_listed_without_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_verb("tkd", ["--settings"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert "--update.lr" in listed
    assert "--replay.evict" in listed
