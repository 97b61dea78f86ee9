"""Memory of a loader worker while it reads clip after clip: does it stay bounded?"""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clips import SEED, ClipSet, training_set
from benchmarks.rounds import Part, spread
from benchmarks.setting import Setting
from vidkd.data.dataset import ClipDataset
from vidkd.data.loaders import StepSampler, training_loader

BATCH = 4
GROWTH_BOUND_MIB = 32.0
STATUS = Path("/proc/self/status")


def run(setting: Setting) -> Part:
    """One worker that reads RGB and flow of all videos again and again."""
    visits = 64 if setting.quick else 480
    title = "Memory of a loader worker"
    settings: dict[str, str | int | float] = {"visits of clips": visits, "workers": 1, "views": "rgb, flow"}
    text = (
        "Resident memory of the process that opens, decodes, computes flow and closes, over many visits of clips; growth is the slope of a "
        "straight line through the second half of the samples."
    )
    if not STATUS.exists():
        return Part(title=title, text=text, settings=settings, values=[], notes=["Left out: this system has no /proc."])
    samples = _follow(merged(setting.sets), visits)
    resident = [mib for _, mib, _ in samples]
    growth = slope([(done, mib) for done, mib, _ in samples[len(samples) // 2 :]]) * 1000
    rows = [
        {"name": "after the first batch", "unit": "MiB", **spread(resident[:1])},
        {"name": "over the second half", "unit": "MiB", **spread(resident[len(resident) // 2 :])},
        {"name": "highest ever", "unit": "MiB", **spread([samples[-1][2]])},
        {"name": "growth in 1000 visits", "unit": "MiB", **spread([growth]), "target": f"<= {GROWTH_BOUND_MIB:g}"},
    ]
    rows[-1]["met"] = growth <= GROWTH_BOUND_MIB
    return Part(title=title, text=text, settings=settings, values=rows)


def merged(sets: Sequence[ClipSet]) -> ClipDataset:
    """All videos as one training set with both views; the sets lie in one folder."""
    together = ClipSet(
        name="all",
        root=sets[0].root,
        clips=tuple(clip for each in sets for clip in each.clips),
        times_s=tuple(times for each in sets for times in each.times_s),
    )
    return training_set(together, views=("rgb", "flow"))


def _follow(dataset: ClipDataset, visits: int) -> list[tuple[int, float, float]]:
    """(visits so far, resident MiB, highest MiB so far) after every batch."""
    before = {process.pid for process in multiprocessing.active_children()}
    steps = visits // BATCH
    sampler = StepSampler(len(dataset), BATCH, seed=SEED, first_step=0, last_step=steps + 2)
    batches = iter(training_loader(dataset, sampler, 1))  # the two last batches keep the worker alive while it is looked at
    samples = []
    for step in range(1, steps + 1):
        next(batches)
        (worker,) = [process.pid for process in multiprocessing.active_children() if process.pid not in before]
        status = Path(f"/proc/{worker}/status").read_text(encoding="utf-8")
        samples.append((step * BATCH, status_mib(status, "VmRSS"), status_mib(status, "VmHWM")))
    return samples


def status_mib(status: str, key: str) -> float:
    """One entry of /proc/<pid>/status in MiB. Raises ValueError if it is not there."""
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0]) / 1024
    raise ValueError(f"no {key} in the status of the process")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Slope of the least-squares line through (x, y) points. Raises ValueError if all x are the same."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    if spread_x == 0:
        raise ValueError("a line needs points at two places")
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x
