"""What a study of streams says."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.bench.summary import METRIC_LETTERS, fits_in_metric
from vidkd.detection.layouts import BOX_LAYOUTS
from vidkd.detection.metrics.matching import SCORE
from vidkd.runtime.letterbox import ResizeMode

Kind = Literal["learn", "frozen", "tracked", "flow", "first_tenth", "oracle"]
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
        if self.frames is not None and not (len(self.frames) == 2 and 0 <= self.frames[0] < self.frames[1]):
            raise ConfigError(f"frames of a segment are [first, stop], rising from 0: {self.frames}", video=self.video)


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
        if self.layout not in BOX_LAYOUTS:
            raise unknown_name("layout of boxes", self.layout, BOX_LAYOUTS)


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
        for name, bounds in self.ranges.items():
            if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
                raise ConfigError(f"ranges.{name} is [first, stop], rising from 0: {bounds}")
        names = [*self.ranges, *(segment.name for segment in self.segments if segment.name)]
        for name in names:
            taken = name in (WHOLE, AFTER) or name.startswith(f"{AFTER}_of_")
            if names.count(name) > 1 or taken or not name.isidentifier() or name != name.lower():
                raise ConfigError(
                    f"'{name}' cannot name a range",
                    hint=f"small letters, digits and _, each name once, not '{WHOLE}', '{AFTER}' or '{AFTER}_of_...'",
                )
        if self.calls_until is not None and self.calls_until < 1:
            raise ConfigError(f"calls_until is a frame from 1 on: {self.calls_until}", hint="a method of kind: frozen never learns")
        if self.truth is not None and any(segment.short_side for segment in self.segments):
            raise ConfigError("a stream with truth keeps the size of its frames", hint="leave out short_side")


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
class MethodSpec:
    """One way along the stream.

    Args:
        kind: learn; or a baseline: frozen (the student as it is), tracked and flow (the oracle's last boxes, carried on by the tracks of
            the student's boxes or by optical flow), first_tenth (all calls in the first tenth, where a student is adapted, then frozen);
            or oracle (asked on every frame, its own boxes are scored: what the student might reach).
        policy: name of a key-frame policy, `hindsight`, or the file of a selector, in whose name {stream} stands for that of the stream
            and {seed} for the seed.
        calls: shares of the frames sent to the oracle, in place of the study's.
        update: settings of `Update` over the study's.
        replay: settings of `Replay` over the study's.
        wrong: share of the oracle's boxes that are made wrong before the student learns from them.
        trials: settings (`update.lr: 0.001`) among which tuning chooses.
        tuned_as: method whose choice is used in place of own trials.
        label: name in tables; by default the method's own.
    """

    kind: Kind = "learn"
    policy: str = "fixed"
    calls: list[float] = field(default_factory=list)
    update: dict[str, Any] = field(default_factory=dict)
    replay: dict[str, Any] = field(default_factory=dict)
    wrong: float = 0.0
    trials: list[dict[str, Any]] = field(default_factory=list)
    tuned_as: str | None = None
    label: str | None = None

    @property
    def claim(self) -> bool:
        """No method of a stream is a candidate for a claim."""
        return False

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= 1:
            raise ConfigError(f"wrong is a share of boxes, in [0, 1]: {self.wrong}")
        if self.trials and self.tuned_as:
            raise ConfigError("a method has trials of its own or those of tuned_as", hint="keep one")


@dataclass(frozen=True, kw_only=True)
class StreamTuningSpec:
    """How trials are judged.

    Args:
        streams: streams that are used for nothing else.
        seeds: unlike those of the study.
        calls: share of frames sent to the oracle.
    """

    streams: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [100])
    calls: float = 0.05


@dataclass(frozen=True, kw_only=True)
class StreamStudySpec:
    """A study of streams. Paths are looked for below the roots of the command line, then beside the study's file, then from here.

    Args:
        study: name; its cells are written to results/<study>.
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
        title: heading of tables and of the report.
        text: what the study asks and how, for its page.
    """

    study: str
    student: StudentSpec
    oracle: OracleSpec
    streams: dict[str, StreamSpec]
    methods: dict[str, MethodSpec]
    calls: list[float] = field(default_factory=lambda: [0.05])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    update: dict[str, Any] = field(default_factory=dict)
    replay: dict[str, Any] = field(default_factory=dict)
    reference: list[str] = field(default_factory=list)
    tuning: StreamTuningSpec = field(default_factory=StreamTuningSpec)
    block: int = 50
    iou: float = 0.5
    score: float = SCORE
    threads: int = 1
    title: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        for name in self.reference:
            _check_known(name, self.methods, "method", "reference")
            if not fits_in_metric(name):
                raise ConfigError(f"reference: '{name}' cannot stand in the name of a metric (f1_{AFTER}_of_...)", hint=METRIC_LETTERS)
        for name in self.tuning.streams:
            _check_known(name, self.streams, "stream", "tuning.streams")
        for name, method in self.methods.items():
            if method.tuned_as is not None:
                tuned = [other for other, spec in self.methods.items() if spec.trials]
                _check_known(method.tuned_as, tuned, "method with trials", f"methods.{name}.tuned_as")
        for share in [*self.calls, self.tuning.calls, *(share for method in self.methods.values() for share in method.calls)]:
            if not 0 < share <= 1:
                raise ConfigError(f"calls are shares of the frames, in (0, 1]: {share}")
        if self.tuned and not self.tuning.streams:
            raise ConfigError("methods have trials, but no stream is there to judge them", hint="tuning: {streams: [NAME]}")
        if not self.test_streams:
            raise ConfigError("every stream is used for tuning", hint="name one more stream")
        if not 0 < self.iou <= 1 or not 0 <= self.score <= 1:
            raise ConfigError(f"iou lies in (0, 1], score in [0, 1]: {self.iou}, {self.score}")
        for name, least in (("block", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for key, values in (("seeds", self.seeds), ("calls", self.calls), ("seeds, tuning.seeds", [*self.seeds, *self.tuning.seeds])):
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{key}: none is there, or one twice", found=", ".join(map(str, values)))

    @property
    def tuned(self) -> bool:
        """Whether any method has trials."""
        return any(method.trials for method in self.methods.values())

    @property
    def test_streams(self) -> list[str]:
        """Streams that are not for tuning."""
        return [name for name in self.streams if name not in self.tuning.streams]


def _check_known(name: str, known: Collection[str], kind: str, where: str) -> None:
    if name not in known:
        raise unknown_name(kind, name, known, where=where)
