"""Methods of a study that make the run of another smaller: done once, kept, told apart by their steps, and shown with what they cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_samples import make_study

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench import clip_study
from vidkd.bench.clip_spec import MethodSpec, check_settings
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.study import CellKey, Places, run_cells
from vidkd.compress.recipe import Recipe
from vidkd.models.saved import load_classifier

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
