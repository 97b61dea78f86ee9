"""vidkd predict along a video, with a network of anticipation: lines, overlay, what is printed, and what goes wrong."""

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from started import started

from vidkd.base.settings import as_dict
from vidkd.cli.main import run_verb
from vidkd.cli.predict import in_words, summary
from vidkd.engine.config import load_config
from vidkd.inference import anticipate as engine
from vidkd.inference import sources
from vidkd.inference.anticipate import Tally
from vidkd.inference.observation_window import observation_window
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.saved import classifier_payload
from vidkd.video import Frame, open_video, write_video

CLASSES = ["öffnen", "schließen", "走る"]
OBSERVE = {"protocol": "anticipation", "gap_s": 1.0, "observe_s": 1.0}
WINDOW = {"frames": 4, "rule": "uniform", "short_clip": "hold"}


def checkpoint(path: Path, view: Any = "rgb", **data: Any) -> Path:
    """A network without training, in a file as a run leaves it."""
    settings = {"window": WINDOW, "transform": {"short_side": 36, "crop": 32}, "eval_clips": 1, "observe": OBSERVE, **data}
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(attention=AttentionConfig(pooling="soft")), 3, view, {"verb": 2})
    student = classifier_payload(model, CLASSES, {"verb": ["open", "close"]})
    torch.save({"student": student, "run": as_dict(load_config(settings={"data": settings}))}, path)
    return path


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("checkpoints") / "s.pt")


def noise(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (frames, 48, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames at 20 a second, the last at 2.95 s."""
    path = tmp_path_factory.mktemp("videos") / "mein 'Vidéo' 走る.mp4"
    write_video(path, noise(60), fps=20, lossless=True)
    return path


def along(*arguments: object) -> int:
    return run_verb("predict", [*map(str, arguments), "--device", "cpu"])


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_go_to_standard_output_and_nothing_else_does(video: Path, student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert along(video, "--model", student, "--json", "--all", "--top", 2) == 0
    captured = capsys.readouterr()
    found = rows(captured.out)
    assert [(row["time_s"], row["gap_s"], row["about_s"]) for row in found] == [(k / 2, 1.0, k / 2 + 1) for k in range(6)]
    for row in found:
        assert row["protocol"] == "anticipation"
        assert max(0, 20 * (row["time_s"] - 1)) <= row["frames"][0] <= row["frames"][1] <= 20 * row["time_s"]
        assert list(row["probabilities"]) == CLASSES
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        best = sorted(row["probabilities"].items(), key=lambda item: -item[1])[:2]
        assert [name for name, _ in row["top"]] == [name for name, _ in best]
        assert [p for _, p in row["top"]] == pytest.approx([p for _, p in best], abs=1e-4)
        assert {name for name, _ in row["targets"]["verb"]} == set(row["target_probabilities"]["verb"]) == {"open", "close"}
    assert [row["held"] for row in found] == [True] + 5 * [False]
    assert "走る" in captured.out, "names are written as they are"
    assert "trained for anticipation: sees 1 s, and names what begins 1 s later" in captured.err
    assert re.search(r"60 frames, 6 decisions in \d+\.\d s: \d+\.\d frames a second", captured.err)
    assert re.search(r"decoding \d+ %, preparing \d+ %, model \d+ %, drawing 0 %", captured.err)


def test_a_file_of_lines_and_an_overlay(video: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, overlay = tmp_path / "new folder" / "o.jsonl", tmp_path / "o.mp4"
    assert along(video, "--model", student, "--out", out, "--overlay", overlay, "--step-s", 1, "--seconds", 2.5) == 0
    printed = capsys.readouterr().out
    found = rows(out.read_text(encoding="utf-8"))
    assert [row["time_s"] for row in found] == [0, 1, 2]
    assert "probabilities" not in found[0]
    assert f"    2.00 s   in 1 s   {found[2]['top'][0][0]} {found[2]['top'][0][1]:.2f}" in printed
    with open_video(video) as source, open_video(overlay) as drawn:
        assert len(drawn) == 50
        np.testing.assert_allclose(drawn.timestamps_s, source.timestamps_s[:50], atol=1e-3)
    assert {path.name for path in tmp_path.rglob("*")} == {"new folder", "o.jsonl", "o.mp4"}


def until_the_first_line(*arguments: object) -> tuple[int, str, str]:
    """The exit code, the first line and what was said on standard error where the reader goes away after that line."""
    command = [sys.executable, "-m", "vidkd.cli.main", "predict", *map(str, arguments), "--device", "cpu"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    return process.returncode, first, error


@pytest.mark.slow
def test_files_are_whole_though_nobody_reads_the_lines(student: Path, tmp_path: Path) -> None:
    """The video is long enough that the reader is gone before it ends, though its last lines would fit into the pipe."""
    video, out, overlay = tmp_path / "v.mp4", tmp_path / "o.jsonl", tmp_path / "o.mp4"
    write_video(video, noise(200), fps=20)
    code, first, error = until_the_first_line(video, "--model", student, "--overlay", overlay, "--step-s", 0.05, "--json")
    assert code == 0
    assert json.loads(first)["time_s"] == 0
    assert f"standard output was closed; still writing {overlay} (Ctrl-C ends it)" in error
    assert "200 frames, 200 decisions" in error
    assert "Traceback" not in error
    assert "BrokenPipe" not in error
    with open_video(overlay) as drawn:
        assert len(drawn) == 200
    code, first, error = until_the_first_line(video, "--model", student, "--out", out, "--step-s", 0.05)
    assert code == 0
    assert "trained for anticipation" in first
    assert f"still writing {out}" in error
    assert [row["time_s"] for row in rows(out.read_text(encoding="utf-8"))] == pytest.approx([k / 20 for k in range(200)])
    code, first, error = until_the_first_line(video, "--model", student, "--step-s", 0.05, "--json")
    assert code == 141
    assert "standard output was closed" not in error


def test_a_video_broken_in_the_middle(video: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was said of the part before stays, and so does its overlay."""
    content = bytearray(video.read_bytes())
    middle = len(content) * 7 // 10
    content[middle : middle + 5000] = bytes(np.random.default_rng(1).integers(0, 255, 5000, dtype=np.uint8))
    (tmp_path / "broken.mp4").write_bytes(content)
    out, overlay = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    assert along(tmp_path / "broken.mp4", "--model", student, "--out", out, "--overlay", overlay) == 2
    found = rows(out.read_text(encoding="utf-8"))
    with open_video(overlay) as drawn:
        frames = len(drawn)
    assert 35 <= frames < 60
    assert [row["time_s"] for row in found] == [k / 2 for k in range(6) if k / 2 <= (frames - 1) / 20]
    error = capsys.readouterr().err
    assert "cannot decode video" in error
    assert f"until then   : {len(found)} decisions on {frames} frames" in error


@contextlib.contextmanager
def camera(times_s: Iterator[float]) -> Iterator[Iterator[Frame]]:
    """What `open_stream` gives, with frames at these times."""
    yield (Frame(index=n, time_s=time_s, image=np.full((48, 64, 3), n % 250, np.uint8)) for n, time_s in enumerate(times_s))


def test_a_camera_stopped_by_the_user(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C after two seconds: lines and overlay until then are whole, and the exit code says that all is well."""

    def times_s() -> Iterator[float]:
        for index in range(10_000):
            yield index / 20
            if index == 40:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sources, "open_stream", lambda source: camera(times_s()))
    out, overlay = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    assert along("0", "--model", student, "--out", out, "--overlay", overlay) == 0
    found = rows(out.read_text(encoding="utf-8"))
    with open_video(overlay) as drawn:
        assert 0.5 * (len(found) - 1) <= drawn.timestamps_s[-1]
        assert len(drawn) < 200
    assert "frames a second" in capsys.readouterr().out


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A student with windows of 61 frames, of which two seconds at 25 frames a second have 51."""
    return checkpoint(tmp_path / "strict.pt", window={"frames": 16, "stride": 4}, observe={"protocol": "early"})


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_is_heard_where_no_window_fits(
    presses: int, strict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A camera of 10 and 20 frames a second by turns, which never ends: once stops it, twice at once, and its file of lines is whole."""

    def times_s() -> Iterator[float]:
        for index in itertools.count():
            yield index // 2 * 0.15 + index % 2 * 0.05
            time.sleep(0.002)
            if index in (100, 300)[:presses]:  # apart, as two signals at a time are one
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sources, "open_stream", lambda source: camera(times_s()))
    monkeypatch.setattr(engine, "QUIET_S", {1: 1.0, 2: 60.0}[presses])
    before, start = set(threading.enumerate()), time.monotonic()
    assert along("0", "--model", strict, "--out", tmp_path / "o.jsonl") == {1: 0, 2: 130}[presses]
    assert time.monotonic() - start < 20
    assert set(threading.enumerate()) <= before
    assert (tmp_path / "o.jsonl").read_text() == ""
    captured = capsys.readouterr()
    assert ("0 decisions" in captured.out) == (presses == 1)


def test_a_camera_of_too_few_frames_is_told_so_while_it_runs(
    strict: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "open_stream", lambda source: camera(index / 25 for index in itertools.count()))
    assert along("0", "--model", strict) == 2
    error = capsys.readouterr().err
    assert "no window fits into 0: nothing is said of it" in error
    assert "seen   : 51 frames at most, in 2 s" in error
    assert "fix    : a source of more frames a second, or --window-s 2.5, or a network" in error


def test_other_protocols_are_named() -> None:
    early = load_config(settings={"data": {"observe": {"protocol": "early"}}}).data
    assert "early recognition" in in_words(observation_window(early, "rgb"))
    everything = load_config(settings={"data": {"observe": {**OBSERVE, "observe_s": None}}}).data
    assert "sees 10 s (--window-s; no setting of its training)" in in_words(observation_window(everything, "rgb"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top", "0"], "expected : a whole number from 1 on"),
        (["--window-s", "-2"], "'--window-s' has a wrong value"),
        (["--window-s", "3"], "sees 1 s, as in its training"),
        (["--out", "a.mp4", "--overlay", "./a.mp4"], "name one file"),
    ],
)
def test_arguments_that_mean_nothing(
    arguments: list[str], message: str, video: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert along(video, "--model", student, *arguments) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_not_there_or_would_be_lost(video: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert along(tmp_path / "no 'video'.mp4", "--model", student, "--out", tmp_path / "o.jsonl") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("vidkd: no such video"), "and nothing is said before"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == [], "nothing is written where there is nothing to read"
    (tmp_path / "text.mp4").write_text("a text")
    assert along(tmp_path / "text.mp4", "--model", tmp_path / "no network.pt") == 2
    assert capsys.readouterr().err.startswith("vidkd: cannot open video"), "before the network is looked for"
    before = video.read_bytes()
    for flag in ("--out", "--overlay"):
        assert along(video, "--model", student, flag, video) == 2
        assert f"{flag} would replace the video itself" in capsys.readouterr().err
    assert video.read_bytes() == before


def test_a_camera_that_is_not_there(student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert along("97", "--model", student) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("vidkd: cannot open camera 97: /dev/video97\n"), "and what it was trained for is not told"
    assert captured.out == ""


def test_stored_flow_is_not_to_be_had(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = checkpoint(tmp_path / "flow.pt", "flow", flow={"source": "stored", "folder": "flow"})
    assert along(video, "--model", flow) == 2
    assert "fix   : a network of RGB, or one trained with data.flow.source=dis" in capsys.readouterr().err


def test_the_arithmetic_of_the_summary() -> None:
    tally = Tally(frames=300, windows=24, skipped=2, decode_s=6.0, prepare_s=3.0, model_s=9.0, total_s=12.0)
    first, second = summary(tally, 1.2).splitlines()
    assert first == "300 frames, 24 decisions in 12.0 s: 25.0 frames a second; 2 times were skipped, with too few frames for a window"
    assert second == "of that time, side by side: decoding 50 %, preparing 25 %, model 75 %, drawing 10 %"
