"""What every kind of run sets of its training: the optimiser and its schedule, length, device and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vidkd.base.cores import at_most_cores
from vidkd.base.errors import ConfigError
from vidkd.base.fields import Count, NotNegative, Positive, PositiveShare, Share, ShareBelow1, Whole, for_training
from vidkd.base.settings import merge


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its schedule.

    Args:
        optimiser: adamw, or sgd with Nesterov momentum.
        lr: peak learning rate.
        head_lr_factor: factor on the learning rate of the classifier and attention layers (10 when a backbone is fine-tuned).
        layer_decay: in (0, 1]; the learning rate of each stage of the backbone is this times that of the next one, that of the last stage
            this times `lr` (0.7 to 0.9 when a pretrained backbone is fine-tuned).
        weight_decay: decoupled; not applied to norm layers and biases.
        momentum: of sgd.
        warmup: share of the steps with a linearly growing rate; a cosine to zero follows.
        clip_norm: largest gradient norm; 0 does not clip.
        accumulate: batches whose gradients are added up before a step.
        scale_l1: weight (1e-4 to 1e-5) of network slimming's penalty, the sum of |gamma| over batch normalisations, before filters are
            pruned by their scale; 0 adds none.
        ema: decay of an exponential moving average of the student that is evaluated and exported; 0 keeps none.
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    head_lr_factor: NotNegative = 1.0
    layer_decay: PositiveShare = 1.0
    weight_decay: NotNegative = 0.05
    momentum: NotNegative = 0.9
    warmup: Share = 0.1
    clip_norm: NotNegative = 5.0
    accumulate: Count = 1
    scale_l1: NotNegative = 0.0
    ema: ShareBelow1 = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, on what, and what is kept.

    Args:
        epochs: passes over the training clips.
        steps: optimiser steps; overrides epochs.
        device: auto, cpu, cuda or mps.
        devices: devices to use; more than one wants a launcher (torchrun).
        precision: 32-true, 16-mixed or bf16-mixed.
        threads: CPU threads of the tensor library, at most the cores; 0 leaves its default.
        seed: decides the initial weights, the sampling and the augmentation.
        eval_every: epochs between validations (where there is a `val` subset); 0 validates at the end only.
        patience: validations without a better top-1 before training stops early; 0 never stops early.
        save_every_s: seconds between checkpoints.
        log_every: steps between rows of metrics.jsonl.
        tensorboard: also write TensorBoard event files.
        compile: compile the student with torch.compile.
        integers: round weights and activations of the student to eight bits at every pass (quantisation-aware training), before it is
            exported in integers.
    """

    epochs: Positive = for_training(30)
    steps: Count | None = for_training(None)
    device: str = "auto"
    devices: Count = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = for_training("32-true")
    threads: Whole = 0
    seed: int = for_training(0)
    eval_every: NotNegative = for_training(0)
    patience: Whole = for_training(0)
    save_every_s: NotNegative = for_training(60)
    log_every: Count = for_training(10)
    tensorboard: bool = for_training(False)
    compile: bool = for_training(False)
    integers: bool = for_training(False)


def check_validation(train: TrainConfig, *, validates: bool, samples: str) -> None:
    """Raise ConfigError where the settings of validations ask for what cannot happen: early stopping without any, or any without data.

    validates: whether there are validation samples. samples: what these are called in messages.
    """
    if train.patience and not train.eval_every:
        raise ConfigError(
            f"train.patience={train.patience} never stops a run without validations",
            hint="train.eval_every: 1   (epochs), or patience 0",
        )
    if train.eval_every and not validates:
        raise ConfigError(
            f"train.eval_every={train.eval_every:g}, but there are no `val` {samples}",
            hint="data.validation_fraction above 0, or eval_every 0",
        )


def with_threads_of_here(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run has left, of another machine perhaps, with no more threads than this process has cores."""
    threads = (run.get("train") or {}).get("threads", 0)
    return merge(run, {"train.threads": at_most_cores(threads)} if threads else {})


class LoopConfig:
    """The settings of a run that the training loop reads, whatever is trained."""

    name: str | None
    """Folder of the run below `runs`."""
    task: str
    """A name of `tasks()`."""
    runs: str
    """Folder of all runs."""
    optim: OptimConfig
    train: TrainConfig
    method: Any
    """Settings of the task."""

    @classmethod
    def tasks(cls) -> Mapping[str, type]:
        """The methods of this kind of run by name, with the dataclass that `method` holds for each."""
        raise NotImplementedError

    @classmethod
    def unused(cls, _task: str, /) -> Sequence[str]:
        """The keys next to `method` that this task refuses to have set (a teacher, where it has none)."""
        return ()
