import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier, build_backbone
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
        "aside": 2 * 5 * 5,
    }
    assert cost.macs == sum(cost.layers.values())
    assert cost.products == 0
    assert cost.parameters == 8 * 81 + 2 * 8 + 8 * 9 + 8 + 8 * 4 * 8 + 4 + 5 * 4 + 5 + 5 * 5 + 5
    assert cost.called == {"stem", "depthwise", "up", "fc"}  # of `aside` only the weight was read


@pytest.mark.parametrize("name", ["tiny3d", "mobilenet_v3_small", "r3d_18", "x3d_xs", "s3d", "mvit_v2_s", "swin3d_t"])
def test_torch_counts_the_same(name: str) -> None:
    net, clip = build_backbone(name).eval(), torch.randn(1, 3, 16 if name == "s3d" else 8, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(clip)
    assert 2 * network_cost(net, clip).macs == counter.get_total_flops()


def test_fvcore_counts_the_same_convolutions() -> None:
    net, clip = build_backbone("r3d_18").eval(), torch.randn(1, 3, 8, 32, 32)
    fvcore = FlopCountAnalysis(net, clip).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert network_cost(net, clip).macs == fvcore.by_operator()["conv"]
    assert network_cost(net, clip).parameters == sum(parameter.numel() for parameter in net.parameters())


def test_attention_between_activations_is_counted_apart_from_layers() -> None:
    layer, tokens = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = layer

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    cost = network_cost(Net(), tokens)
    assert cost.products == 3 * 2 * 5 * 5 * (4 + 4)
    assert cost.layers == {"attention": 3 * 5 * 8 * 3 * 8, "attention.out_proj": 3 * 5 * 8 * 8}
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_mode_of_every_module_is_left_as_it_was() -> None:
    model = VideoClassifier(ModelConfig(attention=AttentionConfig(pooling="soft"), freeze_norm=True), 3, "rgb").train()
    before = [module.training for module in model.modules()]
    network_cost(model, torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))
    assert [module.training for module in model.modules()] == before
    assert any(before)
    assert not all(before)


def test_an_operation_that_is_not_known_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidkd.models import macs

    monkeypatch.delitem(macs._MACS, torch.ops.aten.addmm)
    with pytest.raises(NotImplementedError, match="addmm"):
        network_cost(nn.Linear(2, 2), torch.randn(1, 2))
