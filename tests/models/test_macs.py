import torch
from torch import nn
from torch.nn import functional

from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.macs import network_cost


class ByHand(nn.Module):
    """A net small enough to be counted with a pencil."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, (3, 3, 3), stride=(1, 2, 2), padding=1, bias=False)
        self.norm = nn.BatchNorm3d(8)
        self.depthwise = nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1), groups=8)
        self.up = nn.ConvTranspose3d(8, 4, 2, stride=2)
        self.fc = nn.Linear(4, 5)
        self.aside = nn.Linear(5, 5)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        features = self.up(self.depthwise(self.norm(self.stem(clip)).relu()))
        return functional.linear(self.fc(features.mean(dim=(2, 3, 4))), self.aside.weight)


def test_a_net_counted_by_hand() -> None:
    cost = network_cost(ByHand(), torch.randn(2, 3, 4, 6, 6))
    positions = 2 * 4 * 3 * 3  # after the stem, both clips
    assert cost.layers == {
        "stem": positions * 8 * 3 * 27,
        "depthwise": positions * 8 * 9,
        "up": positions * 8 * 4 * 8,
        "fc": 2 * 4 * 5,
    }
    assert cost.macs == sum(cost.layers.values()) + 2 * 5 * 5  # of `aside` only the weight was read
    assert cost.parameters == 8 * 81 + 2 * 8 + 8 * 9 + 8 + 8 * 4 * 8 + 4 + 5 * 4 + 5 + 5 * 5 + 5


def test_attention_between_activations_counts_in_the_sum_only() -> None:
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    cost, tokens = network_cost(net, torch.randn(3, 5, 8)), 3 * 5
    assert cost.layers == {"0.linear1": tokens * 8 * 16, "0.linear2": tokens * 16 * 8}
    assert cost.macs == sum(cost.layers.values()) + tokens * 8 * (3 * 8 + 8) + 3 * 2 * 5 * 5 * (4 + 4)
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_mode_of_every_module_is_left_as_it_was() -> None:
    model = VideoClassifier(ModelConfig(attention=AttentionConfig(pooling="soft"), freeze_norm=True), 3, "rgb").train()
    before = [module.training for module in model.modules()]
    network_cost(model, torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))
    assert [module.training for module in model.modules()] == before
    assert any(before)
    assert not all(before)
