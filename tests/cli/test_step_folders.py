"""The folder of a detector's step as other verbs take it, and a student that lies below a root."""

import json
from pathlib import Path

import pytest
from street_runs import street_config, write_streets

from vidkd.cli.main import run_verb
from vidkd.detection.fit import fit_detector
from vidkd.runtime.letterbox import RESIZE_WORDS


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def student(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = street_config(streets, tmp_path_factory.mktemp("root") / "runs", **{"data.transform.resize": "stretch"})
    return fit_detector(run, quiet=True).folder


@pytest.fixture(scope="module")
def step(student: Path, streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pruned network; its student lies below a root."""
    runs = tmp_path_factory.mktemp("small")
    assert compress(runs, "{prune: {ratio: 0.2}}", "runs/tiny", "--data.root", student.parents[1], "--data.root", streets) == 0
    return runs / "small" / "1_prune"


def compress(runs: Path, step: str, student: Path | str, *more: object) -> int:
    recipe = runs / "small.yaml"
    recipe.write_text(f"student: {student}\nsubset: val\nsteps: [{step}]\n", encoding="utf-8")
    return run_verb("compress", ["--config", str(recipe), "--runs", str(runs), *map(str, more)])


def outcome(runs: Path, step: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((runs / "small" / step / "outcome.json").read_text(encoding="utf-8"))
    return found


def test_a_step_is_exported(step: Path, tmp_path: Path) -> None:
    assert run_verb("export", ["--model", str(step), "--out", str(tmp_path / "small.onnx")]) == 0
    card = (tmp_path / "small.onnx.md").read_text(encoding="utf-8")
    assert f"{outcome(step.parents[1], '1_prune')['parameters']:,} parameters" in card
    assert f"| Resizing | {RESIZE_WORDS['stretch']}, to 48 x 48 pixels |" in card


def test_a_step_is_judged(step: Path, streets: Path) -> None:
    data = ["--data.root", str(streets), "--data.layout", "motion_shapes", "--data.paths", '["videos/*"]', "--subset", "val"]
    assert run_verb("evaluate", ["--model", str(step), *data, "--device", "cpu"]) == 0
    found = json.loads((step / "evaluation.json").read_text(encoding="utf-8"))
    assert found["metrics"] == pytest.approx(outcome(step.parents[1], "1_prune")["metrics"], abs=1e-3)


def test_a_step_is_the_student_of_another_recipe(step: Path, streets: Path, tmp_path: Path) -> None:
    data = ["--data.root", streets, "--data.layout", "motion_shapes", "--data.paths", '["videos/*"]', "--train.device", "cpu"]
    assert compress(tmp_path, "{prune: {ratio: 0.2}}", step, *data) == 0
    before, again, after = outcome(step.parents[1], "1_prune"), outcome(tmp_path, "0_original"), outcome(tmp_path, "1_prune")
    assert again["parameters"] == before["parameters"]
    assert int(str(after["parameters"])) < int(str(before["parameters"]))
    assert json.loads((tmp_path / "small" / "1_prune" / "student.json").read_text(encoding="utf-8"))["resize"] == "stretch"
    assert compress(tmp_path, "{prune: {ratio: 0.2}}", step, *data) == 0, "found finished"
