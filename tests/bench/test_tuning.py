"""Tuning takes the trial that validates best, writes it down, and nothing is tested before."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from study_samples import make_study, study_content, write_study

from vidkd.base.errors import ConfigError
from vidkd.base.files import write_json
from vidkd.bench import tuning
from vidkd.bench.clip_spec import cell_config
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.reading import chosen_of
from vidkd.bench.study import CellKey, Places
from vidkd.bench.summary import build_summary, read_summary
from vidkd.bench.tuning import chosen_settings, tune

REPOSITORY = Path(__file__).resolve().parents[2]
METHODS = {
    "flow": {"settings": {"view": "flow"}, "trials": [{"model.dropout": 0.2}, {"model.dropout": 0.5}]},
    "rgb": {"trials": [{"optim.lr": 0.1}, {"optim.lr": 0.2}, {"optim.lr": 0.3}]},
    "kd": {"teacher": "flow", "claim": True, "settings": {"task": "logits_kd"}, "trials": [{"method.alpha": 0.1}, {"method.alpha": 0.2}]},
    "mars": {"teacher": "flow", "claim": True, "settings": {"task": "mars"}, "trials": [{"method.weight": 1}, {"method.weight": 2}]},
    "control": {"teacher": "flow", "tuned_as": "kd", "settings": {"task": "logits_kd"}},
}
# (top1, nll) of fold a and fold b
FOUND = {
    "flow": [[(0.9, 0.1), (0.5, 0.1)], [(0.7, 0.9), (0.8, 0.9)]],
    "rgb": [[(0.5, 0.4), (0.5, 0.4)], [(0.4, 0.3), (0.6, 0.3)], [(0.6, 0.9), (0.4, 0.9)]],
    "kd": [[(0.6, 0.2), (0.6, 0.2)], [(0.6, 0.2), (0.6, 0.2)]],
    "mars": [[(0.5, 0.1), (0.1, 0.2)], [(0.5, 0.2), (0.8, 0.2)]],
}
Waves = list[list[str]]


TUNING = {"tuning": {"seeds": [100], "folds": {"x": ["x"], "y": ["y"], "z": ["z"]}}}


def places_in(folder: Path, study: str = "") -> Places:
    return Places(results=folder / "results" / study, runs=folder / "runs", committed=folder / "results")


def study_of(folder: Path, methods: Mapping[str, Any] = METHODS) -> Study:
    return make_study(folder, methods=methods, tuning={"seeds": [100], "validation_fraction": 0.25})


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch) -> Waves:
    """The cells asked for, wave by wave; each is found as FOUND says, and its configuration can be built."""
    asked: Waves = []

    def run_cells(study: Study, phase: str, waves: Sequence[Sequence[CellKey]], places: Places, chosen: Any, workers: int) -> Any:
        assert (phase, workers) == ("tune", 2)
        (keys,) = waves
        asked.append([str(key) for key in keys])
        for key in keys:
            cell_config(study, key, "tune", chosen, places.runs)
            top1, nll = FOUND[key.method][key.trial]["ab".index(key.place)] if key.trial >= 0 else (0.0, 0.0)
            yield key, {"score": top1, "nll": nll}

    monkeypatch.setattr(tuning, "run_cells", run_cells)
    return asked


def test_each_fold_has_the_trial_that_is_best_on_it(tmp_path: Path, waves: Waves) -> None:
    study, places = study_of(tmp_path), places_in(tmp_path)
    content = tune(study, places, 2)
    assert read_summary(places.results / "summary.json")["chosen"] == content == chosen_of(study, places)
    trials = {name: {fold: choice["trial"] for fold, choice in method["folds"].items()} for name, method in content["methods"].items()}
    assert trials["flow"] == {"a": 0, "b": 1}, "0.9 against 0.7 on one, 0.5 against 0.8 on the other"
    assert trials["rgb"] == {"a": 2, "b": 1}
    assert trials["mars"] == {"a": 0, "b": 1}, "alike on a: the lower loss"
    assert trials["kd"] == {"a": 0, "b": 0}, "alike in both: the first"
    assert chosen_settings(content)["flow"] == {"a": {"model.dropout": 0.2}, "b": {"model.dropout": 0.5}}
    flow = content["methods"]["flow"]
    assert flow["folds"]["b"] == {"trial": 1, "settings": {"model.dropout": 0.5}, "mean": 0.8, "nll": 0.9}
    assert [trial["mean"] for trial in flow["trials"]] == [0.7, 0.75]
    assert [trial["nll"] for trial in flow["trials"]] == [0.1, 0.9]
    assert flow["trials"][1]["values"] == {"100/a": 0.7, "100/b": 0.8}
    assert content["tuning"] == {"seeds": [100], "folds": {"a": ["a"], "b": ["b"]}}


def test_each_fold_has_a_claim_of_its_own(tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch) -> None:
    """kd is at 0.6 on both folds, mars at 0.5 and 0.8: the mean over folds, of which one holds what the other tests, decides nothing."""
    study, places = study_of(tmp_path), places_in(tmp_path)
    assert tune(study, places, 2)["claims"] == {"a": "kd", "b": "mars"}
    monkeypatch.setitem(FOUND, "mars", [[(0.5, 0.1), (0.1, 0.2)], [(0.5, 0.2), (0.1, 0.2)]])
    assert tune(study, places, 2)["claims"] == {"a": "kd", "b": "kd"}


def test_a_fold_chooses_by_its_own_cells_alone(tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is found on fold b (its validation groups may be those that a tests), the choice of a stays."""
    study, places = study_of(tmp_path), places_in(tmp_path)
    before = tune(study, places, 2)["methods"]
    for name, trials in list(FOUND.items()):
        monkeypatch.setitem(FOUND, name, [[found[0], (1.0 - found[1][0], 9.0)] for found in trials])
    after = tune(study, places, 2)["methods"]
    assert {name: method["folds"]["a"] for name, method in after.items()} == {name: method["folds"]["a"] for name, method in before.items()}
    assert after["flow"]["folds"]["b"] != before["flow"]["folds"]["b"]


def test_teachers_are_chosen_before_their_students(tmp_path: Path, waves: Waves) -> None:
    tune(study_of(tmp_path), places_in(tmp_path), 2)
    assert waves[0] == [f"{name}-t{trial}-s100-{fold}" for name, n in (("flow", 2), ("rgb", 3)) for trial in range(n) for fold in "ab"]
    assert waves[1] == [f"{name}-t{trial}-s100-{fold}" for name in ("kd", "mars") for trial in range(2) for fold in "ab"]
    assert len(waves) == 2


def test_a_teacher_without_trials_is_trained_for_them_too(tmp_path: Path, waves: Waves) -> None:
    methods = {**METHODS, "flow": {"settings": {"view": "flow"}}, "rgb": {}}
    content = tune(study_of(tmp_path, methods), places_in(tmp_path), 2)
    assert waves[0] == ["flow-s100-a", "flow-s100-b"]
    assert set(content["methods"]) == {"kd", "mars"}


def test_trials_are_chosen_at_the_fractions_that_the_study_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial 0 is right on whole clips and in the mean over all, trial 1 at 20 and 30 %; a teacher that sees whole clips has its top-1."""
    right = {0: {10: 1, 20: 0, 30: 1, 100: 1}, 1: {10: 0, 20: 1, 30: 1, 100: 0}}

    def run_cells(study: Study, phase: str, waves: Sequence[Sequence[CellKey]], places: Places, chosen: Any, workers: int) -> Any:
        for key in waves[0]:
            at = {} if key.method == "flow" else {f"predicted@obs{percent}": [hit] for percent, hit in right[key.trial].items()}
            top1 = 0.25 if key.method == "flow" else sum(right[key.trial].values()) / 4
            yield key, study.score({"metrics": {"top1": top1, "nll": 0.5}, "predictions": {"label": [1], "predicted": [1], **at}})

    monkeypatch.setattr(tuning, "run_cells", run_cells)
    methods = {"flow": METHODS["flow"], "rgb": {"trials": [{"model.dropout": 0.2}, {"model.dropout": 0.5}]}}
    study = make_study(tmp_path, methods=methods, tuning={"seeds": [100]}, fractions_shown=[0.2, 0.3])
    content = tune(study, places_in(tmp_path), 2)
    assert content["metric"] == "top1@obs20-30"
    assert {fold: choice["trial"] for fold, choice in content["methods"]["rgb"]["folds"].items()} == {"a": 1, "b": 1}
    assert [trial["mean"] for trial in content["methods"]["rgb"]["trials"]] == [0.5, 1.0]
    assert content["methods"]["flow"]["trials"][0]["mean"] == 0.25


def test_nothing_is_tested_before_tuning(tmp_path: Path) -> None:
    study, places = study_of(tmp_path), places_in(tmp_path)
    with pytest.raises(ConfigError) as raised:
        chosen_of(study, places)
    assert raised.value.what.startswith(f"{places.results / 'summary.json'} has no choice of settings")
    assert raised.value.lines["fix"] == f"vidkd study --config {study.path} --phase tune"


def origin(folder: Path) -> None:
    """The study `first` of three folds, whose choice another takes over."""
    trials = [{"model.dropout": n / 10} for n in range(4)]
    methods = {"attention": {"trials": trials}, "rgb": {"trials": trials}, "elsewhere": {"trials": trials}}
    content = study_content(study="first", folds=["x", "y", "z"], methods=methods, tuning={"seeds": [100]})
    write_study(folder, content, name="first.yaml")


def choose(folder: Path, votes: Mapping[str, int], means: Sequence[float], claims: Mapping[str, str]) -> None:
    trials = [{"settings": {"model.dropout": n / 10}, "mean": mean, "nll": 0.1} for n, mean in enumerate(means)]
    folds = {fold: {"trial": n, "settings": trials[n]["settings"], "mean": 0.5, "nll": 0.1} for fold, n in votes.items()}
    methods = {name: {"folds": folds, "trials": trials} for name in ("attention", "rgb", "elsewhere")}
    chosen = {"methods": methods, "claims": claims, **TUNING}
    write_json(folder / "results" / "first" / "summary.json", {**build_summary("first", {}, {}, {}, [], 0), "chosen": chosen})


def test_settings_chosen_by_another_study(tmp_path: Path) -> None:
    """A study without trials takes over what another one chose, for the methods that both have; without that choice it does not begin.

    The choice is looked for among the committed results, wherever this study's own results go.
    """
    origin(tmp_path)
    study = make_study(tmp_path, chosen_from="first")
    places = dataclasses.replace(places_in(tmp_path), results=tmp_path / "elsewhere" / "out")
    with pytest.raises(ConfigError) as raised:
        chosen_of(study, places)
    assert raised.value.lines["fix"] == f"vidkd study --config {tmp_path / 'first.yaml'} --phase tune"
    choose(tmp_path, {"x": 3, "y": 1, "z": 1}, (0.0, 0.1, 0.2, 0.3), {"x": "attention", "y": "rgb", "z": "attention"})
    content = chosen_of(study, places)
    most_often = {"a": {"model.dropout": 0.1}, "b": {"model.dropout": 0.1}}
    assert chosen_settings(content) == {"attention": most_often, "rgb": most_often}
    assert content["claims"] == {"a": "attention", "b": "attention"}
    config = cell_config(study, CellKey("attention", -1, 0, "a"), "test", chosen_settings(content), places.runs)
    assert config.model.dropout == 0.1


def test_of_settings_that_were_chosen_as_often_the_better_mean_is_carried(tmp_path: Path) -> None:
    origin(tmp_path)
    choose(tmp_path, {"x": 1, "y": 2, "z": 3}, (0.9, 0.6, 0.7, 0.5), {})
    chosen = chosen_settings(chosen_of(make_study(tmp_path, chosen_from="first"), places_in(tmp_path)))
    assert chosen["rgb"] == {"a": {"model.dropout": 0.2}, "b": {"model.dropout": 0.2}}, "trial 0 is better still, but was not chosen"


def edited(**over: Any) -> dict[str, Any]:
    return {**METHODS, **{name: {**METHODS[name], **change} for name, change in over.items()}}


@pytest.mark.parametrize(
    ("methods", "named"),
    [
        (edited(rgb={"trials": [{"optim.lr": 0.1}, {"optim.lr": 0.25}, {"optim.lr": 0.3}]}), "rgb"),
        (edited(flow={"trials": METHODS["flow"]["trials"][::-1]}), "flow"),
        (edited(kd={"trials": [*METHODS["kd"]["trials"], {"method.alpha": 0.3}]}), "kd"),
        (edited(mars={"trials": []}), "mars"),
        ({**METHODS, "new": METHODS["rgb"]}, "new"),
    ],
    ids=["changed", "reordered", "added", "removed", "new method"],
)
def test_a_choice_among_other_trials_is_not_tested(tmp_path: Path, waves: Waves, methods: dict[str, Any], named: str) -> None:
    places = places_in(tmp_path, "small")
    tune(study_of(tmp_path), places, 2)
    study = study_of(tmp_path, methods)
    with pytest.raises(ConfigError, match=f"holds the choice of another study\n.*other trials: {named}\n") as raised:
        chosen_of(study, places)
    assert raised.value.lines["fix"] == f"vidkd study --config {study.path} --phase tune"
    (tmp_path / "small.yaml").rename(tmp_path / "origin.yaml")
    other = make_study(tmp_path, study="other", chosen_from="small")
    (tmp_path / "origin.yaml").rename(tmp_path / "small.yaml")
    with pytest.raises(ConfigError, match=f"other trials: {named}\n"):
        chosen_of(other, places_in(tmp_path, "other"))
