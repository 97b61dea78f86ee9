"""A darknet detector as a recipe's subject."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError, DataError, VideoError
from vidkd.base.files import read_json, sha256, write_json
from vidkd.base.roots import data_root, split_roots
from vidkd.base.settings import as_dict, merge
from vidkd.compress.compressed import Compressed
from vidkd.compress.distil import distil, learning_of
from vidkd.compress.export_detector import DetectorSource, integers_on
from vidkd.compress.parity import PARITY_FRAMES, Samples
from vidkd.compress.prune import TAYLOR_BATCHES
from vidkd.compress.quantise import Integers
from vidkd.compress.recipe import DistilConfig, PruneConfig, QuantiseConfig, Recipe, RefitConfig, RepairConfig, Step
from vidkd.compress.refit import filters_left, outer_convolutions, refit
from vidkd.compress.subject import Interval, Made, Subject
from vidkd.data.loaders import StepSampler
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.config import DETECTOR_TASKS, DetectorRunConfig, load_detector_config
from vidkd.detection.dataset import BoxDataset, box_loader
from vidkd.detection.evaluate import BoxJudgement, judge_boxes
from vidkd.detection.fit import fit_detector
from vidkd.detection.frames import Pictures, drawn_footage, frames_identity, frames_of_manifest, judged_footage, read_frames
from vidkd.detection.opening import about_of, darknet_files, recorded_resize
from vidkd.detection.saved import SavedDetector, load_detector, write_darknet
from vidkd.engine.devices import pick_device
from vidkd.engine.loop import RunResult
from vidkd.engine.run_folder import settings_that_count
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detector import Detector
from vidkd.runtime.opening import open_detector
from vidkd.video import open_video
from vidkd.video.files import content_of

# In the folder of a step: the filters of the student that are left in its network.
FILTERS = "filters.json"
# Least score of the detections of an exported file; judging has its own.
SHIPPED_SCORE = 0.25
# The main metric of a detector's judgement in draws of groups of its frames, the same draws for all that were judged on these.
BoxDraws = Callable[[BoxJudgement, BoxManifest], Sequence[float]]


class DetectorSubject(Subject):
    """The student of a recipe, the frames that it is judged on, and how it is trained: as its own run was, the recipe's settings over it.

    A student that is a cfg has no run: the recipe names its weights and class names, and its settings the data; these, too, where it is
    the folder that a step of another recipe left. The main metric is AP50;
    the recall at IoU 0.5 where no frame has a box for every object. overrides: flags over the settings. Raises CheckpointError, ConfigError
    and DataError as the readers of these do.
    """

    counted = "frames"
    formats = ("onnx", "xml", "darknet")
    source_kind = DetectorSource

    def __init__(
        self, recipe: Recipe, overrides: Sequence[str] = (), *, interval: Interval | None = None, draws: BoxDraws | None = None
    ) -> None:
        super().__init__(recipe, recipe.found(recipe.student), interval)
        self._overrides, self._draws = overrides, draws
        self._student = self.load(self.original)
        self.config = self._configured({})
        self._frames = read_frames(self.config.data)
        has_no_run = self.original.suffix.lower() == ".cfg" or bool(darknet_files(self.original))
        self._truth = (self._frames.subset_for_others if has_no_run else self._frames.subset)(recipe.subset)
        self._complete = any(frame.complete for frame in self._truth.frames)

    @property
    def main_metric(self) -> str:
        """See `Subject`."""
        return "ap50" if self._complete else "recall50"

    @property
    def data_name(self) -> str:
        """See `Subject`."""
        return self._frames.manifest.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Subject`."""
        files = [sha256(self._recipe.found(path)) for path in (self._recipe.weights, self._recipe.names) if path]
        judged = frames_identity(self._truth.classes, self._truth)
        return {"settings": settings_that_count(as_dict(self.config)), "frames": [self._frames.identity, judged], "files": files}

    def learns_from(self, step: Step) -> list[str] | None:
        """See `Subject`: the footage. Repairs learn from boxes."""
        if not isinstance(step.settings, DistilConfig | RefitConfig | QuantiseConfig):
            return None
        paths = map(self._recipe.found, self._recipe.footage)
        return [content_of(path) if path.is_dir() else sha256(path) for path in paths]

    def _check_step(self, step: Step) -> None:
        settings = step.settings
        if isinstance(settings, RefitConfig):
            trained = [other.name for other in self._recipe.steps if other.number < step.number and other.kind in ("repair", "distil")]
            if trained:
                raise ConfigError(f"{step.name} would undo what {trained[-1]} trained", hint="refit right after prune or factorise")
        if isinstance(settings, RepairConfig):
            check_threads(self._configured(settings.settings).train.threads, where="train.threads")
        if isinstance(settings, RepairConfig) or (isinstance(settings, PruneConfig) and settings.criterion == "taylor"):
            self._training_frames()
        if isinstance(settings, DistilConfig):
            learning_of(settings)
        if isinstance(settings, DistilConfig | RefitConfig | QuantiseConfig):
            self._checked_footage()

    def load(self, path: Path) -> SavedDetector:
        """Of a run or checkpoint, of the student's cfg, or of the darknet files that a step left in its folder.

        Raises ConfigError for a cfg whose weights or names the recipe does not give, and as the readers do.
        """
        recipe, files = self._recipe, tuple(darknet_files(path).values())
        if path.suffix.lower() == ".cfg":
            if not recipe.weights or not recipe.names:
                raise ConfigError(f"{path} has neither weights nor names", hint="weights: F and names: F in the recipe")
            files = (path, recipe.found(recipe.weights), recipe.found(recipe.names))
        if not files:
            return load_detector(path)
        opened = DarknetDetector.open(*files)
        return SavedDetector(net=opened.net, classes=opened.class_names, run={})

    def network(self, saved: SavedDetector) -> tuple[nn.Module, Tensor]:
        """See `Subject`."""
        width, height = saved.net.input_size
        return saved.net, torch.zeros(1, saved.net.config.net.channels, height, width)

    def source(self, model: Path) -> DetectorSource:
        """See `Subject`."""
        detector = self._detector(self.load(model), score=SHIPPED_SCORE, device="cpu")
        return DetectorSource(detector, model, f"darknet, {self.original.name}, compressed")

    def _layers_of_graph(self, net: nn.Module) -> list[str]:
        """A convolution goes by its section."""
        return [name.removesuffix(".conv") for name in super()._layers_of_graph(net)]

    def _configured(self, settings: Mapping[str, Any]) -> DetectorRunConfig:
        """The configuration of a run over that of the student's own; of darknet files their way of resizing is next to them."""
        width, height = self._student.net.input_size
        shown: dict[str, Any] = {"width": width, "height": height}
        if (files := darknet_files(self.original)) and (resize := recorded_resize(files["model"])):
            shown["resize"] = resize
        whole = self._settings(merge({"data": {"transform": shown}}, self._student.run), settings)
        given, others = split_roots(self._overrides)
        config = load_detector_config(settings=whole, overrides=others)
        root = data_root(config.data.root, self._recipe.roots, given)
        return dataclasses.replace(config, data=dataclasses.replace(config.data, root=root))

    def _training_frames(self) -> BoxManifest:
        """Raises DataError if one of them is in a file, or of a group, that is judged, or there are none."""
        train = self._frames.train
        judged = {name for frame in self._truth.frames for name in (frame.path, ("group", frame.group))}
        shared = [frame.path for frame in train.frames if frame.path in judged or ("group", frame.group) in judged]
        if shared:
            hint = "a data set with subsets, or for integers `footage` in the recipe"
            raise DataError(f"{len(shared)} training frames are of footage that is judged", first=shared[0], hint=hint)
        if not train.frames:
            raise DataError(f"data set '{self._frames.manifest.name}' has no frame to train on")
        return train

    def _checked_footage(self) -> tuple[str, ...]:
        """The recipe's footage. Raises DataError for one that is judged, or where it names none for training frames that are, or none.

        ConfigError for footage that is not there, VideoError for what cannot be read.
        """
        videos = tuple(str(self._recipe.found(name)) for name in self._recipe.footage)
        for video in videos:
            try:
                with open_video(video):
                    pass
            except VideoError as error:
                raise error.with_lines(named_by=f"footage in {self._recipe.path or self._recipe.name}") from None
        if not videos:
            self._training_frames()
        if shared := judged_footage(videos, self._frames.manifest, self._truth):
            what = "the recipe's footage is judged, or of a group that is, so nothing may be learned or measured on it"
            raise DataError(what, first=shared[0], hint="other footage")
        return videos

    def _footage(self, count: int, seed: int) -> tuple[Pictures, str]:
        """Frames to learn from or to find ranges on: of the recipe's footage, else of the training frames; and what they are."""
        return drawn_footage(self._checked_footage(), self._training_frames, count, seed)

    def change(self, model: Path, step: Step, folder: Path, *, whole: Path) -> Made:
        """See `Subject`; also refit and distil. Raises DataError for footage that is judged."""
        settings = step.settings
        if not isinstance(settings, DistilConfig | RefitConfig):
            return super().change(model, step, folder, whole=whole)
        saved = self.load(model)
        frames, source = self._footage(settings.frames, settings.seed)
        device = pick_device(self.config.train.device, flag="--train.device")
        detector, original = (self._detector(one, score=SHIPPED_SCORE, device=device) for one in (saved, self._student))
        notes: dict[str, Any] = {"footage": source}
        if isinstance(settings, DistilConfig):
            return self._left(folder, saved, saved.net, {**notes, **distil(detector, original, frames, settings)})
        filters = self._filters(model, saved.net)
        images = [detector.prepare(frame[None])[0] for frame in frames]
        notes["layers"] = refit(detector.net, original.net, filters, images, settings)
        return self._left(folder, saved, saved.net, notes, filters)

    def _save(self, folder: Path, model: Path, saved: SavedDetector, done: Compressed[Any], /) -> Made:
        filters = filters_left(self._filters(model, saved.net), saved.net, done.plan.get("kept", {}))
        return self._left(folder, saved, done.model, done.notes, filters)

    def _filters(self, model: Path, net: Darknet) -> list[list[int]]:
        """Of each convolution of the student the filters that are left in the network of a step, as that step wrote them down."""
        path = model / FILTERS
        if model != self.original and path.exists():
            return cast(list[list[int]], read_json(path))
        return [list(range(block.conv.out_channels)) for _, block in outer_convolutions(net)]

    def _left(
        self, folder: Path, saved: SavedDetector, net: Darknet, notes: Mapping[str, Any], filters: Sequence[Sequence[int]] = ()
    ) -> Made:
        """The network that a step made, in its folder. saved: what it was, with its classes. filters: of the student, left in it."""
        files = [*write_darknet(folder, net, saved.classes, resize=self.config.data.transform.resize)]
        files.append(about_of(files[0]))
        if filters:
            write_json(folder / FILTERS, filters)
            files.append(folder / FILTERS)
        return Made(model=folder, notes=notes, files=tuple(files))

    def _training(self, net: nn.Module) -> tuple[Iterable[dict[str, Any]], int, Callable[[dict[str, Any]], Tensor | None]]:
        """See `Subject`."""
        config, task = self.config, DETECTOR_TASKS[self.config.task](self.config.method, cast(Darknet, net))
        samples = BoxDataset(self._training_frames(), config.data.transform, training=True, seed=config.train.seed)
        sampler = StepSampler(len(samples), config.data.batch_size, seed=config.train.seed, first_step=0, last_step=TAYLOR_BATCHES)
        net.eval()
        return box_loader(samples, sampler, config.data.workers), config.data.max_bad_files, lambda batch: task.training_step(batch)["loss"]

    def _train(self, model: Path, config: RepairConfig, folder: Path) -> RunResult:
        self._training_frames()
        saved = self.load(model)
        cfg, weights, _ = write_darknet(folder / "from", saved.net, saved.classes, resize=self.config.data.transform.resize)
        place = {"name": folder.name, "runs": str(folder.parent), "init": str(weights), "model": {"cfg": str(cfg)}}
        return fit_detector(self._configured(merge(config.settings, place)))

    def _ranges(self, config: QuantiseConfig) -> Integers:
        frames, source = self._footage(config.clips, config.seed)
        return integers_on(self._detector(self._student, score=SHIPPED_SCORE, device="cpu"), frames, source, config)

    def _samples(self) -> Samples:
        shown = frames_of_manifest(self._truth, PARITY_FRAMES)
        return Samples(values=shown, source=f"{len(shown)} frames of '{self._recipe.subset}'")

    def _detector(self, saved: SavedDetector, *, score: float, device: torch.device | str) -> DarknetDetector:
        nms_iou, resize = self.config.judge.nms_iou, self.config.data.transform.resize
        return DarknetDetector(saved.net, saved.classes, score_threshold=score, nms_iou=nms_iou, device=device, resize=resize)

    def _judged(self, made: Made) -> dict[str, Any]:
        """`predictions` is empty, as average precision is no mean over frames; instead `draws` has the main metric."""
        judge = self.config.judge
        if made.file is not None:
            detector: Detector = open_detector(made.file, score=judge.score, nms_iou=judge.nms_iou, device="cpu")
        else:
            device = pick_device(self.config.train.device, flag="--train.device")
            detector = self._detector(self.load(made.model), score=judge.score, device=device)
        found = judge_boxes(detector, self._truth, score=judge.score, batch_size=judge.batch_size)
        return {
            "metrics": {name: round(value, 6) for name, value in found.found.metrics().items()},
            "predictions": {},
            "draws": [] if self._draws is None else [round(value, 6) for value in self._draws(found, self._truth)],
            "counts": {"frames": len(self._truth.frames)},
        }
