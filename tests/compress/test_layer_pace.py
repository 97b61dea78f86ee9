import re

import pytest
import torch
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress import factorise as module
from vidkd.compress.config import FactoriseConfig
from vidkd.compress.factorise import factorise
from vidkd.compress.layer_pace import ROUNDS, pace
from vidkd.models.low_rank import LowRank


class Takes(nn.Module):
    """Takes so many seconds a call on a clock of its own; the first call takes a minute more."""

    def __init__(self, seconds: float, now: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seconds, self.now, self.calls = seconds, now, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.now[0] += self.seconds + 60 * (not self.calls)
        self.calls.append(tuple(images.shape))
        return images


def test_modules_take_turns_on_all_shapes_and_the_first_turn_does_not_count() -> None:
    now = [0.0]
    one, other = Takes(0.002, now), Takes(0.003, now)
    shapes = [torch.Size((1, 3, 4, 4)), torch.Size((1, 3, 2, 2))]
    assert pace(one, other, shapes, clock=lambda: now[0]) == pytest.approx((4.0, 6.0)), "milliseconds of both shapes"
    assert one.calls == other.calls == [(1, 3, 4, 4), (1, 3, 2, 2)] * (ROUNDS + 1)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)).eval()


IMAGES = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def paced(monkeypatch: pytest.MonkeyPatch, slow: tuple[nn.Module, ...]) -> None:
    """Factors of these layers take three times as long, those of others half as long."""

    def fake(layer: nn.Module, other: nn.Module, shapes: list[torch.Size]) -> tuple[float, float]:
        assert isinstance(other, LowRank)
        assert all(len(shape) == 4 for shape in shapes)
        return (2.0, 6.0) if layer in slow else (2.0, 1.0)

    monkeypatch.setattr(module, "pace", fake)


def test_a_layer_that_would_be_slower_stays_and_the_others_meet_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = net()
    paced(monkeypatch, (whole[1],))
    config = FactoriseConfig(macs=0.7)
    assert set(factorise(whole, IMAGES, config).layers) >= {"1", "2"}, "timed is not asked for"
    done = factorise(whole, IMAGES, FactoriseConfig(macs=0.7, timed=True))
    assert "1" not in done.layers
    assert re.fullmatch(r"it would be slower here: 2 -> 6 ms, though MACs fall to [\d,]+", done.left["1"])
    assert torch.equal(done.model[1].weight, whole[1].weight)
    assert done.after.macs <= 0.7 * done.before.macs


def test_where_every_layer_would_be_slower_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = net()
    paced(monkeypatch, tuple(whole))
    with pytest.raises(ConfigError, match="no layer becomes cheaper") as error:
        factorise(whole, IMAGES, FactoriseConfig(energy=0.6, timed=True))
    assert "it would be slower here: 2 -> 6 ms" in str(error.value)
    with pytest.raises(ConfigError, match=r"budget(.|\n)*left whole : 1, 2: slower in factors"):
        factorise(whole, IMAGES, FactoriseConfig(macs=0.7, timed=True))


@pytest.mark.slow
def test_a_layer_is_timed_as_it_is() -> None:
    """Ranks of 1 for a wide layer on a large picture are faster on any machine that is not busy with something else."""
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).eval()
    done = factorise(wide, torch.rand(1, 64, 48, 48), FactoriseConfig(ratio=1 / 64, timed=True))
    assert done.layers["0"].startswith("channel, rank 1 of 64")
