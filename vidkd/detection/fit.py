"""Training a detector as its configuration says."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import DataLoader

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.data.layouts.common import shortened
from vidkd.data.loaders import StepSampler
from vidkd.detection.config import DETECTOR_TASKS, DetectorRunConfig
from vidkd.detection.dataset import BoxDataset, box_loader
from vidkd.detection.evaluate import judge_boxes
from vidkd.detection.frames import RunFrames, check_training, read_frames
from vidkd.detection.saved import detector_payload, export_darknet, load_detector
from vidkd.engine.devices import start_fabric
from vidkd.engine.loop import RunResult, train_in_folder
from vidkd.engine.loop_config import check_validation
from vidkd.engine.training_run import Batch, TrainingRun
from vidkd.models.darknet import Darknet, load_weights
from vidkd.models.darknet.detector import DarknetDetector


def fit_detector(config: DetectorRunConfig, *, resume: str = "auto", quiet: bool = False) -> RunResult:
    """Train as the configuration says; resumes the run of this name, or returns at once if it is complete.

    Leaves student.cfg, student.weights and student.names of the best student by ap50 on the validation frames in the run's folder (of the
    last one without such frames). resume: "auto" resumes from the last checkpoint if there is one, "previous" from the one before, "never"
    refuses an existing run. Raises ConfigError, DataError, CheckpointError, and InterruptedRunError after Ctrl-C (state saved).
    """
    frames = read_frames(config.data)
    check_training(frames, config.data)
    check_validation(config.train, validates=bool(frames.val.frames), samples="frames")
    name = config.name or f"{config.task}-{frames.manifest.name}-s{config.train.seed}"
    fabric = start_fabric(config.train, batch_size=config.data.batch_size)
    result = train_in_folder(fabric, config, name, lambda: DetectorTrainingRun(config, frames), resume=resume, quiet=quiet)
    if fabric.is_global_zero:
        export_darknet(result.folder, images_seen=result.steps * config.data.batch_size * config.optim.accumulate)
    return result


class DetectorTrainingRun(TrainingRun):
    """A detector that learns from annotated frames."""

    main_metric: ClassVar[str] = "ap50"

    def __init__(self, config: DetectorRunConfig, frames: RunFrames) -> None:
        self.config: DetectorRunConfig = config
        self.frames = frames
        self.classes = frames.manifest.classes
        self.task = DETECTOR_TASKS[config.task](config.method, build_student(config, self.classes))
        data = config.data
        self.dataset = BoxDataset(frames.train, data.transform, training=True, seed=config.train.seed, cache_bytes=data.cache_mb * 2**20)
        self.samples, self.batch_size, self.most_bad = len(self.dataset), data.batch_size, data.max_bad_files
        per_step = self.batch_size * config.optim.accumulate
        self.steps = config.train.steps or max(1, math.ceil(config.train.epochs * self.samples / per_step))
        self.data = frames.identity
        self.validates = bool(frames.val.frames)

    def loader(self, first: int, last: int, *, rank: int, world_size: int, pin_memory: bool) -> DataLoader[Batch]:
        """As `TrainingRun`."""
        sampler = StepSampler(
            self.samples,
            self.batch_size,
            seed=self.config.train.seed,
            first_step=first,
            last_step=last,
            rank=rank,
            world_size=world_size,
        )
        return box_loader(self.dataset, sampler, self.config.data.workers, pin_memory=pin_memory)

    def student_payload(self) -> dict[str, Any]:
        """As `TrainingRun`."""
        return detector_payload(self.task.student, self.classes)

    def judge(self, student: nn.Module, *, device: torch.device, rank: int, world_size: int) -> Mapping[str, float]:  # noqa: ARG002
        """As `TrainingRun`, on the `val` frames; each process judges all of them, whatever its rank."""
        assert isinstance(student, Darknet)
        was_training = student.training
        found = judge_boxes(
            judged_detector(student, self.classes, self.config, device), self.frames.val, batch_size=self.config.judge.batch_size
        )
        student.train(was_training)
        return found.found.metrics()

    def sample_names(self, batch: Batch) -> list[str]:
        """As `TrainingRun`."""
        frames = [self.frames.train.frames[number] for number in batch["index"].tolist()]
        return [frame.path if frame.frame_index is None else f"{frame.path} frame {frame.frame_index}" for frame in frames]


def judged_detector(net: Darknet, classes: tuple[str, ...], config: DetectorRunConfig, device: torch.device | str) -> DarknetDetector:
    """The network for evaluation: with the thresholds of `judge`, and frames resized as in training."""
    judge, resize = config.judge, config.data.transform.resize
    return DarknetDetector(net, classes, score_threshold=judge.score, nms_iou=judge.nms_iou, device=device, resize=resize)


def build_student(config: DetectorRunConfig, classes: tuple[str, ...]) -> Darknet:
    """The network of the cfg for these classes and the input size of the data, seeded, or with the weights of `init`.

    Raises ConfigError for a cfg that is not named or cannot be read, CheckpointError for an `init` that does not fit it.
    """
    if not config.model.cfg:
        raise ConfigError("model.cfg is not set", hint="--model.cfg configs/darknet/tiny_student.cfg   (any darknet cfg)")
    torch.manual_seed(config.train.seed)
    size = config.data.transform.width, config.data.transform.height
    student = Darknet.from_cfg(config.model.cfg, classes=len(classes), input_size=size)
    if config.init is not None and Path(config.init).suffix == ".weights":
        load_weights(student, Path(config.init))
    elif config.init is not None:
        saved = load_detector(config.init)
        own, given = student.state_dict(), saved.net.state_dict()
        if saved.classes != classes or {name: value.shape for name, value in own.items()} != {
            name: value.shape for name, value in given.items()
        }:
            raise CheckpointError(
                f"init {config.init} is another network than model.cfg, or was trained on other classes",
                init=f"{len(given)} tensors, {shortened(saved.classes)}",
                model=f"{len(own)} tensors, {shortened(classes)} ({student.config.where(0)})",
                hint="the cfg that it was trained with, and data.classes in the order of init; or no init",
            )
        student.load_state_dict(given)
    return student
