"""A study of streams from end to end on drawn shapes: cells, resuming, tuning, summary, tables, report."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stream_study_samples import (
    FRAMES,
    CountingPainter,
    detector,
    make_places,
    make_root,
    make_study,
    run_one,
    study_content,
)

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.streams.figures import StreamCounts
from vidkd.bench.streams.footage import KnownOracle, OracleBoxes
from vidkd.bench.streams.run import Course, counts_of
from vidkd.bench.streams.summary import by_method_and_share
from vidkd.bench.study import CellKey, Places, run_cells
from vidkd.bench.tuning import chosen_settings, read_chosen, tune
from vidkd.cli.main import main
from vidkd.detection.opening import ModelFiles
from vidkd.models.darknet import with_added_head
from vidkd.models.darknet.weights import save_weights
from vidkd.runtime.detections import Detections

OPEN = ModelFiles.open

pytestmark = pytest.mark.usefixtures("painter")

METHODS = {
    "student": {"kind": "frozen"},
    "fixed": {},
    "random": {"policy": "random"},
    "hindsight": {"policy": "hindsight"},
    "tracked": {"kind": "tracked"},
    "flow": {"kind": "flow"},
    "first_tenth": {"kind": "first_tenth"},
    "wrong": {"wrong": 0.5},
    "oracle": {"kind": "oracle"},
    "lstm": {"policy": "untaught_{stream}.pt"},
}


def flags_of(root: Path, places: Places) -> list[str]:
    folders = {"--data.root": root, "--out": places.results, "--runs": places.runs, "--cache": places.cache}
    return [word for flag, folder in folders.items() for word in (flag, str(folder))]


@pytest.fixture(scope="module")
def done(root, tmp_path_factory):
    """Every kind of method, one stream, two seeds, all cells run."""
    folder = tmp_path_factory.mktemp("study")
    study, places = make_study(folder, study_content(methods=METHODS)), make_places(root, folder)
    before = CountingPainter.seen
    cells = dict(run_cells(study, "test", study.test_waves(), places, {}, 1))
    return study, places, cells, CountingPainter.seen - before


def test_the_oracle_sees_each_frame_of_a_stream_once(done) -> None:
    _, _, cells, seen = done
    assert seen == FRAMES
    assert len(cells) == 4 + 2 * 6


def test_each_method_spends_its_calls(done) -> None:
    _, _, cells, _ = done
    for key, cell in cells.items():
        called = cell["called"]
        assert len(called) == {"student": 0, "oracle": FRAMES}.get(key.method, 4), key
        if key.method == "first_tenth":
            assert called == [0, 1, 2, 3]
            assert cell["kept"] == [4]
        elif METHODS[key.method].get("kind", "learn") == "learn":
            assert cell["kept"]
            assert set(cell["kept"]) <= set(called)
        else:
            assert cell["kept"] == []


def test_the_counts_are_of_every_frame_and_the_oracle_s_boxes(done) -> None:
    _, _, cells, _ = done
    for cell in cells.values():
        right, _, missed = StreamCounts.of(cell).counts_FN.T
        assert len(right) == FRAMES
        np.testing.assert_array_equal(right + missed, 2)  # both shapes are in every frame


def test_boxes_of_classes_that_the_oracle_does_not_know_are_neither_right_nor_wrong(done) -> None:
    study, *_ = done
    one = Detections(boxes=[[0, 0, 9, 9], [20, 20, 40, 40]], scores=[0.9, 0.9], labels=[0, 1])
    boxes = OracleBoxes(detections=(one.select(np.array([0])),), class_names=("square",), frame_s=0.0)
    for names, expected in ((("square", "bar"), (1, 0, 0)), (("square",), (1, 1, 0))):
        course = Course(stretches=(), boxes=boxes, answers=boxes.for_student(names), known=boxes.known_to(names), truth=None, ranges={})
        counts = counts_of([one], course, study)
        assert (counts.true_positives[0], counts.false_positives[0], counts.false_negatives[0]) == expected
    answered = KnownOracle(boxes.detections, boxes.known_to(("square", "bar")))
    answered.follow(SimpleNamespace(position=0))
    assert answered(np.zeros((4, 4, 3), np.uint8)).known == {0}


def test_learning_changes_the_student_and_wrong_answers_teach_otherwise(done) -> None:
    _, _, cells, _ = done
    frozen, fixed, wrong = (
        next(cell["counts"]["right"] for key, cell in cells.items() if key.method == name) for name in ("student", "fixed", "wrong")
    )
    assert sum(fixed) > sum(frozen)
    assert fixed[0] == frozen[0], "scored before the first answer"
    assert fixed != wrong


@pytest.mark.slow
def test_a_head_that_is_added_is_counted_and_drawn_by_seed(root, tmp_path) -> None:
    update = {"trains": "added", "lr": 0.01, "steps": 8}
    names = {"student": {"kind": "frozen"}, "fixed": {}, "offline": {"kind": "first_tenth"}, "best": {"policy": "hindsight"}}
    study, places = make_study(tmp_path, study_content(methods=names, update=update)), make_places(root, tmp_path)
    cells = dict(run_cells(study, "test", study.test_waves(), places, {}, 1))
    counted = {(key.method, cell["parameters"]) for key, cell in cells.items()}
    (plain,) = (count for method, count in counted if method == "student")
    grown = with_added_head(detector().net)
    assert plain == sum(parameter.numel() for parameter in detector().net.parameters())
    assert {count for method, count in counted if method != "student"} == {sum(parameter.numel() for parameter in grown.parameters())}


def test_given_again_nothing_is_run(done) -> None:
    study, places, cells, _ = done
    before = places.store("small").parquet.stat().st_mtime_ns
    again = dict(run_cells(study, "test", study.test_waves(), places, {}, 1))
    assert again == cells
    assert places.store("small").parquet.stat().st_mtime_ns == before


def test_a_cell_repeats_but_for_its_times(done, root, tmp_path) -> None:
    study, places, cells, _ = done
    key = CellKey("random", -1, 1, "both", 0.1)
    elsewhere = Places(roots=(root,), results=tmp_path, runs=tmp_path, cache=places.cache)
    again = run_one(study, key, elsewhere)
    for name in ("counts", "called", "kept", "settings", "inputs"):
        assert again[name] == cells[key][name]


def test_cells_of_other_settings_or_files_are_refused(done, root, tmp_path) -> None:
    study, places, _, _ = done
    keys = [CellKey("fixed", -1, 0, "both", 0.1)]
    other = make_study(tmp_path, study_content(methods=METHODS, update={"trains": "all", "lr": 0.02, "steps": 8}))
    with pytest.raises(DataError, match=r"(?s)other settings.*update.lr: 0.01 then, 0.02 now"):
        list(run_cells(other, "test", [keys], places, {}, 1))
    again = make_root(tmp_path / "root")
    (again / "tiny.names").write_text("square\nstripe\n")
    moved = Places(roots=(again,), results=places.results, runs=places.runs, cache=places.cache)
    with pytest.raises(DataError, match=r"(?s)other settings or data.*tiny.names"):
        list(run_cells(study, "test", [keys], moved, {}, 1))


def test_the_summary_follows_from_the_cells(done) -> None:
    study, places, cells, _ = done
    summary = study.summarise(places.store(study.name).cells("test"), {})
    fixed = summary["methods"]["fixed"]["metrics"]
    assert fixed["f1@calls10"]["values"] == {
        f"{seed}/both": StreamCounts.of(cells[CellKey("fixed", -1, seed, "both", 0.1)]).value for seed in (0, 1)
    }
    late = StreamCounts.of(cells[CellKey("fixed", -1, 0, "both", 0.1)]).between(20, 40).value
    assert fixed["f1_late@calls10"]["values"]["0/both"] == late
    assert fixed["oracle_calls@calls10"]["mean"] == 4
    student = summary["methods"]["student"]["metrics"]["f1@calls10"]
    assert student["values"]["0/both"] == student["values"]["1/both"]
    pair = next(pair for pair in summary["paired"] if (pair["method"], pair["metric"]) == ("fixed", "f1@calls10"))
    assert pair["reference"] == "student"
    assert pair["difference"] == pytest.approx(fixed["f1@calls10"]["mean"] - student["mean"])
    assert pair["ci95"][0] <= pair["difference"] <= pair["ci95"][1]


def test_after_the_last_update_a_method_stands_next_to_another_on_the_same_frames(done) -> None:
    study, places, _, _ = done
    found = by_method_and_share(study, places.store(study.name).cells("test"))
    methods = study.summarise(places.store(study.name).cells("test"), {})["methods"]
    frozen = {cell["seed"]: cell for cell in found["student", 0.0]}
    for cell in found["fixed", 0.1]:
        first, name = max(cell["kept"]) + 1, f"{cell['seed']}/both"
        for metric, whose in (("f1_after", cell), ("f1_after_of_student", frozen[cell["seed"]])):
            assert methods["fixed"]["metrics"][f"{metric}@calls10"]["values"][name] == StreamCounts.of(whose).between(first, FRAMES).value
    assert not [metric for metric in methods["tracked"]["metrics"] if "after_of" in metric], "it learns nothing"


def test_the_verb_reports_what_is_there(done, root, capsys) -> None:
    study, places, _, _ = done
    words = ["study", "--config", str(study.path), *flags_of(root, places)]
    assert main([*words, "--methods", "student,fixed", "--seeds", "0"]) == 0
    out = capsys.readouterr().out
    assert "[2/2] fixed-calls10-s0-both  F1 0." in out
    summary = json.loads((places.results / "summary.json").read_text())
    assert set(summary["methods"]) == set(METHODS)
    report = (places.results / "report.html").read_text()
    assert "Time line, both" in report
    flags = f"--methods=student,fixed --seeds=0 --out={places.results} --runs={places.runs} --cache={places.cache} --data.root {root}"
    assert f"vidkd study --config={study.path} {flags}" in report
    assert main([*words, "--methods", "fixd"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_settings_are_chosen_on_tuning_streams_before_test_streams_are_read(root, tmp_path) -> None:
    methods = {
        "student": {"kind": "frozen"},
        "fixed": {"trials": [{"update.steps": 0}, {"update.steps": 3, "update.lr": 0.03}]},
        "random": {"policy": "random", "tuned_as": "fixed"},
    }
    streams = {"bars": {"segments": [{"video": "bars"}]}, "both": {"segments": [{"video": "gone"}]}}
    content = study_content(methods=methods, streams=streams, tuning={"streams": ["bars"], "seeds": [7], "calls": 0.1})
    study, places = make_study(tmp_path, content), make_places(root, tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)has no choice of settings.*--phase tune"):
        read_chosen(study, places)
    chosen = tune(study, places, 1)["methods"]["fixed"]
    means = [trial["mean"] for trial in chosen["trials"]]
    assert chosen["folds"]["all"]["trial"] == int(np.argmax(means))
    assert chosen_settings(read_chosen(study, places)) == {"fixed": {"all": chosen["folds"]["all"]["settings"]}}
    with pytest.raises(DataError, match=r"update.clip_norm: 10.0 then, 1.0 now"):
        tune(make_study(tmp_path, {**content, "update": {**content["update"], "clip_norm": 1.0}}), places, 1)
    with pytest.raises(ConfigError, match=r"(?s)chosen for.*not .*--phase tune"):
        read_chosen(make_study(tmp_path, {**content, "tuning": {**content["tuning"], "seeds": [8]}}), places)
    methods["fixed"]["trials"][0] = {"update.steps": 1}
    with pytest.raises(ConfigError, match=r"chosen among other trials: fixed"):
        read_chosen(make_study(tmp_path, content), places)


def test_a_failing_cell_is_told_and_costs_neither_others_nor_the_report(root, tmp_path, capsys) -> None:
    study = make_study(tmp_path, study_content(methods={"student": {"kind": "frozen"}, "lstm": {"policy": "selector_{stream}.pt"}}))
    places = make_places(root, tmp_path)
    (root / "selector_both.pt").write_bytes(b"no selector")
    with pytest.raises(DataError, match=r"(?s)2 cells failed.*lstm-calls10-s0-both: CheckpointError"):
        list(run_cells(study, "test", study.test_waves(), places, {}, 1))
    assert list(places.store(study.name).cells("test")) == ["student-s0-both"]
    words = ["study", "--config", str(study.path), *flags_of(root, places)]
    assert main(words) == 2
    assert "2 cells failed" in capsys.readouterr().err
    assert set(json.loads((places.results / "summary.json").read_text())["methods"]) == {"student"}


def test_a_cell_whose_oracle_failed_is_not_kept(done, root, tmp_path, monkeypatch) -> None:
    study, places, cells, _ = done
    key = CellKey("random", -1, 0, "both", 0.1)
    second, answered = cells[key]["called"][1], KnownOracle.__call__

    def failing(oracle, frame):
        if oracle._learner.position == second:
            raise RuntimeError("out of memory")
        return answered(oracle, frame)

    monkeypatch.setattr(KnownOracle, "__call__", failing)
    elsewhere = Places(roots=(root,), results=tmp_path, runs=tmp_path, cache=places.cache)
    text = rf"(?s)random-calls10-s0-both: DataError: the oracle or an update failed at frame {second} .*RuntimeError: out of memory"
    with pytest.raises(DataError, match=text):
        list(run_cells(study, "test", [[key]], elsewhere, {}, 1))
    assert elsewhere.store(study.name).cells("test") == {}


def test_an_oracle_with_the_student_s_heads_is_learned_from_cell_by_cell(root, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ModelFiles, "open", OPEN)
    save_weights(detector(3).net, root / "other.weights")
    heads = {"model": "tiny.cfg", "weights": "other.weights", "names": "tiny.names", "heads": True}
    study = make_study(tmp_path, study_content(oracle=heads, update={"loss": "matched_heads", "lr": 0.01, "steps": 2, "trains": "all"}))
    cell = run_one(study, CellKey("fixed", -1, 0, "both", 0.1), make_places(root, tmp_path))
    assert len(cell["called"]) == 4
    assert cell["kept"]
