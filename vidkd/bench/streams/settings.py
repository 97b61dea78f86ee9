"""The cells of a study of streams: their keys, and all that the numbers of each depend on."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.bench.streams.spec import MethodSpec, StreamStudySpec
from vidkd.bench.streams.typed import built, merged
from vidkd.detection.online import Replay, Update
from vidkd.detection.online.distillation import NEEDS_HEADS
from vidkd.detection.policies import BARE, SEEDED

StreamPhase = Literal["tune", "test"]
ChosenTrials = Mapping[str, Mapping[str, Any]]
"""Chosen settings by method."""
LATER = {"score_power": 1.0, "interpolate": (), "retain": 1.0}
"""Settings of `Update` that came later, each with the value that stands for what was done before: kept cells do not name them."""
SEEDLESS_KINDS = ("frozen", "tracked", "flow", "oracle")
SHARELESS_KINDS = ("frozen", "oracle")
"""Kinds that no share of calls is asked of: the one calls nobody, the other always."""
HINDSIGHT = "hindsight"
PER_SEED = "{seed}"
"""Stands in the name of a selector's file for the seed, of which each has a selector of its own then."""


@dataclass(frozen=True, order=True)
class StreamCellKey:
    """One run along one stream. calls: share of frames; 0 for a method of SHARELESS_KINDS. trial: -1 outside tuning."""

    method: str
    trial: int
    calls: float
    seed: int
    stream: str

    def __str__(self) -> str:
        trial = f"-t{self.trial}" if self.trial >= 0 else ""
        calls = f"-calls{100 * self.calls:g}" if self.calls else ""
        return f"{self.method}{trial}{calls}-s{self.seed}-{self.stream}"


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How a method learns."""

    update: Update
    replay: Replay


def shares_of(spec: StreamStudySpec, method: str) -> list[float]:
    """Shares of calls that a method is run at: [0] for one of SHARELESS_KINDS."""
    return [0.0] if spec.methods[method].kind in SHARELESS_KINDS else spec.methods[method].calls or spec.calls


def depends_on_seed(method: MethodSpec) -> bool:
    """Whether two seeds can give unlike numbers: a method that draws nothing is run once and stands for every seed."""
    return method.kind not in SEEDLESS_KINDS or method.policy in SEEDED or PER_SEED in method.policy or method.wrong > 0


def cells_to_run(spec: StreamStudySpec, methods: Sequence[str] | None = None) -> list[StreamCellKey]:
    """The cells of the test phase, seed after seed."""
    return [
        StreamCellKey(name, -1, share, seed, stream)
        for seed in spec.seeds
        for stream in spec.test_streams
        for name in (spec.methods if methods is None else methods)
        for share in shares_of(spec, name)
        if depends_on_seed(spec.methods[name]) or seed == spec.seeds[0]
    ]


def trial_cells(spec: StreamStudySpec, method: str) -> list[StreamCellKey]:
    """The cells of the tuning phase of a method with trials."""
    return [
        StreamCellKey(method, trial, spec.tuning.calls, seed, stream)
        for trial in range(len(spec.methods[method].trials))
        for seed in spec.tuning.seeds
        for stream in spec.tuning.streams
    ]


def ways_of(spec: StreamStudySpec, key: StreamCellKey, chosen: ChosenTrials) -> Ways:
    """Update and replay of a cell. Raises ConfigError for settings that cannot be used, or a choice that is missing."""
    method = spec.methods[key.method]
    over: Mapping[str, Any] = {}
    if key.trial >= 0:
        over = method.trials[key.trial]
    elif method.trials or method.tuned_as:
        over = chosen[method.tuned_as or key.method]
    settings = merged({"update": spec.update, "replay": spec.replay}, {"update": method.update, "replay": method.replay}, over)
    stray = [name for name in settings if name not in ("update", "replay")]
    if stray:
        raise ConfigError(f"methods.{key.method}: a trial sets update.* and replay.*, not '{stray[0]}'")
    ways = _built_ways(json.dumps(settings, sort_keys=True))
    return dataclasses.replace(ways, replay=dataclasses.replace(ways.replay, seed=key.seed))


@functools.lru_cache(maxsize=256)  # cells of one method differ in seed, stream and share alone, and typed reading is slow
def _built_ways(settings: str) -> Ways:
    content = json.loads(settings)
    return Ways(update=built(Update, content["update"]), replay=built(Replay, content["replay"]))


def check_methods(spec: StreamStudySpec) -> None:
    """Raise ConfigError for a method whose policy nobody knows, or whose settings, in any trial, cannot be used."""
    for name, method in spec.methods.items():
        _check_policy(name, method.policy)
        for trial in range(-1, len(method.trials)):
            untuned = trial < 0
            nothing: ChosenTrials = {other: {} for other in spec.methods}
            ways = ways_of(spec, StreamCellKey(name, trial, spec.calls[0], spec.seeds[0], spec.test_streams[0]), nothing)
            if ways.update.loss in NEEDS_HEADS and not spec.oracle.heads:
                raise ConfigError(f"methods.{name}: the loss {ways.update.loss} needs raw heads", hint="oracle.heads: true")
            if untuned and spec.oracle.heads and method.wrong:
                raise ConfigError(f"methods.{name}: raw heads are not made wrong", hint="an oracle without heads, or wrong: 0")


def _check_policy(method: str, policy: str) -> None:
    """A file of a selector has a suffix, so that a name without one is a policy, if need be misspelt."""
    known = (*BARE, HINDSIGHT)
    if policy not in known and not Path(policy).suffix:
        raise unknown_name("key-frame policy", policy, known, where=f"methods.{method}", or_else="the file of a trained selector")


def identity_of(spec: StreamStudySpec, key: StreamCellKey, chosen: ChosenTrials) -> dict[str, Any]:
    """All settings that the numbers of a cell depend on, as plain nested values; files stand in it by their names."""
    method = spec.methods[key.method]
    learns = method.kind in ("learn", "first_tenth")
    ways = dataclasses.asdict(ways_of(spec, key, chosen)) if learns else {}
    update = ways.get("update", {})
    for name, value in LATER.items():
        if update.get(name) == value:
            del update[name]
    return {
        "kind": method.kind,
        "policy": method.policy if method.kind in ("learn", "tracked", "flow") else None,
        "calls": key.calls,
        "wrong": method.wrong,
        **ways,
        "student": dataclasses.asdict(spec.student),
        "oracle": dataclasses.asdict(spec.oracle),
        "stream": dataclasses.asdict(spec.streams[key.stream]),
        **{name: getattr(spec, name) for name in ("iou", "score", "threads")},
    }
