"""vidkd predict as a user runs it, on a path that no shell likes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vidkd.base.errors import ConfigError, VideoError
from vidkd.cli import predict as verb
from vidkd.cli.main import run_verb
from vidkd.engine.config import load_config
from vidkd.engine.fit import fit
from vidkd.inference.predict import check_recognises
from vidkd.models.saved import load_classifier, read_checkpoint
from vidkd.report import annotate
from vidkd.video import open_video, write_video

FRAMES = 30
Frames = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def student(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student without attention."""
    settings = {
        "name": "mean",
        "runs": str(tmp_path_factory.mktemp("runs")),
        "data": {
            "root": str(tiny_root),
            "window": {"frames": 4, "stride": 2},
            "transform": {"short_side": 36, "crop": 32},
            "batch_size": 4,
        },
        "train": {"steps": 1, "threads": 1, "device": "cpu"},
    }
    return fit(load_config(settings=settings), quiet=True).folder


@pytest.fixture(scope="module")
def video(frames_of: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wide video of 30 frames, 64x48; the square that a network sees leaves 8 pixels on each side."""
    path = tmp_path_factory.mktemp("videos") / "mein 'Übungs' \"Vidéo\" 走る $x.mp4"
    frames = np.concatenate([frames_of(0, 0, frames=18), frames_of(1, 0, frames=12)])
    wide = np.full((FRAMES, 48, 64, 3), 128, np.uint8)
    wide[:, :, 8:56] = frames
    write_video(path, wide, fps=25)
    return path


def predict(*arguments: object) -> int:
    return run_verb("predict", [*map(str, arguments), "--device", "cpu"])


def rows(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of all windows, and of whole clips."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in found if "windows" not in row], [row for row in found if "windows" in row]


def test_windows_and_clips_are_printed_and_written(
    video: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out, second = tmp_path / "out put.jsonl", tmp_path / "second.mp4"
    shutil.copyfile(video, second)
    assert predict(video, second, "--model", tiny_teacher, "--out", out, "--all", "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert caplog.messages == [f"opening {tiny_teacher}"]
    windows, clips = rows(out)
    # 4 frames 2 apart and the last flow target reach over 9 frames; half of that from window to window, the last ends with the video
    starts = [0, 4, 8, 12, 16, 20, 21]
    assert [window["start_s"] for window in windows] == 2 * [round(start / 25, 3) for start in starts]
    assert [window["end_s"] for window in windows] == 2 * [round((start + 6) / 25, 3) for start in starts]
    for line, row in zip(lines[1:8], windows, strict=False):
        assert list(row["probabilities"]) == ["Right", "Down", "Grow"]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert [p for _, p in row["top"]] == pytest.approx(sorted(row["probabilities"].values(), reverse=True)[:2], abs=1e-4)
        assert line.split("   ")[-2:] == [f"{name} {p:.2f}" for name, p in row["top"]]
    assert [(clip["video"], clip["windows"]) for clip in clips] == [(str(video), 7), (str(second), 7)]
    means = {name: np.mean([row["probabilities"][name] for row in windows[:7]]) for name in clips[0]["probabilities"]}
    assert clips[0]["probabilities"] == pytest.approx(means, abs=1e-5)
    assert lines[0] == str(video)
    assert lines[8].split() == ["whole", "clip", *(word for name, p in clips[0]["top"] for word in (name, f"{p:.2f}"))]


def test_settings_of_a_file(video: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(f"model: {tiny_teacher}\nstep_s: 0.4\nout: {tmp_path / 'a.jsonl'}\n")
    assert predict(video, "--config", tmp_path / "p.yaml") == 0
    assert [window["start_s"] for window in rows(tmp_path / "a.jsonl")[0]] == [0, 0.4, 0.8, 0.84]
    (tmp_path / "p.yaml").write_text("modle: x\n")
    capsys.readouterr()
    assert predict(video, "--config", tmp_path / "p.yaml") == 2
    assert f"unknown setting 'modle'\n  where        : {tmp_path / 'p.yaml'}:1\n  did you mean : model" in capsys.readouterr().err
    assert run_verb("predict", []) == 2
    assert "missing: VIDEO, --model" in capsys.readouterr().err


def test_the_overlay_has_every_frame_and_draws_inside_the_square_alone(
    video: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotate, "FULL", 0.0)  # the maps of a hardly trained network are nearly even
    out = tmp_path / "über lay.mp4"
    assert predict(video, "--model", tiny_teacher, "--overlay", out) == 0
    assert f"written: {out} ({FRAMES} frames)" in capsys.readouterr().out
    with open_video(video) as source, open_video(out) as drawn:
        assert (drawn.info.frame_count, drawn.info.width, drawn.info.height) == (FRAMES, 64, 48)
        np.testing.assert_allclose(drawn.timestamps_s, source.timestamps_s, atol=1e-3)
        before, after = (reader.frames_at_indices([10]).astype(float)[0] for reader in (source, drawn))
    below_label = slice(24, 48)  # the label lies at the top
    outside = np.r_[0:6, 58:64]
    assert np.abs(after[below_label, outside] - 0.45 * 128).max() < 12  # dimmed, without colour
    inside, original = after[below_label, 10:54], before[below_label, 10:54]
    colour = np.ptp(inside, axis=-1) - np.ptp(original, axis=-1)
    assert colour.max() > 60
    assert np.median(inside) > np.median(after[below_label, outside]) - 40


def trained_with(student: Path, path: Path, **observe: Any) -> Path:
    """The student with other words on what it was trained for."""
    saved = read_checkpoint(student / "checkpoints" / "last.pt")
    saved["run"]["data"]["observe"] |= observe
    torch.save(saved, path)
    return path


def test_a_network_that_names_what_comes_later_recognises_nothing(student: Path, tmp_path: Path) -> None:
    later = trained_with(student, tmp_path / "later.pt", protocol="anticipation", gap_s=1.5)
    with pytest.raises(ConfigError, match=r"begins 1.5 s after what it sees"):
        check_recognises(load_config(settings=load_classifier(later).run).data)


def test_a_network_of_early_recognition_sees_each_window_as_a_whole_clip(
    video: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = trained_with(student, tmp_path / "early.pt", protocol="early")
    found = {}
    for name, checkpoint in (("whole", student), ("early", early)):
        assert predict(video, "--model", checkpoint, "--out", tmp_path / f"{name}.json") == 0
        said = capsys.readouterr().out
        assert ("trained for early recognition, of clips seen in part: sees each window as one clip, seen whole" in said) == (
            name == "early"
        )
        found[name] = rows(tmp_path / f"{name}.json")
    assert found["early"] == found["whole"]


def test_a_network_without_attention_predicts_but_draws_nothing(
    video: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(video, "--model", student) == 0
    assert predict(video, "--model", student, "--overlay", tmp_path / "out.mp4") == 2
    assert "no attention map to draw" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(("name", "what"), [("none", "checkpoint"), ("none.pt", "checkpoint"), ("none.onnx", "model file")])
def test_a_checkpoint_that_is_not_there(name: str, what: str, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("predict", [str(video), "--model", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"vidkd: {what} not found: {tmp_path / name}\n  flag  : --model\n")
    assert "fix   : give --model the folder of a run" in error


def test_a_detector_is_sent_to_detect_and_a_classifier_to_predict(
    video: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("net.cfg", "net.tflite"):
        (tmp_path / name).touch()
        assert predict(video, "--model", tmp_path / name) == 2
        error = capsys.readouterr().err
        assert error == f"vidkd: a detector, not a classifier: {tmp_path / name}\n  fix : vidkd detect --model takes detectors\n"
    assert caplog.messages == [], "nothing was opened"
    assert run_verb("detect", [str(video), "--model", str(tiny_teacher), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert f"{tiny_teacher} holds a classifier of clips, not a detector\n  fix : vidkd predict --model takes it" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_a_message(video: Path, student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(video, "--model", student, "--out", "/dev/full", "--overwrite") == 2
    assert "cannot write: /dev/full" in capsys.readouterr().err


def test_one_of_several_that_breaks_off_does_not_end_the_rest(
    video: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, *arguments: Any) -> None:
        if name == str(first):
            raise VideoError("frame 3 is damaged")
        rows_of_clip(name, *arguments)

    rows_of_clip = verb._predict_clip
    first = Path(shutil.copy(video, tmp_path / "first.mp4"))
    monkeypatch.setattr(verb, "_predict_clip", broken)
    (tmp_path / "text.mp4").write_text("a text")
    assert predict(tmp_path / "text.mp4", first, video, "--model", student, "--out", tmp_path / "rows.jsonl") == 1
    captured = capsys.readouterr()
    assert f"cannot open video: {tmp_path}/text.mp4" in captured.err
    assert f"frame 3 is damaged\n  video : {first}\n" in captured.err
    assert captured.out.endswith(f"written: {tmp_path}/rows.jsonl\n")
    assert len(rows(tmp_path / "rows.jsonl")[1]) == 1


def test_images_have_the_frame_rate_that_is_given(student: Path, tmp_path: Path, frames_of: Frames) -> None:
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(frames_of(0, 0, frames=20)):
        cv2.imwrite(str(tmp_path / "images" / f"{number:03d}.png"), frame)
    assert predict(tmp_path / "images", "--model", student, "--fps", 5, "--out", tmp_path / "rows.jsonl") == 0
    assert rows(tmp_path / "rows.jsonl")[0][-1]["end_s"] == pytest.approx(17 / 5)


def test_a_damaged_last_checkpoint_leaves_the_best_to_be_used(
    video: Path, student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(student, tmp_path / "run"))
    shutil.copy(run / "checkpoints/last.pt", run / "checkpoints/best.pt")
    (run / "checkpoints/last.pt").write_bytes(b"torn")
    assert predict(video, "--model", run) == 0
    assert "last.pt" in caplog.text


def test_what_is_of_streams_is_refused_for_files(video: Path, student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(video, "--model", student, "--seconds", 1) == 2
    assert "--seconds and --window-s are of cameras" in capsys.readouterr().err
