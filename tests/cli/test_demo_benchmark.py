"""`make benchmark` in miniature: the same commands on a tiny data set, two steps of training each, few calls."""

import re
from pathlib import Path

import pytest
import yaml

from vidkd.base.files import read_json
from vidkd.bench.summary import read_summary
from vidkd.cli.main import run_verb

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
SHORT = {
    "make_data": "--clips-per-class-train 4 --clips-per-class-test 2 --frames 20 --workers 1",
    "train": "--train.steps 2 --train.threads 1 --train.device cpu --data.flow.preset ultrafast --data.eval_clips 1",
    "compress": "--train.steps 2 --train.threads 1 --train.device cpu --data.eval_clips 1",
    "benchmark": "--rounds 2 --calls 2 --end_to_end 1 --cold_starts 1 --batches [1]",
}
"""What makes each command short."""


def commands() -> list[list[str]]:
    """The words of each command of `make benchmark`."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^benchmark:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    return [words.split() for words in re.findall(r"\$\(BIN\)/vidkd ([^\n]+)", recipe)]


TINIEST = {
    "train": "--task supervised --train.steps 1 --data.window.frames 4 --data.transform.short_side 36 --data.transform.crop 32"
    " --train.threads 1 --train.device cpu --data.eval_clips 1 --data.cache.enabled false",
    "compress": "--train.threads 1 --train.device cpu --data.eval_clips 1",
    "benchmark": "--rounds 2 --calls 2 --end_to_end 1 --cold_starts 0 --batches [1]",
}
"""The same for its smallest form, in which no flow is found."""


@pytest.mark.slow
def test_the_recipe_in_its_smallest_form(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands without those that cut the student, which is trained for a step on the clips of the tests and is next to its file."""
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    whole = yaml.safe_load((CONFIGS / "benchmark" / "demo.yaml").read_text(encoding="utf-8"))
    original = whole["models"]["original"]
    small = {**whole, "models": {"original": original, "student": {"checkpoint": original["source"]}}}
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(small, sort_keys=False), encoding="utf-8")
    recipe = yaml.safe_load((CONFIGS / "compress" / "demo.yaml").read_text(encoding="utf-8"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "steps": recipe["steps"][:1]}), encoding="utf-8")
    for verb, *words in commands():
        text = " ".join(words)
        if verb == "make_data":
            continue
        placed = text.replace("runs/data/motion_shapes", str(tiny_root)).replace("configs/benchmark/demo.yaml", "demo.yaml")
        placed = placed.replace("configs/compress/demo.yaml", "recipe.yaml")
        placed = placed.replace("configs/", f"{CONFIGS}/")
        assert run_verb(verb, [*placed.split(), *TINIEST[verb].split()]) == 0, (verb, words)
    folder = tmp_path / "runs" / "benchmark"
    summary = read_summary(folder / "summary.json")
    exported, student = (method["metrics"] for method in summary["methods"].values())
    assert {"top1", "latency_ms@b1t1", "end_to_end_ms@b1t1", "file_bytes"} <= set(exported) & set(student)
    assert exported["top1"]["mean"] == student["top1"]["mean"]
    assert exported["macs"]["mean"] == student["macs"]["mean"]
    assert [model["runs_on"].split()[0] for model in summary["data"]["models"].values()] == ["OpenVINO", "torch"]
    assert [(pair["method"], pair["reference"]) for pair in summary["paired"]] == [("student", "original")]
    page = (folder / "report.html").read_text(encoding="utf-8")
    plot = page.partition("top-1 against latency")[2].partition("</figure>")[0]
    assert "<svg" in plot
    assert all(label in plot for label in ("original", "student"))


@pytest.mark.slow
def test_four_models_are_made_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = commands()
    assert [words[0] for words in done] == ["make_data", "train", "compress", "benchmark"]
    for verb, *words in done:
        placed = [str(REPOSITORY / word) if word.startswith("configs/") else word for word in words]
        assert run_verb(verb, [*placed, *SHORT[verb].split()]) == 0, (verb, words)
    models = yaml.safe_load((CONFIGS / "benchmark" / "demo.yaml").read_text(encoding="utf-8"))["models"]
    folder = tmp_path / "runs" / "benchmark"
    summary = read_json(folder / "summary.json")
    assert list(summary["methods"]) == list(models) == ["original", "pruned", "lowrank", "int8"]
    for label, method in summary["methods"].items():
        metrics = {name: metric["mean"] for name, metric in method["metrics"].items()}
        assert 0 <= metrics["top1"] <= 1
        assert metrics["latency_ms@b1t1"] > 0
        assert summary["data"]["models"][label]["runs_on"].startswith("OpenVINO")
    parameters = {label: method["parameters"] for label, method in summary["methods"].items()}
    assert parameters["int8"] == parameters["lowrank"] < parameters["pruned"] < parameters["original"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for cost in ("latency", "end-to-end latency", "size", "multiply-accumulates"):
        assert f"top-1 against {cost}" in page
    plot = page.partition("top-1 against latency")[2].partition("</figure>")[0]
    assert "<svg" in plot
    assert all(label in plot for label in models)
