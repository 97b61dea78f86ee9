"""vidkd detect as a user runs it: folders, files, what is printed, and what goes wrong."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_model import picture_model
from started import run_to_end

from vidkd.cli import detect_run
from vidkd.cli.main import run_verb
from vidkd.video import open_video, write_video

CAT, DOG = (0.0, 0.0, 0.5, 0.5, 0.9, 0.0), (0.5, 0.5, 1.0, 1.0, 0.6, 1.0)


@pytest.fixture(autouse=True)
def _fresh_model() -> None:
    detect_run.opened.cache_clear()
    detect_run.recorded.cache_clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_model(tmp_path_factory.mktemp("model") / "net.onnx")


def picture(*boxes: tuple[float, ...]) -> np.ndarray:
    """A frame (64, 64, 3) in which the model sees these rows: each of its pixels fills a square of 16."""
    values = np.zeros(48)
    values[: 6 * len(boxes)] = np.ravel(boxes)
    return np.kron((values * 255).round().astype(np.uint8).reshape(4, 4, 3), np.ones((16, 16, 1), np.uint8))


def make_video(path: Path, frames: int = 20) -> Path:
    """A cat in every frame, and a dog in the second half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [picture(CAT, *[DOG] * (index >= frames // 2)) for index in range(frames)], fps=10, lossless=True)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "street.mp4")


def run(*arguments: object) -> int:
    return run_verb("detect", [*map(str, arguments), "--device", "cpu", "--part", "8"])


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_file_of_one_video(
    video: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(video, "--model", model, "--out", tmp_path) == 0
    folder = tmp_path / "street"
    assert {path.name for path in folder.iterdir()} == {
        "annotated.mp4", "detections.jsonl", "coco.json", "mot.txt", "detections.csv", "summary.json", "run.json",
    }  # fmt: skip
    found = rows(folder)
    assert [row["classes"] for row in found] == [["cat"]] * 10 + [["cat", "dog"]] * 10
    assert found[0]["boxes"] == [pytest.approx([0, 0, 32, 32], abs=0.3)]
    assert found[15]["time_s"] == pytest.approx(1.5)
    with open_video(folder / "annotated.mp4") as drawn:
        assert len(drawn) == 20
    printed = capsys.readouterr()
    assert "20 frames, 30 boxes (cat 20, dog 10)" in printed.out
    assert caplog.messages == [f"opening {model}"]
    assert "street.mp4 20/20" in printed.err
    assert run(video, "--model", model, "--out", tmp_path) == 0
    assert "found finished: 20 frames, 30 boxes (cat 20, dog 10)" in capsys.readouterr().out


def test_filters_and_formats(video: Path, model: Path, tmp_path: Path) -> None:
    common = ("--model", model, "--formats", "jsonl,csv")
    assert run(video, *common, "--classes", "dog", "--out", tmp_path / "dogs") == 0
    assert [row["classes"] for row in rows(tmp_path / "dogs" / "street")] == [[]] * 10 + [["dog"]] * 10
    assert run(video, *common, "--score", 0.7, "--out", tmp_path / "sure") == 0
    assert {name for row in rows(tmp_path / "sure" / "street") for name in row["classes"]} == {"cat"}
    assert run(video, *common, "--region", "0.5,0.5,1,1", "--out", tmp_path / "corner") == 0
    assert {name for row in rows(tmp_path / "corner" / "street") for name in row["classes"]} == {"dog"}
    assert run(video, *common, "--every", 5, "--seconds", 1.2, "--track", "--out", tmp_path / "few") == 0
    assert [(row["frame"], row["track_ids"]) for row in rows(tmp_path / "few" / "street")] == [(0, [-1]), (5, [1]), (10, [1, -1])]
    assert not (tmp_path / "few" / "street" / "annotated.mp4").exists()


def test_several_inputs_of_which_one_is_broken(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_video(tmp_path / "in" / "a" / "street.mp4", 6)
    make_video(tmp_path / "in" / "b" / "street.mp4", 6)
    (tmp_path / "in" / "b" / "broken.mp4").write_bytes(b"nothing")
    out = tmp_path / "in" / "out"
    assert run(tmp_path / "in", "--model", model, "--out", out) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a_street", "b_street"], "nothing of the broken one"
    captured = capsys.readouterr()
    assert captured.out.count("6 frames, 9 boxes") == 2
    assert f"{tmp_path / 'in' / 'b' / 'broken.mp4'}: cannot open video" in captured.err
    assert "1 of 3 inputs FAILED" in captured.err
    assert run(tmp_path / "in", "--model", model, "--out", out) == 1
    assert capsys.readouterr().out.count("found finished") == 2


def test_a_place_where_nothing_can_be_written(video: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file")
    assert run(video, "--model", model, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"a file is in the way of the folder: {tmp_path / 'out' / 'street'}" in error
    assert "make room" not in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_several_inputs_at_the_same_time(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        make_video(tmp_path / f"{name}.mp4", 6)
    assert run(tmp_path / "*.mp4", "--model", model, "--out", tmp_path / "out", "--workers", 2) == 0
    assert capsys.readouterr().out.count("6 frames, 9 boxes") == 3
    assert [len(rows(tmp_path / "out" / name)) for name in ("a", "b", "c")] == [6, 6, 6]


def test_ctrl_c_ends_after_the_part_in_hand_and_the_same_command_goes_on(
    video: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true, drawn = detect_run.draw_boxes, []

    def interrupted(image: Any, found: Any, class_names: Any) -> Any:
        drawn.append(found.frame_index)
        if len(drawn) == 3:
            signal.raise_signal(signal.SIGINT)
        return true(image, found, class_names)

    assert run(video, "--model", model, "--out", tmp_path / "whole") == 0
    monkeypatch.setattr(detect_run, "draw_boxes", interrupted)
    assert run(video, "--model", model, "--out", tmp_path / "out") == 130
    assert "stopped after 8 frames; the same command resumes" in capsys.readouterr().out
    drawn.clear()
    monkeypatch.setattr(
        detect_run, "draw_boxes", lambda image, found, class_names: drawn.append(found.frame_index) or true(image, found, class_names)
    )
    assert run(video, "--model", model, "--out", tmp_path / "out") == 0
    assert drawn == list(range(8, 20))
    for name in ("detections.jsonl", "coco.json", "mot.txt", "detections.csv"):
        assert (tmp_path / "out" / "street" / name).read_bytes() == (tmp_path / "whole" / "street" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "cta"], "unknown class 'cta'\n  did you mean : cat"),
        (["--region", "64,0,70,9"], "the region 64,0,70,9 lies outside the frame"),
        (["--region", "3,3"], "not a region: 3,3\n  fix : x1,y1,x2,y2 with"),
        (["--formats", "mots"], "'--formats' has a wrong value"),
        (["--names", "x.names"], "--names means nothing to"),
        (["--score", "30"], "'--score' has a wrong value"),
        (["--threads", "100000"], "100000 threads on "),
        (["--metadata", "no.yaml"], "metadata file not found: no.yaml\n  flag  : --metadata"),
        (["--device", "tpu"], "cannot use device 'tpu'"),
    ],
)
def test_arguments_that_mean_nothing(
    arguments: list[str], message: str, video: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("detect", [str(video), "--model", str(model), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("annotated.mp4"))


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "decord", "lightning_fabric", "jsonargparse", "supervision", "matplotlib", "pytorchvideo"):
    sys.modules[name] = None
from vidkd.cli.main import run_verb
sys.exit(run_verb("detect", sys.argv[1:]))
"""


def test_an_exported_detector_needs_no_torch(video: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(video), "--model", str(model), "--out", str(tmp_path), "--track"]
    done = run_to_end(command)
    assert done.returncode == 0, done.stderr
    assert "20 frames, 30 boxes" in done.stdout
    assert len(rows(tmp_path / "street")) == 20


def test_the_arithmetic_of_the_report() -> None:
    summary = {
        "status": "done",
        "frames": 100,
        "detections": {"a": 5, "b": 4, "c": 3, "d": 2, "e": 1, "f": 1},
        "frames_per_second": {"decode": 250.0, "infer": 30.04, "end_to_end": 29.5},
    }
    assert detect_run.report(summary, "out/x") == (
        "out/x: 100 frames, 16 boxes (a 5, b 4, c 3, d 2 and 2 more classes); "
        "29.5 frames a second (stages, in parallel: decode 250.0, infer 30.0)"
    )
    assert detect_run.report({**summary, "status": "found"}, "x").startswith("x: found finished: 100 frames, 16 boxes")


@pytest.mark.data
@pytest.mark.slow
def test_yolo_fastest_on_pets(real_data: Path, tmp_path: Path) -> None:
    faster = pytest.importorskip("faster_coco_eval")
    weights = real_data / "weights" / "yolo_fastest"
    files = {"--model": "yolo-fastest-1.1.cfg", "--weights": "yolo-fastest-1.1.weights", "--names": "coco.names"}
    arguments = [str(part) for flag, name in files.items() for part in (flag, weights / name)]
    video = real_data / "pets09" / "vtest.avi"
    assert run(video, *arguments, "--out", tmp_path, "--seconds", 6, "--track", "--classes", "person") == 0
    folder = tmp_path / "vtest"
    coco = faster.COCO(str(folder / "coco.json"))
    assert len(coco.getImgIds()) == 60
    with open_video(video) as source, open_video(folder / "annotated.mp4") as drawn:
        np.testing.assert_allclose(drawn.timestamps_s, source.timestamps_s[:60], atol=1e-4)
    tracks = {number for row in rows(folder) for number in row["track_ids"]} - {-1}
    assert 5 < len(tracks) < 60
