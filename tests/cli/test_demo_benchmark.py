"""`make benchmark` in miniature: the same commands on a tiny data set, two steps of training each, few calls."""

import re
from pathlib import Path

import pytest
import yaml

from vidkd.base.files import read_json
from vidkd.cli.main import run_verb

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
SHORT = {
    "make_motion_shapes": "--clips-per-class-train 4 --clips-per-class-test 2 --frames 20 --workers 1",
    "train": "--train.steps 2 --train.threads 1 --train.device cpu --data.flow.preset ultrafast --data.eval_clips 1",
    "compress": "--train.steps 2 --train.threads 1 --train.device cpu --data.eval_clips 1",
    "benchmark": "--rounds 2 --warmup_rounds 0 --calls 2 --end_to_end 1 --cold_starts 1 --batches [1]",
}
"""What makes each command short."""


def commands() -> list[list[str]]:
    """The words of each command of `make benchmark`, with the variables of the Makefile put in."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (names,) = re.findall(r"^BENCHMARKED := (.*)$", text, re.MULTILINE)
    (recipe,) = re.findall(r"^benchmark:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    found = []
    for verb_and_words in re.findall(r"\$\(BIN\)/vidkd ([^;\n]+)", recipe):
        for name in names.split() if "$$name" in verb_and_words else [""]:
            found.append(verb_and_words.replace("$$name", name).split())
    return found


@pytest.mark.slow
def test_five_models_are_made_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = commands()
    assert [words[0] for words in done] == ["make_motion_shapes", "train", *["compress"] * 5, "benchmark"]
    for verb, *words in done:
        placed = [str(REPOSITORY / word) if word.startswith("configs/") else word for word in words]
        assert run_verb(verb, [*placed, *SHORT[verb].split()]) == 0, (verb, words)
    models = yaml.safe_load((CONFIGS / "benchmark" / "demo.yaml").read_text(encoding="utf-8"))["models"]
    folder = tmp_path / "runs" / "benchmark"
    summary = read_json(folder / "summary.json")
    assert list(summary["methods"]) == list(models) == ["original", "pruned", "lowrank", "int8", "all"]
    for label, method in summary["methods"].items():
        metrics = {name: metric["mean"] for name, metric in method["metrics"].items()}
        assert 0 <= metrics["top1"] <= 1
        assert metrics["latency_ms@b1t1"] > 0
        assert summary["data"]["models"][label]["runs_on"].startswith("OpenVINO")
    parameters = {label: method["parameters"] for label, method in summary["methods"].items()}
    assert parameters["all"] < parameters["pruned"] < parameters["original"] == parameters["int8"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for cost in ("latency", "end-to-end latency", "size", "multiply-accumulates"):
        assert f"top-1 against {cost}" in page
    plot = page.partition("top-1 against latency")[2].partition("</figure>")[0]
    assert "<svg" in plot
    assert all(label in plot for label in models)
