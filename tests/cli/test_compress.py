"""vidkd compress as a user runs it: steps as they end, one table, a page, and what is told of what cannot be."""

import re
from pathlib import Path

import pytest

from vidkd.bench.summary import read_summary
from vidkd.cli.main import run_verb

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
