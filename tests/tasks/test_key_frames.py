"""A selector's task: each of its losses, what does not count, and that it learns."""

import torch
from torch import Tensor

from vidkd.losses.selection import above_threshold_bce, disagreement_huber, order_in_window
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.tasks.key_frames import KeyFrameConfig, KeyFrameSelection


def selector() -> KeyFrameLSTM:
    torch.manual_seed(0)
    return KeyFrameLSTM(SelectorConfig(features=3, units=8))


def batch() -> dict[str, Tensor]:
    """Two stretches, of 6 and 4 frames, padded with what is no number; the target is the first entry of the inputs."""
    inputs = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    target = inputs[..., 0].abs()
    counts = torch.arange(6) < torch.tensor([[6], [4]])
    return {"inputs": inputs, "target": target.masked_fill(~counts, torch.nan), "counts": counts}


def test_the_loss_is_the_one_that_the_settings_name_over_the_frames_that_count() -> None:
    given, net = batch(), selector()
    predicted = net(given["inputs"])[0]
    expected = {
        "disagreement_huber": disagreement_huber(predicted, given["target"], mask=given["counts"]),
        "above_threshold_bce": above_threshold_bce(predicted, given["target"], threshold=0.7, mask=given["counts"]),
        "order_in_window": order_in_window(predicted, given["target"], window=2, mask=given["counts"]),
    }
    for name, value in expected.items():
        task = KeyFrameSelection(KeyFrameConfig(loss=name, threshold=0.7, window=2), net)  # type: ignore[arg-type]
        assert torch.equal(task(given)["loss"], value), name
    assert len({float(value.detach()) for value in expected.values()}) == 3


def test_a_selector_learns_what_it_is_shown_and_nothing_but_it_is_saved() -> None:
    task, given = KeyFrameSelection(None, selector()), batch()
    optimiser = torch.optim.Adam(task.parameters(), lr=0.03)
    first = task(given)["loss"].item()
    for _ in range(200):
        optimiser.zero_grad()
        task(given)["loss"].backward()
        optimiser.step()
    assert task(given)["loss"].item() < 0.1 * first
    assert task.saved_state() == {}
