"""Studies of streams as files: what is read, what is refused, and which cells follow."""

import dataclasses
from pathlib import Path

import pytest
from stream_study_samples import make_study, study_content

from vidkd.base.errors import ConfigError
from vidkd.bench.streams.study import learning_of, read_stream_study, selector_name
from vidkd.bench.study import CellKey, Places
from vidkd.detection.online import Update
from vidkd.losses.yolo import DARKNET

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "studies" / "streams").glob("*.yaml"))
BOTH = {"segments": [{"video": "both"}]}
BARS = {"segments": [{"video": "bars"}]}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_studies_that_are_shipped_can_be_read(path: Path) -> None:
    study = read_stream_study(path)
    assert study.spec.study == path.stem
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# vidkd study --config configs/studies/streams/{path.name}")
    chosen = {name: {"all": method.trials[0]} for name, method in study.spec.methods.items() if method.trials}
    for key in study.test_waves()[0]:
        study.settings(key, "test", Places(results=Path("results")), chosen)


def test_every_share_seed_and_stream_makes_a_cell_but_what_draws_nothing_runs_once(tmp_path: Path) -> None:
    methods = {"student": {"kind": "frozen"}, "flow": {"kind": "flow"}, "random": {"policy": "random", "calls": [0.5]}, "fixed": {}}
    study = make_study(tmp_path, study_content(methods=methods, calls=[0.1, 0.2], streams={"a": BOTH, "b": BOTH}))
    keys = [str(key) for key in study.test_waves()[0]]
    assert len(keys) == 2 * (1 + 2) + 2 * 2 * (1 + 2)
    assert {"student-s0-a", "flow-calls10-s0-b", "random-calls50-s1-a", "fixed-calls20-s1-b"} < set(keys)
    assert study.test_waves(["student"])[0] == [CellKey("student", -1, 0, name, 0.0) for name in ("a", "b")]


def test_a_selector_may_be_another_one_for_every_stream_and_seed(tmp_path: Path) -> None:
    methods = {"student": {"kind": "frozen"}, "lstm": {"policy": "{stream}_{seed}.pt"}, "flow": {"kind": "flow", "policy": "s{seed}.pt"}}
    study = make_study(tmp_path, study_content(methods=methods, reference=[]))
    names = {str(key): selector_name(study, key) for key in study.test_waves(["lstm", "flow"])[0]}
    assert names == {
        "lstm-calls10-s0-both": "both_0.pt",
        "lstm-calls10-s1-both": "both_1.pt",
        "flow-calls10-s0-both": "s0.pt",
        "flow-calls10-s1-both": "s1.pt",
    }


def test_settings_of_a_cell_come_from_study_method_and_trial(tmp_path: Path) -> None:
    methods = {
        "student": {"kind": "frozen"},
        "fixed": {
            "update": {"steps": 3},
            "trials": [{"update.lr": 0.5}, {"replay.frames": 2, "update": {"options": {"box_iou_bound": 0.7}}}],
        },
        "random": {"policy": "random", "tuned_as": "fixed"},
    }
    tuning = {"streams": ["b"], "seeds": [9], "calls": 0.2}
    study = make_study(tmp_path, study_content(methods=methods, tuning=tuning, streams={"a": BOTH, "b": BARS}))
    (trials,) = study.trial_waves()
    assert trials == [CellKey("fixed", number, 9, "b", 0.2) for number in (0, 1)]
    first, second = (learning_of(study.spec, key, {}) for key in trials)
    assert (first.update.lr, first.update.steps, first.update.trains) == (0.5, 3, "all")
    assert (second.update.lr, second.update.options.box_iou_bound) == (0.01, 0.7)
    assert (second.replay.frames, second.replay.seed) == (2, 9)
    chosen = learning_of(study.spec, CellKey("random", -1, 1, "a", 0.1), {"fixed": {"all": {"update.lr": 0.25}}})
    assert dataclasses.replace(chosen.update, options=DARKNET) == Update(trains="all", lr=0.25, steps=8)
    assert study.spec.test_streams == ["a"]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"sedes": [1]}, "unknown setting 'sedes'.*did you mean *: seeds"),
        ({"methods": {"fixed": {"polcy": "fixed"}}}, "unknown setting 'methods.fixed.polcy'.*did you mean *: methods.fixed.policy"),
        ({"methods": {"student": {}, "fixed": {"policy": "fixd"}}}, "unknown key-frame policy .*trained selector.* 'fixd'.*mean *: fixed"),
        ({"iou": 0.0}, r"iou must be in \(0, 1\], score in \[0, 1\]"),
        ({"streams": {"a": {**BOTH, "calls_until": 0}}}, "calls_until is a frame from 1 on: 0"),
        ({"streams": {"a": {"segments": [{"vidoe": "both"}]}}}, "unknown setting .*vidoe'.*did you mean *: .*video"),
        ({"update": {"lr": -1.0}}, "lr.* has a wrong value"),
        ({"update": {"lrr": 1.0}}, "unknown setting 'update.lrr'.*did you mean *: update.lr"),
        ({"update": {"loss": "matched_heads"}}, "needs raw heads"),
        ({"reference": ["studnet"]}, "unknown method in reference 'studnet'"),
        ({"reference": ["As it is"], "methods": {"As it is": {}}}, "'As it is' cannot be in the name of a metric.*small letters"),
        ({"seeds": [1, 1]}, "none is there, or one twice"),
        ({"calls": [1.5]}, "shares of the frames"),
        ({"streams": {"a": {"segments": []}}}, "needs a segment"),
        ({"streams": {"a": {**BOTH, "ranges": {"after": [0, 4]}}}}, "ranges cannot have these names: after"),
        ({"streams": {"a": {"segments": [{"video": "both", "name": "after_of_fixed"}]}}}, "these names: after_of_fixed"),
        ({"streams": {"a": {**BOTH, "ranges": {"late": [4, 4]}}}}, "ranges is"),
        ({"streams": {"a": {**BOTH, "truth": {"layout": "motte", "folder": "x"}}}}, "unknown layout of boxes in truth.layout 'motte'"),
        ({"streams": {"a": {"segments": [{"video": "x", "short_side": 9}], "truth": {"layout": "mot", "folder": "x"}}}}, "keeps the size"),
        ({"tuning": {"streams": ["both"]}}, "every stream is used for tuning"),
        ({"methods": {"student": {}, "fixed": {"trials": [{"update.lr": 0.1}]}}}, "no stream is there to judge them"),
        ({"methods": {"student": {}, "fixed": {"tuned_as": "nobody"}}}, "unknown method in methods.fixed.tuned_as 'nobody'"),
        ({"methods": {"student": {}, "fixed": {"tuned_as": "student"}}}, "methods.fixed is tuned as student, which has no trials"),
        ({"methods": {"student": {}, "fixed": {"wrong": 2.0}}}, "wrong is a share"),
        ({"methods": {"student": {"kind": "frosty"}}}, "'methods.student.kind' has a wrong value.*found *: frosty.*one of learn"),
    ],
)
def test_what_no_study_can_be_is_refused_by_name(tmp_path: Path, over: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}") as caught:
        make_study(tmp_path, study_content(**over))
    assert "small.yaml" in str(caught.value)


def test_a_trial_sets_how_the_student_learns_and_nothing_else(tmp_path: Path) -> None:
    methods = {"student": {"kind": "frozen"}, "fixed": {"trials": [{"policy": "random"}]}}
    with pytest.raises(ConfigError, match="unknown setting 'policy'"):
        make_study(tmp_path, study_content(methods=methods, tuning={"streams": ["b"]}, streams={"a": BOTH, "b": BARS}))
