"""A study is read strictly, and each of its cells has the configuration that the study says."""

from pathlib import Path
from typing import Any

import pytest
from study_samples import BASE, make_study, study_content, write_study

from vidkd.base.errors import ConfigError
from vidkd.bench.clip_spec import DECIDED, cell_config, check_settings
from vidkd.bench.clip_study import read_clip_study as read_study
from vidkd.bench.study import CellKey

TRIALS = [{"optim.lr": 0.4}, {"optim.lr": 0.45}]
TUNED = {
    "flow": {"settings": {"view": "flow"}, "trials": [{"model.dropout": 0.2}, {"model.dropout": 0.5}]},
    "rgb": {"settings": {"optim.lr": 0.3}, "trials": TRIALS},
    "kd": {"teacher": "flow", "settings": {"task": "logits_kd"}, "trials": [{"method.alpha": 0.5}]},
    "control": {"teacher": "flow", "tuned_as": "kd", "settings": {"task": "logits_kd", "method.temperature": 9}},
}
CHOSEN = {
    "flow": {"a": {"model.dropout": 0.5}, "b": {"model.dropout": 0.2}},
    "rgb": {"a": {"optim.lr": 0.45}, "b": {"optim.lr": 0.4}},
    "kd": {"a": {"method.alpha": 0.5}, "b": {"method.alpha": 0.5}},
}


def test_a_method_may_have_nothing_below_its_name(tmp_path: Path) -> None:
    assert make_study(tmp_path, methods={"rgb": None}).spec.methods["rgb"].settings == {}


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"sedes": [0]}, "unknown setting 'sedes'.*small.yaml:24.*did you mean : seeds"),
        ({"methods": {"rgb": {"setings": {}}}}, "unknown setting 'methods.rgb.setings'.*small.yaml:12.*methods.rgb.settings"),
        ({"methods": {"rgb": 3}}, "'methods.rgb' is a section of settings, not one value.*found : 3"),
        ({"methods": {"rgb": {}, "kd": {"teacher": "fow"}}}, "unknown method in methods.kd.teacher 'fow'"),
        ({"methods": {"rgb": {}, "kd": {"tuned_as": "rbg"}}}, "unknown method in methods.kd.tuned_as 'rbg'.*did you mean : rgb"),
        ({"reference": "rbg"}, "unknown reference in reference 'rbg'.*did you mean : rgb"),
        ({"shortlist": ["rbg"]}, "unknown method in shortlist 'rbg'.*did you mean : rgb"),
        ({"methods": {"rgb": {"tuned_as": "rgb", "trials": [{}]}}}, "methods.rgb has both trials and tuned_as"),
        ({"seeds": ["one"]}, "'seeds' has a wrong value.*a list of whole numbers"),
        ({"subset": "train"}, "'subset' has a wrong value.*one of val, test"),
        ({"seeds": [0, 1, 0]}, "seeds and tuning.seeds: none is there, or one twice.*0, 1, 0"),
        ({"seeds": [0, 7], "tuning": {"seeds": [7]}, "methods": {"rgb": {"trials": [{}]}}}, "or one twice.*0, 7, 7"),
        ({"methods": {"rgb": {"condition": "10 % labels"}}}, "methods.rgb.condition cannot be in the name of a metric.*small letters"),
        ({"methods": {"a": {"shown_as": "rgb"}, "b": {"shown_as": "rgb"}}}, "shown_as and condition, is there twice"),
        ({"methods": {"rgb": {}, "both": {"mean_of": ["rgb", "fow"]}}}, "unknown method in methods.both.mean_of 'fow'"),
        ({"methods": {"rgb": {}, "late": {"starts_from": "rgc"}}}, "unknown method in methods.late.starts_from 'rgc'"),
        ({"methods": {"rgb": {}, "both": {"mean_of": ["rgb"]}}}, "mean_of names two methods or more"),
        ({"methods": {"rgb": {}, "a": {}, "b": {"mean_of": ["rgb", "a"], "settings": {"optim.lr": 1}}}}, "is not trained"),
        ({"methods": {"rgb": {}, "a": {}, "b": {"mean_of": ["rgb", "a"]}, "c": {"mean_of": ["a", "b"]}}}, "methods.b trains none"),
        ({"methods": {"rgb": {}, "a": {"teacher": "b"}, "b": {"teacher": "a"}}}, "methods need each other in a circle: a, b"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, over: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        read_study(write_study(tmp_path, study_content(**over)))


def test_seeds_of_tuning_are_others_where_there_is_tuning(tmp_path: Path) -> None:
    assert make_study(tmp_path, seeds=[0, 100]).spec.tuning.seeds == [100], "nothing is tuned"


@pytest.mark.parametrize("key", sorted(DECIDED))
def test_the_study_decides_what_tells_its_cells_apart(tmp_path: Path, key: str) -> None:
    path = write_study(tmp_path, study_content())
    for words in ([f"--{key}", "3"], [f"--{key}=3"]):
        with pytest.raises(ConfigError, match=f"'--{key}' is decided by the study"):
            read_study(path, ["--optim.lr", "1", *words])


def test_where_seeds_draw_the_labels_no_flag_does(tmp_path: Path) -> None:
    path = write_study(tmp_path, study_content(labels_by_seed=True))
    with pytest.raises(ConfigError, match=r"'--data\.split_seed' is decided by the study"):
        read_study(path, ["--data.split_seed", "7"])
    assert read_study(write_study(tmp_path, study_content()), ["--data.split_seed", "7"])


def test_teachers_come_before_those_who_learn(tmp_path: Path) -> None:
    methods = {"c": {"teacher": "b"}, "rgb": {}, "b": {"teacher": "a"}, "a": {}}
    assert make_study(tmp_path, methods=methods).spec.waves() == [["rgb", "a"], ["b"], ["c"]]


def test_a_method_with_its_teachers_and_theirs(tmp_path: Path) -> None:
    spec = make_study(tmp_path, methods={"c": {"teacher": "b"}, "rgb": {}, "b": {"teacher": "a"}, "a": {}}).spec
    assert spec.with_sources(["c"]) == ["c", "b", "a"]
    assert spec.with_sources(["rgb", "b"]) == ["rgb", "b", "a"]


def test_settings_go_over_one_another(tmp_path: Path) -> None:
    """Base < study < method < trial or choice < command line; what a level leaves alone stays."""

    def lr(method: str, trial: int = -1, chosen: Any = None, overrides: tuple[str, ...] = (), **over: Any) -> tuple[float, float]:
        study = make_study(tmp_path, overrides, methods=TUNED, **over)
        phase = "tune" if trial >= 0 else "test"
        config = cell_config(study, CellKey(method, trial, 0, "a"), phase, chosen or {}, tmp_path)
        return config.optim.lr, config.model.dropout

    settings = {"optim.lr": 0.2}
    assert lr("flow") == (0.1, 0.1)
    assert lr("flow", settings=settings) == (0.2, 0.1)
    assert lr("rgb", settings=settings) == (0.3, 0.1)
    assert lr("rgb", trial=0, settings=settings) == (0.4, 0.1)
    assert lr("rgb", trial=1, settings=settings) == (0.45, 0.1)
    assert lr("rgb", chosen=CHOSEN, settings=settings) == (0.45, 0.1)
    assert lr("rgb", chosen=CHOSEN, settings=settings, overrides=("--optim.lr", "0.5")) == (0.5, 0.1)
    assert lr("flow", chosen=CHOSEN, settings=settings) == (0.2, 0.5)


def test_seeds_draw_labels_where_the_study_says_so(tmp_path: Path) -> None:
    def drawn(**over: Any) -> list[int]:
        study = make_study(tmp_path, **over)
        return [cell_config(study, CellKey("rgb", -1, seed, "a"), "test", {}, tmp_path).data.split_seed for seed in (0, 7)]

    assert (drawn(), drawn(labels_by_seed=True)) == ([0, 0], [0, 7])


def test_a_control_gets_what_was_chosen_for_another(tmp_path: Path) -> None:
    study = make_study(tmp_path, methods=TUNED)
    control = cell_config(study, CellKey("control", -1, 0, "a"), "test", CHOSEN, tmp_path)
    assert (control.method.alpha, control.method.temperature) == (0.5, 9)
    assert cell_config(study, CellKey("control", -1, 0, "a"), "test", {}, tmp_path).method.alpha == 0.9


def test_seed_fold_and_places_of_a_cell(tmp_path: Path) -> None:
    config = cell_config(make_study(tmp_path), CellKey("rgb", -1, 1, "b"), "test", {}, tmp_path / "runs")
    assert (config.train.seed, config.data.split, config.name) == (1, "b", "rgb-s1-b")
    assert config.runs == str(tmp_path / "runs" / "small" / "test")
    assert (config.teacher, config.teacher_settings) == (None, None), "a teacher of the base configuration is none of the study's"


def test_the_teacher_is_that_of_the_same_seed_and_fold(tmp_path: Path) -> None:
    study = make_study(tmp_path, methods=TUNED)
    test = cell_config(study, CellKey("kd", -1, 1, "b"), "test", CHOSEN, tmp_path)
    assert test.teacher == str(tmp_path / "small" / "test" / "flow-s1-b")
    tune = cell_config(study, CellKey("kd", 0, 100, "a"), "tune", CHOSEN, tmp_path)
    assert tune.teacher == str(tmp_path / "small" / "tune" / "flow-t1-s100-a"), "the teacher's own best trial"
    tune = cell_config(study, CellKey("kd", 0, 100, "b"), "tune", CHOSEN, tmp_path)
    assert tune.teacher == str(tmp_path / "small" / "tune" / "flow-t0-s100-b"), "that of the other fold is another"


def test_tuning_holds_groups_out_and_the_test_does_not(tmp_path: Path) -> None:
    study = make_study(tmp_path, methods=TUNED, tuning={"seeds": [100], "validation_fraction": 0.25})
    assert cell_config(study, CellKey("rgb", 0, 100, "a"), "tune", {}, tmp_path).data.validation_fraction == 0.25
    assert cell_config(study, CellKey("rgb", -1, 0, "a"), "test", CHOSEN, tmp_path).data.validation_fraction == 0


def test_a_wrong_setting_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    check_settings(make_study(tmp_path, methods=TUNED))
    wrong = {**TUNED, "kd": {**TUNED["kd"], "trials": [{"method.alpha": 0.5}, {"method.alhpa": 0.5}]}}
    with pytest.raises(
        ConfigError, match=r"unknown setting 'method.alhpa'(.|\n)*did you mean +: method.alpha(.|\n)*methods.kd.trials\[1\]"
    ):
        check_settings(make_study(tmp_path, methods=wrong))


def test_the_base_lies_next_to_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path / "studies")
    monkeypatch.chdir("/")
    assert study.base == tmp_path / "studies" / "base.yaml"
    assert cell_config(study, CellKey("rgb", -1, 0, "a"), "test", {}, tmp_path).data.transform.crop == BASE["data"]["transform"]["crop"]
