"""Where the cells of an attention map lie: declared displacement against the centre of what a position sees."""

import pytest
import torch

from vidkd.models import BACKBONES, build_backbone
from vidkd.models.backbone import Stage


def test_shift_by_hand():
    assert Stage(96, 2, 8).shift_cells == 0.5 / 8 - 0.5
    assert Stage(96, 2, 8, 3.5).shift_cells == 0.0


@pytest.mark.parametrize("name", ["tiny3d", "r3d_18", "x3d_xs"])
def test_declared_first_pixel_is_the_centre_of_what_a_position_sees(name):
    """With even weights everywhere, the gradient of one position is centred on first_px + stride * column."""
    net = build_backbone(name).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data.fill_(1 / module.weight[0].numel())
    clip = torch.rand(1, 3, 4, 128, 128).requires_grad_()
    features = net(clip)
    for stage, declared in BACKBONES[name].layout.stages.items():
        column = features[stage].shape[-1] // 2
        position = features[stage][:, :, 0, column, column].sum()
        seen = torch.autograd.grad(position, clip, retain_graph=True)[0].abs().sum((0, 1, 2, 3))
        centre = (seen * torch.arange(128)).sum() / seen.sum()
        assert centre.item() == pytest.approx(declared.first_px + declared.space_stride * column, abs=0.25)
