"""Which clips come in which step: reachable directly, every clip once an epoch, the same with any number of workers and processes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_textures import clip, write_panning

from vidkd.base.errors import DataError
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.loaders import StepSampler, evaluation_loader, training_loader
from vidkd.data.observation import WindowConfig
from vidkd.data.transforms import TransformConfig


def sampler(count: int, batch_size: int, *, seed: int = 0, first: int = 0, last: int = 0, **more: Any) -> StepSampler:
    return StepSampler(count, batch_size, seed=seed, first_step=first, last_step=last, **more)


counts, batches, seeds = st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000)


@settings(deadline=None, max_examples=50)
@given(counts, batches, seeds)
def test_each_epoch_visits_every_clip_once_whatever_the_batch(count: int, batch_size: int, seed: int) -> None:
    steps = -(-3 * count // batch_size)
    stream = [item for batch in sampler(count, batch_size, seed=seed, last=steps) for item in batch]
    assert len(stream) == steps * batch_size
    for epoch in range(3):
        part = stream[epoch * count : (epoch + 1) * count]
        assert [item[0] for item in part] == [epoch] * count
        assert sorted(index for _, index in part) == list(range(count))


@settings(deadline=None, max_examples=50)
@given(counts, batches, seeds, st.integers(0, 30))
def test_a_step_reached_directly_is_the_step_walked_to(count: int, batch_size: int, seed: int, step: int) -> None:
    walked = list(sampler(count, batch_size, seed=seed, last=step + 2))
    assert list(sampler(count, batch_size, seed=seed, first=step, last=step + 2)) == walked[step:]
    assert sampler(count, batch_size, seed=seed).batch(step) == walked[step]


@settings(deadline=None, max_examples=50)
@given(counts, st.integers(5, 50), st.integers(1, 5), st.integers(0, 9))
def test_processes_share_the_global_batch_without_overlap(count: int, batch_size: int, world_size: int, step: int) -> None:
    parts = [
        next(iter(sampler(count, batch_size, first=step, last=step + 1, rank=rank, world_size=world_size))) for rank in range(world_size)
    ]
    assert sorted(item for part in parts for item in part) == sorted(sampler(count, batch_size).batch(step))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(index for _, index in sampler(30, 30, seed=seed).batch(epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(DataError, match="no clip"):
        sampler(0, 4)
    with pytest.raises(DataError, match="batch_size 2 is smaller"):
        sampler(9, 2, world_size=3)


# --- balanced ---

LABELS = [0] * 30 + [1] * 6 + [2] * 3 + [3]


def drawn(epoch: int, seed: int = 0) -> list[int]:
    return [index for _, index, _ in sampler(40, 40, seed=seed, labels=LABELS).batch(epoch)]


@pytest.mark.parametrize("epoch", [0, 1, 17])
def test_classes_come_equally_often(epoch: int) -> None:
    indices = drawn(epoch)
    assert Counter(LABELS[index] for index in indices) == {0: 10, 1: 10, 2: 10, 3: 10}
    for start in range(0, 40, 4):  # and every few draws hold each class
        assert {LABELS[index] for index in indices[start : start + 4]} == {0, 1, 2, 3}


def test_a_class_is_walked_through_before_a_clip_repeats() -> None:
    indices = drawn(0)
    for label in range(4):
        times = Counter(index for index in indices if LABELS[index] == label)
        members = LABELS.count(label)
        assert len(times) == min(members, 10)
        assert max(times.values()) - min(times.values()) <= (1 if members <= 10 else 0)


# --- loaders ---


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for seed in range(3):
        write_panning(root / f"{seed}.mp4", frames=16, dx=1 + seed, seed=seed)
    (root / "torn.mp4").write_bytes(b"torn")
    return root


def make(root: Path, training: bool, torn: bool = False) -> ClipDataset:
    config = DataConfig(
        cache=CacheConfig(enabled=torn, folder=str(root / "cache")),
        window=WindowConfig(frames=3, stride=2),
        transform=TransformConfig(short_side=32, crop=24, colour=0.2),
        decode_short_side=None,
        eval_clips=2,
    )
    clips = [clip(f"{seed}.mp4", seed) for seed in range(3)] + ([clip("torn.mp4")] if torn else [])
    return ClipDataset(root, clips, config, views=("rgb", "flow"), training=training, seed=4)


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name] for name, value in one.items()
    )


def test_training_batches_are_the_same_bytes_with_any_number_of_workers(root: Path) -> None:
    by_workers = []
    for workers in (0, 2):
        steps = sampler(4, 3, seed=4, first=1, last=4)
        by_workers.append(list(training_loader(make(root, training=True, torn=True), steps, workers)))
    assert [batch["index"].tolist() for batch in by_workers[0]] == [
        [index for _, index in sampler(4, 3, seed=4).batch(step) if index != 3] for step in (1, 2, 3)
    ]
    assert sum(len(batch["bad"]) for batch in by_workers[0]) >= 2
    for batches in by_workers[1:]:
        assert len(batches) == 3
        assert all(equal(one, other) for one, other in zip(by_workers[0], batches, strict=True))


@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_gives_every_sample_once_in_order(root: Path, world_size: int) -> None:
    data = make(root, training=False)
    numbers = []
    for rank in range(world_size):
        batches = list(evaluation_loader(data, 4, 0, rank=rank, world_size=world_size))
        assert [len(batch["index"]) for batch in batches] == ([4, 2] if world_size == 1 else [3])
        numbers.append(torch.cat([batch["index"] for batch in batches]).tolist())
    assert numbers == ([[0, 0, 1, 1, 2, 2]] if world_size == 1 else [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("training", [True, False])
def test_loading_draws_nothing_from_the_global_generator(root: Path, training: bool) -> None:
    """Else dropout after a validation would not be what it is without one."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    data = make(root, training=training)
    loader = training_loader(data, sampler(3, 2, last=1), 0) if training else evaluation_loader(data, 6, 0)
    assert len(list(loader)) == 1
    assert torch.equal(torch.get_rng_state(), before)
