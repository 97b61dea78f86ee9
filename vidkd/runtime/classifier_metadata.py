"""What must be known about the file of a video classifier to run it; written by the export, read by `open_exported_classifier`."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError
from vidkd.base.plain import from_plain
from vidkd.runtime.clip_classifier import View
from vidkd.runtime.embedded import EXPORT_AGAIN, embedded_content
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.metadata_file import read_metadata
from vidkd.runtime.network import MOST_VALUES, Network

CLASSIFIER_SCHEMA = 1
CLIP, OBSERVED, LOGITS, ATTENTION = "clip", "observed", "logits", "attention"
"""Names of the inputs and outputs of an exported classifier."""

CHANNELS: dict[View, int] = {"rgb": 3, "flow": 2}


def target_output(name: str) -> str:
    """The output that holds the logits of a further label."""
    return f"target_{name}"


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """The clip that a network takes, (B, C, frames, size, size), raw: RGB uint8, or flow in pixels a flow step as float32.

    mean, std: what the network itself subtracts and divides by, a channel, of values in 0..1 (rgb) or -1..1 (flow); told for the reader,
    nobody has to apply them. bound_px: flow is cut at +- so many pixels and divided by them, in the network too.
    Raises ValueError naming what cannot be.
    """

    frames: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bound_px: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 1:
            raise ValueError(f"frames and size must be at least 1: {self.frames}, {self.size}")
        if self.frames * self.size**2 * max(CHANNELS.values()) > MOST_VALUES:
            raise ValueError(f"frames and size make a clip of more than {MOST_VALUES} values: {self.frames} x {self.size} x {self.size}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std differ in length: {len(self.mean)} and {len(self.std)}")


@dataclass(frozen=True, kw_only=True)
class ClassifierMetadata:
    """All that running a classifier's file needs beyond the file.

    classes: names that the logits index; targets: those of its further labels. observed: it has a second input, the share of the clip that
    is seen. map_shift_cells: displacement of its attention map's grid; None without a map. shown: the settings by which clips are cut,
    resized and cropped for it, as `data` in a run's configuration has them. trained: what is known of its training, for the reader.
    vidkd: the version that wrote it. Raises ValueError naming what cannot be.
    """

    classes: tuple[str, ...]
    view: View
    input: ClipFormat
    shown: Mapping[str, Any]
    vidkd: str
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    observed: bool = False
    map_shift_cells: float | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)
    task: Literal["classify"] = "classify"
    version: int = CLASSIFIER_SCHEMA

    def __post_init__(self) -> None:
        for key, names in {"classes": self.classes, **{f"targets.{name}": names for name, names in self.targets.items()}}.items():
            if not names or not all(names):
                raise ValueError(f"{key} must hold at least one name, and none that is empty")
        if len(self.input.mean) != CHANNELS[self.view]:
            raise ValueError(f"input.mean must have {CHANNELS[self.view]} numbers for view {self.view}: {self.input.mean}")
        if (self.input.bound_px is None) == (self.view == "flow"):
            raise ValueError(f"input.bound_px belongs to flow and to flow alone: {self.input.bound_px}")

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(C, T, S, S) of one clip."""
        return CHANNELS[self.view], self.input.frames, self.input.size, self.input.size

    def output_sizes(self) -> dict[str, int]:
        """Outputs that hold logits, and how many: those of the classes first, then of the further labels."""
        return {LOGITS: len(self.classes), **{target_output(name): len(names) for name, names in self.targets.items()}}

    def to_json(self) -> str:
        """The text that `embedded_classifier` reads again."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)


def embedded_classifier(network: Network) -> ClassifierMetadata:
    """The metadata that a file carries.

    Raises ConfigError naming the file if it has none, or they are a detector's, of another schema, too large, or wrong, with the key.
    """
    text, where = network.embedded, f"{network.path} (embedded)"
    if text is None:
        _refuse_pictures(network)
        reason = f"it holds no metadata of vidkd (entry '{EMBEDDED_KEY}'): classes, frames, sizes"
        raise ConfigError(f"nothing says how to run {network.path}", reason=reason, to_mend=EXPORT_AGAIN)
    content = embedded_content(text, network.path)
    if isinstance(content, dict) and content.get("task") == "detect":
        raise _detector(network)
    if isinstance(content, dict) and content.get("version") != CLASSIFIER_SCHEMA:
        raise ConfigError(
            f"metadata of another version of vidkd: {network.path}",
            found=f"schema {content.get('version')!r}"[:80] + (f", written by vidkd {content['vidkd']}"[:60] if "vidkd" in content else ""),
            read_here=f"schema {CLASSIFIER_SCHEMA}",
            to_mend=EXPORT_AGAIN,
        )
    return from_plain(ClassifierMetadata, content, where)


def _detector(network: Network) -> ConfigError:
    return ConfigError(
        f"a detector, not a classifier: {network.path}", to_mend="vidkd detect --model takes it (to judge it: vidkd evaluate --model)"
    )


def _refuse_pictures(network: Network) -> None:
    """Raise ConfigError for a file without metadata that is a detector by the YAML beside it, or takes pictures and not clips."""
    if _has_metadata_beside(network):
        raise _detector(network)
    shape = network.inputs[0].shape
    if len(shape) == 4 and 3 in (shape[1], shape[3]):
        sides = ", ".join("?" if side is None else str(side) for side in shape)
        raise ConfigError(
            f"no classifier of clips: {network.path}",
            reason=f"its input '{network.inputs[0].name}' takes pictures, ({sides})",
            to_mend="vidkd detect --model takes it, if it is a detector",
        )


def _has_metadata_beside(network: Network) -> bool:
    """Whether a YAML beside the file says how it is run as a detector."""
    beside = Path(network.path).with_suffix(".yaml")
    try:
        return beside.exists() and read_metadata(beside).task == "detect"
    except ConfigError:  # a YAML of something else
        return False
