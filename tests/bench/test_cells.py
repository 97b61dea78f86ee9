"""Cells are trained once, kept, refused when the study has changed, and none is lost to another's failure or to an interruption."""

import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from study_samples import cell_content, keys_of, make_study

from vidkd.base.errors import DataError, VideoError
from vidkd.base.files import write_json
from vidkd.bench import cells
from vidkd.bench.cells import KeptCells, Places, cells_to_test, run_cells
from vidkd.bench.identity import identity, manifest_identity, teacher_identity
from vidkd.bench.study import CellKey, Study, cell_config
from vidkd.data.manifest import Manifest
from vidkd.engine.clips import read_clips
from vidkd.engine.fit import InterruptedRunError, fit
from vidkd.models.saved import load_classifier

METHODS = {"rgb": {}, "soft": {"settings": {"model.attention.pooling": "soft"}}}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "results", tmp_path / "runs")


@pytest.fixture
def tiny_study(tiny_settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Study]:
    """Two methods on two seeds of the tiny data set, one step a cell."""

    def study(*overrides: str, **over: Any) -> Study:
        base = tiny_settings(**{"train.steps": 1, "model.attention.pooling": "mean", "data.window.frames": 2})
        return make_study(tmp_path, overrides, base, **{"folds": ["1"], "methods": METHODS, **over})

    return study


class Fits:
    """Counts trainings, and makes the runs named in `fails` raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: dict[str, Exception]) -> None:
        self.names: list[str] = []
        self.fails = fails
        monkeypatch.setattr(cells, "fit", self)

    def __call__(self, config: Any, **settings: Any) -> Any:
        self.names.append(config.name)
        if config.name in self.fails:
            raise self.fails[config.name]
        return fit(config, **settings)


def run(study: Study, places: Places) -> dict[str, dict[str, Any]]:
    (wave,) = cells_to_test(study)
    return {str(key): content for key, content in run_cells(study, "test", wave, places, {}, 1)}


def test_the_cells_of_a_study(tiny_study: Callable[..., Study], places: Places, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained and judged once; the second call finds them."""
    study, fits = tiny_study(), Fits(monkeypatch, {})
    found = run(study, places)
    assert fits.names == list(found) == ["rgb-s0-1", "soft-s0-1", "rgb-s1-1", "soft-s1-1"]
    cell = found["soft-s1-1"]
    assert (cell["study"], cell["method"], cell["seed"], cell["fold"], cell["subset"], cell["steps"]) == (
        "small",
        "soft",
        1,
        "1",
        "test",
        1,
    )
    clips = read_clips(cell_config(study, CellKey("soft", -1, 1, "1"), "test", {}, places.runs).data).subset("test", "1")
    rows = cell["predictions"]
    assert (rows["clip"], rows["group"]) == ([clip.path for clip in clips], [clip.group for clip in clips])
    assert rows["label"] == [clip.label for clip in clips]
    assert cell["metrics"]["top1"] == pytest.approx(np.mean(np.equal(rows["label"], rows["predicted"])), abs=1e-6)
    model = load_classifier(places.runs / "small" / "test" / "soft-s1-1").model
    assert cell["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert cell["settings"]["model.attention.pooling"] == "soft"

    files = sorted(places.results.rglob("*.json"))
    assert [str(file.relative_to(places.results)) for file in files] == sorted(f"test/{name.split('-')[0]}/{name}.json" for name in found)
    before = [file.stat().st_mtime_ns for file in files]
    assert run(study, places) == found
    assert len(fits.names) == 4
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_data_set_that_went_away_while_a_cell_was_trained(
    tiny_study: Callable[..., Study], places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(seeds=[0], methods={"rgb": {}})
    base = tmp_path / "base.yaml"
    base.write_text("data:\n  root: /nowhere\n")
    monkeypatch.setattr(cells, "fit", lambda config, quiet: SimpleNamespace(folder=tmp_path))
    with pytest.raises(DataError) as raised:
        run(study, places)
    assert f"/nowhere   (data.root in {base}:2)" in raised.value.lines["first"]


def test_a_cell_that_fails_loses_no_other(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = tiny_study()
    fits = Fits(monkeypatch, {"soft-s0-1": VideoError("cannot decode it", path="x.mp4")})
    cells_met = run_cells(study, "test", cells_to_test(study)[0], places, {}, 1)
    assert [str(next(cells_met)[0]) for _ in range(3)] == ["rgb-s0-1", "rgb-s1-1", "soft-s1-1"]
    with pytest.raises(DataError) as raised:
        next(cells_met)
    assert raised.value.what == "1 cells failed"
    assert raised.value.lines["first"] == "soft-s0-1: VideoError: cannot decode it\n  path : x.mp4"
    assert "cell soft-s0-1 failed: VideoError: cannot decode it" in caplog.text
    fits.fails, fits.names = {}, []
    assert len(run(study, places)) == 4
    assert fits.names == ["soft-s0-1"]


def test_an_interrupted_study_stops_and_goes_on(tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny_study()
    fits = Fits(monkeypatch, {"soft-s0-1": InterruptedRunError("stopped after step 1 of 2; saved")})
    with pytest.raises(InterruptedRunError):
        run(study, places)
    assert fits.names == ["rgb-s0-1", "soft-s0-1"], "Ctrl-C does not begin the next cell"
    fits.fails, fits.names = {}, []
    assert len(run(study, places)) == 4
    assert fits.names == ["soft-s0-1", "rgb-s1-1", "soft-s1-1"]


def test_teachers_are_read_where_the_study_put_them(tiny_study: Callable[..., Study], places: Places, tmp_path: Path) -> None:
    methods = {
        "flow": {"settings": {"view": "flow"}},
        "rgb": {},
        "kd": {"teacher": "flow", "settings": {"task": "logits_kd"}},
    }
    study = tiny_study(methods=methods, seeds=[3])
    (teachers, students) = cells_to_test(study)
    dict(run_cells(study, "test", teachers, places, {}, 1))
    content = dict(run_cells(study, "test", students, places, {}, 1))[CellKey("kd", -1, 3, "1")]
    assert content["teacher"] == "flow"
    run_of = load_classifier(places.runs / "small" / "test" / "kd-s3-1").run
    assert run_of["teacher"] == str(places.runs / "small" / "test" / "flow-s3-1")


def test_attention_is_judged_where_the_study_measures_it(tiny_study: Callable[..., Study], places: Places) -> None:
    found = run(tiny_study(measures=["pointing"], seeds=[0]), places)
    rows, metrics = found["soft-s0-1"]["predictions"], found["soft-s0-1"]["metrics"]
    for name in ("pointing", "mass", "chance"):
        assert len(rows[name]) == len(rows["clip"])
        assert metrics[name] == pytest.approx(np.mean(rows[name]), abs=2e-5)
        assert all(0 <= value <= 1 for value in rows[name])
    assert "pointing" not in found["rgb-s0-1"]["predictions"], "it has no map"


def put(study: Study, places: Places, **over: Any) -> Path:
    key = CellKey("rgb", -1, 0, "a")
    path = places.cell("test", key)
    write_json(path, cell_content(study, key, accuracy=0.5, **over))
    return path


def read(study: Study, places: Places, chosen: Any = None) -> dict[str, Any] | None:
    return KeptCells(study, "test", places, chosen or {}).read(CellKey("rgb", -1, 0, "a"))


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--optim.lr=0.5", "optim.lr: 0.1 then, 0.5 now"),
        ("--train.epochs=7", "train.epochs: 30.0 then, 7.0 now"),
        ("--train.steps=7", "train.steps: None then, 7 now"),
        ("--data.transform.crop=24", "data.transform.crop: 32 then, 24 now"),
        ("--data.validation_fraction=0.2", "data.validation_fraction: 0.0 then, 0.2 now"),
        ("--data.batch_size=3", "data.batch_size: 16 then, 3 now"),
        ("--model.backbone=x3d_s", "model.backbone: tiny3d then, x3d_s now"),
        ("--method.label_smoothing=0.1", "method.label_smoothing: 0.0 then, 0.1 now"),
        ("--init=/elsewhere/x.pt", "init: None then, /elsewhere/x.pt now"),
        ("--view=flow", "view: rgb then, flow now"),
        ("--train.precision=bf16-mixed", "train.precision: 32-true then, bf16-mixed now"),
    ],
)
def test_a_cell_of_other_settings_is_refused(tmp_path: Path, places: Places, word: str, line: str) -> None:
    path = put(make_study(tmp_path), places)
    before = path.read_bytes()
    with pytest.raises(DataError) as raised:
        read(make_study(tmp_path, [word]), places)
    assert raised.value.what == f"{path} was made with other settings"
    assert raised.value.lines["differs"] == line
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "word",
    [
        "--data.root=/elsewhere",
        "--data.manifest=/elsewhere/m.jsonl",
        "--data.workers=3",
        "--data.cache.enabled=true",
        "--data.cache.folder=/elsewhere",
        "--train.device=cpu",
        "--train.devices=2",
        "--train.threads=3",
        "--train.save_every_s=1",
        "--train.log_every=1",
        "--train.tensorboard=true",
        "--train.compile=true",
    ],
)
def test_where_and_how_fast_a_cell_was_made_is_free(tmp_path: Path, places: Places, word: str) -> None:
    put(make_study(tmp_path), places)
    content = read(make_study(tmp_path, [word]), Places(places.results, tmp_path / "other runs"))
    assert content is not None
    assert content["seed"] == 0


def test_identity_is_all_other_settings(tmp_path: Path) -> None:
    config = cell_config(make_study(tmp_path), CellKey("attention", -1, 1, "b"), "test", {}, tmp_path)
    found = identity(config)
    assert found == json.loads(json.dumps(found)), "as it comes back from a file"
    assert (found["train.seed"], found["data.split"], found["task"], found["data.window.frames"]) == (1, "b", "attention_distillation", 8)
    for place in ("name", "runs", "teacher", "teacher_settings", "init", "data.root", "train.device"):
        assert place not in found


def test_a_cell_judged_on_other_clips_or_with_another_teacher_is_refused(tmp_path: Path, places: Places) -> None:
    put(make_study(tmp_path), places, subset="val")
    with pytest.raises(DataError, match="subset: val then, test now"):
        read(make_study(tmp_path), places)
    put(make_study(tmp_path), places, teacher="flow")
    with pytest.raises(DataError, match="teacher: flow then, None now"):
        read(make_study(tmp_path), places)


@pytest.mark.parametrize("name", ["teacher", "teacher_identity", "init", "manifest"])
def test_a_cell_that_does_not_say_where_its_numbers_come_from_is_refused(tmp_path: Path, places: Places, name: str) -> None:
    path = put(make_study(tmp_path), places)
    content = json.loads(path.read_text())
    del content[name]
    write_json(path, content)
    with pytest.raises(DataError, match="does not say from which teacher, initial weights and data") as raised:
        read(make_study(tmp_path), places)
    assert raised.value.lines["missing"] == name


CHAIN: dict[str, Any] = {
    "first": {"settings": {"view": "flow"}},
    "rgb": {"teacher": "first", "settings": {"task": "logits_kd"}},
    "last": {"teacher": "rgb", "settings": {"task": "logits_kd"}},
}


def test_a_cell_depends_on_the_settings_of_its_teacher_and_of_that_ones(tmp_path: Path, places: Places) -> None:
    key = CellKey("last", -1, 0, "a")
    study = make_study(tmp_path, methods=CHAIN)
    write_json(places.cell("test", key), cell_content(study, key, accuracy=0.5))
    assert KeptCells(study, "test", places, {}).read(key) is not None
    for name in ("first", "rgb"):
        changed = {**CHAIN, name: {**CHAIN[name], "settings": {**CHAIN[name]["settings"], "optim.lr": 0.7}}}
        with pytest.raises(DataError, match=r"differs : settings of the teacher: \w{16} then, \w{16} now"):
            KeptCells(make_study(tmp_path, methods=changed), "test", places, {}).read(key)


def test_the_teacher_is_the_one_chosen_for_the_fold(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    chosen = {"flow": {"a": {"model.dropout": 0.3}, "b": {"model.dropout": 0.4}}}

    def of(seed: int, fold: str, choice: Any = chosen) -> str | None:
        return teacher_identity(study, CellKey("attention", -1, seed, fold), "test", choice, tmp_path)

    assert of(0, "a") == of(1, "a") != of(0, "b")
    assert of(0, "a", {"flow": {"a": {"model.dropout": 0.3}}}) == of(0, "a") != of(0, "a", {"flow": {"a": {"model.dropout": 0.4}}})
    assert teacher_identity(study, CellKey("rgb", -1, 0, "a"), "test", chosen, tmp_path) is None


def test_a_manifest_is_the_same_wherever_it_lies(tiny_root: Path) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    found = manifest_identity(manifest)
    assert found["name"] == manifest.name
    assert manifest_identity(dataclasses.replace(manifest, root=Path("/elsewhere"))) == found
    clips = (dataclasses.replace(manifest.clips[0], group="another"), *manifest.clips[1:])
    for other in (
        dataclasses.replace(manifest, clips=clips),
        dataclasses.replace(manifest, clips=manifest.clips[1:]),
        dataclasses.replace(manifest, classes=(*manifest.classes[1:], manifest.classes[0])),
        dataclasses.replace(manifest, splits=(*manifest.splits, "more")),
    ):
        assert manifest_identity(other)["sha256"] != found["sha256"]


def test_kept_cells_of_other_data_are_refused_where_the_data_are(tiny_study: Callable[..., Study], places: Places, tiny_root: Path) -> None:
    """Before anything is trained or judged; the report, which needs no data, reads them."""
    study, key = tiny_study(seeds=[0], methods={"rgb": {}}), CellKey("rgb", -1, 0, "1")
    run(study, places)
    path = places.cell("test", key)
    content = json.loads(path.read_text())
    assert content["manifest"] == manifest_identity(Manifest.read(tiny_root / "manifest.jsonl"))
    assert content["init"] is None
    write_json(path, {**content, "manifest": {**content["manifest"], "sha256": "0" * 64}})
    with pytest.raises(DataError, match="was made with other data"):
        run(study, places)
    assert KeptCells(study, "test", places, {}).read(key) is not None
    elsewhere = tiny_study("--data.root=/elsewhere", seeds=[0], methods={"rgb": {}})
    assert len(run(elsewhere, places)) == 1, "no data to compare with"


def test_a_teachers_run_of_other_settings_teaches_nobody(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cell is that of the study, but what lies in its run folder is not."""
    study = tiny_study(methods=CHAIN, seeds=[0])
    (first, second, _) = cells_to_test(study)
    dict(run_cells(study, "test", first, places, {}, 1))
    written = places.runs / "small" / "test" / "first-s0-1" / "config.yaml"
    text = written.read_text()
    written.write_text(text.replace("label_smoothing: 0.0", "label_smoothing: 0.3"))
    assert written.read_text() != text
    fits = Fits(monkeypatch, {})
    with pytest.raises(DataError) as raised:
        dict(run_cells(study, "test", second, places, {}, 1))
    assert raised.value.what == f"the teacher {written.parent} was trained with other settings"
    assert raised.value.lines["differs"] == "method.label_smoothing: 0.3 then, 0.0 now"
    assert fits.names == []


def test_students_wait_for_a_teacher_that_could_not_be_trained_again(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(methods=CHAIN, seeds=[0])
    (first, second, _) = cells_to_test(study)
    dict(run_cells(study, "test", first, places, {}, 1))
    shutil.rmtree(places.runs)
    fits = Fits(monkeypatch, {"first-s0-1": VideoError("cannot decode it")})
    with pytest.raises(DataError) as raised:
        dict(run_cells(study, "test", second, places, {}, 1))
    assert raised.value.lines["first"] == "teacher first-s0-1: VideoError: cannot decode it"
    assert fits.names == ["first-s0-1"]


def test_a_cell_made_with_another_choice_is_refused(tmp_path: Path, places: Places) -> None:
    study = make_study(tmp_path)
    put(study, places, chosen={"rgb": {"a": {"optim.lr": 0.3}}})
    assert read(study, places, {"rgb": {"a": {"optim.lr": 0.3}, "b": {"optim.lr": 0.4}}}) is not None
    with pytest.raises(DataError, match=r"optim.lr: 0.3 then, 0.4 now"):
        read(study, places, {"rgb": {"a": {"optim.lr": 0.4}, "b": {"optim.lr": 0.3}}})


def test_a_cell_that_is_not_there(tmp_path: Path, places: Places) -> None:
    assert read(make_study(tmp_path), places) is None


def test_seeds_and_folds_of_kept_cells_are_checked_too(tmp_path: Path, places: Places) -> None:
    study, kept = make_study(tmp_path), KeptCells(make_study(tmp_path), "test", places, {})
    for key in keys_of(study, "attention"):
        write_json(places.cell("test", key), cell_content(study, key, accuracy=0.5))
    assert [kept.read(key)["seed"] for key in keys_of(study, "attention")] == [0, 0, 1, 1]
    places.cell("test", keys_of(study, "attention")[1]).rename(places.cell("test", keys_of(study, "attention")[2]))
    with pytest.raises(
        DataError, match=r"differs : data.split: b then, a now; settings of the teacher: \w+ then, \w+ now; train.seed: 0 then, 1 now"
    ):
        kept.read(keys_of(study, "attention")[2])


def test_the_order_of_the_test(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    names = [[str(key) for key in wave] for wave in cells_to_test(study)]
    assert names == [
        [f"{method}-s{seed}-{fold}" for seed in (0, 1) for fold in "ab" for method in ("flow", "rgb")],
        [f"attention-s{seed}-{fold}" for seed in (0, 1) for fold in "ab"],
    ]
    assert [[key.method for key in wave] for wave in cells_to_test(study, ["flow"])] == [["flow"] * 4, []]


def test_a_study_can_be_sent_to_another_process(tmp_path: Path) -> None:
    study = make_study(tmp_path, ["--optim.lr", "0.5"])
    assert pickle.loads(pickle.dumps(study)) == study


def test_a_cell_older_than_a_setting_had_its_default(tmp_path: Path, places: Places) -> None:
    """A setting that was added later does not spoil kept cells as long as it stands at its default."""
    path = put(make_study(tmp_path), places)
    content = json.loads(path.read_text())
    del content["settings"]["data.eval_crops"]
    write_json(path, content)
    assert read(make_study(tmp_path), places) is not None
    with pytest.raises(DataError, match=r"data.eval_crops: 1 then, 2 now"):
        read(make_study(tmp_path, ["--data.eval_crops=2"]), places)


def test_a_cell_older_than_a_setting_of_its_method_had_the_default_of_its_task(tmp_path: Path, places: Places) -> None:
    key = CellKey("attention", -1, 0, "a")
    study = make_study(tmp_path)
    content = cell_content(study, key, accuracy=0.5)
    assert content["settings"].pop("method.label_smoothing") == 0.0
    write_json(places.cell("test", key), content)
    assert KeptCells(study, "test", places, {}).read(key) is not None
    with pytest.raises(DataError, match=r"method.label_smoothing: 0.0 then, 0.25 now"):
        KeptCells(study, "test", places, {"attention": {"a": {"method.label_smoothing": 0.25}}}).read(key)
