import io

import numpy as np
import pytest
import torch

from vidkd.detection.online.key_frames import KeyFrame, Replay, ReplayBuffer


def key(index, side=4, heads=False):
    return KeyFrame(
        frame_index=index,
        image=np.full((side, side, 3), index % 256, np.uint8),
        boxes=np.array([[0, 0, index, 1]], np.float32),
        scores=np.array([0.5], np.float32),
        labels=np.array([1]),
        heads=(np.full((2, 1, 1), index, np.float32),) if heads else None,
    )


def kept(buffer):
    return [frame.frame_index for frame in buffer.frames]


def test_bound_by_number_the_oldest_goes():
    buffer = ReplayBuffer(Replay(frames=3))
    for index in range(5):
        buffer.add(key(index))
    assert kept(buffer) == [2, 3, 4]


def test_bound_by_memory():
    buffer = ReplayBuffer(Replay(memory_mib=2.5 * 76 / 2**20))
    for index in range(4):
        buffer.add(key(index))
    assert kept(buffer) == [2, 3]
    buffer.add(key(4, side=100))
    assert kept(buffer) == []


def test_random_eviction_keeps_a_share_of_long_ago_and_always_the_newest():
    kept_first = []
    for seed in range(200):
        buffer = ReplayBuffer(Replay(frames=5, evict="random", seed=seed))
        for index in range(10):
            buffer.add(key(index))
            assert kept(buffer)[-1] == index
        kept_first.append(0 in kept(buffer))
    # five times one of five older ones leaves: (4/5)^5 = .328, with a deviation of .033
    assert np.mean(kept_first) == pytest.approx(0.8**5, abs=0.12)


def test_samples_are_even_without_repeats_and_by_seed():
    counts = np.zeros(6)
    buffer = ReplayBuffer(Replay(seed=1))
    for index in range(6):
        buffer.add(key(index))
    for _ in range(600):
        drawn = [frame.frame_index for frame in buffer.sample(2)]
        assert len(set(drawn)) == 2
        counts[drawn] += 1
    # each with chance 1/3: 200, with a deviation of 11.5
    assert np.abs(counts - 200).max() < 50


def test_state_through_a_file_goes_on_alike():
    buffer = ReplayBuffer(Replay(frames=4, evict="random", seed=3))
    for index in range(9):
        buffer.add(key(index, heads=True))
    file = io.BytesIO()
    torch.save(buffer.state(), file)
    file.seek(0)
    again = ReplayBuffer(Replay(frames=4, evict="random", seed=99))
    again.restore(torch.load(file, weights_only=True))
    for index in range(9, 20):
        for each in (buffer, again):
            each.add(key(index, heads=True))
        assert kept(buffer) == kept(again)
        drawn, expected = again.sample(2), buffer.sample(2)
        assert [frame.frame_index for frame in drawn] == [frame.frame_index for frame in expected]
    for ours, theirs in zip(buffer.frames, again.frames, strict=True):
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)
        np.testing.assert_array_equal(ours.heads[0], theirs.heads[0])
