import pytest
import torch

from vidkd.losses.slimming import scale_l1


def test_the_sum_of_magnitudes_and_its_gradient() -> None:
    first = torch.tensor([1.0, -2.0, 0.0], requires_grad=True)
    second = torch.tensor([0.5], requires_grad=True)
    loss = scale_l1([first, second])
    loss.backward()
    assert loss.item() == 3.5
    assert first.grad is not None
    assert first.grad.tolist() == [1, -1, 0]


def test_descent_turns_off_what_the_loss_does_not_need() -> None:
    scale = torch.tensor([1.0, 1.0], requires_grad=True)
    optimiser = torch.optim.SGD([scale], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        ((scale[0] - 1) ** 2 + 0.2 * scale_l1([scale])).backward()
        optimiser.step()
    # of (s - 1)^2 + 0.2 |s| the minimum is at 0.9; the other has nothing to hold it, but for steps of 0.02 around 0
    assert scale[0].item() == pytest.approx(0.9, abs=1e-4)
    assert abs(scale[1].item()) <= 0.02
