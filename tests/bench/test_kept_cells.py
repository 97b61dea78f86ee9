"""A finished cell is trusted if it was made as the study says now: settings, teacher, initial weights and data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from study_samples import CHAIN, cell_content, keys_of, make_study

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.bench.cells import KeptCells, Places
from vidkd.bench.identity import identity, manifest_identity, source_identity
from vidkd.bench.study import CellKey, Study, cell_config
from vidkd.data.manifest import Manifest


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
        return source_identity(study, CellKey("attention", -1, seed, fold), "test", choice, tmp_path)

    assert of(0, "a") == of(1, "a") != of(0, "b")
    assert of(0, "a", {"flow": {"a": {"model.dropout": 0.3}}}) == of(0, "a") != of(0, "a", {"flow": {"a": {"model.dropout": 0.4}}})
    assert source_identity(study, CellKey("rgb", -1, 0, "a"), "test", chosen, tmp_path) is None


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


def test_a_cell_made_with_another_choice_is_refused(tmp_path: Path, places: Places) -> None:
    study = make_study(tmp_path)
    put(study, places, chosen={"rgb": {"a": {"optim.lr": 0.3}}})
    assert read(study, places, {"rgb": {"a": {"optim.lr": 0.3}, "b": {"optim.lr": 0.4}}}) is not None
    with pytest.raises(DataError, match=r"optim.lr: 0.3 then, 0.4 now"):
        read(study, places, {"rgb": {"a": {"optim.lr": 0.4}, "b": {"optim.lr": 0.3}}})


def test_a_cell_that_is_not_there(tmp_path: Path, places: Places) -> None:
    assert read(make_study(tmp_path), places) is None


def test_what_was_observed_is_no_part_of_what_a_cell_depends_on(tmp_path: Path, places: Places) -> None:
    """Older cells have no such counts."""
    assert "counts" not in json.loads(put(make_study(tmp_path), places).read_text())
    assert read(make_study(tmp_path), places) is not None
    put(make_study(tmp_path), places, counts={"clips": 12, "unobservable": 1, "shortened": 0, "held": 0})
    content = read(make_study(tmp_path), places)
    assert content is not None
    assert content["counts"]["unobservable"] == 1


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
