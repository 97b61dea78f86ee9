"""Published weights exported, and run on real footage where there is no torch: as the text in docs/deploy.md says."""

import json
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from started import run_to_end
from test_export import BLOCKED, verb

pytestmark = pytest.mark.data

REPOSITORY = Path(__file__).parents[2]
SHOWN = ("--seconds", "2", "--every", "5", "--formats", "jsonl", "--score", "0.2")


@pytest.fixture(scope="module")
def exported(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Yolo-Fastest as an ONNX file."""
    weights, out = real_data / "weights" / "yolo_fastest", tmp_path_factory.mktemp("deploy") / "fastest.onnx"
    assert verb("export", "--checkpoint", weights / "yolo-fastest-1.1.cfg", *of_cfg(weights), "--out", out) == 0
    return out


def of_cfg(weights: Path) -> list[object]:
    return ["--weights", weights / "yolo-fastest-1.1.weights", "--names", weights / "coco.names", "--resize", "stretch"]


def boxes(folder: Path) -> list[tuple[int, NDArray[np.float64]]]:
    """Frame and boxes of every line."""
    path = next(folder.rglob("detections.jsonl"))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["frame"], np.asarray(row["boxes"], np.float64).reshape(-1, 4)) for row in rows]


def detected(python: Sequence[str], model: Path, video: Path, out: Path) -> list[tuple[int, NDArray[np.float64]]]:
    done = run_to_end([*python, "detect", str(video), "--model", str(model), "--out", str(out), *SHOWN])
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
def test_the_short_list_of_packages_is_enough(real_data: Path, exported: Path, tmp_path: Path) -> None:
    """In an environment of its own that holds nothing else; the list is read from the page that names it."""
    page = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    (wanted,) = [line.split()[2:] for line in page.splitlines() if line.startswith("pip install numpy ")]
    venv.create(tmp_path / "env", with_pip=True)
    pip = [str(tmp_path / "env" / "bin" / "pip"), "install", "--quiet"]
    run_to_end([*pip, *wanted], timeout_s=900, check=True)
    run_to_end([*pip, "--no-deps", str(REPOSITORY)], timeout_s=900, check=True)
    video = real_data / "pets09" / "vtest.avi"
    found = detected([str(tmp_path / "env" / "bin" / "vidkd")], exported, video, tmp_path / "there")
    assert_same(found, with_torch(real_data, video, tmp_path / "here"))
    absent = run_to_end([tmp_path / "env" / "bin" / "python", "-c", "import torch"])
    assert absent.returncode != 0
