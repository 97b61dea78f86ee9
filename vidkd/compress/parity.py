"""Whether an exported file computes what the network computes: on clips value by value, on frames raw head by raw head and box by box.

A network that does not compute with finite numbers is refused as such: no other format would help.
"""

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.base.processor import processor_flags, saturates
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.quantise import signal_to_noise_db
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.footage import footage_of
from vidkd.data.synthetic.street import VideoPlace, draw_street, render_street
from vidkd.data.synthetic.street_scene import StreetShapesConfig
from vidkd.data.transforms import evaluation_geometry
from vidkd.detection.metrics import f1_against
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.setup import evaluation_set
from vidkd.inference.predict import crop_view, sliding_windows
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.clip_classifier import softmax
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.runtime.metadata import LOGITS, ClassifierMetadata, ModelMetadata
from vidkd.runtime.opening import open_detector, open_network
from vidkd.video import open_video

SHOWN_WEIGHTS = 4
MEND = "an earlier checkpoint, or train it again with a lower learning rate (optim.lr)"


def check_weights(net: nn.Module, named: Path | str | None = None) -> None:
    """Raise ConfigError for weights or statistics that are NaN or infinite, naming them. named: where the network was read from."""
    bad = [name for name, values in net.state_dict().items() if not torch.isfinite(values).all()]
    if bad:
        weights = ", ".join(bad[:SHOWN_WEIGHTS]) + (f" and {len(bad) - SHOWN_WEIGHTS} more" if len(bad) > SHOWN_WEIGHTS else "")
        raise ConfigError("weights of the network are no finite numbers", **_where(named), weights=weights, hint=MEND)


def check_outputs(values: Iterable[NDArray[Any]], source: str, named: Path | str | None = None) -> None:
    """Raise ConfigError for outputs that are NaN or infinite. source: what the network was run on, in words."""
    if not all(np.isfinite(each).all() for each in values):
        reason = "its weights are finite, and what they give is not"
        raise ConfigError("outputs of the network are no finite numbers", **_where(named), on=source, reason=reason, hint=MEND)


def _where(named: Path | str | None) -> dict[str, object]:
    return {} if named is None else {"where": named}


log = logging.getLogger(__name__)

LEAST_AGREEMENT = 0.5
"""Share of answers that a file has in common with its network; below, it mostly says something else."""
LEAST_SIGNAL_DB = 3.0
"""Signal to noise of what a file puts out; below, the noise has more than half the power of what the network says."""


class Nearness(Protocol):
    """How near a file is to the network that it was exported from."""

    @property
    def apart(self) -> str:
        """Why the file mostly differs from its network; empty where it does not."""
        ...

    def record(self) -> dict[str, Any]:
        """The figures, and under `said` what is printed of them, as JSON can hold them."""
        ...


def mostly_apart(answers: str, agreement: float | None, signal_db: float) -> str:
    """Why a file mostly differs from its network; empty where it does not. answers: what agrees, in words; agreement: None if unknown."""
    reasons = []
    if agreement is not None and agreement < LEAST_AGREEMENT:
        reasons.append(f"{answers} ({100 * agreement:.0f} %, less than {100 * LEAST_AGREEMENT:.0f})")
    if signal_db < LEAST_SIGNAL_DB:
        reasons.append(f"signal to noise of its outputs {signal_db:.1f} dB, below {LEAST_SIGNAL_DB:g}")
    return "; ".join(reasons)


def warn_if_apart(path: Path, nearness: Nearness) -> None:
    """Log that a file in integers mostly differs from its network, where it does."""
    if nearness.apart:
        log.warning(
            "%s mostly differs from its network: %s. More clips to find ranges on, layers excluded from integers (the sensitivity of each "
            "tells which), or training that feels integers (train.integers) may mend it; judge it by vidkd evaluate before it is used",
            *(path, nearness.apart),
        )


def warn_if_saturating(config: QuantiseConfig, hint: str, flags: Collection[str] | None = None) -> None:
    """Log that weights of eight bits may overflow on this processor, where they may. flags: of the processor, by default of this one."""
    if config.weight_bits == 8 and saturates(processor_flags() if flags is None else flags):
        log.warning("this processor has no VNNI: its eight-bit products may saturate (%s for files that run here)", hint)


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


def observed_shares(count: int) -> NDArray[np.float32]:
    """Shares of `count` clips (count,) that a network is given which takes them."""
    return np.resize(np.asarray(SHARES, np.float32), count)


def compare(wanted: Mapping[str, NDArray[Any]], raw: Raw, clips: Clips, *, tolerance: float, what: str, more: str = MORE) -> Parity:
    """Run the file on every clip alone and on all at once.

    wanted: what the network says of them (`said_of`). raw: the file, (clips, shares) -> outputs by name. tolerance: of any output, times
    the largest output where that is above 1. more: how a larger tolerance is asked for. Raises ConfigError beyond it, naming `what`.
    """
    count = len(clips.values)
    shares = observed_shares(count)
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


PARITY_FRAMES = 8
"""How many frames a file is compared on where nobody names others."""
IOU = 0.9
"""From which overlap on a box of the file is that of the network."""
FAINT_BOXES = 5, 40
"""How few and how many boxes are compared that the network would not show."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """RGB uint8 (H, W, 3) each, to compare_detector on. source: where they are from, in words."""

    values: Sequence[NDArray[np.uint8]]
    source: str


@dataclass(frozen=True, kw_only=True)
class DetectorParity:
    """What file and network said of the same frames.

    heads: largest difference of a raw head; scale: its largest value. boxes: how many of the network were compared; f1: of those of the
    file against them, of the same class and at an IoU of at least IOU; 1 where both found none. signal_db: signal to noise of all raw
    heads. shown: the score from which the detector shows boxes; score: from which they were compared, lower where it shows none. source:
    where the frames are from, in words.
    """

    heads: float
    scale: float
    boxes: int
    f1: float
    frames: int
    signal_db: float
    source: str
    shown: float
    score: float

    def __str__(self) -> str:
        heads = f"largest difference to the network: {self.heads:.2g} of raw heads up to {self.scale:.3g}"
        if not self.boxes:
            return f"{heads}; no box was compared, for the network finds none at any score ({self.source})"
        boxes = f"F1 {self.f1:.3f} (IoU {IOU:g}) against its {self.boxes} box{'es' * (self.boxes != 1)}"
        if self.score < self.shown:
            boxes += f" of a score of at least {self.score:.2g}, for it finds none from its own {self.shown:g} on"
        return f"{heads}; {boxes} ({self.source})"

    @property
    def apart(self) -> str:
        """See `Nearness`; boxes that the detector would not show anyway are not asked."""
        shown = self.boxes > 0 and self.score >= self.shown
        return mostly_apart(f"F1 of its boxes against those of the network {self.f1:.3f}", self.f1 if shown else None, self.signal_db)

    def record(self) -> dict[str, Any]:
        """See `Nearness`."""
        return recorded(self)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How large a difference may be, and what a refusal says.

    tolerance: of raw heads, times the largest where that is above 1; boxes are told, whatever they are. what: the name of what was written.
    more: how a larger tolerance is asked for. named: where the network was read from.
    """

    tolerance: float
    what: str
    more: str = MORE
    named: Path | str | None = None


def drawn_frames(count: int = PARITY_FRAMES) -> Frames:
    """Pictures with shapes, each of another scene of the embedded street shapes: for who has no footage of the detector."""
    config = StreetShapesConfig()
    street = draw_street(config, VideoPlace(role="val_wide", number=1))
    shown = itertools.islice(render_street(config, street), 0, count * config.scene_frames, config.scene_frames)
    return Frames(values=list(shown), source=f"{count} drawn pictures")


def compare_detector(detector: DarknetDetector, path: Path, metadata: ModelMetadata, frames: Frames, limit: Limit) -> DetectorParity:
    """Run network and file on every frame; metadata: of the file. The rest, and errors, as of `compare_heads`."""
    network = open_network(path, device="cpu")

    def heads(images: Tensor) -> list[NDArray[np.floating]]:
        return network.run(images.cpu().contiguous().numpy(), metadata.head.outputs)

    return compare_heads(detector, heads, lambda score: open_detector(path, device="cpu", score=score), frames, limit)


def compare_darknet(detector: DarknetDetector, files: Sequence[Path], frames: Frames, limit: Limit) -> DetectorParity:
    """Run a network and what was written of it as a darknet cfg, weights and names, read again. The rest as of `compare_heads`."""

    def opened(score: float) -> DarknetDetector:
        cfg, weights, names = files
        return DarknetDetector.open(
            cfg, weights, names, device="cpu", score_threshold=score, nms_iou=detector.nms_iou, resize=detector.resize
        )

    net = opened(detector.score_threshold).net

    def heads(images: Tensor) -> list[NDArray[np.floating]]:
        return [head.cpu().numpy() for head in net(images.cpu())]

    return compare_heads(detector, heads, opened, frames, limit)


def compare_heads(
    detector: DarknetDetector,
    heads_of: Callable[[Tensor], Sequence[NDArray[np.floating]]],
    opened: Callable[[float], Detector],
    frames: Frames,
    limit: Limit,
) -> DetectorParity:
    """Run a network and what was written of it on every frame.

    heads_of: raw heads of what was written, of images as the network takes them. opened: it as a detector, with this least score. Boxes are
    those that the detector shows; where it shows none in any frame, its best ones at a lower score. Raises ConfigError beyond the limit and
    for a network whose heads are no finite numbers.
    """
    every: list[Detections] = []
    wanted: list[NDArray[np.floating]] = []
    got: list[NDArray[np.floating]] = []
    for frame in frames.values:
        images, letterbox = detector.prepare(frame[None])
        with torch.inference_mode():
            heads = detector.net(images)
            said = [head.cpu().numpy() for head in heads]
            check_outputs(said, frames.source, limit.named)
            got += heads_of(images)
        wanted += said
        every += detector.finish(heads, letterbox, 0.0)
    difference = max(float(np.abs(one - two).max()) for one, two in zip(got, wanted, strict=True))
    scale = max(float(np.abs(each).max()) for each in wanted)
    score = compared_from(np.concatenate([found.scores for found in every]), detector.score_threshold)
    here = [found.select(found.scores >= score) for found in every]
    exported = opened(score)
    there = [found for frame in frames.values for found in exported(frame[None])]
    parity = DetectorParity(
        heads=difference,
        scale=scale,
        boxes=sum(map(len, here)),
        f1=f1_against(there, here, iou=IOU, score=0.0).f1,
        frames=len(frames.values),
        signal_db=signal_to_noise_db(wanted, got),
        source=frames.source,
        shown=detector.score_threshold,
        score=score,
    )
    if not difference <= limit.tolerance * max(1.0, scale):
        raise ConfigError(
            f"the exported file does not say what the network says: {limit.what}",
            found=str(parity),
            allowed=f"{limit.tolerance:g} of values up to 1, in proportion above",
            hint=f"{limit.more}, if so much does not matter",
        )
    return parity


def compared_from(scores: NDArray[np.float32], shown: float) -> float:
    """The score from which boxes are compared: `shown` if any box reaches it.

    Else one that leaves between the bounds of FAINT_BOXES, in the widest gap (as a ratio) between the scores of two boxes, so that rounding
    moves none of them across it. All of them where there are not so many.
    """
    fewest, most = FAINT_BOXES
    falling = np.sort(scores[scores > 0].astype(np.float64))[::-1]
    if not len(falling) or falling[0] >= shown:
        return shown
    if len(falling) <= fewest:
        return float(falling[-1] / 2)
    counts = np.arange(fewest, min(most, len(falling) - 1) + 1)
    count = int(counts[np.argmax(falling[counts - 1] / falling[counts])])
    return math.sqrt(falling[count - 1] * falling[count])
