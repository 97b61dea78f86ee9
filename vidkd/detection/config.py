"""The configuration of a run that trains a detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.fields import Count, Share, ShareBelow1, Whole, for_training
from vidkd.base.settings import load_settings
from vidkd.detection.layouts import BOX_LAYOUTS, WITH_ANNOTATIONS
from vidkd.detection.transforms import BoxTransformConfig
from vidkd.engine.loop_config import LoopConfig, OptimConfig, TrainConfig
from vidkd.tasks.yolo import YoloDetection

DETECTOR_TASKS = {"yolo": YoloDetection}
_AS_DARKNET = BoxTransformConfig(resize="darknet", fill=128)
"""Frames meet the network as darknet's own letterbox lays them."""


@dataclass(frozen=True, kw_only=True)
class BoxDataConfig:
    """Annotated frames and batches.

    Args:
        root: folder of the data set.
        layout: how it is laid out, a name of BOX_LAYOUTS.
        annotations: files with its boxes, relative to root, in place of those that coco, coco_video, mot or davis look for.
        classes: train on these classes only, in this order; empty for all of the data set's.
        paths: patterns of the paths of videos or images to train and validate on (`videos/wide_*`); empty for all.
        every: of videos, train and validate on every n-th frame.
        incomplete: leave_out frames in which objects may lack their box, or use them and learn to overlook such objects.
        validation_fraction: share of the training groups that is held out as `val`, in addition to what the data set holds out itself.
        split_seed: which groups these are.
        batch_size: frames in a batch.
        workers: processes that read frames; 0 reads in the training process.
        cache_mb: decoded frames that each of these keeps, in megabytes; 0 keeps none.
        max_bad_files: images and videos with an unreadable training frame whose frames are skipped before it is an error.
        transform: size that the network sees, and augmentation.
    """

    root: str = ""
    layout: str = ""
    annotations: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    every: Count = 1
    incomplete: Literal["leave_out", "use"] = "leave_out"
    validation_fraction: ShareBelow1 = 0.0
    split_seed: int = 0
    batch_size: Count = for_training(16)
    workers: Whole = for_training(0)
    cache_mb: Whole = for_training(512)
    max_bad_files: Whole = for_training(0)
    transform: BoxTransformConfig = _AS_DARKNET

    def __post_init__(self) -> None:
        if self.layout and self.layout not in BOX_LAYOUTS:
            raise unknown_name("layout", self.layout, BOX_LAYOUTS, key="data.layout")
        if self.annotations and self.layout not in WITH_ANNOTATIONS:
            raise ConfigError(
                f"data.annotations names files of boxes, which layout '{self.layout}' has in places of its own",
                hint=f"leave it out, or data.layout: one of {', '.join(WITH_ANNOTATIONS)}",
            )


@dataclass(frozen=True, kw_only=True)
class DetectorModelConfig:
    """The network.

    Args:
        cfg: darknet cfg file; its classes and input size are replaced by those of the data.
    """

    cfg: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How detections are made to be judged.

    Args:
        score: boxes below this score are dropped; a low one lets average precision see the whole curve.
        nms_iou: of boxes of one class that overlap by more than this, the best stays.
        batch_size: frames that the network sees at once.
    """

    score: Share = 0.01
    nms_iou: Share = 0.45
    batch_size: Count = 32


@dataclass(frozen=True, kw_only=True)
class DetectorRunConfig(LoopConfig):
    """Everything that a run depends on.

    Args:
        name: folder of the run below `runs`; by default task, data set and seed.
        task: the method, a name of DETECTOR_TASKS.
        init: what gives the initial weights: a darknet .weights file of the same cfg and classes, or the run (or checkpoint) of one.
        runs: folder of all runs.
        data: frames and batches.
        model: the network.
        judge: how detections are made to be judged.
        optim: optimiser and schedule.
        train: length, device and seed.
        method: settings of the task.
    """

    name: str | None = None
    task: str = "yolo"
    init: str | None = None
    runs: str = "runs"
    data: BoxDataConfig = field(default_factory=BoxDataConfig)
    model: DetectorModelConfig = field(default_factory=DetectorModelConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    method: Any = None

    @classmethod
    def tasks(cls) -> Mapping[str, type]:
        """The settings of every task of detectors."""
        return {name: task.Config for name, task in DETECTOR_TASKS.items()}


def load_detector_config(
    path: Path | str | None = None, *, settings: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> DetectorRunConfig:
    """A run's configuration from a YAML file, then nested `settings`, then flags; raises ConfigError. See `load_settings`."""
    given = settings if path is not None or "task" in (settings or {}) else {"task": "yolo", **(settings or {})}
    return load_settings(DetectorRunConfig, path, settings=given, overrides=overrides)
