"""Studies along streams: what a cell is, what it depends on, and how it is judged."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.roots import find_below
from vidkd.bench.streams.spec import MethodSpec, OracleSpec, StreamStudySpec
from vidkd.bench.streams.typed import built, merged, read_spec
from vidkd.bench.study import EVERYWHERE, CellKey, Chosen, Phase, Places, Study
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.online import Replay, Update
from vidkd.detection.online.distillation import NEEDS_HEADS
from vidkd.detection.opening import ModelFiles
from vidkd.detection.policies import BARE, SEEDED
from vidkd.engine.run_folder import flatten
from vidkd.runtime.metadata_file import read_names
from vidkd.video.files import content_of

SEEDLESS_KINDS = ("frozen", "tracked", "flow", "oracle")
SHARELESS_KINDS = ("frozen", "oracle")
"""Kinds that no share of calls is asked of: the one calls never, the other always."""
HINDSIGHT = "hindsight"
PER_SEED = "{seed}"
"""Stands in the name of a selector's file for the seed, of which each has a selector of its own then."""
TRUTH = "truth"
"""The name of the hash of the annotated frames, among those of files."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a method learns."""

    update: Update
    replay: Replay


@dataclass(frozen=True)
class StreamStudy(Study):
    """Methods x shares of calls x seeds x streams."""

    spec: StreamStudySpec
    _truths: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)  # hashes by stream, which take long

    @property
    def name(self) -> str:
        """As `Study`."""
        return self.spec.study

    @property
    def methods(self) -> Mapping[str, Any]:
        """As `Study`."""
        return self.spec.methods

    @property
    def seeds(self) -> Sequence[int]:
        """As `Study`."""
        return self.spec.seeds

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """One choice for all test streams, by all tuning streams."""
        return {EVERYWHERE: self.spec.tuning.streams}

    @property
    def tuning_seeds(self) -> Sequence[int]:
        """As `Study`."""
        return self.spec.tuning.seeds

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
                for share in shares_of(spec, name)
                if depends_on_seed(spec.methods[name]) or seed == spec.seeds[0]
            ]
        ]

    def settings(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen) -> dict[str, Any]:  # noqa: ARG002
        """As `Study`; files are named, and their content is among the inputs."""
        spec, method = self.spec, self.spec.methods[key.method]
        learns = method.kind in ("learn", "first_tenth")
        found = {
            "kind": method.kind,
            "policy": method.policy if method.kind in ("learn", "tracked", "flow") else None,
            "calls": key.calls,
            "wrong": method.wrong,
            **(dataclasses.asdict(learning_of(spec, key, chosen)) if learns else {}),
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
        found |= {path.name: content_of(path) for path in self.oracle_files(places).beside()}
        if key.place not in self._truths:
            self._truths[key.place] = _truth_content(self, key.place, places)
        truth = self._truths[key.place]
        return found if truth is None else {**found, TRUTH: truth}

    def prepare(self, keys: Sequence[CellKey], phase: Phase, places: Places, chosen: Chosen, workers: int) -> dict[str, str]:  # noqa: ARG002
        """Ask the oracle about every frame of the streams, in this process. Raises ConfigError where tuning and test share frames."""
        from vidkd.bench.streams.answers import oracle_boxes
        from vidkd.bench.streams.footage import check_streams_apart, stretches_of

        if keys:
            check_streams_apart(self, places)
        for stream in dict.fromkeys(key.place for key in keys):
            oracle_boxes(stretches_of(self, stream, places), self.oracle_files(places), places.cache)
        return {}

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
        from vidkd.bench.streams.summary import as_counts

        return {"score": round(as_counts(cell).f1, 6), "nll": 0.0}

    def line(self, cell: Mapping[str, Any]) -> str:
        """As `Study`."""
        from vidkd.bench.streams.summary import as_counts

        return f"F1 {as_counts(cell).f1:.3f}  {len(cell['called'])} calls  {cell['seconds']['whole']:.0f} s"

    def summarise(self, cells: Mapping[str, Mapping[str, Any]], claims: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG002
        """As `Study`."""
        from vidkd.bench.streams.summary import by_method_and_share, summarise_streams

        return summarise_streams(self, by_method_and_share(self, cells))

    def find(self, name: str, places: Places) -> Path:
        """The file or folder that the study names: below a root, beside its file, or from here. Raises ConfigError for none."""
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
    study = StreamStudy(path, (), read_spec(StreamStudySpec, path))
    try:
        check_methods(study.spec)
    except ConfigError as error:
        raise error.with_lines(study=path) from error
    return study


def selector_name(study: StreamStudy, key: CellKey) -> str | None:
    """The file of a cell's selector as the study names it; None for a policy that has a name of its own."""
    policy = study.spec.methods[key.method].policy
    return None if policy in (*BARE, HINDSIGHT) else policy.replace("{stream}", key.place).replace(PER_SEED, str(key.seed))


def _truth_content(study: StreamStudy, stream: str, places: Places) -> str | None:
    """Hash of the annotated frames of a stream, None without any."""
    from vidkd.bench.streams.footage import stretches_of, truth_of

    if study.spec.streams[stream].truth is None:
        return None
    classes = tuple(read_names(study.find(study.spec.student.names, places)))
    return hash_of_truth(truth_of(study, stream, stretches_of(study, stream, places), classes, places))


def hash_of_truth(truth: BoxManifest | None) -> str | None:
    """Short SHA-256 of classes, places and boxes, as they were read, whatever files they came from; None without any."""
    if truth is None:
        return None
    digest = hashlib.sha256(repr(truth.classes).encode())
    for frame in truth.frames:
        digest.update(f"\n{frame.frame_index} {frame.width} {frame.height} {frame.complete} {len(frame)} ".encode())
        for part in (frame.boxes, frame.labels, frame.ignore, frame.track_ids):
            digest.update(b"-" if part is None else part.tobytes())
    return digest.hexdigest()[:16]


def shares_of(spec: StreamStudySpec, method: str) -> list[float]:
    """Shares of calls that a method is run at: [0] for one of SHARELESS_KINDS."""
    return [0.0] if spec.methods[method].kind in SHARELESS_KINDS else spec.methods[method].calls or spec.calls


def depends_on_seed(method: MethodSpec) -> bool:
    """Whether two seeds can give unlike numbers: a method that draws nothing is run once and stands for every seed."""
    return method.kind not in SEEDLESS_KINDS or method.policy in SEEDED or PER_SEED in method.policy or method.wrong > 0


def learning_of(spec: StreamStudySpec, key: CellKey, chosen: Chosen) -> Learning:
    """Update and replay of a cell. Raises ConfigError for settings that cannot be used, or a choice that is missing."""
    method = spec.methods[key.method]
    over: Mapping[str, Any] = {}
    if key.trial >= 0:
        over = method.trials[key.trial]
    elif method.trials or method.tuned_as:
        over = chosen[method.tuned_as or key.method][EVERYWHERE]
    settings = merged({"update": spec.update, "replay": spec.replay}, {"update": method.update, "replay": method.replay}, over)
    stray = [name for name in settings if name not in ("update", "replay")]
    if stray:
        raise ConfigError(f"methods.{key.method}: a trial sets update.* and replay.*, not '{stray[0]}'")
    learning = _built_learning(json.dumps(settings, sort_keys=True))
    return dataclasses.replace(learning, replay=dataclasses.replace(learning.replay, seed=key.seed))


@functools.lru_cache(maxsize=256)  # cells of one method differ in seed, stream and share alone, and typed reading is slow
def _built_learning(settings: str) -> Learning:
    content = json.loads(settings)
    return Learning(update=built(Update, content["update"]), replay=built(Replay, content["replay"]))


def check_methods(spec: StreamStudySpec) -> None:
    """Raise ConfigError for a method whose policy nobody knows, or whose settings, in any trial, cannot be used."""
    for name, method in spec.methods.items():
        _check_policy(name, method.policy)
        for trial in range(-1, len(method.trials)):
            untuned = trial < 0
            nothing: Chosen = {other: {EVERYWHERE: {}} for other in spec.methods}
            learning = learning_of(spec, CellKey(name, trial, spec.seeds[0], spec.test_streams[0], spec.calls[0]), nothing)
            if learning.update.loss in NEEDS_HEADS and not spec.oracle.heads:
                raise ConfigError(f"methods.{name}: the loss {learning.update.loss} needs raw heads", hint="oracle.heads: true")
            if untuned and spec.oracle.heads and method.wrong:
                raise ConfigError(f"methods.{name}: raw heads are not made wrong", hint="an oracle without heads, or wrong: 0")


def _check_policy(method: str, policy: str) -> None:
    """A file of a selector has a suffix, so that a name without one is a policy, if need be misspelt."""
    known = (*BARE, HINDSIGHT)
    if policy not in known and not Path(policy).suffix:
        raise unknown_name("key-frame policy", policy, known, where=f"methods.{method}", or_else="the file of a trained selector")
