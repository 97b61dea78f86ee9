"""Settings of the data of a run, and those of them that an exported classifier carries. Nothing here imports torch."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.fields import Positive, Whole, for_training
from vidkd.base.records import read_record
from vidkd.data.flow import FlowConfig
from vidkd.data.footage import FootageConfig
from vidkd.data.observation import ObserveConfig, WindowConfig
from vidkd.data.transforms import TransformConfig
from vidkd.runtime.metadata import ClassifierMetadata
from vidkd.video.opening import Backend


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The decoded-clip cache.

    Args:
        enabled: keep decoded clips (all frames at working size, flow in half precision).
        folder: where; entries are plain .npy files, safe to delete at any time.
        max_gb: clips that would not fit under this many GiB are not kept; their windows are decoded every time. Their number is logged.
    """

    enabled: bool = False
    folder: str = "runs/cache"
    max_gb: float = 20.0


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Activations of frozen stages, and of teachers, kept on disk.

    Args:
        views: fixed views (window, crop, flip, colours) of a training clip, which the epochs take in turn; 0 keeps no activations and
            draws a new view each time. The views are those of `data.split_seed`, the same for all runs.
        folder: where; entries are safe to delete at any time.
        max_gb: GiB of the folder; more is an error.
    """

    views: Whole = 0
    folder: str = "runs/features"
    max_gb: Positive = 20.0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips, and how they become batches.

    Args:
        root: folder of the data set.
        manifest: manifest written by prepare_data; by default <root>/manifest.jsonl.
        split: name of the split in the manifest.
        validation_fraction: share of the training groups held out as `val`; 0 trains on all of them.
        label_fraction: share of the (remaining) training groups whose labels are used; smaller shares are subsets of larger ones.
        labels_per_class: so many labelled clips of each class, of the groups that `label_fraction` leaves; by default all.
        unlabelled: training clips without a label, those that the two leave out and those of `unlabelled_manifest` are left out
            (`none`) or seen without their labels (`use`), for what a teacher says of them.
        unlabelled_manifest: manifest of further clips, whose labels are not read.
        unlabelled_ratio: unlabelled clips for each labelled one in a batch.
        split_seed: decides which groups are held out and kept.
        window: which frames of a clip.
        observe: which part of a clip the student sees, and what its teacher sees.
        transform: sizes and augmentation.
        flow: how the flow view is made.
        cache: the decoded-clip cache.
        features: what frozen stages of networks gave, kept on disk.
        decode_short_side: larger frames are shrunk to this shorter side when decoded.
        decoder: `auto` is `pyav`, which is exact and was faster where it was measured; `decord` refuses files that it would misread.
            Their colours differ by up to 2 of 255.
        batch_size: clips a step, over all processes.
        workers: loader processes a device; 0 loads in the training process.
        balanced: draw classes equally often.
        max_bad_clips: unreadable clips that training skips (and counts) before it stops.
        eval_clips: windows a clip at evaluation, evenly spaced.
        eval_crops: crops a window at evaluation, evenly spaced along the longer side.
    """

    root: str = ""
    manifest: str | None = None
    split: str = "1"
    validation_fraction: float = 0.0
    label_fraction: float = 1.0
    labels_per_class: int | None = None
    unlabelled: Literal["none", "use"] = "none"
    unlabelled_manifest: str | None = None
    unlabelled_ratio: float = for_training(1.0)
    split_seed: int = 0
    window: WindowConfig = field(default_factory=WindowConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    decode_short_side: int | None = 256
    decoder: Backend = "auto"
    batch_size: int = 16
    workers: int = 0
    balanced: bool = for_training(False)
    max_bad_clips: int = for_training(0)
    eval_clips: int = 3
    eval_crops: int = 1

    def __post_init__(self) -> None:
        share = {"hint": "a share of the training groups, as 0.2"}
        checks: dict[str, tuple[bool, str, dict[str, str]]] = {
            "batch_size": (self.batch_size >= 1, "be at least 1", {}),
            "eval_clips": (self.eval_clips >= 1, "be at least 1", {}),
            "eval_crops": (self.eval_crops >= 1, "be at least 1", {}),
            "validation_fraction": (0 <= self.validation_fraction < 1, "lie in [0, 1)", share),
            "label_fraction": (0 < self.label_fraction <= 1, "lie in (0, 1]", share),
            "labels_per_class": (self.labels_per_class is None or self.labels_per_class >= 1, "be at least 1", {}),
            "unlabelled_ratio": (0 < self.unlabelled_ratio < math.inf, "be above 0", {}),
        }
        for key, (holds, must, lines) in checks.items():
            if not holds:
                raise DataError(f"data.{key} must {must}, not {getattr(self, key):g}", **lines)
        if self.unlabelled_manifest is not None and self.unlabelled == "none":
            raise DataError("data.unlabelled_manifest is given, but data.unlabelled is none", hint="data.unlabelled: use")

    @property
    def footage(self) -> FootageConfig:
        """What of it decides how a file is read, before any augmentation."""
        return FootageConfig(**{entry.name: getattr(self, entry.name) for entry in dataclasses.fields(FootageConfig)})


SHOWN = ("window", "observe", "transform", "flow", "decode_short_side", "decoder", "eval_clips", "eval_crops")
"""Settings of `DataConfig` that an exported file carries; what names a data set stays behind."""
NO_FOLDER = "(not in the exported file: name it by --data.flow.folder)"


def shown_settings(data: DataConfig) -> dict[str, Any]:
    """The settings that go into an exported file, as plain values; the folder of stored flow is this machine's and does not."""
    if data.flow.source == "stored":
        data = dataclasses.replace(data, flow=dataclasses.replace(data.flow, folder=NO_FOLDER))
    values = dataclasses.asdict(data)
    return {name: values[name] for name in SHOWN}


def shown_data(metadata: ClassifierMetadata, where: str) -> DataConfig:
    """The settings that an exported file carries, with defaults for what names a data set.

    where: the file, for messages. Raises ConfigError naming the key: unknown, missing, of a wrong value, or at odds with the network.
    """
    where = f"{where} (embedded)"
    for name in metadata.shown:
        if name not in SHOWN:
            raise ConfigError(f"unknown key 'shown.{name}'"[:80], where=where, known=", ".join(SHOWN))
    missing = [f"shown.{name}" for name in SHOWN if name not in metadata.shown]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}", where=where)
    data, taken = read_record(DataConfig, metadata.shown, where, prefix="shown."), metadata.input
    pairs = {"window.frames": (data.window.frames, taken.frames), "transform.crop": (data.transform.crop, taken.size)}
    for key, (shown, size) in pairs.items():
        if shown != size:
            raise ConfigError(f"shown.{key} is {shown}, the network takes {size}", where=where)
    return data
