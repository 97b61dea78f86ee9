"""The detector of a recipe: read, with the settings and the frames that train what is left of it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vidkd.base.errors import ConfigError, DataError
from vidkd.compress.importance import TAYLOR_BATCHES, LossBatches
from vidkd.compress.recipe import Recipe
from vidkd.data.loaders import StepSampler
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.config import DETECTOR_TASKS, DetectorRunConfig, load_detector_config
from vidkd.detection.dataset import BoxDataset, box_loader
from vidkd.detection.frames import RunFrames
from vidkd.detection.opening import darknet_files, resize_beside
from vidkd.detection.saved import SavedDetector, load_detector
from vidkd.engine.loop_config import with_threads_of_here
from vidkd.engine.settings import merge
from vidkd.engine.trouble import count_bad
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector


def load_student(path: Path, recipe: Recipe) -> SavedDetector:
    """Of a run or checkpoint, of the student's cfg, or of the darknet files that a step left in its folder.

    Raises ConfigError for a cfg whose weights or names the recipe does not tell, and as the readers do.
    """
    if path.suffix.lower() == ".cfg":
        if not recipe.weights or not recipe.names:
            raise ConfigError(f"{path} has neither weights nor names", hint="weights: F and names: F in the recipe")
        return _darknet(path, *map(recipe.found, (recipe.weights, recipe.names)))
    if beside := darknet_files(path):
        return _darknet(*beside.values())
    return load_detector(path)


def _darknet(cfg: Path, weights: Path, names: Path) -> SavedDetector:
    opened = DarknetDetector.open(cfg, weights, names)
    return SavedDetector(net=opened.net, classes=opened.class_names, run={})


def configured(
    student: SavedDetector, original: Path, recipe: Recipe, settings: Mapping[str, Any], overrides: Sequence[str]
) -> DetectorRunConfig:
    """The configuration of a run over that of the student's own. original: its place; of darknet files its way of resizing stands there."""
    own = {key: value for key, value in with_threads_of_here(student.run).items() if key not in ("name", "runs", "init")}
    width, height = student.net.input_size
    shown: dict[str, Any] = {"width": width, "height": height}
    if (beside := darknet_files(original)) and (resize := resize_beside(beside["model"])):
        shown["resize"] = resize
    sized = merge({"data": {"transform": shown}}, own)
    config = load_detector_config(settings=merge(merge(sized, recipe.settings), settings), overrides=overrides)
    root = config.data.root
    if not root or not any((folder / root).exists() for folder in recipe.roots):
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(recipe.found(root))))


def training_apart(frames: RunFrames, truth: BoxManifest) -> BoxManifest:
    """The training frames. truth: what is judged. Raises DataError if one lies in such a file, or is of such a group, or there are none."""
    judged = {name for frame in truth.frames for name in (frame.path, ("group", frame.group))}
    shared = [frame.path for frame in frames.train.frames if frame.path in judged or ("group", frame.group) in judged]
    if shared:
        raise DataError(
            f"{len(shared)} training frames lie in footage that is judged",
            first=shared[0],
            hint="data.manifest with subsets, or for integers `footage` in the recipe",
        )
    if not frames.train.frames:
        raise DataError(f"data set '{frames.manifest.name}' has no frame to train on")
    return frames.train


def training_losses(config: DetectorRunConfig, train: BoxManifest) -> LossBatches:
    """The loss of a network on training batches, for Taylor's criterion; DataError where too many frames cannot be read."""

    def batches(net: nn.Module) -> Iterator[Tensor]:
        assert isinstance(net, Darknet)
        task = DETECTOR_TASKS[config.task](config.method, net)
        samples = BoxDataset(train, config.data.transform, training=True, seed=config.train.seed)
        sampler = StepSampler(len(samples), config.data.batch_size, seed=config.train.seed, first_step=0, last_step=TAYLOR_BATCHES)
        net.eval()
        bad: list[str] = []
        for batch in box_loader(samples, sampler, config.data.workers):
            count_bad(batch, bad, most=config.data.max_bad_files)
            if "index" in batch:
                yield task.training_step(batch)["loss"]

    return batches
