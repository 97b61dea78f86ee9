"""A whole benchmark: open all models, count and judge them, time them in turn, and start each of them in fresh processes."""

import contextlib
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from vidkd.base.cores import check_threads
from vidkd.base.errors import CheckpointError, VidkdError
from vidkd.base.settings import read_flags
from vidkd.base.timing import timed
from vidkd.bench.speed.accuracy import Accuracy, check_data_set, check_same_kind, judge_clips, judge_frames, shown_clips, shown_frames
from vidkd.bench.speed.cold_start import ColdStart, cold_start
from vidkd.bench.speed.config import Benchmark, BenchmarkConfig, DataSpec, ShapeSpec, located
from vidkd.bench.speed.cost import Cost, cost_of
from vidkd.bench.speed.direct import NetworkInput
from vidkd.bench.speed.end_to_end import ClipReader, FrameReader, Parts, Reader, end_to_end_block, samples_of
from vidkd.bench.speed.machine import load, machine, tell_cuda, tf32_in_libraries
from vidkd.bench.speed.opening import FrameInput, OpenModel, open_model
from vidkd.bench.speed.rounds import Clock, block, calls_in, clock_of, interleave
from vidkd.detection.annotations import BoxManifest
from vidkd.engine.checkpoint import warn_if_unfinished
from vidkd.engine.devices import keep_freed_memory
from vidkd.engine.interrupts import Interrupt

log = logging.getLogger(__name__)

Rounds = list[list[float]]
"""Seconds of calls, by round."""


@dataclass(frozen=True, order=True)
class Condition:
    """Samples answered at once, and threads."""

    batch: int
    threads: int

    def __str__(self) -> str:
        return f"b{self.batch}t{self.threads}"


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """What was found out of one model.

    what: the file, folder or name as the benchmark wrote it. latency: seconds of calls, by round. end_to_end: seconds of the parts from
    file to answer, by round; of single samples. accuracy: None for what is not judged. cold: empty if one failed; cold_failure: why.
    """

    label: str
    what: str
    runs_on: str
    input: str
    kind: str
    cost: Cost
    accuracy: Accuracy | None
    latency: Mapping[Condition, Rounds]
    end_to_end: Mapping[Condition, Sequence[Parts]]
    cold: Sequence[ColdStart]
    cold_failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """All models of a benchmark by label, and what they were measured with.

    config: as the benchmark wrote it, wherever its files were found. data: name of the data set; None where noise was shown. manifest: a
    hash of what its clips or annotated frames are; None where there are none. device: what was asked for. interrupted: the user
    stopped it, so there are fewer rounds or cold starts than the configuration asks for.
    """

    config: BenchmarkConfig
    models: Mapping[str, ModelResult]
    data: str | None
    environment: Mapping[str, str]
    manifest: str | None = None
    device: str = "auto"
    interrupted: bool = False
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What one model is shown: a reader of the data set where there is one (a new one for each call of `reader`), and a full batch.

    data: name of the data set. manifest: a hash of what its clips or annotated frames are.
    """

    reader: Callable[[], Reader] | None
    batch: NDArray[Any]
    accuracy: Accuracy | None = None
    data: str | None = None
    manifest: str | None = None


def run_benchmark(benchmark: Benchmark, *, device: str = "auto") -> Results:
    """Measure everything that the configuration asks for.

    Ctrl-C ends the timings with the round that runs, and complete rounds are returned, or KeyboardInterrupt raised if none is complete.

    Raises ConfigError, DataError and CheckpointError, naming the model, for what cannot be found, opened, judged, compared or started in a
    fresh process; nothing is timed before all of that is known. A fresh process that fails later is reported in `ModelResult.cold_failure`.
    """
    check_threads(*benchmark.config.threads, where="threads")
    with tf32_in_libraries(benchmark.config.tf32):
        return _measured(benchmark, device)


def _measured(benchmark: Benchmark, device: str) -> Results:
    begun = time.monotonic()
    config = located(benchmark)
    keep_freed_memory()  # or the time of a call would depend on which sizes other models have allocated and freed before it
    if config.data is not None:
        frames = bool(config.data.of_frames) or all(spec.detector for spec in config.models.values())
        check_data_set(config.data, detectors=frames, given=_place_of_root(benchmark))
    environment = {**machine(), **tell_cuda(torch, tf32=config.tf32)}
    opened = {label: _open(config, label, config.threads[0], device) for label in config.models}
    check_same_kind(opened)
    _try_cold_starts(config, device)
    shown = _shown(dataclasses.replace(benchmark, config=config), opened)
    log.info("counting parameters and multiply-accumulates")
    costs = {}
    for label, model in opened.items():
        with _named(label):
            costs[label] = cost_of(config.models[label], model)
    by_threads = {(label, config.threads[0]): model for label, model in opened.items()}
    by_threads |= {(label, count): _open(config, label, count, device) for count in config.threads[1:] for label in config.models}
    interrupt = Interrupt("finishing the round; what whole rounds tell is written")
    with interrupt.caught():
        latency, end_to_end = _timed(config, by_threads, shown, interrupt)
        cold, failures = ({}, {}) if interrupt.asked else _cold_starts(config, shown, opened, device, interrupt)
    environment["load after"] = load()
    models = {
        label: ModelResult(
            label=label,
            what=benchmark.config.models[label].what,
            runs_on=model.runs_on,
            input=str(_input_of(model, shown[label])),
            kind=model.kind,
            cost=costs[label],
            accuracy=shown[label].accuracy,
            latency=latency[label],
            end_to_end=end_to_end[label],
            cold=cold.get(label, ()),
            cold_failure=failures.get(label),
        )
        for label, model in opened.items()
    }
    data, manifest = (next((name for each in shown.values() if (name := getattr(each, key))), None) for key in ("data", "manifest"))
    seconds = round(time.monotonic() - begun, 1)
    return Results(
        config=benchmark.config,
        models=models,
        data=data,
        environment=environment,
        manifest=manifest,
        device=device,
        interrupted=interrupt.asked,
        seconds=seconds,
    )


def _open(config: BenchmarkConfig, label: str, threads: int, device: str) -> OpenModel:
    spec = config.models[label]
    with _named(label):
        if threads == config.threads[0]:
            log.info("opening %s: %s", label, spec.what)
            if spec.is_run:
                warn_if_unfinished(spec.what)
        return open_model(spec, threads=threads, device=device, shape=config.shape)


def _shown(benchmark: Benchmark, opened: Mapping[str, OpenModel]) -> dict[str, _Shown]:
    """What every model is shown, and how well it does on it."""
    config, most = benchmark.config, max(benchmark.config.batches)
    if config.data is None:
        return {label: _noise(model, most, None, config.seed) for label, model in opened.items()}
    if next(iter(opened.values())).kind == "detector":
        runs = any(spec.is_run for spec in config.models.values())
        return _shown_frames(shown_frames(config.data, runs=runs), opened, most, config.seed)
    return _shown_clips(benchmark, config.data, opened, most)


def _noise(model: OpenModel, most: int, data: str | None, seed: int) -> _Shown:
    return _Shown(reader=None, batch=model.input.noise(most, seed), data=data)


def _shown_frames(truth: BoxManifest, opened: Mapping[str, OpenModel], most: int, seed: int) -> dict[str, _Shown]:
    batch = samples_of(FrameReader(truth), most)
    found = {}
    for label, model in opened.items():
        if isinstance(model.input, NetworkInput):
            found[label] = _noise(model, most, truth.name, seed)
            continue
        with _named(label):
            log.info("judging %s", label)
            model.begin()
            accuracy = judge_frames(model, truth)
        identity = None if accuracy.drawn is None else accuracy.drawn.on.samples
        found[label] = _Shown(reader=partial(FrameReader, truth), batch=batch, accuracy=accuracy, data=truth.name, manifest=identity)
    return found


def _shown_clips(benchmark: Benchmark, spec: DataSpec, opened: Mapping[str, OpenModel], most: int) -> dict[str, _Shown]:
    """The data set is read for every model before any is judged: what does not fit is found at once."""
    direct = {label for label, model in opened.items() if isinstance(model.input, NetworkInput)}
    sets = {}
    for label, model in opened.items():
        if label in direct:
            continue
        with _named(label):
            sets[label] = shown_clips(model, spec, _place_of_root(benchmark))
    found = {}
    for label, model in opened.items():
        if label in direct:
            found[label] = _noise(model, most, None, benchmark.config.seed)
            continue
        data, clips = sets[label]
        accuracy = None
        with _named(label):
            model.begin()
            if model.trained:
                log.info("judging %s", label)
                accuracy = judge_clips(model, spec, data, clips, amp=benchmark.config.models[label].amp)
            # what cannot be observed was found out by judging, and nothing of it can be read
            seen = clips if accuracy is None else clips.without(spec.subset, accuracy.unobservable)
            reader = partial(ClipReader, model, spec, data, seen)
            batch = samples_of(reader(), most)
        found[label] = _Shown(reader=reader, batch=batch, accuracy=accuracy, data=clips.manifest.name, manifest=clips.data)
    return found


def _place_of_root(benchmark: Benchmark) -> str:
    key = "data.manifest" if benchmark.config.data is not None and benchmark.config.data.manifest else "data.root"
    flag = any(flag == f"--{key}" for flag, _ in read_flags(benchmark.overrides))
    return f"--{key} on the command line" if flag else f"{key} in {benchmark.path}"


def _timed(
    config: BenchmarkConfig, models: Mapping[tuple[str, int], OpenModel], shown: Mapping[str, _Shown], interrupt: Interrupt
) -> tuple[dict[str, dict[Condition, Rounds]], dict[str, dict[Condition, list[Parts]]]]:
    """All models under all conditions, and their way from the file, in turn within every round."""
    log.info("first calls of every model under every condition")
    turns: dict[tuple[str, str, Condition], Callable[[], Any]] = {}
    for batch, (label, threads) in itertools.product(config.batches, models):
        model, samples = models[label, threads], shown[label].batch[:batch]
        with _named(label):
            turns["latency", label, Condition(batch, threads)] = _turn(config, model, samples)
    if config.end_to_end:
        for (label, threads), model in models.items():
            read = shown[label].reader
            if read is not None:
                turns["end_to_end", label, Condition(1, threads)] = partial(
                    end_to_end_block, model, read(), calls=config.end_to_end, clock=clock_of(model.clock_device), host=timed
                )
    measured = interleave(
        turns,
        rounds=config.rounds,
        warmup=config.warmup_rounds,
        on_round=partial(_say_round, config),
        is_over=lambda: interrupt.asked,
    )
    if not all(measured.values()):
        raise KeyboardInterrupt
    labels = dict.fromkeys(label for label, _ in models)
    latency, end_to_end = (
        {
            label: {condition: rounds for (kind, whose, condition), rounds in measured.items() if (kind, whose) == (wanted, label)}
            for label in labels
        }
        for wanted in ("latency", "end_to_end")
    )
    return latency, end_to_end


def _say_round(config: BenchmarkConfig, number: int) -> None:
    if number <= config.warmup_rounds:
        log.info("warm-up round %d of %d", number, config.warmup_rounds)
    else:
        log.info("round %d of %d", number - config.warmup_rounds, config.rounds)


def _turn(config: BenchmarkConfig, model: OpenModel, samples: NDArray[Any]) -> Callable[[], list[float]]:
    """One turn of one model: as many calls as its time allows, estimated from the quickest of three that follow a first one."""
    clock = clock_of(model.clock_device)
    model.begin()
    quickest = min(block(partial(model.answer, samples), calls=3, clock=clock))
    return partial(_block, model, samples, calls_in(quickest, block_s=config.block_s, most=config.calls), clock)


def _block(model: OpenModel, samples: NDArray[Any], calls: int, clock: Clock) -> list[float]:
    model.begin()
    return block(partial(model.answer, samples), calls=calls, clock=clock)


def _try_cold_starts(config: BenchmarkConfig, device: str) -> None:
    """A fresh process of every model before anything is judged or timed, so that what cannot be started is known by then."""
    if config.cold_starts:
        log.info("a fresh process of each model, to see whether it starts")
        for label in config.models:
            with _named(label):
                _cold_start(config, label, device, config.shape)


def _cold_start(config: BenchmarkConfig, label: str, device: str, shape: ShapeSpec) -> ColdStart:
    limit_s = config.cold_start_limit_s
    return cold_start(config.models[label], threads=config.threads[0], device=device, shape=shape, limit_s=limit_s)


def _cold_starts(
    config: BenchmarkConfig, shown: Mapping[str, _Shown], opened: Mapping[str, OpenModel], device: str, interrupt: Interrupt
) -> tuple[dict[str, list[ColdStart]], dict[str, str]]:
    """Fresh processes of all models in turn, on the first number of threads; the first turn, which fills caches, does not count.

    Of a model of which one fails no more are started, none counts, and the reason is reported; all else continues.
    """
    if not config.cold_starts:
        return {}, {}
    log.info("cold starts: %d of each model", config.cold_starts)
    failures: dict[str, str] = {}

    def start(label: str, shape: ShapeSpec) -> ColdStart | None:
        if label in failures:
            return None
        try:
            return _cold_start(config, label, device, shape)
        except CheckpointError as error:
            failures[label] = ": ".join([error.what, *error.lines.values()][:2])
            log.warning("cold start of %s failed: %s", label, failures[label])
            return None

    turns = {label: partial(start, label, _shape_for(config.shape, opened[label], shown[label].batch)) for label in config.models}
    found = interleave(turns, rounds=config.cold_starts, warmup=1, is_over=lambda: interrupt.asked)
    return {label: [one for one in starts if one is not None] for label, starts in found.items() if label not in failures}, failures


def _shape_for(shape: ShapeSpec, model: OpenModel, batch: NDArray[Any]) -> ShapeSpec:
    """Frames as large as those that the detector is shown here."""
    if not isinstance(model.input, FrameInput):
        return shape
    return dataclasses.replace(shape, height=batch.shape[1], width=batch.shape[2])


def _input_of(model: OpenModel, shown: _Shown) -> object:
    """What a model is shown, with the size of the frames that it really was."""
    if not isinstance(model.input, FrameInput):
        return model.input
    return dataclasses.replace(model.input, height=shown.batch.shape[1], width=shown.batch.shape[2])


@contextlib.contextmanager
def _named(label: str) -> Iterator[None]:
    """Errors say which model they are of."""
    try:
        yield
    except VidkdError as error:
        lines = {name.replace(" ", "_"): text for name, text in error.lines.items()}
        raise type(error)(error.what, **{**lines, "model_of_the_benchmark": label}) from error
