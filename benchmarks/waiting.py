"""Threads of a network that sleep while they wait for each other, against the library's own way, alone and beside other busy processes.

python benchmarks/waiting.py STEP SECONDS    milliseconds of one call of STEP; what the part starts anew for every figure
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rounds import Part, interleave, ratio_row, value_row  # noqa: E402
from benchmarks.setting import Setting  # noqa: E402
from vidkd.base.cores import WAITING, available_cores, sleep_while_waiting  # noqa: E402

FRAME, STEP = "one frame through the small detector", "a training step of tiny3d"
SLEEPS, OWN = "asleep", "the library's own way"
ALONE, BESIDE = "alone", "beside busy processes"
LEAST_CALLS = 3


def run(setting: Setting) -> Part:
    """Both steps, both ways, alone and beside as many busy processes as there are cores."""
    seconds = 0.2 if setting.quick else 3.0
    values, ratios = [], []
    for around in (ALONE, BESIDE):
        with _busy(0 if around == ALONE else available_cores()):
            calls = {(step, way): partial(_measured, step, way, seconds) for step in (FRAME, STEP) for way in (SLEEPS, OWN)}
            found = interleave(calls, rounds=setting.rounds)
        values += [value_row(f"{step}, {way}, {around}", "ms", times) for (step, way), times in found.items()]
        ratios += [
            ratio_row(f"{step}, {around}: {SLEEPS} / {OWN}", found[step, SLEEPS], found[step, OWN], at_most=1.1 if around == ALONE else 1.0)
            for step in (FRAME, STEP)
        ]
    text = (
        f"Median milliseconds of a call on all cores, {seconds:g} s of calls in a new process each, since the way to wait is read when the "
        f"library is loaded. {SLEEPS.capitalize()} is what every verb asks for, unless one of {', '.join(WAITING)} is set."
    )
    settings = {"threads": available_cores(), "busy processes": available_cores()}
    return Part(title="Threads that wait", text=text, settings=settings, values=values, ratios=ratios)


def _measured(step: str, way: str, seconds: float) -> float:
    """Milliseconds of a call in a new process."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    if way == SLEEPS:
        sleep_while_waiting(environment)
    command = [sys.executable, __file__, step, str(seconds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but take a core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def milliseconds(call: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median of calls, after one that does not count, until the seconds are over, and of no fewer than LEAST_CALLS."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < LEAST_CALLS:
        start = clock()
        call()
        times.append(clock() - start)
    return 1e3 * statistics.median(times)


def _call(step: str) -> Callable[[], object]:
    import torch

    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    if step == FRAME:
        from vidkd.models.darknet import Darknet

        net = Darknet.from_cfg(ROOT / "configs/darknet/tiny_student.cfg").eval()
        width, height = net.input_size
        return partial(torch.inference_mode()(net), torch.rand(1, 3, height, width))
    from vidkd.models import ModelConfig, VideoClassifier

    model = VideoClassifier(ModelConfig(backbone="tiny3d"), 8, "rgb").train()
    clips = torch.randint(0, 256, (16, 3, 8, 64, 64), dtype=torch.uint8)
    return lambda: model(clips).logits.sum().backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.stdout.write(f"{milliseconds(_call(sys.argv[1]), float(sys.argv[2]))}\n")
