import pytest
import torch
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import SparsifyConfig
from vidkd.compress.sparsify import compressed_bytes, sparsify
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.changes import apply_changes
from vidkd.models.sparse_weights import hold_zeros, zeros


def net() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        made[2].weight.mul_(10)
    return made


def share(layer: nn.Module) -> float:
    return float((layer.get_parameter("weight") == 0).float().mean())


def test_the_smallest_of_each_layer_become_zero_and_the_rest_stays() -> None:
    original = net()
    done = sparsify(original, torch.randn(1, 4), SparsifyConfig(ratio=0.4))
    for index in (0, 2):
        here, there = original[index].weight, done.model[index].weight
        gone = there == 0
        assert int(gone.sum()) == round(0.4 * here.numel())
        assert here[gone].abs().max() < here[~gone].abs().min()
        assert torch.equal(here[~gone], there[~gone])
        assert torch.equal(original[index].bias, done.model[index].bias)
    assert done.layers["0"] == "8 of 20 weights are zero"


def test_global_ranks_all_weights_together() -> None:
    original = net()
    done = sparsify(original, torch.randn(1, 4), SparsifyConfig(ratio=0.5, scope="global"))
    every = torch.cat([original[index].weight.abs().flatten() for index in (0, 2)])
    left = torch.cat([done.model[index].weight.abs().flatten() for index in (0, 2)])
    assert int((left == 0).sum()) == 15
    assert every[left == 0].max() < every[left > 0].min()
    assert share(done.model[0]) > share(done.model[2])


def test_sparsity_saves_bytes_of_a_compressed_file_and_no_macs() -> None:
    model = VideoClassifier(ModelConfig(), 3, "rgb").eval()
    done = sparsify(model, torch.rand(1, 3, 8, 32, 32), SparsifyConfig(ratio=0.9))
    assert done.after == done.before
    assert compressed_bytes(done.model) < 0.3 * compressed_bytes(model)
    assert 0.85 * 4 * done.after.parameters < compressed_bytes(model) < 1.05 * 4 * done.after.parameters
    apply_changes(model, [done.plan])  # which changes no shape
    model.load_state_dict(done.model.state_dict())
    assert model.changes == done.model.changes == (done.plan,)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_zeros_are_held_through_a_repair(decay: float) -> None:
    sparse = sparsify(net(), torch.randn(1, 4), SparsifyConfig(ratio=0.5)).model
    before = sparse[0].weight.clone()
    held, optimiser = hold_zeros(sparse), torch.optim.AdamW(sparse.parameters(), lr=0.1, weight_decay=decay)
    assert {name: int(mask.sum()) for name, mask in held.items()} == {"0.weight": 10, "2.weight": 5}
    for _ in range(3):
        optimiser.zero_grad()
        sparse(torch.randn(8, 4)).square().sum().backward()
        optimiser.step()
    assert share(sparse[0]) == share(sparse[2]) == 0.5
    assert torch.equal(sparse[0].weight == 0, before == 0)
    assert not torch.equal(sparse[0].weight, before)
    assert list(zeros(sparse)) == list(held)


def test_a_layer_may_be_spared_and_none_may_be_emptied() -> None:
    done = sparsify(net(), torch.randn(1, 4), SparsifyConfig(ratio=0.5, spare=("2",)))
    assert share(done.model[2]) == 0
    assert done.left == {"2": "spare"}
    with pytest.raises(ConfigError, match="all 10 weights of 2"):
        sparsify(net(), torch.randn(1, 4), SparsifyConfig(ratio=0.97))
    with pytest.raises(ConfigError, match="may lose"):
        sparsify(net(), torch.randn(1, 4), SparsifyConfig(spare=("*",)))
    with pytest.raises(ConfigError, match="ratio"):
        SparsifyConfig(ratio=1)
