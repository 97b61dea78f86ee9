"""Optimiser and schedule of a run, and the moving average of its weights."""

import copy
import itertools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vidkd.base.errors import ConfigError
from vidkd.engine.loop_config import OptimConfig
from vidkd.models import undecayed_parameters
from vidkd.tasks.task import Trainable


def build_optimizer(task: Trainable, config: OptimConfig) -> Optimizer:
    """Parameter groups by two rules: no decay on norms and biases; the learning rate falls with the distance from the head.

    `head_lr_factor` multiplies that of the head, `layer_decay` once for each stage between a parameter and the head, its own included.
    Raises ConfigError for a `layer_decay` where the network has no stages.
    """
    undecayed = {id(p) for p in undecayed_parameters(task)}
    factors = {id(p): config.head_lr_factor for p in task.head_parameters()}
    if config.layer_decay < 1:
        stages = task.parameters_by_stage()
        if not stages:
            raise ConfigError("optim.layer_decay is for classifiers of clips: this network has no stages", hint="optim.layer_decay: 1")
        factors |= {id(p): config.layer_decay**away for away, stage in enumerate(reversed(stages), 1) for p in stage}
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for parameter in task.parameters():
        if parameter.requires_grad:
            groups.setdefault((factors.get(id(parameter), 1.0), id(parameter) in undecayed), []).append(parameter)
    settings = [
        {"params": parameters, "lr": config.lr * factor, "weight_decay": 0.0 if spared else config.weight_decay}
        for (factor, spared), parameters in groups.items()
    ]
    if config.optimiser == "sgd":
        return SGD(settings, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(settings, lr=config.lr)


def build_schedule(optimizer: Optimizer, config: OptimConfig, steps: int) -> LambdaLR:
    """Linear warm-up over `warmup` of the steps, then a cosine to zero."""
    warmup = round(config.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return LambdaLR(optimizer, factor)


def set_learning_rates(optimizer: Optimizer, schedule: LambdaLR) -> None:
    """Give the optimiser the rates of the schedule's next step. A resumed run may be longer than the one whose rates were saved with it."""
    for group, base, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * factor(schedule.last_epoch)


def norm_scales(net: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The scales (gamma) of all batch normalisations that train. Raises ConfigError where there are none."""
    norms = [module for module in net.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.affine]
    found = [norm.get_parameter("weight") for norm in norms]
    scales = [scale for scale in found if scale.requires_grad]
    if not scales:
        raise ConfigError("optim.scale_l1 needs scales of batch normalisation, and this network has none that train")
    return scales


def scale_l1(scales: Iterable[Tensor]) -> Tensor:
    """Sum of |gamma| over the scales (C_i,) of batch normalisations: a scalar >= 0, whose gradient is the sign of each scale (0 at 0).

    The paper weighs it by 1e-4 or 1e-5 next to the cross-entropy; filters that it turns off can be pruned.
    Source: Liu et al. 2017, network slimming (arXiv 1708.06519), eq. 1.
    """
    return torch.stack([scale.abs().sum() for scale in scales]).sum()


class MovingAverage:
    """A second network, `model`, whose weights follow those of `student`: decay * average + (1 - decay) * student after every update.

    The first update copies. Running statistics are averaged as the weights are; counters are copied. decay in [0, 1).
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(student)
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Follow the student by one step."""
        for average, value in zip(_tensors(self.model), _tensors(student), strict=True):
            if self.updates == 0 or not average.is_floating_point():
                average.copy_(value)
            else:
                average.lerp_(value, 1 - self.decay)
        self.updates += 1

    def restore(self, state: dict[str, Tensor], updates: int) -> None:
        """Put back the weights of `model` and the number of updates that made them."""
        self.model.load_state_dict(state)
        self.updates = updates


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
