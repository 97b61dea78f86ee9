"""Runs without gradient steps: the head is found at once from the vectors that a frozen network makes of the training clips."""

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import Tensor

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import append_jsonl, atomic_write
from vidkd.base.progress import Progress
from vidkd.base.settings import as_dict
from vidkd.data.config import DataConfig
from vidkd.data.groups import group_folds
from vidkd.data.loaders import evaluation_loader
from vidkd.engine.checkpoint import Progressed, check_same_data, is_finished, save_checkpoint, to_cpu
from vidkd.engine.clips import Clips
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.devices import start_fabric
from vidkd.engine.evaluate import MAIN_METRIC, Judgement, evaluate, judge, judged_set, mean_judgement
from vidkd.engine.interrupts import start
from vidkd.engine.loop import RunResult
from vidkd.engine.metrics import MAIN_HEAD, labels_of
from vidkd.engine.run_folder import RunFolder
from vidkd.engine.setup import build_run_task, learned_record, student_payload
from vidkd.models import VideoClassifier
from vidkd.models.saved import load_classifier, read_checkpoint
from vidkd.tasks.task import Rows, SolvedTask, Task

log = logging.getLogger(__name__)

FOLDS = 5


def solve_in_folder(config: RunConfig, clips: Clips, name: str, *, resume: str, quiet: bool) -> RunResult:
    """Find the head and write the run's folder; one that is finished is returned at once.

    solution.json says how the head was found. Raises ConfigError for several processes, and as `train_in_folder` does.
    """
    fabric = start_fabric(config.train, batch_size=config.data.batch_size)
    if fabric.world_size > 1:
        raise ConfigError(f"task {config.task} runs in one process", processes=fabric.world_size, hint="--train.devices 1")
    folder = RunFolder(Path(config.runs) / name)
    with folder.lock():
        folder.check(config, resume=resume)
        found_finished = is_finished(folder.path)
        if found_finished:
            check_same_data(read_checkpoint(folder.path), clips.data, folder.path)
        else:
            folder.claim(config)
            folder.forget_after(-1)
            _solve(config, clips, folder, fabric.device, quiet)
    progress = read_checkpoint(folder.path)["progress"]
    parameters = sum(parameter.numel() for parameter in load_classifier(folder.path).model.parameters())
    return RunResult(folder.path, progress["step"], progress["best"], progress["seconds"], parameters, found_finished)


def _solve(config: RunConfig, clips: Clips, folder: RunFolder, device: torch.device, quiet: bool) -> None:
    began = time.monotonic()
    manifest = clips.manifest
    task = build_run_task(config, manifest.classes, manifest.targets, clips=clips)
    assert isinstance(task, SolvedTask)
    task.student.to(device).eval()
    every = dataclasses.replace(clips, train=[*clips.train, *clips.unlabelled])
    taught = teacher_probabilities(task, config, every, device, progress="" if quiet else "teacher")
    with torch.no_grad():  # in inference mode no one could ask which parameters a stage has
        record = task.solve(pooled_rows(task.student, every, config.data, device, taught, progress="" if quiet else "pooled vectors"))
    progressed = Progressed(step=1, seconds=time.monotonic() - began, finished=True)
    log.info("%s: %s", folder.path.name, record)
    with atomic_write(folder.path / "solution.json") as file:
        json.dump(record, file, indent=1)
    if clips.val:
        found = judge(task.student, clips, "val", config.data, manifest.classes, device=device, workers=config.data.workers).metrics()
        progressed.best, progressed.best_step = found[MAIN_METRIC], 1
        append_jsonl(folder.metrics_file, {"step": 1, "split": "val", **found})
    payload = student_payload(task.student, clips, learned_record(config, clips))
    content = {
        "student": {**payload, "state": to_cpu(payload["state"])},
        "task": {},
        "optimizer": {},
        "progress": dataclasses.asdict(progressed),
        "run": as_dict(config),
        "data": clips.data,
    }
    save_checkpoint(folder.checkpoints, content)


def teacher_probabilities(task: Task, config: RunConfig, clips: Clips, device: torch.device, *, progress: str = "") -> dict[str, Tensor]:
    """What the teachers' own evaluations say of the training clips: kind of label -> mean of their class probabilities (N, K).

    Each sees its view, its frames and its part of a clip, as its run says; one that is judged at several observed shares the largest.
    Raises DataError for clips of which one can observe nothing.
    """
    judgements = []
    for path, model in zip([config.teacher, *config.more_teachers], task.teachers.values(), strict=False):  # none: a task without a teacher
        shown = progress and f"{progress} {Path(str(path)).name}"
        own, here = load_config(settings=read_checkpoint(Path(str(path)))["run"]).data, config.data
        data = dataclasses.replace(own, features=here.features, cache=here.cache, workers=here.workers, batch_size=here.batch_size)
        dataset = judged_set(model.to(device), clips, "train", data, data.observe.judged_fractions[-1], progress=shown)
        classes = clips.manifest.classes
        found = evaluate(model, dataset, classes, device=device, batch_size=here.batch_size, workers=here.workers, progress=shown)[0]
        if found.unobservable:
            raise DataError(f"the teacher {path} can observe nothing of {found.unobservable[0].path}", hint="a teacher of whole clips")
        judgements.append(Judgement({None: found}))
    if not judgements:
        return {}
    mean = mean_judgement(judgements).fullest
    return {kind: torch.from_numpy(values) for kind, values in {"": mean.probabilities, **mean.targets}.items()}


def pooled_rows(
    model: VideoClassifier, clips: Clips, data: DataConfig, device: torch.device, taught: Mapping[str, Tensor] = {}, *, progress: str = ""
) -> Rows:
    """The pooled vectors of all training clips, read as an evaluation reads them: every window and crop, every observed fraction.

    Clips of which nothing can be observed are left out. taught: `teacher_probabilities`. progress: see `evaluate`. Raises DataError for
    vectors that are not finite.
    """
    vectors, numbers = [], []
    for fraction in data.observe.judged_fractions:
        dataset = judged_set(model, clips, "train", data, fraction, progress=progress)
        loader = evaluation_loader(dataset, data.batch_size, data.workers)
        for batch in Progress(len(loader), progress, every_steps=1 << 60).over(start(loader)):
            if "index" in batch:
                observed = batch.get("observed")
                output = model(move_data_to_device(batch[model.view], device), None if observed is None else observed.to(device))
                vectors.append(output.pooled.float().cpu())
                numbers.append(batch["index"])
    index, pooled = torch.cat(numbers), torch.cat(vectors)
    if not pooled.isfinite().all():
        raise DataError("pooled vectors are not finite", hint="more data.window.frames: pooling 'difference' needs two frames of features")
    train = clips.subset("train", data.split)
    labels = {kind: torch.from_numpy(labels_of(train, kind or MAIN_HEAD))[index] for kind in ("", *model.targets)}
    folds = torch.tensor(group_folds(train, FOLDS, data.split_seed))
    return Rows(pooled, labels, folds[index], {kind: of[index] for kind, of in taught.items()})
