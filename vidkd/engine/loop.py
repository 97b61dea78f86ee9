"""The training loop: a plain loop on Lightning Fabric that knows what it trains by its interface alone, and resumes exactly."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from vidkd.base.errors import VidkdError
from vidkd.base.progress import Progress
from vidkd.base.random_streams import derived_seed
from vidkd.base.settings import as_dict
from vidkd.base.timing import Stopwatch
from vidkd.engine.checkpoint import (
    Progressed,
    check_same_data,
    read_resume,
    resume_file,
    save_checkpoint,
    to_cpu,
)
from vidkd.engine.devices import sound_gradients
from vidkd.engine.interrupts import Interrupt, start
from vidkd.engine.loop_config import LoopConfig
from vidkd.engine.optimiser import MovingAverage, build_optimizer, build_schedule, norm_scales, scale_l1, set_learning_rates
from vidkd.engine.run_folder import MetricsLog, RunFolder
from vidkd.engine.training_run import Batch, TrainingRun, count_bad_samples, not_finite, share_bad
from vidkd.models.fake_integers import compute_in_fake_integers
from vidkd.models.saved import read_checkpoint, write_checkpoint

log = logging.getLogger(__name__)

MOST_SKIPPED = 50
"""Steps in a row that a gradient scaler may skip: it halves its factor at each, and from any start has found one that fits by then."""


@dataclass(frozen=True)
class RunResult:
    """Folder of a finished run, its steps, its best validation score (None without validation) and the seconds it trained.

    found_finished: it was finished before, and nothing was trained now.
    """

    folder: Path
    steps: int
    best: float | None
    seconds: float
    parameters: int
    found_finished: bool = False


class InterruptedRunError(VidkdError):
    """Training was stopped by the user and saved."""


def train_in_folder(
    fabric: Fabric, config: LoopConfig, name: str, make: Callable[[], TrainingRun], *, resume: str, quiet: bool
) -> RunResult:
    """Build what is trained, claim the run's folder for it, and train it to the end, or resume the run of this name.

    resume: "auto" resumes from the last checkpoint if there is one, "previous" from the one before, "never" refuses an existing run.
    Raises ConfigError, CheckpointError, and InterruptedRunError after Ctrl-C (state saved).
    """
    folder = RunFolder(Path(config.runs) / name)
    with contextlib.ExitStack() as stack:
        if fabric.is_global_zero:
            stack.enter_context(folder.lock())
            folder.check(config, resume=resume)
        fabric.barrier()
        stack.enter_context(sound_gradients(fabric, config.train))
        loop = Loop(fabric, make(), folder, resume, quiet)
        if fabric.is_global_zero:
            folder.claim(config)
        fabric.barrier()
        return loop.run()


class Loop:
    """One run's parts and the loop over its steps."""

    def __init__(self, fabric: Fabric, training: TrainingRun, folder: RunFolder, resume: str, quiet: bool) -> None:
        self.fabric, self.training, self.config, self.folder = fabric, training, training.config, folder
        self.quiet = quiet
        self.task, self.steps = training.task, training.steps
        config = training.config
        if config.train.integers:
            log.info("weights and inputs of %d layers are rounded to eight bits", len(compute_in_fake_integers(self.task.student)))
        self.optimizer = build_optimizer(self.task, config.optim)
        self.schedule = build_schedule(self.optimizer, config.optim, self.steps)
        self.module, self.wrapped_optimizer = fabric.setup(self.task, self.optimizer)
        self.slimmed = norm_scales(self.task.student) if config.optim.scale_l1 > 0 else []
        self.ema = MovingAverage(self.task.student, config.optim.ema) if config.optim.ema > 0 else None
        if config.train.compile:
            self.task.student.compile()
        self.progress = Progressed()
        self.watch = Stopwatch()
        self.log = MetricsLog(fabric, folder)
        self.lr = 0.0
        self.skipped = 0
        self.scales = getattr(fabric.strategy.precision, "scaler", None) is not None  # not by the settings: a CPU has none
        self.interrupt = Interrupt()
        self.keep_last = resume != "previous"
        self._restore(resume)

    # --- resume ---

    def _restore(self, resume: str) -> None:
        path = resume_file(self.folder.checkpoints, resume)
        if path is not None:
            self._load(read_resume(path))
        if resume == "previous":
            self._forget_later_best()
        if self.fabric.is_global_zero:
            ended = self.progress.step == self.steps and not (self.progress.finished or self.progress.stopped_early)
            self.folder.forget_after(self.progress.step, judged_again=ended)

    def _load(self, content: Mapping[str, Any]) -> None:
        check_same_data(content, self.training.data, self.folder.path)
        self.task.student.load_state_dict(content["student"]["state"])
        self.task.load_saved_state(content["task"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        set_learning_rates(self.optimizer, self.schedule)
        self.fabric.strategy.precision.load_state_dict(content["precision"])
        if self.ema is not None:
            self.ema.restore(content["ema"], content["ema_updates"])
        self.progress = Progressed(**content["progress"])
        if self.progress.step < self.steps and not self.progress.stopped_early:
            self.progress.finished = False

    def _forget_later_best(self) -> None:
        """Remove best.pt where it is from a step after the one that training goes back to; the next validation writes another."""
        best, progress = self.folder.checkpoints / "best.pt", self.progress
        if best.exists() and read_checkpoint(best)["progress"]["step"] > progress.step:
            progress.best = progress.best_step = None
            self.fabric.barrier()  # all have read it
            if self.fabric.is_global_zero:
                best.unlink()
                log.warning("%s was of a later step than %d, from which this run resumes, and is removed", best, progress.step)

    def _content(self) -> dict[str, Any]:
        student = self.training.student_payload()
        student["state"] = to_cpu(student["state"])
        content: dict[str, Any] = {
            "student": student,
            "task": to_cpu(self.task.saved_state()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "run": as_dict(self.config),
            "data": self.training.data,
        }
        if self.ema is not None:
            content |= {"ema": to_cpu(self.ema.model.state_dict()), "ema_updates": self.ema.updates}
        return content

    def _save(self) -> None:
        if self.fabric.world_size > 1:
            share_bad(self.progress.bad_clips, most=self.training.most_bad)
        if self.fabric.is_global_zero:
            save_checkpoint(self.folder.checkpoints, self._content(), keep_last=self.keep_last)
        self.keep_last = True
        self.fabric.barrier()

    # --- the loop ---

    def run(self) -> RunResult:
        """All remaining steps; saves now and then, at the end and when interrupted."""
        found_finished = self.progress.finished
        if not found_finished:
            if self.fabric.is_global_zero:
                self.folder.set_judgement_aside(self.progress.step)
            with self.log.tensorboard(self.config.train.tensorboard, self.progress.step + 1), self.interrupt.caught():
                self._loop()
                if not self.progress.stopped_early:
                    self._last_validation()
                self.progress.finished = True
                self._save()
        parameters = sum(p.numel() for p in self.task.student.parameters())
        return RunResult(self.folder.path, self.progress.step, self.progress.best, self.progress.seconds, parameters, found_finished)

    def _loop(self) -> None:
        began, saved = time.monotonic(), time.monotonic()
        before_s = self.progress.seconds
        self.module.train()
        total, done, rank = self.steps, self.progress.step, self.fabric.global_rank
        shown_rank = 1 if self.quiet else rank
        with self._stopping("before the first batch; activations that were computed are kept", "it computes the rest and trains"):
            loader = self._loader()
        batches = self.watch.waiting(start(loader))
        filling = math.ceil(self.training.samples / self._samples_a_step) if self.training.fills_cache else 0
        with Progress(total, f"train {self.folder.path.name}", done=done, filling=filling, rank=shown_rank) as bar:
            while self.progress.step < total:
                losses = self._step(batches)
                self.progress.step += 1
                self.progress.seconds = before_s + time.monotonic() - began
                bar.step(loss=losses["loss"])
                self._log(losses)
                if self._validation_is_due() and self._validate_and_stop():
                    break
                # The last step is saved before its validation, which may take long: whoever stops there loses no step.
                ended = self.progress.step == total
                due = self.training.validates if ended else time.monotonic() - saved >= self.config.train.save_every_s
                if self._any_process(due or self.interrupt.asked):
                    self._save()
                    saved = time.monotonic()
                    self._stop_if_interrupted()

    def _last_validation(self) -> None:
        with self._stopping(f"in the last validation; all {self.steps} steps are saved", "it validates and ends"):
            self._validate()

    @contextlib.contextmanager
    def _stopping(self, where: str, then: str) -> Iterator[None]:
        """Ctrl-C ends the block at once. where: what was stopped, and what is saved; then: what the same command does again."""
        try:
            with self.interrupt.at_once():
                yield
        except KeyboardInterrupt:
            raise InterruptedRunError(f"stopped {where}", resume=f"run the same command again: {then}") from None

    def _any_process(self, wish: bool) -> bool:
        """Whether one of the processes wants it: clocks and Ctrl-C differ between them, and all must save at the same step."""
        return bool(self.fabric.strategy.reduce_boolean_decision(wish, all=False))

    def _stop_if_interrupted(self) -> None:
        if self._any_process(self.interrupt.asked):
            raise InterruptedRunError(
                f"stopped after step {self.progress.step} of {self.steps}; saved", resume="run the same command again"
            )

    def _loader(self) -> DataLoader[Batch]:
        accumulate = self.config.optim.accumulate
        return self.training.loader(
            self.progress.step * accumulate,
            self.steps * accumulate,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            pin_memory=self.fabric.device.type == "cuda",
        )

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        accumulate = self.config.optim.accumulate
        totals: dict[str, float] = {}
        for micro in range(accumulate):
            batch = self._to_device(next(batches))
            self._seed(self.progress.step * accumulate + micro)
            with self.watch.part("compute"), self.fabric.no_backward_sync(self.module, enabled=micro + 1 < accumulate):
                losses = self._with_penalty(self.module(batch))
                values = dict(zip(losses, torch.stack([value.detach().float() for value in losses.values()]).tolist(), strict=True))
                if not math.isfinite(values["loss"]):
                    raise self._not_finite("loss", batch, values)
                self.fabric.backward(losses["loss"] / accumulate)
            totals = {name: totals.get(name, 0.0) + value / accumulate for name, value in values.items()}
        with self.watch.part("compute"):
            self._check_gradients(batch, totals)
            self._update()
        return totals

    def _with_penalty(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses, with network slimming's penalty added where it has a weight; logged without it."""
        if not self.slimmed:
            return losses
        penalty = scale_l1(self.slimmed)
        return {**losses, "scale_l1": penalty, "loss": losses["loss"] + self.config.optim.scale_l1 * penalty}

    def _not_finite(self, what: str, batch: Batch, losses: Mapping[str, float]) -> VidkdError:
        return not_finite(what, self.progress.step, batch, losses, self.training.sample_names(batch), self.folder.path)

    def _check_gradients(self, batch: Batch, losses: Mapping[str, float]) -> None:
        """Bound the gradient's norm; raise if it is not finite. Where a scaler is at work that is usual now and then: it skips the step."""
        bound = self.config.optim.clip_norm or math.inf
        norm = self.fabric.clip_gradients(self.module, self.wrapped_optimizer, max_norm=bound, error_if_nonfinite=False)
        self.skipped = 0 if norm is None or torch.isfinite(norm) else self.skipped + 1
        if self.skipped > (MOST_SKIPPED if self.scales else 0):
            raise self._not_finite("gradient", batch, losses)

    def _update(self) -> None:
        self.lr = float(self.optimizer.param_groups[0]["lr"])
        self.wrapped_optimizer.step()
        self.wrapped_optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.schedule.step()
        if self.ema is not None:
            self.ema.update(self.task.student)

    def _seed(self, micro: int) -> None:
        """Noise (dropout, Gumbel) is a function of seed, step and process, so a resumed run draws what an uninterrupted one draws."""
        # torch.manual_seed also notes where it was called, for devices that are not in use yet, which takes longer than all else here
        seed = torch.default_generator.manual_seed if self.fabric.device.type == "cpu" else torch.manual_seed
        seed(derived_seed(self.config.train.seed, "noise", micro, self.fabric.global_rank))

    def _to_device(self, batch: Batch) -> Batch:
        count_bad_samples(batch, self.progress.bad_clips, most=self.training.most_bad)
        self.training.look_at(batch)
        moved: Batch = self.fabric.to_device(batch)
        return moved

    # --- logs and validation ---

    def _log(self, losses: Mapping[str, float]) -> None:
        step = self.progress.step
        if step % self.config.train.log_every and step not in (1, self.steps):  # the first shows how large each term begins
            return
        losses = self.log.mean_over_processes(losses)
        epoch = step * self._samples_a_step / self.training.samples
        shares = {"lr": self.lr, "data_wait": round(self.watch.shares().get("data", 0), 4)}
        self.log.add({"step": step, "epoch": round(epoch, 3), "split": "train", **losses, **shares}, losses)

    @property
    def _samples_a_step(self) -> int:
        """Samples of one update that count for an epoch."""
        return self.training.batch_size * self.config.optim.accumulate

    def _validation_is_due(self) -> bool:
        every = self.config.train.eval_every
        if not every or not self.training.validates:
            return False
        period = max(1, round(every * self.training.samples / self._samples_a_step))
        return self.progress.step % period == 0 and self.progress.step < self.steps

    def _validate_and_stop(self) -> bool:
        """Validate; true if early stopping says so."""
        gained = self._validate()
        self.progress.validations_without_gain = 0 if gained else self.progress.validations_without_gain + 1
        patience = self.config.train.patience
        self.progress.stopped_early = bool(patience) and self.progress.validations_without_gain >= patience
        return self.progress.stopped_early

    def _validate(self) -> bool:
        """Judge on the validation data, keep the best student; false without a gain (or without such data)."""
        if not self.training.validates:
            return False
        fabric, student = self.fabric, self.task.student if self.ema is None else self.ema.model
        if fabric.world_size > 1:
            # all judge the student that is kept, that of the first: their running statistics differ by their own last batch
            for buffer in student.buffers():
                buffer.copy_(fabric.broadcast(buffer))
        metrics = self.training.judge(student, device=fabric.device, rank=fabric.global_rank, world_size=fabric.world_size)
        self.log.add({"step": self.progress.step, "split": "val", **metrics}, metrics)
        score = metrics[self.training.main_metric]
        gained = self.progress.best is None or score > self.progress.best
        if gained:
            self.progress.best, self.progress.best_step = score, self.progress.step
            self._keep_best()
        return gained

    def _keep_best(self) -> None:
        if self.fabric.is_global_zero:
            content = {name: value for name, value in self._content().items() if name in ("student", "ema", "run", "data", "progress")}
            write_checkpoint(self.folder.checkpoints / "best.pt", content)
