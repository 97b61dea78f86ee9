"""Whether an exported file says what the network said: on clips, value by value."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.compress.export_trace import ExportedOutputs
from vidkd.compress.integer_warnings import mostly_apart
from vidkd.compress.quantise import signal_to_noise_db
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.footage import footage_of
from vidkd.data.transforms import evaluation_geometry
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.predict import sliding_windows
from vidkd.engine.setup import evaluation_set
from vidkd.engine.views import crop_view
from vidkd.runtime.clip_classifier import softmax
from vidkd.runtime.metadata import LOGITS, ClassifierMetadata
from vidkd.video import open_video

SHARES = (1.0, 0.3, 0.7)
"""Shares of a clip that a network is told which is told them."""
MORE = "a larger tolerance"
"""What mends a difference that is too large, where the caller does not say how to ask for it."""
Raw = Callable[[NDArray[Any], NDArray[np.float32]], dict[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Raw clips (N, C, T, S, S) to compare on. source: where they are from, in words."""

    values: NDArray[Any]
    source: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The largest differences between network and file over `clips` clips, one by one and together.

    logits: of any output in its own unit (map's log-probabilities too). probabilities: of the classes. scale: the largest logit.
    agree: of how many clips the most probable class is the same. signal_db: signal to noise of the logits. source: where the clips are
    from.
    """

    logits: float
    probabilities: float
    scale: float
    clips: int
    agree: int
    signal_db: float
    source: str

    def __str__(self) -> str:
        return (
            f"largest difference to the network: {self.logits:.2g} of outputs up to {self.scale:.2g}, {self.probabilities:.2g} of "
            f"probabilities; most probable class the same in {self.agree} of {self.clips} clips ({self.source})"
        )

    @property
    def apart(self) -> str:
        """See `Nearness`."""
        return mostly_apart(
            f"most probable class the same in {self.agree} of {self.clips} clips", self.agree / max(1, self.clips), self.signal_db
        )

    def record(self) -> dict[str, Any]:
        """See `Nearness`."""
        return recorded(self)


def recorded(parity: Any) -> dict[str, Any]:
    """The fields of a dataclass and what it says, as JSON can hold them: None for an infinite number (no noise at all, say)."""
    fields = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in vars(parity).items()}
    return {**fields, "said": str(parity)}


def said_of(outputs: ExportedOutputs, clips: Clips) -> dict[str, NDArray[Any]]:
    """What the network says of the clips, by the names of its outputs."""
    told = torch.from_numpy(_shares(len(clips.values))) if outputs.classifier.config.told_observed else None
    with torch.inference_mode():
        return dict(zip(outputs.names, (each.numpy() for each in outputs(torch.from_numpy(clips.values), told)), strict=True))


def _shares(count: int) -> NDArray[np.float32]:
    return np.resize(np.asarray(SHARES, np.float32), count)


def compare(wanted: Mapping[str, NDArray[Any]], raw: Raw, clips: Clips, *, tolerance: float, what: str, more: str = MORE) -> Parity:
    """Run the file on every clip alone and on all at once.

    wanted: what the network says of them (`said_of`). raw: the file, (clips, shares) -> outputs by name. tolerance: of any output, times
    the largest output where that is above 1. more: how a larger tolerance is asked for. Raises ConfigError beyond it, naming `what`.
    """
    count = len(clips.values)
    shares = _shares(count)
    alone = [raw(clips.values[at : at + 1], shares[at : at + 1]) for at in range(count)]
    found = [raw(clips.values, shares), {name: np.concatenate([each[name] for each in alone]) for name in wanted}]
    if any(got[name].shape != wanted[name].shape for got in found for name in wanted):
        raise ConfigError(f"the exported file does not say what the network says: {what}", found="outputs of another shape")
    parity = Parity(
        logits=max(_largest(got[name], wanted[name]) for got in found for name in wanted),
        probabilities=max(_largest(softmax(got[LOGITS]), softmax(wanted[LOGITS])) for got in found),
        scale=max(float(np.abs(values).max()) for values in wanted.values()),
        clips=count,
        agree=int(np.logical_and.reduce([got[LOGITS].argmax(1) == wanted[LOGITS].argmax(1) for got in found]).sum()),
        signal_db=min(signal_to_noise_db([wanted[LOGITS]], [got[LOGITS]]) for got in found),
        source=clips.source,
    )
    if not parity.logits <= tolerance * max(1.0, parity.scale):
        raise ConfigError(
            f"the exported file does not say what the network says: {what}",
            found=str(parity),
            allowed=f"{tolerance:g} of outputs up to 1, in proportion above",
            hint=f"{more}, if so much does not matter",
        )
    return parity


def _largest(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())


def video_clips(paths: Sequence[Path], data: DataConfig, view: Literal["rgb", "flow"], *, windows: int = 3) -> Clips:
    """The first `windows` windows of each video, as `predict` sees them. Raises VideoError or DataError for one that cannot be read."""
    found = []
    for path in paths:
        with open_video(path, backend=data.decoder) as video:
            for _, window in zip(range(windows), sliding_windows(video.timestamps_s, data, step_s=None, name=str(path)), strict=False):
                footage = footage_of(video, window, data.footage, want_flow=view == "flow")
                height, width = footage.frames.shape[1:3]
                found.append(crop_view(view, footage, evaluation_geometry(height, width, data.transform)))
    return Clips(values=np.stack(found), source=f"{len(found)} windows of {len(paths)} video{'s' * (len(paths) != 1)}")


def data_set_clips(config: RunConfig, view: str, count: int) -> Clips:
    """One evaluation sample of each of the first `count` clips that the run is judged on. Raises as `read_clips_of_run` does."""
    clips = read_clips_of_run(config)
    subset = "val" if clips.val else "test"
    data = dataclasses.replace(config.data, eval_clips=1, eval_crops=1, cache=CacheConfig())
    *_, fraction = data.observe.judged_fractions
    samples = evaluation_set(clips, subset, data, [view], fraction=fraction)
    values = [samples[(0, number)][view].numpy() for number in range(min(count, len(samples)))]
    return Clips(values=np.stack(values).astype(np.uint8 if view == "rgb" else np.float32), source=f"{len(values)} clips of '{subset}'")


def generated_clips(metadata: ClassifierMetadata, count: int = 4) -> Clips:
    """Clips of noise: RGB over the whole range, flow beyond the bound; harder on rounding than pictures are."""
    rng = np.random.default_rng(0)
    shape = (count, *metadata.clip_shape)
    if metadata.view == "rgb":
        return Clips(values=rng.integers(0, 256, shape).astype(np.uint8), source=f"{count} generated clips")
    bound = metadata.input.bound_px or 1.0
    return Clips(values=rng.normal(0, bound, shape).astype(np.float32), source=f"{count} generated clips")
