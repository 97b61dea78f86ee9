"""A whole benchmark: open all models, count and judge them, time them in turn, and start each of them in fresh processes."""

import contextlib
import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray

from vidkd.base.cores import available_cores, check_threads, processor_flags
from vidkd.base.errors import CheckpointError, ConfigError, VidkdError
from vidkd.base.settings import place_of
from vidkd.bench.speed.accuracy import Accuracy, check_data_set, judge_clips, judge_frames, shown_clips, shown_frames
from vidkd.bench.speed.cold_start import ColdStart, cold_start
from vidkd.bench.speed.config import BenchmarkConfig, DataSpec, ShapeSpec, located
from vidkd.bench.speed.cost import Cost, cost_of
from vidkd.bench.speed.end_to_end import ClipReader, FrameReader, Parts, Reader, end_to_end_block, samples_of
from vidkd.bench.speed.opening import OpenModel, frame_input, open_model
from vidkd.bench.speed.rounds import block, clock_of, interleave
from vidkd.engine.checkpoint import warn_if_unfinished
from vidkd.engine.devices import environment, keep_freed_memory
from vidkd.engine.interrupts import Interrupt
from vidkd.runtime.networks import TF32_OVERRIDE

log = logging.getLogger(__name__)
Rounds: TypeAlias = list[list[float]]
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
    """What was measured of one model.

    what: the file, folder or name as the benchmark wrote it. input: one sample, in words. latency: seconds of calls, by round. end_to_end:
    seconds of the parts from file to answer, by round; of single samples. accuracy: None for what is not judged. cold: empty if one failed;
    cold_failure: why.
    """

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
class Shown:
    """What one model is shown: a full batch, and where there is a data set a reader of it (a new one for each call of `reader`).

    data: name of the data set. manifest: a hash of what its clips or annotated frames are.
    """

    batch: NDArray[Any]
    reader: Callable[[], Reader] | None = None
    accuracy: Accuracy | None = None
    data: str | None = None
    manifest: str | None = None


def run_benchmark(asked: BenchmarkConfig, *, roots: Sequence[Path] = (), device: str = "auto") -> Results:
    """Measure everything that the configuration asks for. roots: folders below which the files that it names are looked for.

    Ctrl-C ends the timings with the round that runs, and complete rounds are returned, or KeyboardInterrupt raised if none is complete.

    Raises ConfigError, DataError and CheckpointError, naming the model, for what cannot be found, opened, judged, compared or started in a
    fresh process; nothing is timed before all of that is known. A fresh process that fails later is reported in `ModelResult.cold_failure`.
    """
    begun = time.monotonic()
    check_threads(*asked.threads, where="threads")
    config = located(asked, roots)
    keep_freed_memory()  # or the time of a call would depend on which sizes other models have allocated and freed before it
    if config.data is not None:
        frames = bool(config.data.of_frames) or all(spec.detector for spec in config.models.values())
        check_data_set(config.data, detectors=frames, given=_place_of_root(config))
    environment = machine() | without_tf32()
    opened = {label: _open(config, label, config.threads[0], device) for label in config.models}
    kinds = {model.kind: label for label, model in opened.items()}
    if len(kinds) > 1:
        raise ConfigError("classifiers and detectors in one benchmark", **dict(kinds), hint="benchmark them apart")
    if config.cold_starts:
        log.info("a fresh process of each model, to see whether it starts")
        for label in config.models:
            with _named(label):
                _cold_start(config, label, device, config.shape)
    shown = _shown(config, opened)
    log.info("counting parameters and multiply-accumulates")
    costs = {}
    for label, model in opened.items():
        with _named(label):
            costs[label] = cost_of(config.models[label], model)
    by_threads = {(label, config.threads[0]): model for label, model in opened.items()}
    by_threads |= {(label, count): _open(config, label, count, device) for count in config.threads[1:] for label in config.models}
    interrupt = Interrupt("finishing the round; complete rounds are written")
    with interrupt.caught():
        measured = _timed(config, by_threads, shown, interrupt)
        cold, failures = ({}, {}) if interrupt.asked else _cold_starts(config, shown, opened, device, interrupt)
    environment["load after"] = load()
    models = {}
    for label, model in opened.items():
        latency, end_to_end = (
            {condition: rounds for (kind, whose, condition), rounds in measured.items() if (kind, whose) == (wanted, label)}
            for wanted in ("latency", "end_to_end")
        )
        models[label] = ModelResult(
            what=asked.models[label].what,
            runs_on=model.runs_on,
            input=(frame_input(*shown[label].batch.shape[1:3]) if _sees_frames(config, label, model) else model.input).words,
            kind=model.kind,
            cost=costs[label],
            accuracy=shown[label].accuracy,
            latency=latency,
            end_to_end=end_to_end,
            cold=cold.get(label, ()),
            cold_failure=failures.get(label),
        )
    return Results(
        config=asked,
        models=models,
        data=next((each.data for each in shown.values() if each.data), None),
        environment=environment,
        manifest=next((each.manifest for each in shown.values() if each.manifest), None),
        device=device,
        interrupted=interrupt.asked,
        seconds=round(time.monotonic() - begun, 1),
    )


def _open(config: BenchmarkConfig, label: str, threads: int, device: str) -> OpenModel:
    spec = config.models[label]
    with _named(label):
        if threads == config.threads[0]:
            log.info("opening %s: %s", label, spec.what)
            if spec.is_run:
                warn_if_unfinished(spec.what)
        return open_model(spec, threads=threads, device=device, shape=config.shape)


def _sees_frames(config: BenchmarkConfig, label: str, model: OpenModel) -> bool:
    return model.kind == "detector" and config.models[label].direct is None


def _place_of_root(config: BenchmarkConfig) -> str:
    return place_of(config, "data.manifest" if config.data is not None and config.data.manifest else "data.root")


def _shown(config: BenchmarkConfig, opened: Mapping[str, OpenModel]) -> dict[str, Shown]:
    """What every model is shown, and how well it does on it; noise where there is no data set, and for networks that are called directly.

    The data set is read for every model before any is judged: what does not fit is found at once.
    """
    most, data = max(config.batches), config.data
    found = {label: Shown(batch=model.input.noise(most, config.seed)) for label, model in opened.items()}
    seen = {label: model for label, model in opened.items() if data is not None and config.models[label].direct is None}
    if data is None or not seen:
        return found
    if next(iter(opened.values())).kind == "detector":
        truth = shown_frames(data, runs=any(spec.is_run for spec in config.models.values()))
        batch = samples_of(FrameReader(truth), most)
        for label, model in seen.items():
            with _judging(label, model):
                accuracy = judge_frames(model, truth)
            reader = partial(FrameReader, truth)
            found[label] = Shown(batch=batch, reader=reader, accuracy=accuracy, data=truth.name, manifest=accuracy.samples[0])
        return found
    sets = {}
    for label, model in seen.items():
        with _named(label):
            sets[label] = shown_clips(model, data, _place_of_root(config))
    return found | {label: _shown_clips(label, model, data, *sets[label], most) for label, model in seen.items()}


def _shown_clips(label: str, model: OpenModel, spec: DataSpec, data: Any, clips: Any, most: int) -> Shown:
    """data, clips: of `shown_clips`."""
    accuracy, seen = None, clips
    with _judging(label, model):
        if model.trained:
            accuracy = judge_clips(model, spec, data, clips)
            # what cannot be observed was found out by judging, and nothing of it can be read
            seen = clips.without(spec.subset, accuracy.unobservable)
        reader = partial(ClipReader, model, spec, data, seen)
        batch = samples_of(reader(), most)
    return Shown(batch=batch, reader=reader, accuracy=accuracy, data=clips.manifest.name, manifest=clips.data)


@contextlib.contextmanager
def _judging(label: str, model: OpenModel) -> Iterator[None]:
    with _named(label):
        log.info("judging %s", label)
        model.begin()
        yield


def _timed(
    config: BenchmarkConfig, models: Mapping[tuple[str, int], OpenModel], shown: Mapping[str, Shown], interrupt: Interrupt
) -> dict[tuple[str, str, Condition], list[Any]]:
    """All models under all conditions ("latency"), and their way from the file ("end_to_end"), in turn within every round."""
    log.info("first calls of every model under every condition")
    turns: dict[tuple[str, str, Condition], Callable[[], Any]] = {}
    for batch, (label, threads) in itertools.product(config.batches, models):
        with _named(label):
            turn = _turn(config, models[label, threads], shown[label].batch[:batch])
        turns["latency", label, Condition(batch, threads)] = turn
    for (label, threads), model in models.items():
        if config.end_to_end and (reader := shown[label].reader) is not None:
            clock = clock_of(model.device)
            turn = partial(end_to_end_block, model, reader(), calls=config.end_to_end, clock=clock)
            turns["end_to_end", label, Condition(1, threads)] = turn
    measured = interleave(turns, rounds=config.rounds, is_over=lambda: interrupt.asked)
    if not all(measured.values()):
        raise KeyboardInterrupt
    return measured


def _turn(config: BenchmarkConfig, model: OpenModel, samples: NDArray[Any]) -> Callable[[], Any]:
    """One turn of one model: as many calls as its time allows, estimated from the quickest of three that follow a first one."""
    clock, answer = clock_of(model.device), partial(model.answer, samples)

    def turn(calls: int) -> list[float]:
        model.begin()
        return block(answer, calls=calls, clock=clock)

    return partial(turn, max(1, min(config.calls, int(config.block_s / max(min(turn(3)), 1e-9)))))


def _cold_start(config: BenchmarkConfig, label: str, device: str, shape: ShapeSpec) -> ColdStart:
    return cold_start(config.models[label], threads=config.threads[0], device=device, shape=shape)


def _cold_starts(
    config: BenchmarkConfig, shown: Mapping[str, Shown], opened: Mapping[str, OpenModel], device: str, interrupt: Interrupt
) -> tuple[dict[str, list[ColdStart]], dict[str, str]]:
    """Fresh processes of all models in turn, on the first number of threads; frames are as large as those that a detector is shown here.

    Of a model of which one fails no more are started, none counts, and the reason is reported; all else continues.
    """
    failures: dict[str, str] = {}

    def start(label: str) -> ColdStart | None:
        shape = config.shape
        if _sees_frames(config, label, opened[label]):
            height, width = shown[label].batch.shape[1:3]
            shape = dataclasses.replace(shape, height=height, width=width)
        try:
            return None if label in failures else _cold_start(config, label, device, shape)
        except CheckpointError as error:
            failures[label] = ": ".join([error.what, *error.lines.values()][:2])
            log.warning("cold start of %s failed: %s", label, failures[label])
            return None

    if not config.cold_starts:
        return {}, {}
    log.info("cold starts: %d of each model", config.cold_starts)
    found = interleave({label: partial(start, label) for label in opened}, rounds=config.cold_starts, is_over=lambda: interrupt.asked)
    return {label: [one for one in starts if one is not None] for label, starts in found.items() if label not in failures}, failures


@contextlib.contextmanager
def _named(label: str) -> Iterator[None]:
    """Errors say which model they are of."""
    try:
        yield
    except VidkdError as error:
        raise error.with_lines(model_of_the_benchmark=label) from error


RUNTIMES = ("onnxruntime", "openvino", "ai-edge-litert")
FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
ARM_FLAGS = ("asimd", "asimddp", "sve", "i8mm", "bf16")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def machine() -> dict[str, str]:
    """The rows of `vidkd.engine.devices.environment`, and what else decides speed."""
    rows = {name: value for name, value in environment().items() if name != "threads"}  # each figure has its own
    for name in RUNTIMES:
        try:
            rows[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            rows[name] = "not installed"
    flags = processor_flags()
    return {
        **rows,
        "cores of this process": str(available_cores()),
        "processor flags": " ".join(flag for flag in (*FLAGS, *ARM_FLAGS) if flag in flags) or "unknown",
        "governor": GOVERNOR.read_text(encoding="utf-8").strip() if GOVERNOR.exists() else "unknown",
        "load before": load(),
    }


def load() -> str:
    """Processes that wanted to run in the last minute, on average: other processes make timings noisy."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def without_tf32() -> dict[str, str]:
    """Let a GPU multiply float32 in full precision, in torch, in other libraries and in processes that are started from now on.

    Nothing where CUDA is not in use. Other libraries follow the variable of NVIDIA's, and so do sessions of ONNX Runtime
    (`vidkd.runtime.networks`). Returns what to record of the machine.
    """
    if not torch.cuda.is_available():
        return {}
    os.environ[TF32_OVERRIDE] = "0"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return {"TF32": "off", "CUDA": str(torch.version.cuda)}
