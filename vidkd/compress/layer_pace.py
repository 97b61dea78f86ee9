"""How long a layer takes beside the layers that would replace it, here and now: fewer multiply-accumulates are not always less time."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

ROUNDS = 9
Clock = Callable[[], float]


def pace(layer: nn.Module, other: nn.Module, shapes: Sequence[torch.Size], *, clock: Clock = time.perf_counter) -> tuple[float, float]:
    """Median milliseconds of two modules on noise of these shapes, one after the other.

    They take turns, and the first turn does not count. Both lie on one device; what is queued on a GPU is waited for.
    """
    parameter = next(layer.parameters())
    inputs = [torch.randn(shape, device=parameter.device, dtype=parameter.dtype) for shape in shapes]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 1):
        for module, taken in zip((layer, other), times, strict=True):
            seconds = _seconds(module, inputs, clock)
            if turn:
                taken.append(seconds)
    first, second = (1e3 * statistics.median(taken) for taken in times)
    return first, second


@torch.inference_mode()
def _seconds(module: nn.Module, inputs: Sequence[torch.Tensor], clock: Clock) -> float:
    _wait(inputs)
    start = clock()
    for each in inputs:
        module(each)
    _wait(inputs)
    return clock() - start


def _wait(inputs: Sequence[torch.Tensor]) -> None:
    if inputs[0].device.type == "cuda":
        torch.cuda.synchronize(inputs[0].device)
