"""Synthetic studies and runs for the tests of the report."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np

from vidkd.bench.intervals import Cell
from vidkd.bench.summary import Method, Metric, Paired, build_summary
from vidkd.report.parts import Strip
from vidkd.report.strips import Moment, Part, clip_strip, observed_strip

NASTY = "<b>&\"'; $x^2$ </script><script>alert(1)</script>"


def cells_of(accuracy: float, noise: int, *, seeds: int = 5, folds: int = 3, groups: int = 12, clips: int = 6) -> list[Cell]:
    rng = np.random.default_rng(noise)
    names = np.repeat([f"g{group:02d}" for group in range(groups)], clips)
    return [
        Cell(seed=seed, place=str(fold), correct=rng.random(len(names)) < accuracy, group=names)
        for fold in range(folds)
        for seed in range(seeds)
    ]


def make_study(**shape: int) -> tuple[dict, dict[str, list[Cell]]]:
    accuracies = {"student alone": 0.52, "logits (KD)": 0.57, "attention transfer": 0.6, "attention distillation": 0.67, "D3D": 0.61}
    cells = {name: cells_of(accuracy, number, **shape) for number, (name, accuracy) in enumerate(accuracies.items())}
    methods = {
        name: Method(
            metrics={
                "top1": Metric.of_cells(owned, draws=500),
                **{
                    f"top1@labels{percent}": Metric.of_cells(
                        cells_of(accuracies[name] * (0.5 + percent / 200), percent, **shape), draws=500
                    )
                    for percent in (10, 25, 50, 100)
                },
                "latency_ms@b1t1": Metric(values={"0/0": 8.25}),
            },
            train_seconds=412.0,
            parameters=1_234_567,
        )
        for name, owned in cells.items()
    }
    base = "student alone"
    paired = [Paired.of_cells(name, owned, base, cells[base], metric="top1", draws=500) for name, owned in cells.items() if name != base]
    environment = {"vidkd": "0.1.0", "torch": "2.13.0", "processor": "An imaginary CPU with a rather long name @ 2.60GHz", "cores": "2"}
    return build_summary("attention_motion_shapes", {"name": "motion_shapes", "split": "test"}, environment, methods, paired, 7405.0), cells


def make_run(folder: Path, classes: tuple[str, ...] = ("left", "right", "round", "shake", NASTY), clips: int = 150) -> Path:
    """A run folder with all its files, as `vidkd train` and `vidkd evaluate` leave them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(
        "# vidkd train --config runs/demo/config.yaml\ntask: attention_distillation\nweight: 1.0\nnote: a < b & c\n"
    )
    (folder / "environment.txt").write_text("vidkd: 0.1.0\ntorch: 2.13.0\ncores: 2\n")
    rows: list[dict] = []
    for step in range(10, 1210, 10):
        falling = 2.2 * np.exp(-step / 400) + rng.normal(0, 0.04)
        losses = {"loss": falling + 0.3, "cross_entropy": falling, "attention": 0.3 * np.exp(-step / 800)}
        rows.append({"step": step, "epoch": step / 60, "split": "train", **losses, "lr": 1e-3, "data_wait": 0.1})
        if step % 120 == 0:
            rows.append({"step": step, "split": "val", "top1": 0.85 - 0.6 * np.exp(-step / 300), "nll": falling})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "start_s", "end_s", "group", "label", "predicted", "correct", *(f"p_{name}" for name in classes)])
        for number in range(clips):
            label = number % len(classes)
            scores = rng.normal(0, 1, len(classes)) + 2.0 * (np.arange(len(classes)) == label)
            chances = np.exp(scores) / np.exp(scores).sum()
            guess = int(chances.argmax())
            named = classes[label] if number else ""  # the first clip is unlabelled
            writer.writerow([f"v{number}.mp4", 0.0, "", f"g{number % 10}", named, classes[guess], int(guess == label), *chances])
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.pt").write_bytes(b"weights")
    evaluation = {"split": "test", "checkpoint": hashlib.sha256(b"weights").hexdigest()}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def make_observed_run(folder: Path, fractions: tuple[float, ...]) -> Path:
    """A run of early recognition that was judged at every fraction; the more is observed the more is right."""
    make_run(folder)
    (folder / "config.yaml").write_text(
        "# vidkd train --config runs/early/config.yaml\ntask: anticipation\nteacher: runs/teacher\ndata:\n  window: {frames: 8}\n"
        f"  observe: {{protocol: early, fractions: {list(fractions)}, teacher_sees: whole, teacher_frames: 16}}\n"
    )
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    rng = np.random.default_rng(1)
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*head[:7], "observed", *head[7:]])
        for fraction in fractions:
            for row in rows:
                wrong = fraction < rng.random() and row[4] == "left"
                writer.writerow([*row[:5], "right" if wrong else row[5], 0 if wrong else row[6], f"{fraction:g}", *row[7:]])
    return folder


def observed_study(names: tuple[str, ...], percents: tuple[int, ...] = (10, 20, 30, 50, 70, 90, 100)) -> dict:
    """The summary of a study of methods judged at every share, compared with the first at 20 %, 50 % and in the mean from 20 to 50 %."""
    rng, groups = np.random.default_rng(2), np.repeat([f"g{group}" for group in range(10)], 6)
    cells: dict[str, dict[str, list[Cell]]] = {}
    for number, name in enumerate(names):
        metrics: dict[str, list[Cell]] = {}
        for seed in range(3):
            hard = rng.random(len(groups))
            right = {percent: (hard < (0.35 + 0.04 * number) + 0.45 * percent / 100).astype(float) for percent in percents}
            scores = {f"top1@obs{percent}": found for percent, found in right.items()}
            scores |= {"top1": np.mean(list(right.values()), axis=0), "top1_area": np.mean(list(right.values()), axis=0)}
            scores["top1@obs20-50"] = np.mean([found for percent, found in right.items() if 20 <= percent <= 50], axis=0)
            for metric in ("top1", "top1_area", "top1@obs20-50", *scores):
                if len(metrics.get(metric, [])) <= seed:
                    metrics.setdefault(metric, []).append(Cell(seed=seed, place="1", correct=scores[metric], group=groups))
        cells[name] = metrics
    methods = {
        name: Method(
            metrics={metric: Metric.of_cells(owned, draws=200) for metric, owned in metrics.items()}, train_seconds=60.0, parameters=9
        )
        for name, metrics in cells.items()
    }
    first, *others = names
    paired = [
        Paired.of_cells(name, cells[name][metric], first, cells[first][metric], metric=metric, draws=200)
        for name in others
        for metric in ("top1", "top1@obs20-50", "top1@obs20", "top1@obs50")
    ]
    return build_summary("early", {"name": "ut_interaction", "subset": "test", "reference": first}, {"torch": "2"}, methods, paired, 60.0)


def make_observed_strip() -> Strip:
    """An observed part of noise, a future of stripes with flow, and attention of both."""
    rng = np.random.default_rng(0)
    seen = Part(rgb=rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), attention={"student": (rng.random((4, 8, 8)), 0.0)})
    stripes = np.tile(np.repeat(np.array([60, 200], np.uint8), 8), (8, 64, 4))[..., None].repeat(3, -1)
    comes = Part(rgb=stripes, flow=np.full((8, 64, 64, 2), (-3, 0), np.float32), attention={"teacher": (rng.random((4, 8, 8)), 0.0)})
    moment = Moment(observed_s=(0.0, 0.8), future_s=(1.8, 3.0))
    return observed_strip(seen, comes, moment, taught=True, label="left", predicted="right", name="clip_7")


def make_strip(label: str = "left", predicted: str = "left", *, frames: int = 8, size: int = 64) -> Strip:
    """A disc that moves to the left over noise, with its exact flow and two attention maps."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, (size, size, 3), dtype=np.uint8)
    y, x = np.mgrid[:size, :size]
    rgb, flow = np.repeat(ground[None], frames, 0), np.zeros((frames, size, size, 2), np.float32)
    for time in range(frames):
        disc = (x - (size - 12 - 5 * time)) ** 2 + (y - size // 2) ** 2 < 64
        rgb[time][disc] = (220, 120, 40)
        flow[time][disc] = (-5, 0)
    grid = (
        np.exp(-((np.arange(8)[None, :] - np.linspace(6, 2, frames // 2)[:, None]) ** 2))[:, None, :]
        * np.exp(-((np.arange(8) - 4.0) ** 2))[None, :, None]
    )
    teacher = grid / grid.sum(axis=(1, 2), keepdims=True)
    student = 0.6 * teacher + 0.4 / 64
    part = Part(rgb=rgb, flow=flow, attention={"teacher": (teacher, 0.0), "student": (student, 0.0)})
    return clip_strip(part, label=label, predicted=predicted, name=f"{label}/clip_001.mp4")
