"""vidkd compress as a user runs it: steps as they end, one table, a page, and what is told of what cannot be."""

import json
import re
from pathlib import Path

import pytest
from street_runs import street_config, write_streets

from vidkd.bench.summary import read_summary
from vidkd.cli.main import run_verb
from vidkd.detection.fit import fit_detector
from vidkd.runtime.letterbox import RESIZE_WORDS

REPOSITORY = Path(__file__).parents[2]
RECIPE = """
steps:
  - prune: {ratio: 0.3}
  - repair: {task: supervised, train.steps: 1}
  - quantise: {clips: 6}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-small.yaml"
    path.write_text(RECIPE)
    return path


def compress(*arguments: object) -> int:
    return run_verb("compress", [*map(str, arguments)])


def test_what_it_prints_and_leaves(recipe: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", recipe, "--model", tiny_teacher, "--runs", tmp_path, "--train.threads", 1]
    assert compress(*command) == 0
    printed = capsys.readouterr().out.splitlines()
    steps = ["0_original", "1_prune", "2_repair", "3_quantise"]
    assert [line.split(":")[0] for line in printed[:3]] == steps[:3]
    assert (
        printed[5] == "  7 layers in eight-bit integers: 6 convolutions and 1 linear layer; ranges found on 6 training clips of 3 classes"
    )
    assert [line.split()[0] for line in printed[6:11]] == ["step", *steps]
    folder = tmp_path / "tiny-small"
    summary = read_summary(folder / "summary.json")
    assert list(summary["methods"]) == steps
    assert f"{summary['methods']['3_quantise']['metrics']['top1']['mean']:.3f}" in printed[3]
    near = summary["data"]["parity"]["3_quantise"]["model.onnx"]
    assert printed[4] == f"  model.onnx: {near['said']}"
    assert re.fullmatch(r"largest difference to the network: .* same in \d of (\d) clips \(\1 clips of 'val'\)", near["said"])
    assert list(summary["data"]["parity"]) == ["3_quantise"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"vidkd compress --config {recipe} --model={tiny_teacher} --runs={tmp_path} --train.threads 1" in page
    assert "ratio: 0.3" in page
    assert "<td>model.onnx</td><td>largest difference to the network: " in page
    assert page.count("in eight-bit integers (convolution)") == 6
    assert page.count("in eight-bit integers (linear layer)") == 1
    assert "7 layers in eight-bit integers: 6 convolutions and 1 linear layer; none in float." in page
    # a residual branch loses the filters of what it is added to
    assert re.search(
        r"<td>backbone.net.stage4.temporal.0</td><td>\d+ -&gt; \d+ filters, bound to those of backbone.net.stage3.0</td>", page
    )
    assert (folder / "3_quantise" / "model.onnx").exists()
    assert compress(*command) == 0
    assert capsys.readouterr().out.count("(found finished)") == 4


def test_what_cannot_be_is_told(recipe: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compress("--config", recipe, "--runs", tmp_path) == 2
    assert "no student to compress" in capsys.readouterr().err
    assert compress("--config", recipe, "--model", tmp_path / "none", "--runs", tmp_path) == 2
    text = capsys.readouterr().err
    assert "checkpoint not found" in text
    assert "named by : --model\n" in text
    named = tmp_path / "named.yaml"
    named.write_text("student: runs/nothere\nsteps: [{prune: {ratio: 0.5}}]")
    assert compress("--config", named, "--runs", tmp_path) == 2
    text = capsys.readouterr().err
    assert "checkpoint not found: runs/nothere\n  fix      : train it, or name another file\n" in text
    assert f"named by : `student:` in {named}; --model RUN replaces it\n" in text
    assert compress("--config", recipe, "--model", tmp_path / "net.onnx", "--runs", tmp_path) == 2
    assert "an exported file cannot be compressed" in capsys.readouterr().err
    assert compress("--config", recipe, "--model", tiny_teacher, "--runs", tmp_path, "--data.rooot", "x") == 2
    assert "did you mean : --data.root" in capsys.readouterr().err
    recipe.write_text("steps: [{prune: {ratio: 2}}]")
    assert compress("--config", recipe, "--model", tiny_teacher, "--runs", tmp_path) == 2
    assert f"{recipe}: steps[0], prune" in capsys.readouterr().err


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
    assert compress_by(runs, "{prune: {ratio: 0.2}}", "runs/tiny", "--data.root", student.parents[1], "--data.root", streets) == 0
    return runs / "small" / "1_prune"


def compress_by(runs: Path, step: str, student: Path | str, *more: object) -> int:
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
    assert compress_by(tmp_path, "{prune: {ratio: 0.2}}", step, *data) == 0
    before, again, after = outcome(step.parents[1], "1_prune"), outcome(tmp_path, "0_original"), outcome(tmp_path, "1_prune")
    assert again["parameters"] == before["parameters"]
    assert int(str(after["parameters"])) < int(str(before["parameters"]))
    assert json.loads((tmp_path / "small" / "1_prune" / "student.json").read_text(encoding="utf-8"))["resize"] == "stretch"
    assert compress_by(tmp_path, "{prune: {ratio: 0.2}}", step, *data) == 0, "found finished"
