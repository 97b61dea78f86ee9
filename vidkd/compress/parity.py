"""Whether an exported file computes what the network computes: on clips value by value, on frames raw head by raw head and box by box.

A network that does not compute with finite numbers is refused as such: no other format would help.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.footage import footage_of
from vidkd.data.synthetic.street import StreetShapesConfig, VideoPlace, draw_street, render_street
from vidkd.data.transforms import evaluation_geometry
from vidkd.detection.metrics import f1_against
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.setup import evaluation_set
from vidkd.inference.predict import crop_view, sliding_windows
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.runtime.metadata import LOGITS, ClassifierMetadata
from vidkd.video import open_video

PARITY_FRAMES = 8
SHOWN_WEIGHTS = 4
MEND = "an earlier checkpoint, or train it again with a lower learning rate (optim.lr)"
# Below this share of common answers, or this signal to noise of the outputs, a file mostly differs from its network.
LEAST_AGREEMENT, LEAST_SIGNAL_DB = 0.5, 3.0
# Shares of a clip that a network is given which takes them.
SHARES = (1.0, 0.3, 0.7)
# From which overlap on a box of the file is that of the network.
IOU = 0.9
Raw = Callable[[NDArray[Any], NDArray[np.float32]], dict[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What network and file are compared on. values: raw clips (N, C, T, S, S), or frames, RGB uint8 (H, W, 3). source: in words."""

    values: Any
    source: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How near a file is to its network on the same samples.

    difference: the largest of any output (raw head of a detector), in its own unit; scale: the largest output. signal_db: signal to noise
    of the logits or raw heads. agreement: share of clips of the same most probable class, or F1 of the boxes; None where nothing that would
    be shown was compared. answers: the same in words. source: what they were compared on, in words.
    """

    difference: float
    scale: float
    signal_db: float
    agreement: float | None
    answers: str
    source: str

    def __str__(self) -> str:
        return f"largest difference to the network: {self.difference:.2g} of outputs up to {self.scale:.3g}; {self.answers} ({self.source})"

    @property
    def apart(self) -> str:
        """Why the file mostly differs from its network; empty where it does not."""
        few = self.agreement is not None and self.agreement < LEAST_AGREEMENT
        noisy = (
            f"signal to noise of its outputs {self.signal_db:.1f} dB, below {LEAST_SIGNAL_DB:g}" if self.signal_db < LEAST_SIGNAL_DB else ""
        )
        return "; ".join(filter(None, (self.answers if few else "", noisy)))

    def check(self, tolerance: float, what: str, hint: str) -> None:
        """Raise ConfigError for a difference above the tolerance, times the largest output where that is above 1."""
        if not self.difference <= tolerance * max(1.0, self.scale):
            raise ConfigError(
                f"the exported file computes something else than the network: {what}",
                found=str(self),
                allowed=f"{tolerance:g} of outputs up to 1, in proportion above",
                hint=f"{hint}, if so much does not matter",
            )


def check_weights(net: nn.Module, named: Path | str) -> None:
    """Raise ConfigError for weights or statistics that are NaN or infinite, naming them. named: where the network was read from."""
    bad = [name for name, values in net.state_dict().items() if not torch.isfinite(values).all()]
    if bad:
        weights = ", ".join(bad[:SHOWN_WEIGHTS]) + (f" and {len(bad) - SHOWN_WEIGHTS} more" if len(bad) > SHOWN_WEIGHTS else "")
        raise ConfigError("weights of the network are no finite numbers", where=named, weights=weights, hint=MEND)


def check_outputs(outputs: Sequence[NDArray[Any]], on: str) -> None:
    """Raise ConfigError for outputs of the network that are NaN or infinite. on: what it was run on, in words."""
    if not all(np.isfinite(each).all() for each in outputs):
        reason = "its weights are finite, and its outputs are not"
        raise ConfigError("outputs of the network are no finite numbers", on=on, reason=reason, hint=MEND)


def observed_shares(count: int) -> NDArray[np.float32]:
    """Shares of `count` clips (count,) that a network is given which takes them."""
    return np.resize(np.asarray(SHARES, np.float32), count)


def compare_clips(wanted: Mapping[str, NDArray[Any]], raw: Raw, clips: Samples) -> Parity:
    """Run the file on every clip by itself and on all at once.

    wanted: outputs of the network by name. raw: the file, (clips, shares) -> outputs by name.
    """
    count, values = len(clips.values), clips.values
    shares = observed_shares(count)
    alone = [raw(values[at : at + 1], shares[at : at + 1]) for at in range(count)]
    found = [raw(values, shares), {name: np.concatenate([each[name] for each in alone]) for name in wanted}]
    same = np.logical_and.reduce([got[LOGITS].argmax(1) == wanted[LOGITS].argmax(1) for got in found])
    return Parity(
        difference=max(_largest(got[name], wanted[name]) for got in found for name in wanted),
        scale=max(float(np.abs(each).max()) for each in wanted.values()),
        signal_db=min(signal_to_noise_db([wanted[LOGITS]], [got[LOGITS]]) for got in found),
        agreement=float(same.mean()),
        answers=f"most probable class the same in {same.sum()} of {count} clips",
        source=clips.source,
    )


def _largest(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())


def signal_to_noise_db(wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """10 log10 of the squares of all wanted values over those of the differences; infinite where there are none."""
    signal = sum(float(np.square(each, dtype=np.float64).sum()) for each in wanted)
    noise = sum(float(np.square(got.astype(np.float64) - want).sum()) for got, want in zip(found, wanted, strict=True))
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise)) if signal else -float("inf")


def compare_heads(
    detector: DarknetDetector,
    heads_of: Callable[[Tensor], Sequence[NDArray[np.floating]]],
    exported: Detector,
    frames: Samples,
) -> Parity:
    """Run a network and what was written of it on every frame.

    heads_of: raw heads of what was written, of images as the network takes them. exported: it as a detector, with the same thresholds.
    Boxes are those that the detector shows. Raises ConfigError for a network whose heads are no finite numbers.
    """
    here: list[Detections] = []
    wanted: list[NDArray[np.floating]] = []
    got: list[NDArray[np.floating]] = []
    for frame in frames.values:
        images, letterbox = detector.prepare(frame[None])
        with torch.inference_mode():
            heads = detector.net(images)
            wanted += [head.cpu().numpy() for head in heads]
            got += heads_of(images.cpu().contiguous())
        here += detector.finish(heads, letterbox)
    check_outputs(wanted, frames.source)
    there = [found for frame in frames.values for found in exported(frame[None])]
    boxes, f1 = sum(map(len, here)), f1_against(there, here, iou=IOU, score=0.0).f1
    answers = f"F1 {f1:.3f} (IoU {IOU:g}) against its {boxes} box{'es' * (boxes != 1)}"
    return Parity(
        difference=max(_largest(one, two) for one, two in zip(got, wanted, strict=True)),
        scale=max(float(np.abs(each).max()) for each in wanted),
        signal_db=signal_to_noise_db(wanted, got),
        agreement=f1 if boxes else None,
        answers=answers if boxes else "no box was compared, as the network finds none there",
        source=frames.source,
    )


def video_clips(paths: Sequence[Path], data: DataConfig, view: Literal["rgb", "flow"], *, windows: int = 3) -> Samples:
    """The first `windows` windows of each video, as `predict` sees them. Raises VideoError or DataError for one that cannot be read."""
    found = []
    for path in paths:
        with open_video(path, backend=data.decoder) as video:
            for window in itertools.islice(sliding_windows(video.timestamps_s, data, step_s=None, name=str(path)), windows):
                footage = footage_of(video, window, data.footage, want_flow=view == "flow")
                height, width = footage.frames.shape[1:3]
                found.append(crop_view(view, footage, evaluation_geometry(height, width, data.transform)))
    return Samples(values=np.stack(found), source=f"{len(found)} windows of {len(paths)} video{'s' * (len(paths) != 1)}")


def data_set_clips(config: RunConfig, view: str, count: int) -> Samples:
    """One evaluation sample of each of the first `count` clips that the run is judged on. Raises as `read_clips_of_run` does."""
    clips = read_clips_of_run(config)
    subset = "val" if clips.val else "test"
    data = dataclasses.replace(config.data, eval_clips=1, eval_crops=1, cache=CacheConfig())
    *_, fraction = data.observe.judged_fractions
    samples = evaluation_set(clips, subset, data, [view], fraction=fraction)
    values = [samples[(0, number)][view].numpy() for number in range(min(count, len(samples)))]
    return Samples(values=np.stack(values).astype(np.uint8 if view == "rgb" else np.float32), source=f"{len(values)} clips of '{subset}'")


def generated_clips(metadata: ClassifierMetadata, count: int = 4) -> Samples:
    """Clips of noise: RGB over the whole range, flow beyond the bound; harder on rounding than pictures are."""
    rng, shape = np.random.default_rng(0), (count, *metadata.clip_shape)
    bound = metadata.input.bound_px or 1.0
    values = rng.integers(0, 256, shape).astype(np.uint8) if metadata.view == "rgb" else rng.normal(0, bound, shape).astype(np.float32)
    return Samples(values=values, source=f"{count} generated clips")


def drawn_frames(count: int = PARITY_FRAMES) -> Samples:
    """Pictures with shapes, each of another scene of the embedded street shapes: for who has no footage of the detector."""
    config = StreetShapesConfig()
    street = draw_street(config, VideoPlace(role="val_wide", number=1))
    shown = itertools.islice(render_street(config, street), 0, count * config.scene_frames, config.scene_frames)
    return Samples(values=list(shown), source=f"{count} drawn pictures")
