"""A darknet detector as a recipe's subject."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError, DataError, VideoError, VidkdError
from vidkd.base.files import read_json, sha256, write_json
from vidkd.base.settings import as_dict, merge
from vidkd.compress.config import DistilConfig, FactoriseConfig, PruneConfig, QuantiseConfig, RefitConfig
from vidkd.compress.distil import distil, learning_of, oracle_files
from vidkd.compress.export import parts_of
from vidkd.compress.export_detector import export_darknet_files, export_detector, float_bytes, write_detector_card
from vidkd.compress.factorise import factorise
from vidkd.compress.importance import TAYLOR_BATCHES, LossBatches
from vidkd.compress.outcome import Compressed
from vidkd.compress.parity import PARITY_FRAMES, Frames
from vidkd.compress.prune import prune
from vidkd.compress.quantise import Quantised
from vidkd.compress.recipe import ORIGINAL, ExportConfig, Format, Recipe, RepairConfig, Step, check_formats, say_fewer_threads
from vidkd.compress.refit import filters_left, outer_convolutions, refit
from vidkd.compress.subject import (
    MORE_TOLERANCE,
    BoxDraws,
    Interval,
    Made,
    Subject,
    Writer,
    Written,
    check_excluded,
    check_methods,
    check_packages,
    no_draws,
    no_interval,
)
from vidkd.data.loaders import StepSampler
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.config import DETECTOR_TASKS, DetectorRunConfig, load_detector_config
from vidkd.detection.dataset import BoxDataset, box_loader
from vidkd.detection.evaluate import DetectorJudgement, RecallJudgement, judge_detector, judge_recall
from vidkd.detection.fit import fit_detector
from vidkd.detection.frames import Pictures, RunFrames, drawn_footage, frames_identity, frames_of_manifest, judged_footage, read_frames
from vidkd.detection.opening import about_of, darknet_files, resize_beside
from vidkd.detection.saved import SavedDetector, load_detector, write_darknet
from vidkd.engine.devices import pick_device
from vidkd.engine.loop_config import with_threads_of_here
from vidkd.engine.run_folder import settings_that_count
from vidkd.engine.training_errors import count_bad
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.saved import checkpoint_in
from vidkd.runtime.detector import Detector
from vidkd.runtime.mapping import map_classes
from vidkd.runtime.opening import open_detector
from vidkd.video import open_video
from vidkd.video.files import content_of


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


FILTERS = "filters.json"
"""In the folder of a step: the filters of the student that are left in its network."""
SHIPPED_SCORE = 0.25
"""Least score of the detections of an exported file; judging has its own."""


class DetectorSubject(Subject):
    """The student of a recipe, the frames that it is judged on, and how it is trained: as its own run was, the recipe's settings over it.

    A student that is a cfg has no run: the recipe names its weights and class names, and its settings the data; these, too, where it is
    the folder that a step of another recipe left. The main metric is AP50;
    the recall at IoU 0.5 where no frame has a box for every object. overrides: flags over the settings. Raises CheckpointError, ConfigError
    and DataError as the readers of these do.
    """

    counted = "frames"

    def __init__(
        self, recipe: Recipe, overrides: Sequence[str] = (), *, interval: Interval = no_interval, draws: BoxDraws = no_draws
    ) -> None:
        super().__init__(recipe, interval)
        self.original = recipe.found(recipe.student)
        self._overrides, self._draws = overrides, draws
        self._quantised: dict[Path, dict[str, Quantised]] = {}  # by the network, which a recipe quantises once
        self._student = self._load(self.original)
        self.config = self._configured({})
        self._frames = read_frames(self.config.data)
        self._truth = (self._frames.subset_for_others if self._has_no_run else self._frames.subset)(recipe.subset)
        self._complete = any(frame.complete for frame in self._truth.frames)

    @property
    def main_metric(self) -> str:
        """See `Subject`."""
        return "ap50" if self._complete else "recall50"

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Subject`."""
        files = [path for path in (self._recipe.weights, self._recipe.names) if path]
        judged = frames_identity(self._truth.classes, self._truth)
        return {
            "settings": settings_that_count(as_dict(self.config)),
            "frames": [self._frames.identity, judged],
            "files": [_content(self._recipe.found(path)) for path in files],
        }

    def taught_by(self, step: Step) -> str | None:
        """See `Subject`: the footage, and of `distil` the oracle and how it teaches, defaults included. Repairs learn from boxes."""
        if not isinstance(step.settings, DistilConfig | RefitConfig | QuantiseConfig):
            return None
        told: dict[str, Any] = {"footage": [_content(self._recipe.found(path)) for path in self._recipe.footage]}
        if isinstance(step.settings, DistilConfig):
            told["learning"] = as_dict(learning_of(step.settings))
            told["oracle"] = ORIGINAL if step.settings.oracle == ORIGINAL else oracle_files(self._with_files(step.settings)).record()
        return json.dumps(told, sort_keys=True)

    def check(self, steps: Sequence[Step], ahead: Sequence[Step]) -> None:
        """See `Subject`."""
        if self.original.suffix.lower() != ".cfg":
            self._recipe.refuse_files(f"{self.original}, which holds its own")
        pick_device(self.config.train.device, flag="--train.device")
        trained = ""
        for step in steps:
            if step.kind in ("repair", "distil"):
                trained = step.name
            if step.kind == "refit" and trained:
                mend = "refit right after prune or factorise"
                raise ConfigError(f"{step.name}: what {trained} trained would be undone", hint=mend)
            if isinstance(step.settings, DistilConfig):
                learning_of(step.settings)
                self._check_oracle(step.settings, f"{self._recipe.path or self._recipe.name}: step {step.name}", opens=step in ahead)
            if isinstance(step.settings, RepairConfig):
                self._check_repair(step.settings, f"{self._recipe.path or self._recipe.name}: step {step.name}")
            if isinstance(step.settings, PruneConfig) and step.settings.criterion == "taylor":
                self._apart()
        check_formats(steps, ("onnx", "xml", "darknet"))
        check_excluded(steps, self._student.net)
        check_methods(steps, self._student.net)
        if any(isinstance(step.settings, DistilConfig | RefitConfig | QuantiseConfig) for step in steps):
            self._checked_footage()
        check_packages(ahead, traced=False)

    def _load(self, path: Path) -> SavedDetector:
        return load_student(path, self._recipe)

    def _configured(self, settings: Mapping[str, Any]) -> DetectorRunConfig:
        return configured(self._student, self.original, self._recipe, settings, self._overrides)

    def _apart(self) -> BoxManifest:
        return training_apart(self._frames, self._truth)

    def _check_repair(self, settings: RepairConfig, where: str) -> None:
        """Raise ConfigError for settings that no run has or too many threads, DataError for training frames that are judged, or none."""
        try:
            config = self._configured(settings.settings)
            self._apart()
        except VidkdError as error:
            raise error.with_lines(where=where) from None
        check_threads(config.train.threads, where=f"{where}: train.threads")

    def _check_oracle(self, config: DistilConfig, where: str, *, opens: bool) -> None:
        """Raise ConfigError or CheckpointError for an oracle that is not there; opens: or that cannot be read, or shares no class."""
        try:
            files = oracle_files(self._with_files(config), "cpu")
            if config.oracle != ORIGINAL:
                files.record()
                if opens:
                    map_classes(files.open().class_names, self._student.classes)
        except VidkdError as error:
            raise error.with_lines(where=where) from None

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
            self._apart()
        if shared := judged_footage(videos, self._frames.manifest, self._truth):
            raise DataError(
                "the recipe's footage is judged, or of a group that is, so nothing may be learned or measured on it",
                first=shared[0],
                hint="other footage",
            )
        return videos

    def _with_files(self, config: DistilConfig) -> DistilConfig:
        """The files of its oracle found."""
        found = self._recipe.found
        oracle = config.oracle if config.oracle == ORIGINAL else str(found(config.oracle))
        return dataclasses.replace(config, oracle=oracle, metadata=config.metadata and str(found(config.metadata)))

    @property
    def _has_no_run(self) -> bool:
        return self.original.suffix.lower() == ".cfg" or bool(darknet_files(self.original))

    @property
    def _resize(self) -> str:
        return self.config.data.transform.resize

    def change(self, model: Path, step: Step, folder: Path, *, whole: Path) -> Made:
        """See `Subject`; also refit and distil."""
        saved = self._load(model)
        filters = self._filters(model, saved.net)
        if isinstance(step.settings, DistilConfig):
            return self._distilled(saved, step.settings, folder)
        if isinstance(step.settings, RefitConfig):
            return self._refitted(saved, filters, step.settings, folder)
        done = self._changed(saved.net, step, whole)
        filters = filters_left(filters, saved.net, done.plan.get("kept", {}))
        return self._left(folder, done.model, saved, done.notes, filters)

    def _filters(self, model: Path, net: Darknet) -> list[list[int]]:
        """Of each convolution of the student the filters that are left in the network of a step, as that step wrote them down."""
        path = model / FILTERS
        if model != self.original and path.exists():
            return cast(list[list[int]], read_json(path))
        return [list(range(block.conv.out_channels)) for _, block in outer_convolutions(net)]

    def _left(
        self, folder: Path, net: Darknet, saved: SavedDetector, notes: Mapping[str, Any], filters: Sequence[Sequence[int]] = ()
    ) -> Made:
        """The network that a step made, in its folder. saved: what it was, with its classes. filters: of the student, left in it."""
        files = [*write_darknet(folder, net, saved.classes, resize=self._resize)]
        files.append(about_of(files[0]))
        if filters:
            write_json(folder / FILTERS, filters)
            files.append(folder / FILTERS)
        return Made(model=folder, notes=notes, files=tuple(files))

    def _distilled(self, saved: SavedDetector, config: DistilConfig, folder: Path) -> Made:
        """Raises DataError for footage that is judged."""
        frames, source = self._footage(config.frames, config.seed)
        device = pick_device(self.config.train.device, flag="--train.device")
        detector, original = (self._detector(one, score=config.score, device=device) for one in (saved, self._student))
        found = distil(detector, original, frames, self._with_files(config))
        return self._left(folder, saved.net, saved, {"footage": source, **found})

    def _refitted(self, saved: SavedDetector, filters: list[list[int]], config: RefitConfig, folder: Path) -> Made:
        """Raises DataError for footage that is judged."""
        frames, source = self._footage(config.frames, config.seed)
        device = pick_device(self.config.train.device, flag="--train.device")
        detector, original = (self._detector(one, score=SHIPPED_SCORE, device=device) for one in (saved, self._student))
        images = [detector.prepare(frame[None])[0] for frame in frames]
        layers = refit(detector.net, original.net, filters, images, config)
        return self._left(folder, saved.net, saved, {"footage": source, "layers": layers}, filters)

    def _changed(self, net: Darknet, step: Step, whole: Path) -> Compressed[Darknet]:
        settings, example = step.settings, _example(net)
        if isinstance(settings, PruneConfig):
            losses = training_losses(self.config, self._apart()) if settings.criterion == "taylor" else None
            before = self._load(whole).net if step.part > 1 else None
            return prune(net, example, settings, step=step.part, whole=before, losses=losses)
        assert isinstance(settings, FactoriseConfig)
        return factorise(net, example, settings)

    def repair(self, model: Path, config: RepairConfig, folder: Path) -> Made:
        """See `Subject`. Raises DataError if training frames lie in footage that is judged."""
        self._apart()
        saved = self._load(model)
        source = folder / "from"
        cfg, weights, _ = write_darknet(source, saved.net, saved.classes, resize=self._resize)
        place = {"name": folder.name, "runs": str(folder.parent), "init": str(weights), "model": {"cfg": str(cfg)}}
        configured = self._configured(merge(config.settings, place))
        say_fewer_threads(self._student.run, configured)
        result = fit_detector(configured)
        notes = {"steps": result.steps, "train_seconds": round(result.seconds, 2)}
        return Made(model=result.folder, notes=notes, files=(checkpoint_in(result.folder),))

    def _writer(self, model: Path, integers: QuantiseConfig | None, config: ExportConfig) -> Writer:
        detector = self._detector(self._load(model), score=SHIPPED_SCORE, device="cpu")
        shown = frames_of_manifest(self._truth, PARITY_FRAMES)
        parity = Frames(values=shown, source=f"{len(shown)} frames of '{self._recipe.subset}'")
        footage, source = self._footage(integers.clips, integers.seed) if integers is not None else ([], "")
        kept = self._quantised.setdefault(model, {})

        def write(folder: Path, form: Format) -> Written:
            if form == "darknet":
                found = export_darknet_files(detector, folder, frames=parity, tolerance=config.tolerance, more=MORE_TOLERANCE, named=model)
                cfg, *others = darknet_files(folder).values()
                files = (cfg, *others, about_of(cfg))
            else:
                path = folder / f"model.{form}"
                found = export_detector(
                    detector,
                    path,
                    frames=parity,
                    integers=integers,
                    footage=footage,
                    kept=kept,
                    tolerance=config.tolerance,
                    more=MORE_TOLERANCE,
                    named=model,
                )
                files = tuple(parts_of(path))
            return Written(
                path=found.path,
                parity=found.parity,
                quantised=found.quantised,
                files=files,
                card=lambda judged, of_file: write_detector_card(
                    found,
                    network=f"darknet, {self.original.name}, compressed",
                    data=self._frames.manifest.name,
                    judged=judged,
                    of_file=of_file,
                    licence=config.licence,
                ),
            )

        return Writer(write=write, calibration=source)

    def _footage(self, count: int, seed: int) -> tuple[Pictures, str]:
        """Frames to learn from or to find ranges on: of the recipe's footage, else of the training frames. DataError for what is judged."""
        return drawn_footage(self._checked_footage(), self._apart, count, seed)

    def _detector(self, saved: SavedDetector, *, score: float, device: torch.device | str) -> DarknetDetector:
        data, judge = self.config.data, self.config.judge
        return DarknetDetector(
            saved.net, saved.classes, score_threshold=score, nms_iou=judge.nms_iou, device=device, resize=data.transform.resize
        )

    def _judged(self, made: Made) -> dict[str, Any]:
        """`predictions` is empty, as average precision is no mean over frames; in their place `draws` has the main metric."""
        judge = self.config.judge
        detector: Detector
        if made.file is not None:
            detector = open_detector(made.file, score=judge.score, nms_iou=judge.nms_iou, device="cpu")
        else:
            device = pick_device(self.config.train.device, flag="--train.device")
            detector = self._detector(self._load(made.model), score=judge.score, device=device)
        found: DetectorJudgement | RecallJudgement
        if self._complete:
            found = judge_detector(detector, self._truth, batch_size=judge.batch_size)
        else:
            found = judge_recall(detector, self._truth, score=judge.score, batch_size=judge.batch_size)
        return {
            "metrics": {name: round(value, 6) for name, value in found.metrics().items()},
            "predictions": {},
            "draws": [round(value, 6) for value in self._draws(found, self._truth)],
            "counts": {"frames": len(self._truth.frames)},
        }

    def _net(self, model: Path) -> tuple[nn.Module, Tensor]:
        net = self._load(model).net
        return net, _example(net)

    def _float_bytes(self, suffix: str) -> int:
        return float_bytes(self._detector(self._student, score=SHIPPED_SCORE, device="cpu"), suffix, self.original)


def _example(net: Darknet) -> Tensor:
    width, height = net.input_size
    return torch.zeros(1, net.config.net.channels, height, width)


def _content(path: Path) -> str:
    """Hash of a file, or of the images of a folder."""
    return content_of(path) if path.is_dir() else sha256(path)
