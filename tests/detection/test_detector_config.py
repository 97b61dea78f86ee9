"""The configuration of a detector's run."""

import re
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.settings import as_dict, to_yaml
from vidkd.detection.config import load_detector_config


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
        ({"data": {"every": 0}}, r"data\.every must be at least 1"),
        ({"data": {"incomplete": "maybe"}}, r"data\.incomplete"),
        ({"data": {"transform": {"min_scale": 2.0}}}, r"min_scale must not be above max_scale"),
        ({"judge": {"score": 2.0}}, r"judge\.score must be in \[0, 1\]"),
        ({"method": {"iou_loss": "xiou"}}, r"iou_loss"),
        ({"model": {"cgf": "x"}}, r"unknown setting 'model\.cgf'[\s\S]*model\.cfg"),
        ({"task": "yollo"}, r"yollo[\s\S]*yolo"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_detector_config(settings=settings)
    assert re.search(message, str(caught.value))
