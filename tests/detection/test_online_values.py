"""Learning along a short stream gives the same numbers as ever for the same seeds."""

import pytest
import torch
from online_samples import oracle, stream, student

from vidkd.detection.online import Replay, SynchronousLearner, Update
from vidkd.detection.policies import CallBudget, open_policy

ROWS = {
    "default": (
        ("fixed", Update(lr=3e-3, steps=4)),
        [0, 4, 8, 12, 16, 20, 24, 28, 32],
        [15.6757, 13.7255, 11.4492, 9.7352, 5.5428, 3.719, 5.3254, 4.035, 5.3142],
        [12.9914, 11.1717, 7.1921, 5.1875, 3.8656, 2.3482, 2.3172, 2.2702, 2.4614],
        1134.349,
    ),
    "interpolated": (
        ("uncertainty", Update(lr=3e-3, steps=4, interpolate=(0.0, 0.7))),
        [0, 8, 11, 13, 20, 23, 27, 32, 35],
        [15.6757, 12.7543, 12.6167, 10.0863, 10.4086, 10.9388, 9.1654, 10.0208, 11.4923],
        [12.9914, 9.8541, 9.4115, 7.1765, 7.5797, 8.1386, 7.2955, 8.3632, 7.6479],
        1087.524,
    ),
    "retained": (
        ("random", Update(lr=1e-3, steps=4, retain=0.9, keep_optimiser=True, optimiser="sgd", trains="blocks")),
        [0, 4, 7, 16, 19, 20, 28, 31, 34],
        [15.6757, 14.1402, 14.3096, 13.2975, 13.9108, 13.7305, 13.848, 13.5827, 12.8305],
        [15.4526, 14.0644, 14.2169, 13.2268, 13.7894, 13.6418, 13.7636, 13.503, 12.7543],
        1077.034,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_short_stream(name):
    (policy, update), called, before, after, weights = ROWS[name]
    running = SynchronousLearner(
        student(seed=1, score_threshold=0.2),
        oracle(),
        open_policy(policy, seed=3),
        CallBudget(3, 12),
        update=update,
        replay=Replay(frames=4, evict="random"),
    )
    records = [record for frame in stream(36, seed=5) if (record := running.step(frame).record).called]
    assert [record.frame_index for record in records] == called
    assert [record.update.outcome for record in records] == ["kept"] * len(called)
    assert [record.update.loss_before for record in records] == pytest.approx(before, rel=1e-3)
    assert [record.update.loss_after for record in records] == pytest.approx(after, rel=1e-3)
    with torch.no_grad():
        assert float(sum(part.abs().sum() for part in running.student.net.parameters())) == pytest.approx(weights, rel=1e-5)
