"""Cells are trained once, kept, trusted only if made as the study says now, and none is lost to another's failure or to an interruption."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from study_samples import CHAIN, cell_content, make_study, put

from vidkd.base.errors import DataError, VideoError
from vidkd.bench import clip_study
from vidkd.bench.clip_spec import cell_config
from vidkd.bench.clip_study import ClipStudy
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.study import CellKey, CellsFailedError, Places, run_cells
from vidkd.data.manifest import Manifest, manifest_identity
from vidkd.engine.clips import read_clips
from vidkd.engine.evaluate import judge
from vidkd.engine.fit import fit
from vidkd.models.saved import load_classifier

METHODS = {"rgb": {}, "soft": {"settings": {"model.attention.pooling": "soft"}}}


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
        monkeypatch.setattr(clip_study, "fit", self)

    def __call__(self, config: Any, **settings: Any) -> Any:
        self.names.append(config.name)
        if config.name in self.fails:
            raise self.fails[config.name]
        return fit(config, **settings)


def run(study: Study, places: Places) -> dict[str, dict[str, Any]]:
    return {str(key): content for key, content in run_cells(study, "test", study.test_waves(), places, {}, 1)}


def test_the_cells_of_a_study(tiny_study: Callable[..., Study], places: Places, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained and judged once; the second call finds them."""
    study, fits = tiny_study(), Fits(monkeypatch, {})
    found = run(study, places)
    assert fits.names == list(found) == ["rgb-s0-1", "soft-s0-1", "rgb-s1-1", "soft-s1-1"]
    cell = found["soft-s1-1"]
    assert (cell["cell"], cell["method"], cell["seed"], cell["place"], cell["subset"], cell["steps"]) == (
        "soft-s1-1",
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
    assert cell["judged"] == {"clips": 6, "unobservable": 0, "shortened": 0, "held": 0}

    assert [file.name for file in places.results.iterdir()] == ["cells.parquet"]
    before = (places.results / "cells.parquet").stat().st_mtime_ns
    assert run(study, places) == found == places.store(study.name).cells("test")
    assert len(fits.names) == 4
    assert (places.results / "cells.parquet").stat().st_mtime_ns == before


def test_a_cell_that_fails_stops_those_alone_that_need_it(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(methods=CHAIN)
    fits = Fits(monkeypatch, {"first-s0-1": VideoError("cannot decode it", path="x.mp4"), "last-s1-1": VideoError("nor this")})
    met = run_cells(study, "test", study.test_waves(), places, {}, 1)
    assert [str(next(met)[0]) for _ in range(2)] == ["first-s1-1", "rgb-s1-1"]
    with pytest.raises(CellsFailedError) as raised:
        next(met)
    assert fits.names == ["first-s0-1", "first-s1-1", "rgb-s1-1", "last-s1-1"]
    assert raised.value.failures["rgb-s0-1"] == "needs first-s0-1"
    assert raised.value.failures["last-s0-1"] == "needs rgb-s0-1"
    assert raised.value.what == "4 cells failed"
    assert raised.value.lines["first"] == "first-s0-1: VideoError: cannot decode it\n  path : x.mp4"
    fits.fails, fits.names = {}, []
    assert len(dict(run_cells(study, "test", study.test_waves(), places, {}, 1))) == 6
    assert fits.names == ["first-s0-1", "rgb-s0-1", "last-s0-1", "last-s1-1"]


def test_attention_is_judged_where_the_study_measures_it(tiny_study: Callable[..., Study], places: Places) -> None:
    found = run(tiny_study(measures=["pointing"], seeds=[0]), places)
    rows, metrics = found["soft-s0-1"]["predictions"], found["soft-s0-1"]["metrics"]
    for name in ("pointing", "mass", "chance"):
        assert len(rows[name]) == len(rows["clip"])
        assert metrics[name] == pytest.approx(np.mean(rows[name]), abs=2e-5)
        assert all(0 <= value <= 1 for value in rows[name])
    assert "pointing" not in found["rgb-s0-1"]["predictions"], "it has no map"


def test_kept_cells_of_other_data_are_refused_where_the_data_are(tiny_study: Callable[..., Study], places: Places, tiny_root: Path) -> None:
    """Before anything is trained or judged; the report, which needs no data, reads them."""
    study = tiny_study(seeds=[0], methods={"rgb": {}})
    (cell,) = run(study, places).values()
    known = manifest_identity(Manifest.read(tiny_root / "manifest.jsonl"))
    assert cell["inputs"] == {"manifest": f"{known['name']} {known['sha256']}"}
    put(study, places, {**cell, "inputs": {"manifest": f"{known['name']} {'0' * 64}"}})
    with pytest.raises(DataError, match=f"made with other settings or data(?s:.*)manifest: {known['name']} 000"):
        run(study, places)
    assert places.store(study.name).cells("test")
    elsewhere = tiny_study("--data.root=/elsewhere", seeds=[0], methods={"rgb": {}})
    assert len(run(elsewhere, places)) == 1, "no data to compare with"


@pytest.mark.parametrize("lines", [1, 3])
def test_a_killed_study_resumes_from_its_lines(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """A torn last line is the cell that was being written."""
    study, fits = tiny_study(), Fits(monkeypatch, {})
    met = run_cells(study, "test", study.test_waves(), places, {}, 1)
    for _ in range(lines):
        next(met)
    met.close()
    store = places.store("small")
    assert not store.parquet.exists()
    with store.lines.open("a") as file:
        file.write('{"phase": "test", "cell": "so')
    fits.names.clear()
    assert len(run(study, places)) == 4
    assert len(fits.names) == 4 - lines
    assert not store.lines.exists()


def test_a_lost_teacher_is_trained_behind_its_own(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(methods=CHAIN, seeds=[0])
    first, second, third = study.test_waves()
    for wave in (first, second):
        dict(run_cells(study, "test", [wave], places, {}, 1))
    shutil.rmtree(places.runs)
    fits = Fits(monkeypatch, {"first-s0-1": VideoError("cannot decode it")})
    with pytest.raises(DataError) as raised:
        dict(run_cells(study, "test", [third], places, {}, 1))
    assert raised.value.what == "3 cells failed"
    assert fits.names == ["first-s0-1"]
    fits.fails, fits.names = {}, []
    dict(run_cells(study, "test", [third], places, {}, 1))
    assert fits.names == ["first-s0-1", "rgb-s0-1", "last-s0-1"]


STREAMS: dict[str, Any] = {
    "rgb": {},
    "flow": {"settings": {"view": "flow"}},
    "both": {"mean_of": ["rgb", "flow"]},
    "kd": {"teacher": "both", "settings": {"task": "logits_kd"}},
}


def test_two_streams_answer_by_their_mean_and_teach_together(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, fits = tiny_study(methods=STREAMS, seeds=[0]), Fits(monkeypatch, {})
    assert [[key.method for key in wave] for wave in study.test_waves(["kd"])] == [["rgb", "flow"], ["both"], ["kd"]]
    found = run(study, places)
    assert fits.names == ["rgb-s0-1", "flow-s0-1", "kd-s0-1"]
    folder, probabilities = places.runs / "small" / "test", []
    for name in ("rgb", "flow"):
        config = cell_config(study, CellKey(name, -1, 0, "1"), "test", {}, places.runs)
        saved, clips = load_classifier(folder / f"{name}-s0-1"), read_clips(config.data)
        alone = judge(saved.model, clips, "test", config.data, saved.classes, device=torch.device("cpu"))
        probabilities.append(alone.fullest.probabilities)
    mean = sum(probabilities) / 2
    cell = found["both-s0-1"]
    labels = np.array(cell["predictions"]["label"])
    assert cell["predictions"]["predicted"] == mean.argmax(1).tolist()
    assert cell["metrics"]["nll"] == pytest.approx(-np.log(mean[np.arange(len(labels)), labels]).mean(), abs=1e-5)
    assert cell["metrics"]["nll"] != found["rgb-s0-1"]["metrics"]["nll"]
    assert (cell["steps"], cell["train_seconds"]) == (0, 0.0)
    assert cell["parameters"] == found["rgb-s0-1"]["parameters"] + found["flow-s0-1"]["parameters"]
    assert (cell["settings"]["mean_of"], found["kd-s0-1"]["settings"]["teacher"]) == (["rgb", "flow"], "both")
    taught = cell_config(study, CellKey("kd", -1, 0, "1"), "test", {}, places.runs)
    assert [taught.teacher, *taught.more_teachers] == [str(folder / "rgb-s0-1"), str(folder / "flow-s0-1")]
    assert study.summarise(found, {})["methods"]["both"]["metrics"]["top1"]["n"] == 1
    dict(run_cells(study, "test", [[CellKey("kd", -1, 1, "1")]], places, {}, 1))
    assert fits.names[3:] == ["rgb-s1-1", "flow-s1-1", "kd-s1-1"]


def test_a_run_that_starts_from_another_has_its_weights_and_its_own_teacher(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"starts_from": "rgb", "teacher": "flow", "settings": {"task": "logits_kd"}}
    study, fits = tiny_study(methods={"rgb": {}, "flow": STREAMS["flow"], "begun": begun}, seeds=[0]), Fits(monkeypatch, {})
    found = run(study, places)
    assert fits.names == ["rgb-s0-1", "flow-s0-1", "begun-s0-1"]
    config = cell_config(study, CellKey("begun", -1, 0, "1"), "test", {}, places.runs)
    folder = places.runs / "small" / "test"
    assert (config.init, config.teacher) == (str(folder / "rgb-s0-1"), str(folder / "flow-s0-1"))
    kept = found["begun-s0-1"]["settings"]
    assert (kept["init"], kept["teacher"]) == ("rgb", "flow")


def test_a_run_that_is_compressed_needs_its_teacher(
    tiny_study: Callable[..., Study], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its repairs learn from that."""
    small = {"compresses": "rgb", "steps": [{"repair": {"train.steps": 1}}]}
    study = tiny_study(methods={name: CHAIN[name] for name in ("first", "rgb")} | {"small": small}, seeds=[0])
    first, second, third = study.test_waves()
    for wave in (first, second):
        dict(run_cells(study, "test", [wave], places, {}, 1))
    shutil.rmtree(places.runs / "small" / "test" / "first-s0-1")
    fits = Fits(monkeypatch, {})
    ((_, made),) = run_cells(study, "test", [third], places, {}, 1)
    assert fits.names == ["first-s0-1"]
    assert made["steps"] == 1


def test_the_order_of_the_test(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    names = [[str(key) for key in wave] for wave in study.test_waves()]
    assert names == [
        [f"{method}-s{seed}-{fold}" for seed in (0, 1) for fold in "ab" for method in ("flow", "rgb")],
        [f"attention-s{seed}-{fold}" for seed in (0, 1) for fold in "ab"],
    ]
    assert [[key.method for key in wave] for wave in study.test_waves(["flow"])] == [["flow"] * 4, []]


KEY = CellKey("rgb", -1, 0, "a")


def read(study: ClipStudy, places: Places, chosen: Any = None, key: CellKey = KEY) -> dict[str, Any]:
    ((_, cell),) = run_cells(study, "test", [[key]], places, chosen or {}, 1)
    return cell


def test_a_cell_depends_on_the_content_of_published_weights_not_on_their_place(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path / "study", settings={"model.weights": "pretrained"})
    for folder, content in (("here", b"one"), ("there", b"one"), ("other", b"two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tiny3d.safetensors").write_bytes(content)
    monkeypatch.setenv("VIDKD_WEIGHTS", str(tmp_path / "here"))
    put(study, places, {**cell_content(study, KEY, accuracy=0.5), "inputs": study.inputs(KEY, places)})
    monkeypatch.setenv("VIDKD_WEIGHTS", str(tmp_path / "there"))
    assert read(study, places)["settings"]["model.weights"] == "pretrained"
    monkeypatch.setenv("VIDKD_WEIGHTS", str(tmp_path / "other"))
    with pytest.raises(DataError, match="weights: tiny3d "):
        read(study, places)
    monkeypatch.delenv("VIDKD_WEIGHTS")  # downloaded: nothing to compare with
    assert read(study, places)["inputs"]["weights"].startswith("tiny3d ")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--optim.lr=0.5", "optim.lr: 0.1 then, 0.5 now"),
        ("--data.transform.crop=24", "data.transform.crop: 32 then, 24 now"),
        ("--method.label_smoothing=0.1", "method.label_smoothing: 0.0 then, 0.1 now"),
        ("--init=/elsewhere/x.pt", "init: None then, /elsewhere/x.pt now"),
    ],
)
def test_a_cell_of_other_settings_is_refused(tmp_path: Path, places: Places, word: str, line: str) -> None:
    study = make_study(tmp_path)
    put(study, places, cell_content(study, KEY, accuracy=0.5))
    with pytest.raises(DataError) as raised:
        read(make_study(tmp_path, [word]), places)
    assert raised.value.what == "cell rgb-s0-a was made with other settings or data"
    assert raised.value.lines["differs"] == line


@pytest.mark.parametrize(
    "word",
    [
        "--data.root=/elsewhere",
        "--data.workers=3",
        "--train.device=cpu",
        "--train.compile=true",
    ],
)
def test_where_and_how_fast_a_cell_was_made_is_free(tmp_path: Path, places: Places, word: str) -> None:
    study = make_study(tmp_path)
    put(study, places, cell_content(study, KEY, accuracy=0.5))
    assert read(make_study(tmp_path, [word]), Places(results=places.results, runs=tmp_path / "other runs"))["seed"] == 0


def test_settings_are_all_others(tmp_path: Path, places: Places) -> None:
    found = make_study(tmp_path).settings(CellKey("attention", -1, 1, "b"), "test", places, {})
    assert found == json.loads(json.dumps(found)), "as it comes back from a file"
    assert (found["train.seed"], found["data.split"], found["task"], found["data.window.frames"]) == (1, "b", "attention_distillation", 8)
    assert (found["teacher"], found["init"], found["subset"]) == ("flow", None, "test")
    assert not {"name", "runs", "teacher_settings", "data.root", "train.device"} & set(found)


def test_a_changed_teacher_is_refused_with_its_own_cell_before_its_students(tmp_path: Path, places: Places) -> None:
    study = make_study(tmp_path, methods=CHAIN, seeds=[0], folds=["a"])
    put(study, places, *(cell_content(study, key, accuracy=0.5) for wave in study.test_waves() for key in wave))
    assert len(list(run_cells(study, "test", study.test_waves(), places, {}, 1))) == 3
    changed = make_study(tmp_path, methods={**CHAIN, "first": {"settings": {"view": "flow", "optim.lr": 0.7}}}, seeds=[0], folds=["a"])
    with pytest.raises(DataError, match="cell first-s0-a was made with other settings"):
        list(run_cells(changed, "test", changed.test_waves(["last"]), places, {}, 1))


def test_a_cell_made_with_another_choice_is_refused(tmp_path: Path, places: Places) -> None:
    study = make_study(tmp_path)
    put(study, places, cell_content(study, KEY, accuracy=0.5, chosen={"rgb": {"a": {"optim.lr": 0.3}}}))
    assert read(study, places, {"rgb": {"a": {"optim.lr": 0.3}, "b": {"optim.lr": 0.4}}})
    with pytest.raises(DataError, match=r"optim.lr: 0.3 then, 0.4 now"):
        read(study, places, {"rgb": {"a": {"optim.lr": 0.4}, "b": {"optim.lr": 0.3}}})


@pytest.mark.parametrize(("key", "setting"), [(KEY, "data.eval_crops"), (CellKey("attention", -1, 0, "a"), "method.label_smoothing")])
def test_a_cell_older_than_a_setting_had_the_default_of_its_task(tmp_path: Path, places: Places, key: CellKey, setting: str) -> None:
    """And one that is gone since says nothing."""
    study = make_study(tmp_path)
    cell = cell_content(study, key, accuracy=0.5)
    default = cell["settings"].pop(setting)
    cell["settings"]["method.long_gone"] = 3
    put(study, places, cell)
    assert read(study, places, key=key)
    other = 2 if default else 0.25
    with pytest.raises(DataError, match=rf"{setting}: {default} then, {other} now"):
        read(study, places, {key.method: {"a": {setting: other}}}, key)
