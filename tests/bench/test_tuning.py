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
from vidkd.bench.study import CellKey, Study, cell_config, read_study
from vidkd.bench.tuning import chosen_settings, read_chosen, tune

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


def test_each_fold_has_the_trial_that_is_best_on_it(tmp_path: Path, waves: Waves) -> None:
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    content = tune(study, places, 2)
    assert read_json(places.results / "chosen.json") == content == read_chosen(study, places)
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
    assert content["tuning"] == {"seeds": [100], "folds": ["a", "b"], "validation_fraction": 0.25}


def test_the_claim_has_the_best_mean_over_folds(tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.65 of mars against 0.6 of kd; where mars falls to 0.5 on a fold, kd makes the claim, though mars stays the best on the other."""
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    assert tune(study, places, 2)["claim"] == "mars"
    monkeypatch.setitem(FOUND, "mars", [[(0.3, 0.2), (0.1, 0.2)], [(0.3, 0.1), (0.8, 0.2)]])
    assert tune(study, places, 2)["claim"] == "kd"


@pytest.mark.parametrize(("nll", "claim"), [(0.19, "mars"), (0.21, "kd")])
def test_a_tie_for_the_claim_goes_to_the_lower_loss(
    tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch, nll: float, claim: str
) -> None:
    """Both reach 0.6 on average, mars by 0.5 and 0.7; kd, which comes first in the study, with a loss of 0.2."""
    monkeypatch.setitem(FOUND, "mars", [[(0.5, nll), (0.7, nll)], [(0.1, 0.0), (0.1, 0.0)]])
    assert tune(study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs"), 2)["claim"] == claim


def test_a_claim_stands_as_it_was_written_while_the_scores_are_the_same(
    tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file from before ties were broken: its claim came first in the study, and its folds do not tell their loss."""
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    monkeypatch.setitem(FOUND, "mars", [[(0.6, 0.1), (0.6, 0.1)], [(0.1, 0.0), (0.1, 0.0)]])
    content = tune(study, places, 2)
    assert content["claim"] == "mars"
    for method in content["methods"].values():
        for choice in method["folds"].values():
            del choice["nll"]
    content["claim"] = "kd"
    write_json(places.results / "chosen.json", content)
    assert read_chosen(study, places)["claim"] == "kd"
    assert tune(study, places, 2)["claim"] == "kd"
    assert read_json(places.results / "chosen.json") == content
    monkeypatch.setitem(FOUND, "mars", [[(0.61, 0.1), (0.6, 0.1)], [(0.1, 0.0), (0.1, 0.0)]])
    assert tune(study, places, 2)["claim"] == "mars"


def test_a_committed_tie_is_read_as_it_was_chosen() -> None:
    """Two candidates of cued_shapes_00 reached the same mean; the one that came first in the study is its claim."""
    study = read_study(REPOSITORY / "configs" / "studies" / "cued_shapes_00.yaml")
    content = read_chosen(study, Places(REPOSITORY / "results" / "cued_shapes_00", REPOSITORY / "runs"))
    pooled, gram = (content["methods"][name] for name in ("pooled", "gram"))
    assert pooled["folds"]["1"]["mean"] == gram["folds"]["1"]["mean"]
    losses = [method["trials"][method["folds"]["1"]["trial"]]["nll"] for method in (pooled, gram)]
    assert losses[0] > losses[1]
    assert content["claim"] == "pooled"


def test_a_fold_chooses_by_its_own_cells_alone(tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is found on fold b (its validation groups may be those that a tests), the choice of a stays."""
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    before = tune(study, places, 2)["methods"]
    for name, trials in list(FOUND.items()):
        monkeypatch.setitem(FOUND, name, [[found[0], (1.0 - found[1][0], 9.0)] for found in trials])
    after = tune(study, places, 2)["methods"]
    assert {name: method["folds"]["a"] for name, method in after.items()} == {name: method["folds"]["a"] for name, method in before.items()}
    assert after["flow"]["folds"]["b"] != before["flow"]["folds"]["b"]


def test_students_are_tuned_with_the_teacher_of_their_fold(tmp_path: Path, waves: Waves, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers: dict[str, str] = {}
    within = tuning.run_cells

    def run_cells(study: Study, phase: Any, keys: Sequence[CellKey], places: Places, chosen: Any, workers: int) -> Any:
        teachers.update({str(key): Path(cell_config(study, key, "tune", chosen, places.runs).teacher or "").name for key in keys})
        return within(study, phase, keys, places, chosen, workers)

    monkeypatch.setattr(tuning, "run_cells", run_cells)
    tune(study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs"), 2)
    assert (teachers["kd-t0-s100-a"], teachers["kd-t0-s100-b"]) == ("flow-t0-s100-a", "flow-t1-s100-b")


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


def test_trials_are_chosen_at_the_fractions_that_the_study_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial 0 is right on whole clips and in the mean over all, trial 1 at 20 and 30 %; a teacher that sees whole clips has its top-1."""
    right = {0: {10: 1, 20: 0, 30: 1, 100: 1}, 1: {10: 0, 20: 1, 30: 1, 100: 0}}

    def run_cells(study: Study, phase: str, keys: Sequence[CellKey], places: Places, chosen: Any, workers: int) -> Any:
        for key in keys:
            at = {} if key.method == "flow" else {f"predicted@obs{percent}": [hit] for percent, hit in right[key.trial].items()}
            top1 = 0.25 if key.method == "flow" else sum(right[key.trial].values()) / 4
            yield key, {"metrics": {"top1": top1, "nll": 0.5}, "predictions": {"label": [1], "predicted": [1], **at}}

    monkeypatch.setattr(tuning, "run_cells", run_cells)
    methods = {"flow": METHODS["flow"], "rgb": {"trials": [{"model.dropout": 0.2}, {"model.dropout": 0.5}]}}
    study = make_study(tmp_path, methods=methods, tuning={"seeds": [100]}, fractions_shown=[0.2, 0.3])
    content = tune(study, Places(tmp_path / "results", tmp_path / "runs"), 2)
    assert content["metric"] == "top1@obs20-30"
    assert {fold: choice["trial"] for fold, choice in content["methods"]["rgb"]["folds"].items()} == {"a": 1, "b": 1}
    assert [trial["mean"] for trial in content["methods"]["rgb"]["trials"]] == [0.5, 1.0]
    assert content["methods"]["flow"]["trials"][0]["mean"] == 0.25


def test_without_candidates_there_is_no_claim(tmp_path: Path, waves: Waves) -> None:
    assert tune(study_of(tmp_path, {"rgb": METHODS["rgb"]}), Places(tmp_path, tmp_path), 2)["claim"] is None


def test_nothing_is_tested_before_tuning(tmp_path: Path) -> None:
    study, places = study_of(tmp_path), Places(tmp_path / "results", tmp_path / "runs")
    with pytest.raises(ConfigError) as raised:
        read_chosen(study, places)
    assert raised.value.what.startswith(f"{places.results / 'chosen.json'} is missing")
    assert raised.value.lines["fix"] == f"vidkd compare {study.path} --phase tune"


def test_a_study_without_trials_needs_no_choice(tmp_path: Path) -> None:
    content = read_chosen(make_study(tmp_path), Places(tmp_path / "results", tmp_path / "runs"))
    assert (chosen_settings(content), content["claim"]) == ({}, None)


def test_settings_chosen_by_another_study(tmp_path: Path) -> None:
    """A study without trials takes over what another one chose, for the methods that both have; without that choice it does not begin."""
    study, places = make_study(tmp_path, chosen_from="first"), Places(tmp_path / "results" / "second", tmp_path / "runs")
    with pytest.raises(ConfigError) as raised:
        read_chosen(study, places)
    assert raised.value.lines["fix"] == f"vidkd compare {tmp_path / 'first.yaml'} --phase tune"
    folds = {fold: {"trial": n, "settings": {"model.dropout": n / 10}, "mean": 0.5} for fold, n in (("x", 3), ("y", 1), ("z", 1))}
    trials = [{"settings": {"model.dropout": n / 10}, "mean": n / 10, "nll": 0.1} for n in range(4)]
    choice = {name: {"folds": folds, "trials": trials} for name in ("attention", "elsewhere")}
    write_json(tmp_path / "results" / "first" / "chosen.json", {"methods": choice, "claim": "attention"})
    content = read_chosen(study, places)
    most_often = {"model.dropout": 0.1}
    assert (chosen_settings(content), content["claim"]) == ({"attention": {"a": most_often, "b": most_often}}, "attention")
    config = cell_config(study, CellKey("attention", -1, 0, "a"), "test", chosen_settings(content), places.runs)
    assert config.model.dropout == 0.1


def test_of_settings_that_were_chosen_as_often_the_better_mean_is_carried(tmp_path: Path) -> None:
    study, places = make_study(tmp_path, chosen_from="first"), Places(tmp_path / "results" / "second", tmp_path / "runs")
    trials = [{"settings": {"model.dropout": n / 10}, "mean": mean, "nll": 0.1} for n, mean in enumerate((0.9, 0.6, 0.7))]
    folds = {fold: {"trial": n, "settings": trials[n]["settings"], "mean": 0.5} for fold, n in (("x", 1), ("y", 2))}
    write_json(tmp_path / "results" / "first" / "chosen.json", {"methods": {"rgb": {"folds": folds, "trials": trials}}, "claim": None})
    chosen = chosen_settings(read_chosen(study, places))
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
    places = Places(tmp_path / "results" / "small", tmp_path / "runs")
    tune(study_of(tmp_path), places, 2)
    study = study_of(tmp_path, methods)
    with pytest.raises(ConfigError, match=f"chosen.json is not the choice of this study: methods.{named}\n") as raised:
        read_chosen(study, places)
    assert raised.value.lines["fix"] == f"vidkd compare {study.path} --phase tune"
    (tmp_path / "small.yaml").rename(tmp_path / "origin.yaml")
    other = make_study(tmp_path, study="other", chosen_from="small")
    (tmp_path / "origin.yaml").rename(tmp_path / "small.yaml")
    with pytest.raises(ConfigError, match=f"methods.{named}\n"):
        read_chosen(other, Places(tmp_path / "results" / "other", tmp_path / "runs"))


def test_a_choice_for_other_folds_is_not_tested(tmp_path: Path, waves: Waves) -> None:
    """Also one that was made for all folds at once, as older versions did."""
    places = Places(tmp_path / "results", tmp_path / "runs")
    content = tune(study_of(tmp_path), places, 2)
    more = make_study(tmp_path, methods=METHODS, folds=["a", "b", "c"])
    with pytest.raises(ConfigError, match=r"methods.flow\n +problem : chosen for the folds a, b, the study has a, b, c"):
        read_chosen(more, places)
    for method in content["methods"].values():
        method |= method.pop("folds")["a"]
    write_json(places.results / "chosen.json", content)
    with pytest.raises(ConfigError, match=r"chosen for the folds \(none\)"):
        read_chosen(study_of(tmp_path), places)
