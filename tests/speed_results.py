"""A made-up benchmark of three models, one of them with random weights, whose figures can be told with a pencil."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vidkd.bench.draws import metric_interval
from vidkd.bench.intervals import Cell
from vidkd.bench.speed.accuracy import Accuracy
from vidkd.bench.speed.cold_start import ColdStart
from vidkd.bench.speed.config import BenchmarkConfig, DataSpec, ModelSpec
from vidkd.bench.speed.cost import Cost
from vidkd.bench.speed.rounds import Figure
from vidkd.bench.speed.run import Condition, ModelResult, Results

ENVIRONMENT = {"processor": "An imaginary CPU", "cores": "2", "cores of this process": "2", "load before": "0.10", "torch": "2.13.0"}
PACES = (1.0, 1.2, 0.9, 3.0, 1.1)
"""How slow the machine was in each round."""
FRAMES = ("hash of the frames", "person")


def accuracy(right: int) -> Accuracy:
    """Of 40 clips in 10 groups the first `right` are right; the mean over classes is the same."""
    correct = np.arange(40) < right
    group = [f"g{number // 4}" for number in range(40)]
    cell = Cell(seed=0, place="1", correct=correct, group=group, clip=[f"c{number}" for number in range(40)])
    top1 = Figure(value=right / 40, ci95=(right / 40 - 0.1, right / 40 + 0.1), n=40)
    return Accuracy(
        metrics={"top1": top1, "class_mean": Figure(value=right / 40), "ece": Figure(value=0.05)},
        cell=cell,
        on="40 clips of 'test', one window and crop of each, 10 groups",
    )


def model(
    label: str, seconds: float, *, right: int | None, flow: bool = False, macs: int | None = 10**8, notes: tuple[str, ...] = ()
) -> ModelResult:
    """A model that takes `seconds` for one clip on one thread, twice as much for four, and half of that on two threads."""
    conditions = {Condition(batch, threads): seconds * work / threads for batch, work in ((1, 1), (4, 2)) for threads in (1, 2)}
    parts = {"end_to_end": seconds + 0.01 + 0.02 * flow, "decode": 0.01, "model": seconds, **({"flow": 0.02} if flow else {})}
    return ModelResult(
        what=f"runs/{label}",
        runs_on="torch",
        input="rgb 8x64x64",
        kind="classifier",
        cost=Cost(parameters=None if macs is None else macs // 100, macs=macs, macs_torch=macs, file_bytes=2**20, notes=notes),
        accuracy=None if right is None else accuracy(right),
        latency={condition: [[one * pace] * 4 for pace in PACES] for condition, one in conditions.items()},
        end_to_end={Condition(1, 1): [{name: [one * pace] * 2 for name, one in parts.items()} for pace in PACES]},
        cold=[
            ColdStart(
                total_s=100 * seconds * pace,
                answer_s=seconds,
                peak_bytes=2**28,
                peak_gpu_bytes=None,
            )
            for pace in PACES
        ],
    )


def detector(label: str, ap50: float, draws: NDArray[np.float64], on: tuple[str, ...] = FRAMES) -> ModelResult:
    """A detector of 10 ms a frame with this AP50, and these in draws of frames."""
    judged = Accuracy(
        metrics={"ap50": Figure(value=ap50, ci95=metric_interval("ap50", draws), n=20)},
        on="20 frames of made_up",
        draws={"ap50": draws} if len(draws) else {},
        samples=on,
    )
    return dataclasses.replace(model(label, 0.010, right=None), kind="detector", input="frames 64x48", accuracy=judged)


def results(against: Mapping[str, str] | None = None, **over: ModelResult) -> Results:
    """`original` in 20 ms, `small` in 5 ms, `peer` in 100 ms; models of `over` in place of theirs, or next to them.

    against: the labels of models that are not compared with `original`, and of what they are.
    """
    models = {
        "original": model("original", 0.020, right=30),
        "small": model("small", 0.005, right=28, macs=None, notes=("multiply-accumulates: not in the file",)),
        "peer": model("peer", 0.100, right=None),
        **over,
    }
    specs = {label: ModelSpec(checkpoint=each.what, reference=(against or {}).get(label)) for label, each in models.items()}
    config = BenchmarkConfig(
        name="made_up",
        models=specs,
        data=DataSpec(root="somewhere"),
        batches=[1, 4],
        threads=[1, 2],
        rounds=len(PACES),
        cold_starts=len(PACES),
    )
    return Results(config=config, models=models, data="made_up_clips", environment=ENVIRONMENT, seconds=61.0)
