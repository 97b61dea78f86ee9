"""Recall of published weights on the salient objects of DAVIS, by `vidkd evaluate`."""

import json
from pathlib import Path

import pytest

from vidkd.cli.main import run_verb

FAST, TINY = "weights/yolo_fastest/yolo-fastest-1.1", "weights/yolov3_tiny/yolov3-tiny"


# Found here, and the figure of the data's own notes: single runs of other programs, which do not tell from which score on a box counted.
# From .2 on tiny-YOLOv3 finds .526.
@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("cfg", "weights", "resize", "score", "expected", "noted"),
    [
        (FAST, FAST, "stretch", 0.2, 0.570, 0.57),
        (f"{FAST}-xl", f"{FAST}-xl", "stretch", 0.2, 0.633, 0.65),
        (f"{TINY}-m123", TINY, "darknet", 0.25, 0.495, 0.49),
    ],
)
def test_davis(cfg: str, weights: str, resize: str, score: float, expected: float, noted: float, real_data: Path, tmp_path: Path) -> None:
    model = ["--model", str(real_data / f"{cfg}.cfg"), "--weights", str(real_data / f"{weights}.weights"), "--resize", resize]
    names = ["--names", str(real_data / "weights" / "yolo_fastest" / "coco.names"), "--device", "cpu", "--out", str(tmp_path)]
    data = ["--data.root", str(real_data / "davis16"), "--data.layout", "davis", "--judge.score", str(score)]
    assert run_verb("evaluate", [*model, *names, *data]) == 0
    text = json.loads((tmp_path / "evaluation.json").read_text())
    assert (text["frames"], text["objects"]) == (663, 663)
    assert text["metrics"]["recall50"] == pytest.approx(expected, abs=0.01)
    assert text["metrics"]["recall50"] == pytest.approx(noted, abs=0.02)
