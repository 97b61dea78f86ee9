"""Tuning takes the trial that validates best, writes it down, and nothing is tested before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from study_samples import make_study

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, write_json
from vidkd.bench import tuning
from vidkd.bench.cells import Places
from vidkd.bench.study import CellKey, Study, cell_config
from vidkd.bench.tuning import chosen_settings, read_chosen, tune

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
    "mars": [[(0.1, 0.2), (0.1, 0.2)], [(0.6, 0.2), (0.8, 0.2)]],
}
Waves = list[list[str]]


def study_of(folder: Path, methods: Mapping[str, Any] = METHODS) -> Study:
    return make_study(folder, methods=methods, tuning={"seeds": [100], "validation_fraction": 0.25})


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch) -> Waves:
    """The cells asked for, wave by wave; each is found as FOUND says, and its configuration can be built."""
    asked: Waves = []

    def run_cells(study: Study, phase: str, keys: Sequence[CellKey], places: Places, chosen: Any, workers: int) -> Any:
        assert (phase, workers) == ("tune", 2)
        asked.append([str(key) for key in keys])
        for key in keys:
            cell_config(study, key, "tune", chosen, places.runs)
            top1, nll = FOUND[key.method][key.trial]["ab".index(key.fold)] if key.trial >= 0 else (0.0, 0.0)
            yield key, {"metrics": {"top1": top1, "nll": nll}}

    monkeypatch.setattr(tuning, "run_cells", run_cells)
    return asked


def test_the_best_trial_of_each_method(tmp_path: Path, waves: Waves) -> None:
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    content = tune(study, places, 2)
    assert read_json(places.results / "chosen.json") == content == read_chosen(study, places)
    assert content["methods"]["flow"]["trial"] == 1, "0.75 in the mean, against 0.7"
    assert content["methods"]["rgb"]["trial"] == 1, "three means of 0.5: the lowest loss"
    assert content["methods"]["kd"]["trial"] == 0, "alike in both: the first"
    assert chosen_settings(content) == {
        "flow": {"model.dropout": 0.5},
        "rgb": {"optim.lr": 0.2},
        "kd": {"method.alpha": 0.1},
        "mars": {"method.weight": 2},
    }
    flow = content["methods"]["flow"]
    assert (flow["mean"], flow["settings"]) == (0.75, {"model.dropout": 0.5})
    assert [trial["mean"] for trial in flow["trials"]] == [0.7, 0.75]
    assert [trial["nll"] for trial in flow["trials"]] == [0.1, 0.9]
    assert flow["trials"][1]["values"] == {"100/a": 0.7, "100/b": 0.8}
    assert content["claim"] == "mars", "the claim's candidate that validates best"
    assert content["tuning"] == {"seeds": [100], "folds": ["a", "b"], "validation_fraction": 0.25}


def test_teachers_are_chosen_before_their_students(tmp_path: Path, waves: Waves) -> None:
    tune(study_of(tmp_path), Places(tmp_path, tmp_path), 2)
    assert waves[0] == [f"{name}-t{trial}-s100-{fold}" for name, n in (("flow", 2), ("rgb", 3)) for trial in range(n) for fold in "ab"]
    assert waves[1] == [f"{name}-t{trial}-s100-{fold}" for name in ("kd", "mars") for trial in range(2) for fold in "ab"]
    assert len(waves) == 2


def test_a_teacher_without_trials_is_trained_for_them_too(tmp_path: Path, waves: Waves) -> None:
    methods = {**METHODS, "flow": {"settings": {"view": "flow"}}, "rgb": {}}
    content = tune(study_of(tmp_path, methods), Places(tmp_path, tmp_path), 2)
    assert waves[0] == ["flow-s100-a", "flow-s100-b"]
    assert set(content["methods"]) == {"kd", "mars"}


def test_without_candidates_there_is_no_claim(tmp_path: Path, waves: Waves) -> None:
    assert tune(study_of(tmp_path, {"rgb": METHODS["rgb"]}), Places(tmp_path, tmp_path), 2)["claim"] is None


def test_nothing_is_tested_before_tuning(tmp_path: Path) -> None:
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    with pytest.raises(ConfigError) as raised:
        read_chosen(study, places)
    assert raised.value.what.startswith(f"{places.results / 'chosen.json'} is missing")
    assert raised.value.lines["to mend"] == f"vidkd compare {study.path} --phase tune"


def test_a_study_without_trials_needs_no_choice(tmp_path: Path) -> None:
    content = read_chosen(make_study(tmp_path), Places(tmp_path / "results", tmp_path / "runs"))
    assert (chosen_settings(content), content["claim"]) == ({}, None)


def test_settings_chosen_by_another_study(tmp_path: Path) -> None:
    """A study without trials takes over what another one chose, for the methods that both have; without that choice it does not begin."""
    study, places = make_study(tmp_path, chosen_from="first"), Places(tmp_path / "results" / "second", tmp_path / "runs")
    with pytest.raises(ConfigError) as raised:
        read_chosen(study, places)
    assert raised.value.lines["to mend"] == f"vidkd compare {tmp_path / 'first.yaml'} --phase tune"
    choice = {name: {"trial": 0, "settings": {"model.dropout": 0.3}, "mean": 0.5} for name in ("attention", "elsewhere")}
    write_json(tmp_path / "results" / "first" / "chosen.json", {"methods": choice, "claim": "attention"})
    content = read_chosen(study, places)
    assert (chosen_settings(content), content["claim"]) == ({"attention": {"model.dropout": 0.3}}, "attention")
    config = cell_config(study, CellKey("attention", -1, 0, "a"), "test", chosen_settings(content), places.runs)
    assert config.model.dropout == 0.3
