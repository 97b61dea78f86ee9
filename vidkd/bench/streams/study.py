"""Studies along streams: what a cell is, what it depends on, how it is judged; and the study of all policies along the video of a run."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from vidkd.base.errors import ConfigError
from vidkd.base.files import atomic_write
from vidkd.base.roots import find_below
from vidkd.base.settings import flatten, load_settings
from vidkd.base.yaml_files import merge
from vidkd.bench.streams.figures import StreamCounts
from vidkd.bench.streams.spec import PER_SEED, OracleSpec, StreamStudySpec
from vidkd.bench.study import EVERYWHERE, CellKey, Chosen, Phase, Places, Study, check_known
from vidkd.detection.online import Replay, Student, Update
from vidkd.detection.online.key_frames import NEEDS_HEADS
from vidkd.detection.opening import ModelFiles
from vidkd.detection.policies import BARE
from vidkd.detection.saved import write_darknet
from vidkd.runtime.metadata import read_names
from vidkd.video.files import content_of

HINDSIGHT = "hindsight"
TRUTH = "truth"
"""The name of the hash of the annotated frames, among those of files."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a method learns."""

    update: Update = field(default_factory=Update)
    replay: Replay = field(default_factory=Replay)


@dataclass(frozen=True)
class StreamStudy(Study):
    """Methods x shares of calls x seeds x streams."""

    spec: StreamStudySpec
    _truths: dict[str, str] = field(default_factory=dict, compare=False, repr=False)  # hashes by stream, which take long

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """One choice for all test streams, by all tuning streams."""
        return {EVERYWHERE: self.spec.tuning.streams}

    @property
    def metric(self) -> str:
        """F1 at the share of calls of tuning."""
        return f"f1@calls{100 * self.spec.tuning.calls:g}"

    def trial_waves(self) -> list[list[CellKey]]:
        """As `Study`."""
        tuning = self.spec.tuning
        return [
            [
                CellKey(name, trial, seed, stream, tuning.calls)
                for name, method in self.spec.methods.items()
                for trial in range(len(method.trials))
                for seed in tuning.seeds
                for stream in tuning.streams
            ]
        ]

    def test_waves(self, methods: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> list[list[CellKey]]:
        """As `Study`, seed after seed; a method that draws nothing has only the cells of the first seed."""
        spec = self.spec
        return [
            [
                CellKey(name, -1, seed, stream, share)
                for seed in (spec.seeds if seeds is None else seeds)
                for stream in spec.test_streams
                for name in (spec.methods if methods is None else methods)
                for share in spec.shares_of(name)
                if spec.methods[name].depends_on_seed or seed == spec.seeds[0]
            ]
        ]

    def settings(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen) -> dict[str, Any]:  # noqa: ARG002
        """As `Study`; files are named, and their content is among the inputs."""
        spec, method = self.spec, self.spec.methods[key.method]
        found = {
            "kind": method.kind,
            "policy": method.policy if method.kind in ("learn", "tracked", "flow") else None,
            "calls": key.calls,
            "wrong": method.wrong,
            **(dataclasses.asdict(learning_of(spec, key, chosen)) if method.learns else {}),
            "student": dataclasses.asdict(spec.student),
            "oracle": dataclasses.asdict(spec.oracle),
            "stream": dataclasses.asdict(spec.streams[key.place]),
            **{name: getattr(spec, name) for name in ("iou", "score", "threads")},
        }
        plain: dict[str, Any] = json.loads(json.dumps(flatten(found)))
        return plain

    def defaults(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """Of how a student learns."""
        return flatten({"update": dataclasses.asdict(Update()), "replay": dataclasses.asdict(Replay())})

    def inputs(self, key: CellKey, places: Places) -> dict[str, str]:
        """Hashes of every file that a cell depends on, by its name in the study, and that of the annotated frames.

        Files of the oracle that the study does not name, and that its model brings along, have their bare names.
        """
        spec = self.spec
        names = [spec.student.cfg, spec.student.weights, spec.student.names]
        names += [value for name in ("model", "weights", "names", "metadata") if (value := getattr(spec.oracle, name))]
        names += [segment.video for segment in spec.streams[key.place].segments]
        if (selector := selector_name(self, key)) is not None:
            names.append(selector)
        found = {name: content_of(self.find(name, places)) for name in dict.fromkeys(names)}
        found |= {path.name: content_of(path) for path in self.oracle_files(places).companions()}
        if spec.streams[key.place].truth is not None:
            if key.place not in self._truths:
                self._truths[key.place] = _hash_of_truth(self, key.place, places)
            found[TRUTH] = self._truths[key.place]
        return found

    def prepare(self, keys: Sequence[CellKey], places: Places) -> None:
        """Ask the oracle about every frame of the streams, in this process. Raises ConfigError where tuning and test share frames."""
        from vidkd.bench.streams.footage import check_streams_apart, oracle_boxes, stretches_of

        if keys:
            check_streams_apart(self, places)
        for stream in dict.fromkeys(key.place for key in keys):
            oracle_boxes(stretches_of(self, stream, places), self.oracle_files(places), places.cache)

    def run(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen, *, quiet: bool) -> dict[str, Any]:  # noqa: ARG002
        """Run a cell with the study's number of threads."""
        from vidkd.bench.streams.run import run_stream_cell

        before = torch.get_num_threads()
        torch.set_num_threads(self.spec.threads)
        try:
            return run_stream_cell(self, key, places, chosen)
        finally:
            torch.set_num_threads(before)

    def score(self, cell: Mapping[str, Any]) -> dict[str, float]:
        """F1; the earlier of equal trials is chosen."""
        return {"score": round(StreamCounts.of(cell).value, 6), "nll": 0.0}

    def line(self, cell: Mapping[str, Any]) -> str:
        """As `Study`."""
        return f"F1 {StreamCounts.of(cell).value:.3f}  {len(cell['called'])} calls  {cell['seconds']['whole']:.0f} s"

    def summarise(self, cells: Mapping[str, Mapping[str, Any]], claims: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG002
        """As `Study`."""
        from vidkd.bench.streams.summary import summarise_streams

        return summarise_streams(self, cells)

    def find(self, name: str, places: Places) -> Path:
        """The file or folder that the study names: below a root, next to its file, or from here. Raises ConfigError for none."""
        return find_below(name, (*places.roots, self.path.parent, Path()), named_by=self.path)

    def oracle_files(self, places: Places) -> ModelFiles:
        """The oracle's files, found."""
        spec: OracleSpec = self.spec.oracle
        weights, names, metadata = (str(self.find(name, places)) if name else None for name in (spec.weights, spec.names, spec.metadata))
        return ModelFiles(
            model=str(self.find(spec.model, places)),
            weights=weights,
            names=names,
            metadata=metadata,
            score=spec.score,
            nms_iou=spec.nms_iou,
            resize=spec.resize,
            device=places.device,
            threads=self.spec.threads,
        )


def read_stream_study(path: Path | str) -> StreamStudy:
    """Read a study of streams. Raises ConfigError with file and key for anything unknown, of a wrong type or out of range."""
    path = Path(path)
    study = StreamStudy(path, (), load_settings(StreamStudySpec, path))
    for name in study.spec.methods:
        try:
            _check_method(study.spec, name)
        except ConfigError as error:
            raise error.with_lines(study=f"{path}: methods.{name}") from error
    return study


def _check_method(spec: StreamStudySpec, name: str) -> None:
    """Raise ConfigError for a method whose policy is unknown, or whose settings, in any trial, cannot be used."""
    method, known = spec.methods[name], (*BARE, HINDSIGHT)
    if not Path(method.policy).suffix:  # a file of a selector has one, so that a name without one is a policy, if need be misspelt
        check_known(method.policy, known, "key-frame policy (or the file of a trained selector)", f"methods.{name}.policy")
    nothing: Chosen = {other: {EVERYWHERE: {}} for other in spec.methods}
    for trial in range(-1, len(method.trials)):
        learning = learning_of(spec, CellKey(name, trial, spec.seeds[0], spec.test_streams[0]), nothing)
        if learning.update.loss in NEEDS_HEADS and not spec.oracle.heads:
            raise ConfigError(f"the loss {learning.update.loss} needs raw heads", hint="oracle.heads: true")
    if spec.oracle.heads and method.wrong:
        raise ConfigError("raw heads are not made wrong", hint="an oracle without heads, or wrong: 0")


def selector_name(study: StreamStudy, key: CellKey) -> str | None:
    """The file of a cell's selector as the study names it; None for a policy that has a name of its own."""
    policy = study.spec.methods[key.method].policy
    return None if policy in (*BARE, HINDSIGHT) else policy.replace("{stream}", key.place).replace(PER_SEED, str(key.seed))


def _hash_of_truth(study: StreamStudy, stream: str, places: Places) -> str:
    """Short SHA-256 of classes, places and boxes of the annotated frames, as they were read, whatever files they came from."""
    from vidkd.bench.streams.footage import stretches_of, truth_of

    classes = tuple(read_names(study.find(study.spec.student.names, places)))
    truth = truth_of(study, stream, stretches_of(study, stream, places), classes, places)
    assert truth is not None
    digest = hashlib.sha256(repr(truth.classes).encode())
    for frame in truth.frames:
        digest.update(f"\n{frame.frame_index} {frame.width} {frame.height} {frame.complete} {len(frame)} ".encode())
        for part in (frame.boxes, frame.labels, frame.ignore, frame.track_ids):
            digest.update(b"-" if part is None else part.tobytes())
    return digest.hexdigest()[:16]


def learning_of(spec: StreamStudySpec, key: CellKey, chosen: Chosen) -> Learning:
    """Update and replay of a cell. Raises ConfigError for settings that cannot be used, or a choice that is missing."""
    method = spec.methods[key.method]
    over: Mapping[str, Any] = {}
    if key.trial >= 0:
        over = method.trials[key.trial]
    elif method.trials or method.tuned_as:
        over = chosen[method.tuned_as or key.method][EVERYWHERE]
    settings = {"update": merge({}, spec.update), "replay": merge({}, spec.replay)}
    for part in ({"update": method.update, "replay": method.replay}, over):
        settings = merge(settings, part)
    learning = _built_learning(json.dumps(settings, sort_keys=True))
    return dataclasses.replace(learning, replay=dataclasses.replace(learning.replay, seed=key.seed))


@functools.lru_cache(maxsize=256)  # cells of one method differ only in seed, stream and share, and typed reading is slow
def _built_learning(settings: str) -> Learning:
    return load_settings(Learning, settings=json.loads(settings), where="update and replay of a method")


STUDY_FILE = "study.yaml"
STREAM = "video"
POLICIES_TEXT = (
    "Every policy asks the same oracle on as many frames, and the student learns from it alike. Boxes are scored against the oracle's of "
    "every frame, before it is learned from. Hindsight knows where the student errs, the oracle is asked everywhere: neither can be had."
)


def write_policies_study(
    folder: Path,
    *,
    video: Path,
    student: Student,
    oracle: ModelFiles,
    learning: Mapping[str, Any],
    heads: bool,
    shares: Sequence[float],
    seed: int,
    selector: Path | None = None,
) -> Path:
    """Write the frozen student and a study for `vidkd study` into a folder; returns the study's path.

    learning: plain settings of `update` and `replay`. heads: whether raw heads of the oracle are learned from. shares: of frames sent to
    the oracle, in (0, 1]. selector: the file of a trained one, one more policy. Raises CheckpointError if the disk is full.
    """
    # whole paths: a file of the same name below a root of the user's would be found first
    cfg, weights, names = (
        str(path.resolve()) for path in write_darknet(folder, student.net, student.class_names, resize=student.detector.resize)
    )
    files = {"cfg": cfg, "weights": weights, "names": names}
    methods: dict[str, Any] = {"student": {"kind": "frozen", "label": "no learning"}}
    methods |= {name: {"policy": name, "label": name.replace("_", " ")} for name in BARE}
    if selector is not None:
        methods["selector"] = {"policy": str(selector.resolve()), "label": selector.name}
    methods |= {HINDSIGHT: {"policy": HINDSIGHT}, "oracle": {"kind": "oracle", "label": "oracle on every frame"}}
    content = {
        "study": "policies",
        "title": f"Key-frame policies along {video.name}",
        "text": POLICIES_TEXT,
        "student": {**files, "resize": student.detector.resize, "nms_iou": student.detector.nms_iou},
        "oracle": {**_oracle(oracle), "heads": heads},
        "streams": {STREAM: {"segments": [{"video": str(video.resolve())}]}},
        "calls": list(shares),
        "seeds": [seed],
        "update": dict(learning["update"]),
        "replay": {name: value for name, value in learning["replay"].items() if name != "seed"},
        "methods": methods,
    }
    path = folder / STUDY_FILE
    with atomic_write(path) as file:
        yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)
    return path


def _oracle(files: ModelFiles) -> dict[str, Any]:
    """Its files with whole paths, and what else is given of it."""
    paths = {name: getattr(files, name) for name in ("model", "weights", "names", "metadata")}
    given = {name: getattr(files, name) for name in ("score", "nms_iou", "resize")}
    return {name: str(Path(path).resolve()) for name, path in paths.items() if path} | {
        name: value for name, value in given.items() if value is not None
    }
