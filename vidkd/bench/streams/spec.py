"""What a study of streams says."""

from dataclasses import dataclass, field
from typing import Any, Literal

from vidkd.base.errors import ConfigError
from vidkd.bench.study import BaseMethodSpec, BaseStudySpec, BaseTuningSpec, check_known
from vidkd.bench.summary import METRIC_LETTERS, fits_in_metric
from vidkd.detection.layouts import BOX_LAYOUTS
from vidkd.detection.metrics import SCORE
from vidkd.detection.policies import SEEDED
from vidkd.runtime.letterbox import ResizeMode

Kind = Literal["learn", "frozen", "tracked", "flow", "first_tenth", "oracle"]
SHARELESS_KINDS = ("frozen", "oracle")
"""Kinds that no share of calls is asked of: the one calls never, the other always."""
PER_SEED = "{seed}"
"""Placeholder in the name of a selector's file for the seed, of which each has a selector of its own then."""
WHOLE = "all"
"""The range of every frame of a stream; no range of a study may have its name."""
AFTER = "after"
"""The frames after a cell's last kept update, as a range of its own; it is another one in every cell, and its name is taken too."""


@dataclass(frozen=True, kw_only=True)
class SegmentSpec:
    """A stretch of one video.

    Args:
        video: a file, or a folder of images.
        frames: [first, stop), by index in the video; all by default.
        name: of the range that the stretch makes in the stream; without one it makes none.
        short_side: frames are scaled so that their shorter side has this many pixels.
    """

    video: str
    frames: list[int] | None = None
    name: str | None = None
    short_side: int | None = None

    def __post_init__(self) -> None:
        if self.frames is not None:
            check_range("frames", self.frames)


@dataclass(frozen=True, kw_only=True)
class TruthSpec:
    """Annotated frames of the videos of a stream.

    Args:
        layout: how they lie on disk, a name of BOX_LAYOUTS.
        folder: of the data set.
        annotations: files to read in place of those that the layout looks for.
    """

    layout: str
    folder: str
    annotations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_known(self.layout, BOX_LAYOUTS, "layout of boxes", "truth.layout")


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """Videos joined into one stream; each keeps the size of its frames.

    Args:
        segments: in order; a video may return.
        truth: annotated frames.
        ranges: named stretches [first, stop) of the stream, for which metrics are given apart; segments with a name make more.
        calls_until: frame of the stream from which on the oracle is not called and nothing is learned.
    """

    segments: list[SegmentSpec]
    truth: TruthSpec | None = None
    ranges: dict[str, list[int]] = field(default_factory=dict)
    calls_until: int | None = None

    def __post_init__(self) -> None:
        if not self.segments:
            raise ConfigError("a stream needs a segment", hint="segments: [{video: FILE}]")
        for bounds in self.ranges.values():
            check_range("ranges", bounds)
        names = [*self.ranges, *(segment.name for segment in self.segments if segment.name)]
        bad = [name for name in names if not fits_in_metric(name) or name == WHOLE or name.split("_of_")[0] == AFTER]
        if bad or len(set(names)) < len(names):
            raise ConfigError(f"ranges cannot have these names: {', '.join(bad or names)}", hint=f"{METRIC_LETTERS}; not all, not after")
        if self.calls_until is not None and self.calls_until < 1:
            raise ConfigError(f"calls_until is a frame from 1 on: {self.calls_until}", hint="a method of kind: frozen never learns")
        if self.truth is not None and any(segment.short_side for segment in self.segments):
            raise ConfigError("a stream with truth keeps the size of its frames", hint="leave out short_side")


def check_range(key: str, bounds: list[int]) -> None:
    """Raise ConfigError for what is no range of frames."""
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
        raise ConfigError(f"{key} is [first, stop], rising from 0: {bounds}")


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """The light detector.

    Args:
        cfg: darknet cfg.
        weights: its weights.
        names: class names, one a line.
        resize: how frames meet the input.
        score: least score of a box; low, since average precision asks for weak ones.
        nms_iou: overlap above which the weaker of two boxes falls.
    """

    cfg: str
    weights: str
    names: str
    resize: ResizeMode = "darknet"
    score: float = 0.05
    nms_iou: float = 0.45


@dataclass(frozen=True, kw_only=True)
class OracleSpec:
    """The heavy detector, any that `vidkd detect` runs.

    Args:
        model: .onnx, .tflite, or a darknet .cfg.
        weights: darknet: the weights.
        names: darknet: class names.
        metadata: exported file: the YAML that says how to run it.
        score: least score of a box; the model's own by default.
        nms_iou: the same of suppression.
        resize: darknet: how frames meet the input; its own letterbox by default.
        heads: a darknet oracle with the student's cells: its raw heads are learned from, so it is run on key frames again.
    """

    model: str
    weights: str | None = None
    names: str | None = None
    metadata: str | None = None
    score: float | None = None
    nms_iou: float | None = None
    resize: ResizeMode | None = None
    heads: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodSpec(BaseMethodSpec):
    """A method along the stream.

    Args:
        kind: learn; or a baseline: frozen (no learning), tracked and flow (the oracle's last boxes, carried on by the tracks of
            the student's boxes or by optical flow), first_tenth (all calls in the first tenth, where a student is adapted, then frozen);
            or oracle (asked on every frame, its own boxes are scored: what the student might reach).
        policy: name of a key-frame policy, `hindsight`, or the file of a selector, in whose name {stream} is replaced by that of the stream
            and {seed} for the seed.
        calls: shares of the frames sent to the oracle, in place of the study's.
        update: settings of `Update` over the study's.
        replay: settings of `Replay` over the study's.
        wrong: share of the oracle's boxes that are made wrong before the student learns from them.
        trials: settings (`update.lr: 0.001`) among which tuning chooses.
    """

    kind: Kind = "learn"
    policy: str = "fixed"
    calls: list[float] = field(default_factory=list)
    update: dict[str, Any] = field(default_factory=dict)
    replay: dict[str, Any] = field(default_factory=dict)
    wrong: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= 1:
            raise ConfigError(f"wrong is a share of boxes, in [0, 1]: {self.wrong}")
        if self.claim:
            raise ConfigError("no method of a stream is a candidate for a claim", hint="leave out claim")

    @property
    def learns(self) -> bool:
        """Whether the student is trained."""
        return self.kind in ("learn", "first_tenth")

    @property
    def depends_on_seed(self) -> bool:
        """Whether two seeds can give different numbers: a method that draws nothing is run once and its cell counts for every seed."""
        return self.learns or self.policy in SEEDED or PER_SEED in self.policy or self.wrong > 0


@dataclass(frozen=True, kw_only=True)
class StreamTuningSpec(BaseTuningSpec):
    """How trials are judged.

    Args:
        streams: streams that are used for nothing else.
        calls: share of frames sent to the oracle.
    """

    streams: list[str] = field(default_factory=list)
    calls: float = 0.05


@dataclass(frozen=True, kw_only=True)
class StreamStudySpec(BaseStudySpec):
    """A study of streams. Paths are looked for below the roots of the command line, then next to the study's file, then from here.

    Args:
        student: the light detector.
        oracle: the heavy detector.
        streams: by name.
        methods: by name.
        calls: shares of frames sent to the oracle, of those before a stream's calls_until, rounded down to whole calls.
        seeds: seeds of replay and of policies that draw.
        update: settings of `Update` for all methods.
        replay: settings of `Replay` for all methods.
        reference: methods with which all others are compared.
        tuning: how trials are judged.
        block: frames of a block of the bootstrap.
        iou: overlap from which a box agrees with the oracle's.
        score: from which score on boxes count in F1, on both sides.
        threads: of torch and of the oracle.
    """

    student: StudentSpec
    oracle: OracleSpec
    streams: dict[str, StreamSpec]
    methods: dict[str, MethodSpec]
    calls: list[float] = field(default_factory=lambda: [0.05])
    update: dict[str, Any] = field(default_factory=dict)
    replay: dict[str, Any] = field(default_factory=dict)
    reference: list[str] = field(default_factory=list)
    tuning: StreamTuningSpec = field(default_factory=StreamTuningSpec)
    block: int = 50
    iou: float = 0.5
    score: float = SCORE
    threads: int = 1

    def __post_init__(self) -> None:
        self.check()
        for name in self.reference:
            check_known(name, self.methods, "method", "reference")
            if not fits_in_metric(name):
                raise ConfigError(f"reference: '{name}' cannot be in the name of a metric (f1_{AFTER}_of_...)", hint=METRIC_LETTERS)
        for name in self.tuning.streams:
            check_known(name, self.streams, "stream", "tuning.streams")
        shares = [*self.calls, self.tuning.calls, *(share for method in self.methods.values() for share in method.calls)]
        if not all(0 < share <= 1 for share in shares) or not self.calls or len(set(self.calls)) < len(self.calls):
            raise ConfigError("calls are shares of the frames, in (0, 1], each once", found=", ".join(map(str, shares)))
        for name, method in self.methods.items():
            if method.tuned_as is not None and not self.methods[method.tuned_as].trials:
                raise ConfigError(f"methods.{name} is tuned as {method.tuned_as}, which has no trials", hint="give that one trials")
        if not self.tuning.streams and any(method.trials for method in self.methods.values()):
            raise ConfigError("methods have trials, but no stream is there to judge them", hint="tuning: {streams: [NAME]}")
        if not self.test_streams:
            raise ConfigError("every stream is used for tuning", hint="name one more stream")
        if not (0 < self.iou <= 1 and 0 <= self.score <= 1 and self.block >= 1 and self.threads >= 1):
            raise ConfigError("iou must be in (0, 1], score in [0, 1], block and threads at least 1")

    def shares_of(self, method: str) -> list[float]:
        """Shares of calls that a method is run at: [0] for one that is never asked for a share."""
        return [0.0] if self.methods[method].kind in SHARELESS_KINDS else self.methods[method].calls or self.calls

    @property
    def test_streams(self) -> list[str]:
        """Streams that are not for tuning."""
        return [name for name in self.streams if name not in self.tuning.streams]
