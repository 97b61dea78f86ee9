"""The configuration of a detector's run."""

import re
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.settings import as_dict, to_yaml
from vidkd.detection.config import DetectorRunConfig, load_detector_config


def test_a_file_is_read_strictly_and_written_back(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("task: yolo\ndata: {root: D, layout: coco, paths: [a/*, b/*], transform: {width: 96}}\nmethod: {iou_loss: giou}\n")
    config = load_detector_config(path, overrides=["--data.batch_size", "8", "--method.ignore_thresh=0.7"])
    assert (config.data.paths, config.data.batch_size, config.data.transform.width) == (("a/*", "b/*"), 8, 96)
    assert (config.method.iou_loss, config.method.ignore_thresh) == ("giou", 0.7)
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert as_dict(load_detector_config(tmp_path / "again.yaml")) == as_dict(config)


def test_frames_are_laid_as_darknet_lays_them_unless_told() -> None:
    defaults = load_detector_config().data.transform
    assert (defaults.resize, defaults.fill) == ("darknet", 128)
    changed = load_detector_config(settings={"data": {"transform": {"width": 96}}}).data.transform
    assert (changed.resize, changed.fill, changed.width, changed.height) == ("darknet", 128, 96, 416)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"layout": "coko"}}, r"coko[\s\S]*coco"),
        ({"data": {"every": 0}}, r"data\.every must be at least 1"),
        ({"data": {"validation_fraction": 1.0}}, r"data\.validation_fraction must be in"),
        ({"data": {"incomplete": "maybe"}}, r"data\.incomplete"),
        ({"judge": {"score": 2.0}}, r"judge\.score must be in"),
        ({"judge": {"batch_size": 0}}, r"judge\.batch_size must be at least 1"),
        ({"method": {"iou_loss": "xiou"}}, r"iou_loss"),
        ({"method": {"label_smoothing": 2.0}}, r"label_smoothing"),
        ({"model": {"cgf": "x"}}, r"unknown setting 'model\.cgf'[\s\S]*model\.cfg"),
        ({"task": "yollo"}, r"yollo[\s\S]*yolo"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_detector_config(settings=settings)
    assert re.search(message, str(caught.value))


def test_every_setting_is_described() -> None:
    from vidkd.base.settings import settings_help

    text = settings_help(DetectorRunConfig, "yolo")
    for flag in ("--data.paths", "--data.transform.mosaic", "--model.cfg", "--judge.nms_iou", "--method.iou_loss"):
        assert flag in text
    assert "decoded frames that each of these keeps" in text
