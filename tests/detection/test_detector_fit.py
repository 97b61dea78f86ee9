"""Training a detector: its configuration, its run, what it leaves."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from street_runs import CFG, street_config, write_streets

from vidkd.base.errors import CheckpointError, ConfigError, DataError
from vidkd.base.files import read_jsonl
from vidkd.base.settings import as_dict, to_yaml
from vidkd.detection.config import DetectorRunConfig, load_detector_config
from vidkd.detection.fit import DetectorTrainingRun, build_student, fit_detector
from vidkd.detection.frames import read_frames
from vidkd.detection.saved import detector_payload, export_darknet, load_detector
from vidkd.engine import loop
from vidkd.engine.loop import InterruptedRunError
from vidkd.models.darknet import Darknet, load_weights
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.saved import load_classifier, read_checkpoint


def test_a_file_is_read_strictly_and_written_back(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("task: yolo\ndata: {root: D, layout: coco, paths: [a/*, b/*], transform: {width: 96}}\nmethod: {iou_loss: giou}\n")
    config = load_detector_config(path, overrides=["--data.batch_size", "8", "--method.ignore_thresh=0.7"])
    assert (config.data.paths, config.data.batch_size) == (("a/*", "b/*"), 8)
    assert (config.method.iou_loss, config.method.ignore_thresh) == ("giou", 0.7)
    transform = config.data.transform  # where one key is set, the others keep the defaults of darknet
    assert (transform.resize, transform.fill, transform.width, transform.height) == ("darknet", 128, 96, 416)
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert as_dict(load_detector_config(tmp_path / "again.yaml")) == as_dict(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"layout": "coko"}}, r"coko[\s\S]*coco"),
        ({"data": {"layout": "voc", "annotations": ["boxes.txt"]}}, "layout 'voc' has in places of its own"),
        ({"data": {"every": 0}}, r"'data\.every' has a wrong value[\s\S]*from 1 on"),
        ({"data": {"incomplete": "maybe"}}, r"data\.incomplete"),
        ({"data": {"transform": {"min_scale": 2.0}}}, r"min_scale must not be above max_scale"),
        ({"judge": {"score": 2.0}}, r"'judge\.score' has a wrong value"),
        ({"method": {"iou_loss": "xiou"}}, r"iou_loss"),
        ({"model": {"cgf": "x"}}, r"unknown setting 'model\.cgf'[\s\S]*model\.cfg"),
        ({"task": "yollo"}, r"yollo[\s\S]*yolo"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_detector_config(settings=settings)
    assert re.search(message, str(caught.value))


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def fit(config: DetectorRunConfig) -> Path:
    return fit_detector(config, quiet=True).folder


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_run_leaves_its_student_as_darknet_files_and_as_a_checkpoint(streets: Path, tmp_path: Path) -> None:
    folder = fit(street_config(streets, tmp_path))
    saved = load_detector(folder)
    assert (saved.classes, saved.net.input_size, saved.net.training) == (("disc", "cross"), (48, 48), False)
    assert equal(saved.net.state_dict(), read_checkpoint(folder / "checkpoints/best.pt")["student"]["state"])
    opened = DarknetDetector.open(folder / "student.cfg", folder / "student.weights", folder / "student.names")
    assert opened.class_names == ("disc", "cross")
    image = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        for one, other in zip(saved.net(image), opened.net(image), strict=True):
            torch.testing.assert_close(one, other)
    rows = read_jsonl(folder / "metrics.jsonl")
    assert [(row["split"], row["step"]) for row in rows] == [("train", 1), ("train", 2), ("val", 2)]
    assert rows[0]["loss"] == pytest.approx(rows[0]["box"] + rows[0]["objectness"] + rows[0]["classes"], rel=1e-5)
    assert {"ap50", "map", "recall50"} <= set(rows[2])
    load_weights(Darknet.from_cfg(folder / "student.cfg"), folder / "student.weights")
    with pytest.raises(CheckpointError, match="holds a detector, not a classifier of clips"):
        load_classifier(folder)


def test_the_best_student_is_exported_and_not_the_last(streets: Path, tmp_path: Path) -> None:
    folder = fit(street_config(streets, tmp_path))
    content = torch.load(folder / "checkpoints/best.pt", weights_only=True)
    content["student"]["state"] = {name: torch.zeros_like(value) for name, value in content["student"]["state"].items()}
    torch.save(content, folder / "checkpoints/best.pt")
    cfg, weights, _ = export_darknet(folder)
    net = Darknet.from_cfg(cfg)
    load_weights(net, weights)
    assert all((parameter == 0).all() for parameter in net.parameters())


def test_a_stopped_run_goes_on_exactly(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"train.steps": 5, "train.eval_every": 0.5, "optim": {"ema": 0.9, "accumulate": 2}}
    whole = fit(street_config(streets, tmp_path, **settings, name="whole"))
    parted = street_config(streets, tmp_path, **settings, name="parted")
    log = loop.Loop._log

    def log_and_stop(training: Any, losses: dict[str, float]) -> None:
        log(training, losses)
        training.interrupt.asked = training.progress.step == 3

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_log", log_and_stop)
        with pytest.raises(InterruptedRunError, match="stopped after step 3 of 5"):
            fit(parted)
    assert not (tmp_path / "parted/student.weights").exists()
    fit(parted)
    one, other = (read_checkpoint(folder / "checkpoints/last.pt") for folder in (whole, tmp_path / "parted"))
    assert equal(one["student"]["state"], other["student"]["state"])
    assert equal(one["ema"], other["ema"])
    for number, moments in one["optimizer"]["state"].items():
        assert equal(moments, other["optimizer"]["state"][number])
    rows = [[{**row, "data_wait": 0} for row in read_jsonl(folder / "metrics.jsonl")] for folder in (whole, tmp_path / "parted")]
    assert rows[0] == rows[1]
    assert (whole / "student.weights").read_bytes() == (tmp_path / "parted/student.weights").read_bytes()


def test_validation_leaves_the_student_in_training_mode(streets: Path, tmp_path: Path) -> None:
    config = street_config(streets, tmp_path)
    training = DetectorTrainingRun(config, read_frames(config.data))
    student = training.task.student
    assert student.training
    metrics = training.judge(student, device=torch.device("cpu"), rank=0, world_size=1)
    assert student.training
    assert 0 <= metrics["ap50"] <= 1
    assert training.sample_names({"index": torch.tensor([0, 9])}) == ["videos/plain_01.mp4 frame 0", "videos/plain_02.mp4 frame 1"]


def test_a_checkpoint_of_something_else_is_no_detector(streets: Path, tmp_path: Path) -> None:
    torch.save({"student": {"classes": ["a"], "state": {}}}, tmp_path / "clips.pt")
    with pytest.raises(CheckpointError, match="a classifier of clips, not a detector"):
        load_detector(tmp_path / "clips.pt")
    config = street_config(streets, tmp_path)
    payload = detector_payload(build_student(config, ("disc", "cross")), ("disc", "cross"))
    other = detector_payload(build_student(config, ("disc",)), ("disc",))
    torch.save({"student": {**payload, "state": other["state"]}}, tmp_path / "mixed.pt")
    with pytest.raises(CheckpointError, match="do not fit the network"):
        load_detector(tmp_path / "mixed.pt")


# --- init ---


def test_a_run_begins_with_the_weights_of_another_or_of_a_file(streets: Path, tmp_path: Path) -> None:
    folder = fit(street_config(streets, tmp_path))
    trained = load_detector(folder).net.state_dict()
    for init in (folder, folder / "checkpoints/best.pt"):
        state = build_student(street_config(streets, tmp_path, init=str(init)), ("disc", "cross")).state_dict()
        assert equal(state, trained)
    from_file = build_student(street_config(streets, tmp_path, init=str(folder / "student.weights")), ("disc", "cross"))
    for name, value in from_file.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, trained[name])
    one, two = (build_student(street_config(streets, tmp_path, **{"train.seed": seed}), ("disc", "cross")) for seed in (1, 1))
    assert equal(one.state_dict(), two.state_dict())


def test_an_init_of_another_network_or_other_classes_is_refused(streets: Path, tmp_path: Path) -> None:
    folder = fit(street_config(streets, tmp_path))
    with pytest.raises(
        CheckpointError, match=r"another network than model\.cfg, or was trained on other classes[\s\S]*disc, cross[\s\S]*cross, disc"
    ):
        build_student(street_config(streets, tmp_path, init=str(folder)), ("cross", "disc"))
    (tmp_path / "other.cfg").write_text(CFG.replace("filters=16", "filters=24"))
    other = {"model.cfg": str(tmp_path / "other.cfg")}
    with pytest.raises(CheckpointError, match="weights do not fit the cfg"):
        build_student(street_config(streets, tmp_path, init=str(folder / "student.weights"), **other), ("disc", "cross"))
    with pytest.raises(CheckpointError, match=r"another network than model\.cfg"):
        build_student(street_config(streets, tmp_path, init=str(folder), **other), ("disc", "cross"))


# --- bad input ---


@pytest.mark.parametrize(
    ("over", "kind", "message"),
    [
        ({"model.cfg": ""}, ConfigError, r"model\.cfg is not set"),
        ({"model.cfg": "/none.cfg"}, ConfigError, r"cannot read cfg /none\.cfg"),
        ({"data.transform.width": 50}, ConfigError, "does not divide evenly"),
        ({"data.classes": ["disc", "square"]}, DataError, "have no box to train on"),
        ({"train.patience": 2}, ConfigError, "never stops a run without validations"),
        ({"data.paths": ["videos/plain_*"], "train.eval_every": 1}, ConfigError, "there are no `val` frames"),
    ],
)
def test_what_cannot_be_trained_is_told_before(
    over: dict[str, Any], kind: type[Exception], message: str, streets: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        fit(street_config(streets, tmp_path, **over))
