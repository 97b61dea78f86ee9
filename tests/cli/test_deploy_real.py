"""Published weights exported, and run on real footage where there is no torch: as the text in docs/guides/deployment.md says."""

import json
import re
import shlex
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_model import picture_model
from speed_models import tiny_checkpoint, tiny_export
from started import run_to_end
from test_export import BLOCKED, verb, without_torch

pytestmark = pytest.mark.data

REPOSITORY = Path(__file__).parents[2]
REAL_CLIP = "clips/v_SoccerJuggling_g23_c01.avi"
SHOWN = ("--seconds", "2", "--every", "5", "--formats", "jsonl", "--score", "0.2")


@pytest.fixture(scope="module")
def exported(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Yolo-Fastest as an ONNX file."""
    weights, out = real_data / "weights" / "yolo_fastest", tmp_path_factory.mktemp("deploy") / "fastest.onnx"
    assert verb("export", "--model", weights / "yolo-fastest-1.1.cfg", *of_cfg(weights), "--out", out) == 0
    return out


def of_cfg(weights: Path) -> list[object]:
    return ["--weights", weights / "yolo-fastest-1.1.weights", "--names", weights / "coco.names", "--resize", "stretch"]


def boxes(folder: Path) -> list[tuple[int, NDArray[np.float64]]]:
    """Frame and boxes of every line."""
    path = next(folder.rglob("detections.jsonl"))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["frame"], np.asarray(row["boxes"], np.float64).reshape(-1, 4)) for row in rows]


def detected(python: Sequence[str], model: Path, video: Path, out: Path, *chosen: str) -> list[tuple[int, NDArray[np.float64]]]:
    done = run_to_end([*python, "detect", str(video), "--model", str(model), "--out", str(out), *SHOWN, *chosen])
    assert done.returncode == 0, done.stderr
    return boxes(out)


def assert_same(found: list[tuple[int, NDArray[np.float64]]], wanted: list[tuple[int, NDArray[np.float64]]]) -> None:
    assert sum(len(rows) for _, rows in wanted) > 10
    assert [frame for frame, _ in found] == [frame for frame, _ in wanted]
    for (_, one), (_, two) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, atol=0.1)


def with_torch(real_data: Path, video: Path, out: Path) -> list[tuple[int, NDArray[np.float64]]]:
    weights = real_data / "weights" / "yolo_fastest"
    assert verb("detect", video, "--model", weights / "yolo-fastest-1.1.cfg", *of_cfg(weights), "--out", out, *SHOWN) == 0
    return boxes(out)


def test_detect_on_real_footage_without_torch(real_data: Path, exported: Path, tmp_path: Path) -> None:
    video = real_data / "pets09" / "vtest.avi"
    found = detected([sys.executable, "-c", BLOCKED], exported, video, tmp_path / "there")
    assert_same(found, with_torch(real_data, video, tmp_path / "here"))


@pytest.mark.slow
def test_detect_in_openvino_on_real_footage_without_torch(real_data: Path, tmp_path: Path) -> None:
    weights, video = real_data / "weights" / "yolo_fastest", real_data / "pets09" / "vtest.avi"
    out = tmp_path / "fastest.xml"
    assert verb("export", "--model", weights / "yolo-fastest-1.1.cfg", *of_cfg(weights), "--out", out) == 0
    found = detected([sys.executable, "-c", BLOCKED], out, video, tmp_path / "there")
    assert_same(found, with_torch(real_data, video, tmp_path / "here"))


@pytest.fixture(scope="module", params=[".onnx", ".xml"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with random weights, and the file that was exported of it."""
    folder = tmp_path_factory.mktemp("classifier")
    checkpoint, file = tiny_checkpoint(folder / "net.pt"), folder / f"net{request.param}"
    assert verb("export", "--model", checkpoint, "--out", file) == 0
    return checkpoint, file


def check_answers(here: Sequence[dict[str, Any]], there: Sequence[dict[str, Any]], times: Sequence[str]) -> None:
    """The same probabilities at the same times, which differ from window to window."""
    assert len(here) > 5
    assert [[row[name] for name in times] for row in here] == [[row[name] for name in times] for row in there]
    one, two = (np.array([list(row["probabilities"].values()) for row in rows]) for rows in (here, there))
    assert np.ptp(one, axis=0).max() > 0.01, "windows differ"
    np.testing.assert_allclose(one, two, atol=1e-4)


def check_predict(real_data: Path, python: Sequence[str], checkpoint: Path, file: Path, folder: Path) -> None:
    video, here, there, overlay = real_data / REAL_CLIP, *(folder / name for name in ("here.jsonl", "there.jsonl", "there.mp4"))
    common = ("predict", str(video), "--step-s", "0.4", "--device", "cpu", "--all")
    assert verb(*common, "--model", checkpoint, "--out", here) == 0
    done = run_to_end([*python, *common, "--model", str(file), "--out", str(there), "--overlay", str(overlay)])
    assert done.returncode == 0, done.stderr
    assert overlay.stat().st_size > 10_000
    one, two = ([json.loads(line) for line in path.read_text().splitlines()] for path in (here, there))
    check_answers(one[:-1], two[:-1], ("start_s", "end_s"))


@pytest.mark.slow
def test_predict_on_real_footage_without_torch(real_data: Path, classifier: tuple[Path, Path], tmp_path: Path) -> None:
    check_predict(real_data, [sys.executable, "-c", BLOCKED], *classifier, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "other", "suffix"), [("onnxruntime", "openvino", ".onnx"), ("openvino", "onnxruntime", ".xml")])
def test_the_short_list_of_packages_is_enough(
    library: str, other: str, suffix: str, real_data: Path, exported: Path, tmp_path: Path
) -> None:
    """In an environment of its own that holds nothing else; the list, with one library or the other, is that of the page that names it."""
    page = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    (wanted,) = [line.split()[2:] for line in page.splitlines() if line.startswith("pip install numpy ")]
    assert "`openvino` in place of `onnxruntime` runs `.xml`" in page
    venv.create(tmp_path / "env", with_pip=True)
    pip = [str(tmp_path / "env" / "bin" / "pip"), "install", "--quiet"]
    run_to_end([*pip, *(library if name == "onnxruntime" else name for name in wanted)], timeout_s=900, check=True)
    run_to_end([*pip, "--no-deps", str(REPOSITORY)], timeout_s=900, check=True)
    for name in ("torch", other):
        assert run_to_end([tmp_path / "env" / "bin" / "python", "-c", f"import {name}"]).returncode != 0
    python = [str(tmp_path / "env" / "bin" / "vidkd")]
    video = real_data / "pets09" / "vtest.avi"
    chosen = () if library == "onnxruntime" else ("--runtime", library)
    found = detected(python, exported, video, tmp_path / "there", *chosen)
    assert_same(found, with_torch(real_data, video, tmp_path / "here"))
    checkpoint, file = tiny_checkpoint(tmp_path / "net.pt"), tmp_path / f"net{suffix}"
    assert verb("export", "--model", checkpoint, "--out", file) == 0
    check_predict(real_data, python, checkpoint, file, tmp_path)


GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "deployment.md"


def shown() -> list[list[str]]:
    """The words of the commands on exported files in the guide's first section."""
    section = GUIDE.read_text(encoding="utf-8").partition("\n## ")[0]
    lines = re.findall(r"^vidkd ((?:predict|detect) .*\.onnx.*)$", section, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_commands_on_exported_files_run_without_torch(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown()
    assert [words[0] for words in found] == ["predict", "detect"]
    tiny_export(tmp_path / "student.onnx")
    picture_model(tmp_path / "tiny.onnx")
    (tmp_path / "clip.mp4").write_bytes(next((tiny_root / "videos" / "Down").iterdir()).read_bytes())
    (tmp_path / "street.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    for words in found:
        done = without_torch(*words)
        assert done.returncode == 0, done.stderr
    assert next((tmp_path / "found").rglob("detections.jsonl")).stat().st_size
