"""The summary of a recipe from outcomes written by hand, and studies whose cells compress the run of another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_samples import make_study

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench import clip_study
from vidkd.bench.clip_spec import MethodSpec, check_settings
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.compression import compression_summary
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference
from vidkd.bench.study import CellKey, Places, run_cells
from vidkd.compress.recipe import Recipe, parse_steps
from vidkd.compress.steps import Outcome
from vidkd.compress.subject import Made
from vidkd.models.saved import load_classifier
from vidkd.report.compression import compression_report
from vidkd.report.page import render_html
from vidkd.report.parts import Estimate

RIGHT = {"0_original": [1, 1, 1, 0], "1_prune": [1, 0, 0, 0]}


def outcome(name: str, **more: Any) -> Outcome:
    rows = {"label": [1] * 4, "predicted": RIGHT[name], "group": ["a", "a", "b", "b"], "clip": list("wxyz")}
    content = {
        "metrics": {"top1": sum(RIGHT[name]) / 4, "nll": 0.5},
        "predictions": rows,
        "parameters": 1000,
        "macs": 2_000_000,
        "bytes": 4000,
        "original_bytes": 4000,
        "notes": {},
        "seconds": 1.5,
        "environment": {"torch": "2"},
        **more,
    }
    return Outcome(name=name, made=Made(model=Path("m")), content=content, found_finished=False)


@pytest.fixture
def outcomes() -> list[Outcome]:
    notes = {"layers": {"fc": "4 -> 2 filters"}, "left": {"stem": "exclude"}, "train_seconds": 7.0}
    return [outcome("0_original"), outcome("1_prune", parameters=250, macs=500_000, bytes=1000, notes=notes)]


RECIPE = Recipe(student="runs/a", steps=parse_steps([{"prune": {}}], "r.yaml"), name="small")


def test_summary(outcomes: list[Outcome]) -> None:
    summary = compression_summary(RECIPE, outcomes, "top1")
    cells = [Cell(seed=0, place="all", correct=RIGHT[name], group=["a", "a", "b", "b"], clip=list("wxyz")) for name in RIGHT]
    low, high = bootstrap_ci([cells[1]], over=("groups",)).ci95 or (0, 0)
    assert summary["methods"]["1_prune"]["metrics"]["top1"] == {"values": {"0/all": 0.25}, "mean": 0.25, "ci95": (low, high), "n": 1}
    difference = paired_difference([cells[1]], [cells[0]], over=("groups",))
    (pair,) = summary["paired"]
    assert (pair["method"], pair["reference"], pair["difference"]) == ("1_prune", "0_original", -0.5)
    assert tuple(pair["ci95"]) == difference.ci95
    assert summary["seconds"] == 3.0
    assert summary["methods"]["1_prune"]["train_seconds"] == 7.0


def test_a_file_is_compared_with_the_file_of_the_original(outcomes: list[Outcome]) -> None:
    """Of 4,000 bytes of weights, 4,800 in a file: that of 1,200 bytes is four times smaller."""
    summary = compression_summary(RECIPE, [outcomes[0], outcome("1_prune", bytes=1200, original_bytes=4800)], "top1")
    (steps,) = compression_report(summary, {}, main="top1").tables
    assert [row[-2] for row in steps.rows] == [1.0, 4.0]
    assert steps.columns == (
        "step",
        "top1 (%)",
        "minus the original (points)",
        "parameters",
        "million MACs",
        "bytes",
        "times smaller",
        "trained (s)",
    )


def test_a_file_that_vidkd_does_not_run_is_said_to_be_unjudged(outcomes: list[Outcome]) -> None:
    summary = compression_summary(RECIPE, outcomes, "top1")
    summary["data"]["parity"] = {"1_export": {"model.onnx": {"said": "near"}, "model.pt2": {"said": "near", "warning": "apart"}}}
    (files,) = [table for table in compression_report(summary, {}, main="top1").tables if table.title == "Files against their network"]
    assert files.rows == (
        ("1_export", "model.onnx", "near"),
        ("1_export", "model.pt2", "near; warning: apart; not judged, for vidkd does not run this format"),
    )


def test_a_step_of_which_metrics_alone_are_known_has_no_interval(outcomes: list[Outcome]) -> None:
    detectors = [outcome(name, predictions={}, metrics={"ap50": value}) for name, value in (("0_original", 0.8), ("1_prune", 0.7))]
    summary = compression_summary(RECIPE, detectors, "ap50")
    assert summary["paired"] == []
    assert summary["methods"]["1_prune"]["metrics"]["ap50"]["ci95"] is None


def test_detectors_are_compared_draw_by_draw(outcomes: list[Outcome]) -> None:
    """The second lies .1 below the first in every draw, so the difference is sure though neither value is."""
    drawn = np.linspace(0.5, 0.9, 41)
    before = outcome("0_original", predictions={}, metrics={"ap50": 0.7}, draws=drawn.tolist())
    after = outcome("1_prune", predictions={}, metrics={"ap50": 0.6}, draws=(drawn - 0.1).tolist())
    summary = compression_summary(RECIPE, [before, after], "ap50")
    assert summary["methods"]["0_original"]["metrics"]["ap50"]["ci95"] == pytest.approx([0.51, 0.89])
    (pair,) = summary["paired"]
    assert (pair["method"], pair["difference"]) == ("1_prune", pytest.approx(-0.1))
    assert pair["ci95"] == pytest.approx([-0.1, -0.1])
    assert summary["data"]["draws"]["1_prune"] == after.content["draws"]


def test_the_page_shows_steps_and_layers(outcomes: list[Outcome]) -> None:
    summary = compression_summary(RECIPE, outcomes, "top1")
    report = compression_report(summary, {each.name: each.content for each in outcomes}, main="top1", command="vidkd compress")
    steps, layers = report.tables
    assert steps.columns[:3] == ("step", "top1 (%)", "minus the original (points)")
    change = steps.rows[1][2]
    assert isinstance(change, Estimate)
    assert (change.value, steps.rows[1][-2], steps.rows[1][-1]) == (-0.5, 4.0, 7.0)
    assert layers.title == "Layers: 1_prune"
    assert layers.rows == (("fc", "4 -> 2 filters"), ("stem", "unchanged: exclude"))
    assert layers.caption == "1 layer changed, 1 unchanged."
    assert "vidkd compress" in render_html(report)


def test_layers_in_integers_are_told_in_words_and_counted_once(outcomes: list[Outcome]) -> None:
    notes = {"layers": {"stem": "Conv", "fc": "Gemm"}, "left": {"last": "exclude"}, "integer_convolutions": 1}
    made = outcome("1_prune", notes=notes)
    report = compression_report(compression_summary(RECIPE, [outcomes[0], made], "top1"), {"1_prune": made.content}, main="top1")
    assert report.tables[1].rows == (
        ("stem", "in eight-bit integers (convolution)"),
        ("fc", "in eight-bit integers (linear layer)"),
        ("last", "stays in float: exclude"),
    )
    assert report.tables[1].caption == "2 layers in eight-bit integers: 1 convolution and 1 linear layer; 1 in float."


METHODS: dict[str, Any] = {
    "rgb": {},
    "whole": {"compresses": "rgb"},
    "pruned": {"compresses": "rgb", "steps": [{"prune": {"ratio": 0.4}}, {"repair": {"train.steps": 1}}], "settings": {"optim.lr": 0.01}},
    "int8": {"compresses": "rgb", "steps": [{"quantise": {"clips": 3}}]},
}


@pytest.fixture
def tiny_study(tiny_settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Study]:
    def study(*overrides: str, **over: Any) -> Study:
        base = tiny_settings(**{"train.steps": 2, "model.attention.pooling": "mean"})
        return make_study(tmp_path, overrides, base, **{"folds": ["1"], "methods": METHODS, "seeds": [0], **over})

    return study


def run(study: Study, places: Places) -> dict[str, dict[str, Any]]:
    return {str(key): cell for key, cell in run_cells(study, "test", study.test_waves(), places, {}, 1)}


def test_they_begin_with_the_run_of_their_seed_and_fold(tiny_study: Callable[..., Study], places: Places) -> None:
    study = tiny_study()
    found = run(study, places)
    assert list(found) == ["rgb-s0-1", "whole-s0-1", "pruned-s0-1", "int8-s0-1"]
    rgb, whole, pruned, int8 = found.values()
    assert whole["predictions"] == rgb["predictions"]
    assert (whole["parameters"], whole["steps"], whole["train_seconds"]) == (rgb["parameters"], 0, 0)
    assert whole["metrics"]["macs"] == int8["metrics"]["macs"] > pruned["metrics"]["macs"]
    assert int8["metrics"]["bytes"] < whole["metrics"]["bytes"] / 2
    assert (pruned["steps"], pruned["settings"]["teacher"]) == (1, "rgb")
    assert pruned["settings"]["compress.steps"] == METHODS["pruned"]["steps"]
    assert pruned["settings"]["compress.settings.optim.lr"] == 0.01
    repaired = load_classifier(places.runs / study.spec.study / "test" / "pruned-s0-1" / "2_repair")
    assert repaired.run["optim"]["lr"] == 0.01
    assert repaired.run["train"]["seed"] == 0


def test_what_steps_draw_they_draw_by_the_seed_of_the_cell(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def noted(recipe: Recipe, _: Any) -> Any:
        drawn.extend(step.settings for step in recipe.steps)
        raise InterruptedError

    monkeypatch.setattr(clip_study, "run_recipe", noted)
    monkeypatch.setattr(clip_study, "ClassifierSubject", lambda *_, **__: None)
    steps = [{"prune": {"criterion": "random"}}, {"repair": {"train.steps": 1}}, {"quantise": {"seed": 7}}]
    study = tiny_study(methods={"rgb": {}, "small": {"compresses": "rgb", "steps": steps}}, seeds=[3])
    with pytest.raises(InterruptedError):
        study._compressed(CellKey("small", -1, 3, "1"), "test", places, {}, True)
    pruned, repaired, quantised = drawn
    assert (pruned.seed, repaired.settings["train"]["seed"], quantised.seed) == (3, 3, 3)


def test_kept_cells_are_told_apart_by_steps_and_settings(tiny_study: Callable[..., Study], places: Places) -> None:
    methods = {name: METHODS[name] for name in ("rgb", "pruned")}
    run(tiny_study(methods=methods), places)
    for other in ({"steps": [{"prune": {"ratio": 0.5}}, METHODS["pruned"]["steps"][1]]}, {"settings": {"optim.lr": 0.1}}):
        with pytest.raises(DataError, match="was made with other settings") as text:
            run(tiny_study(methods={**methods, "pruned": {**METHODS["pruned"], **other}}), places)
        assert "compress." in text.value.lines["differs"]


def test_what_a_study_says_of_them_is_checked(tiny_study: Callable[..., Study]) -> None:
    with pytest.raises(ConfigError, match="steps are done to the run of a method"):
        MethodSpec(steps=[{"prune": {}}])
    with pytest.raises(ConfigError, match="has that run's teacher"):
        MethodSpec(compresses="a", teacher="b")
    for wrong, text in (
        ({"b": {"compresses": "c"}}, "'c'"),
        ({"b": {"compresses": "pruned"}}, r"methods\.b needs a run, and methods\.pruned compresses one"),
    ):
        with pytest.raises(ConfigError, match=text):
            tiny_study(methods={**METHODS, **wrong})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"steps": [{"prun": {}}]}, "unknown step 'prun'"),
        ({"steps": [{"prune": {}}, {"repair": {"optim.lrr": 1}}]}, r"unknown setting 'optim\.lrr'"),
        ({"steps": [{"prune": {}}, {"repair": {}}], "trials": [{"optim.lr": -1}]}, r"optim\.lr"),
        ({"steps": [{"repair": {"task": "logits_kdd"}}]}, "unknown task 'logits_kdd'"),
    ],
)
def test_wrong_steps_are_found_before_anything_is_trained(wrong: dict[str, Any], text: str, tiny_study: Callable[..., Study]) -> None:
    check_settings(tiny_study())
    with pytest.raises(ConfigError, match=text) as error:
        check_settings(tiny_study(methods={**METHODS, "wrong": {"compresses": "rgb", **wrong}}))
    assert "methods.wrong" in str(error.value)
