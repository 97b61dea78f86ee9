"""What the parts of the suite compare does the same on both sides, at a size that takes no time."""

import importlib.util
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vidkd.base.random_streams import random_stream
from vidkd.bench.performance import distillation, integers, losses
from vidkd.bench.performance.loader import Pipeline, batches_per_second, peers, read_with_decord
from vidkd.bench.performance.training import bare_step
from vidkd.bench.performance.videos import SEED, TRAINING_DATA, ClipSet, generated_set, training_set
from vidkd.data.transforms import crop_frames, random_geometry, resize_frames, working_size
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT


class Workers:
    """Two processes that make batches of 0.5 s each, `ahead` of them before they are asked for, as a loader with prefetching does."""

    def __init__(self, ahead: int) -> None:
        self.now, self.ahead = 0.0, ahead
        self.done_at = [0.0] * ahead  # finished before the measurement begins
        self.taken = 0

    def batches(self) -> Iterator[int]:
        while True:
            self.now = max(self.now, self.done_at[self.taken])
            # the batch that replaces a taken one is begun when one of the two processes is free
            self.done_at.append(max(self.now, self.done_at[-2]) + 0.5)
            self.taken += 1
            yield self.taken

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_loader_rounds_run_at_full_pace_and_leave_nothing_running() -> None:
    workers = Workers(ahead=4)
    batches = workers.batches()
    for _ in range(3):
        pace = batches_per_second(batches, 8, ahead=4, clock=lambda: workers.now, sleep=workers.sleep)
        assert pace == pytest.approx(4.0), "not (8 + 4) / 2 s: what was ready does not count"
        assert max(workers.done_at) <= workers.now, "the processes rest while another loader is measured"


def test_loader_without_workers_does_not_wait() -> None:
    clock = SimpleNamespace(now=0.0)

    def batches() -> Iterator[None]:
        while True:
            clock.now += 0.25
            yield

    assert batches_per_second(batches(), 3, ahead=0, clock=lambda: clock.now, sleep=pytest.fail) == pytest.approx(4.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipSet:
    return generated_set(tmp_path_factory.mktemp("clips"), 96, 80, clips=2, frames=60)


def test_rivals_decode_the_frames_of_the_training_set(clips: ClipSet) -> None:
    dataset, rival = training_set(clips), Pipeline(clips, read_with_decord)
    for item in ((0, 0), (0, 1), (3, 1)):
        frames = read_with_decord(rival.paths[item[1]], rival.indices(item), clips.times_s[item[1]]).permute(0, 2, 3, 1).numpy()
        height, width = working_size(frames.shape[1], frames.shape[2], TRAINING_DATA.transform)
        rng = random_stream(SEED, "sample", *item)
        rng.random()  # the position of the window
        geometry = random_geometry(height, width, TRAINING_DATA.transform, rng, may_flip=True)
        expected = crop_frames(resize_frames(frames, height, width), geometry)
        np.testing.assert_array_equal(dataset[item]["rgb"].numpy(), expected.transpose(3, 0, 1, 2))


def test_rivals_give_as_many_frames_of_the_same_size(clips: ClipSet) -> None:
    frames, size = TRAINING_DATA.window.frames, TRAINING_DATA.transform.crop
    assert Pipeline(clips, read_with_decord, transforms=False)[(0, 1)] == {"frames": frames}
    found, absent = peers(clips)
    assert len(found) + len(absent) == 3
    for rival in found.values():
        assert rival[(0, 1)]["rgb"].shape == (frames, 3, size, size)


@pytest.mark.parametrize("update", [False, True])
def test_a_bare_step_computes_gradients_and_updates_only_where_asked(update: bool) -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 3.0)
    optimizer, found = torch.optim.SGD(layer.parameters(), lr=0.25), []
    layer.weight.register_hook(lambda gradient: found.append(float(gradient)))
    for _ in range(2):
        bare_step(lambda batch: {"loss": layer(batch["x"]).sum()}, optimizer, {"x": torch.ones(1, 1)}, update=update)  # type: ignore[arg-type]
    assert found == [1.0, 1.0]
    assert layer.weight.grad is None
    assert layer.weight.item() == (2.5 if update else 3.0)


def test_every_loss_and_the_step_are_called() -> None:
    alternatives = losses.alternatives("tiny3d", *losses.QUICK["tiny3d"])
    assert list(alternatives) == [losses.STEP, *SHIFT_TOLERANT] == [losses.STEP, *losses.TARGETS]
    assert all(call() > 0 for call in alternatives.values())


def test_distillation_takes_the_same_steps_on_networks_of_their_own() -> None:
    alternatives = distillation.steps_of(2)
    installed = importlib.util.find_spec(distillation.PEER) is not None
    assert list(alternatives) == [distillation.OURS, distillation.BY_HAND, *([distillation.PEER] if installed else [])]
    first, second = ([step().detach() for step in alternatives.values()] for _ in range(2))
    assert distillation.largest_difference(first) < 1e-5
    assert distillation.largest_difference(second) < 1e-4
    assert float(first[0]) != float(second[0]), "the step updates"
    with pytest.raises(RuntimeError, match="do not compute the same loss"):
        distillation.largest_difference([torch.tensor(1.0), torch.tensor(1.001)])


def test_detectors_in_integers_answer_alike() -> None:
    runs, counts = integers.alternatives(quick=True)
    frame = integers.pictures(1, seed=1, side=96)
    wanted = runs[integers.EAGER](frame)
    assert [head.shape for head in wanted] == [(1, 255, 3, 3), (1, 255, 6, 6)]
    assert integers.signal_to_noise(wanted, runs[integers.FLOAT](frame)) > 80
    assert 20 < integers.signal_to_noise(wanted, runs[integers.OURS](frame)) < 60
    assert counts[integers.OURS] == 13


def test_signal_to_noise() -> None:
    heads = [np.full((2, 3), 2.0, np.float32), np.full(4, 1.0, np.float32)]
    off = [heads[0] + np.float32(0.1), heads[1] - np.float32(0.2)]
    assert integers.signal_to_noise(heads, off) == pytest.approx(10 * np.log10((6 * 4 + 4 * 1) / (6 * 0.01 + 4 * 0.04)), abs=1e-4)
    assert integers.signal_to_noise(heads, heads) == np.inf
