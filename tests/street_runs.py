"""A small data set of streams, a network for it, and settings of a run of two steps on them."""

from pathlib import Path
from typing import Any

from darknet_cfgs import stacked_cfg

from vidkd.base.settings import merge
from vidkd.data.synthetic.street import StreetShapesConfig, write_street_shapes
from vidkd.detection.config import DetectorRunConfig, load_detector_config

STREETS = StreetShapesConfig(
    size=48,
    kinds=("disc", "cross"),
    videos_plain=2,
    videos_wide=1,
    videos_val=1,
    video_scenes=4,
    scene_frames=2,
    streams_train=0,
    streams_val=0,
    streams_test=1,
    stream_s=1.0,
    pattern="ABA",
    shortest_visit_s=0.2,
    arrivals_per_s=1.5,
)
CFG = stacked_cfg([(8, 4), (16, 2)], classes=10)


def write_streets(root: Path) -> Path:
    """The data set and the cfg, in one folder."""
    write_street_shapes(root, STREETS, workers=1)
    (root / "net.cfg").write_text(CFG)
    return root


def street_config(root: Path, runs: Path, **over: Any) -> DetectorRunConfig:
    """A configuration of two steps; dotted settings over it: street_config(root, runs, **{"train.steps": 4})."""
    base = {
        "name": "tiny",
        "runs": str(runs),
        "data": {
            "root": str(root),
            "layout": "motion_shapes",
            "paths": ["videos/*"],
            "batch_size": 4,
            "transform": {"width": 48, "height": 48},
        },
        "model": {"cfg": str(root / "net.cfg")},
        "train": {"steps": 2, "threads": 1, "device": "cpu", "log_every": 1},
    }
    return load_detector_config(settings=merge(base, over))
