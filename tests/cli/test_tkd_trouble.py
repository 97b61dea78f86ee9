"""vidkd tkd where something goes wrong: an oracle that fails, videos, cameras and disks that end, and what cannot be."""

import contextlib
import dataclasses
import errno
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_files import make_video
from tkd_runs import lines, run, weights_of, without_seconds

from vidkd.base.errors import VideoError
from vidkd.cli import tkd
from vidkd.cli.learning import oracle_files, student_files
from vidkd.detection.online import BoxOracle
from vidkd.inference import sources
from vidkd.video import open_video


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


def test_several_videos_of_which_one_is_broken(
    networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"], "nothing of the broken one"
    assert re.fullmatch(r"opening \S+/light\.cfg and \S+/heavy\.onnx", caplog.messages[0])
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


def gone_after(frames: Iterator[Any], count: int) -> Iterator[Any]:
    yield from itertools.islice(frames, count)
    raise VideoError("cannot decode video: /dev/video0", after_frames=count, reason="No such device")


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_camera_stopped_by_the_user_leaves_its_student(
    asynchronous: bool, video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_stopped(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            yield frame
            if frame.index == 12:
                signal.raise_signal(signal.SIGINT)
            if frame.index >= 12:
                time.sleep(0.2)  # as a camera does: the signal is handled in another thread, which a loaded machine may run late

    @contextlib.contextmanager
    def camera(_source: Any) -> Iterator[Iterator[Any]]:
        with open_video(video) as reader:
            yield until_stopped(reader.stream())

    monkeypatch.setattr(sources, "open_stream", camera)
    more = ("--part", "50", "--save-student", tmp_path / "after")
    assert run(Path("0"), networks, tmp_path, *more, *(["--asynchronous"] if asynchronous else [])) == 0
    found = lines(tmp_path / "camera0" / "detections.jsonl")
    assert 12 < len(found) < 20
    learned, before = (weights_of(Path(where)) for where in (tmp_path / "after" / "student.weights", networks[1].partition("=")[2]))
    kept = any(row["learning"]["outcome"] == "kept" for row in found if "outcome" in row["learning"])
    if kept or not asynchronous:  # an asynchronous update may end after the last frame, which is told in no row
        assert np.array_equal(learned, before) is not kept


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
    assert run(video, networks, tmp_path / "other") == 0
    assert run(video, networks, tmp_path / "other", "--save-student", tmp_path / "after") == 2, "a run of its own does not make it its own"
    assert f"the output exists: {saved}" in capsys.readouterr().err
    assert saved.read_text() == "mine"
    assert run(video, networks, tmp_path / "out", "--save-student", tmp_path / "after", "--overwrite") == 0
    assert mine.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert np.isfinite(weights_of(saved)).all()


def test_a_disk_that_is_full_at_the_end(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_path: Path, _keys: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("vidkd.cli.tkd_run.write_key_frames", full)
        assert run(video, networks, tmp_path) == 2
    text = capsys.readouterr().err
    assert "cannot write to" in text
    assert "No space left on device" in text
    assert "20 frames, which are kept" in text
    assert not (tmp_path / "street" / "losses.csv").exists()
    assert run(video, networks, tmp_path) == 0
    assert "found finished: 20 frames" in capsys.readouterr().out
    assert {"key_frames.jsonl", "losses.csv", "report.html"} <= {path.name for path in (tmp_path / "street").iterdir()}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--update.lrr", "1"], "did you mean : --update.lr"),
        (["--update.lr", "fast"], "'update.lr' has a wrong value"),
        (["--replay.frames=-1"], "'replay.frames' has a wrong value"),
        (["--policy", "fixd"], "did you mean : fixed"),
        (["--policy", "none.pt"], "selector not found: none.pt"),
        (["--oracle", "none.onnx"], "model file not found: none.onnx\n  flag  : --oracle\n"),
        (["--names", "none.names"], "file of class names not found: none.names\n  flag  : --names\n"),
        (["--budget", "0"], "'--budget' has a wrong value"),
        (["--threads", "100000"], "100000 threads on "),
        (["--classes", "dgo"], "did you mean : dog"),
        (["--asynchronous", "--emit-oracle"], "answers come too late"),
        (["--update.loss", "matched_heads"], "--update.loss oracle_assigned"),
        (["--model", "light.onnx"], "an exported model cannot learn"),
        (["--model", "torchvision:ssd300_vgg16"], "a detector of torchvision cannot learn"),
        (["--oracle", "torchvision:ssd300_vgg16"], "a detector of torchvision needs --oracle-weights too"),
        (["--oracle-weights", "x.weights"], "--oracle-weights means nothing to"),
        (["--resize", "strech"], "'--resize' has a wrong value"),
        (["--region", "3,3"], "not a region: 3,3"),
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


def test_the_oracle_may_run_elsewhere_than_the_student() -> None:
    given = tkd.Settings(inputs=("x.mp4",), model="a.cfg", oracle="b.cfg", out=Path("out"), device="cpu")
    for device, expected in ((None, "cpu"), ("mps", "mps")):
        given = dataclasses.replace(given, oracle_device=device)
        assert student_files(given).device == "cpu"
        assert oracle_files(given).device == expected
