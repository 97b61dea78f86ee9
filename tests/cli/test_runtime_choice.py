"""--runtime as a user gives it: what runs an exported file, in every verb that opens one."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_model import picture_model
from speed_models import tiny_checkpoint, tiny_export
from started import run_to_end
from tkd_runs import run as tkd

from vidkd.base.files import read_json
from vidkd.cli import detect_run
from vidkd.cli.main import run_verb
from vidkd.video import write_video

pytest.importorskip("openvino")

BLOCKED = """
import sys
for name in ("torch", "onnxruntime", "onnx"):
    sys.modules[name] = None
from vidkd.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _fresh_model() -> None:
    detect_run.opened.cache_clear()
    detect_run.recorded.cache_clear()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.mktemp("exported") / "net.onnx")


@pytest.fixture(scope="module")
def clip(frames_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "v.mp4"
    write_video(path, np.concatenate([frames_of(label, 0, frames=12) for label in range(3)]), fps=25)
    return path


def verb(name: str, *arguments: object) -> int:
    return run_verb(name, [*map(str, arguments), "--device", "cpu"])


def without_onnx_runtime(*arguments: object) -> str:
    done = run_to_end([sys.executable, "-c", BLOCKED, *map(str, arguments)])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predict_where_there_is_no_onnx_runtime(exported: Path, clip: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    common = ("predict", clip, "--model", exported, "--all", "--out")
    assert verb(*common, here, "--runtime", "onnxruntime") == 0
    without_onnx_runtime(*common, there, "--runtime", "openvino")
    one, two = ([list(json.loads(line)["probabilities"].values()) for line in path.read_text().splitlines()] for path in (here, there))
    assert np.ptp(one, axis=0).max() > 0.01, "windows differ"
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_program_is_refused_for_what_it_is_without_torch_too(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"PK")
    done = run_to_end([sys.executable, "-c", BLOCKED, "predict", str(clip), "--model", str(tmp_path / "net.pt2")])
    assert done.returncode == 2
    assert "a program of torch.export, which vidkd writes but does not run" in done.stderr
    assert "needs the package" not in done.stderr


def test_openvino_is_named_where_it_is_installed_and_onnx_runtime_is_not(
    exported: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for line in (("predict", clip, "--model", exported), ("detect", clip, "--model", exported, "--out", tmp_path / "found")):
        assert verb(*line) == 2
        text = capsys.readouterr().err
        assert "'onnxruntime' is not installed" in text
        assert "or else : --runtime openvino, which is installed" in text
        assert verb(*line, "--runtime", "onnxruntime") == 2
        assert "or else" not in capsys.readouterr().err


def test_evaluate_judges_what_is_run(exported: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ("evaluate", "--model", exported, "--data.root", tiny_root)
    assert verb(*common, "--out", tmp_path / "here") == 0
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert verb(*common, "--out", tmp_path / "there", "--runtime", "openvino") == 0
    here, there = (read_json(tmp_path / name / "evaluation.json") for name in ("here", "there"))
    assert here["confusion"] == there["confusion"]
    assert here["metrics"] == pytest.approx(there["metrics"], abs=1e-4)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text(encoding="utf-8").splitlines()]


def test_detect(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = picture_model(tmp_path / "net.onnx")
    common = ("detect", video, "--model", model, "--formats", "jsonl", "--score", "0.05", "--out")
    assert verb(*common, tmp_path / "here") == 0
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        detect_run.opened.cache_clear()
        assert verb(*common, tmp_path / "there", "--runtime", "openvino") == 0
    here, there = (rows(tmp_path / name / video.stem) for name in ("here", "there"))
    assert any(row["boxes"] for row in here)
    for one, two in zip(here, there, strict=True):
        np.testing.assert_allclose(np.asarray(one["boxes"]).reshape(-1), np.asarray(two["boxes"]).reshape(-1), atol=0.01)
    capsys.readouterr()
    assert verb(*common, tmp_path / "there") == 2
    assert "runtime" in capsys.readouterr().err, "what was begun in OpenVINO is not gone on with in ONNX Runtime"
    assert verb(*common, tmp_path / "new", "--runtime", "eager") == 2
    assert "--runtime eager means nothing to" in capsys.readouterr().err


def test_an_oracle(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tkd(video, networks, tmp_path / "here") == 0
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert tkd(video, networks, tmp_path / "there", "--oracle-runtime", "openvino") == 0
    here, there = (rows(tmp_path / name / video.stem) for name in ("here", "there"))
    assert here[-1]["learning"]["version"] > 0
    for one, two in zip(here, there, strict=True):
        assert one["learning"]["version"] == two["learning"]["version"]
        np.testing.assert_allclose(one["scores"], two["scores"], atol=1e-4)
    capsys.readouterr()
    assert tkd(video, networks, tmp_path / "there") == 2
    assert "oracle" in capsys.readouterr().err
    darknet = [word.replace("--", "--oracle-").replace("-model", "") for word in networks[:3]]
    assert tkd(video, [*networks[:3], *darknet], tmp_path / "new", "--oracle-runtime", "openvino") == 2
    assert "--oracle-runtime openvino means nothing to" in capsys.readouterr().err


def test_what_torch_runs_has_no_such_choice(tmp_path: Path, clip: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "net.pt")
    for arguments in (
        ("predict", clip, "--model", checkpoint),
        ("evaluate", "--model", checkpoint, "--data.root", tiny_root, "--out", tmp_path),
    ):
        assert verb(*arguments, "--runtime", "openvino") == 2
        assert f"--runtime openvino is for an exported file; torch runs {checkpoint}" in capsys.readouterr().err


def test_a_library_that_does_not_run_the_file_is_told(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.xml").touch()
    assert verb("predict", clip, "--model", tmp_path / "net.xml", "--runtime", "onnxruntime") == 2
    assert "ONNX Runtime does not run .xml files here" in capsys.readouterr().err
    assert verb("predict", clip, "--model", tmp_path / "net.xml", "--runtime", "tensorrt") == 2
    assert "expected : one of onnxruntime, openvino" in capsys.readouterr().err
