"""Layers of a compressed darknet, fitted again by least squares: each puts out what the whole network's does, as far as its inputs let it.

After the reconstruction of feature maps of He, Zhang and Sun 2017 ("Channel Pruning for Accelerating Very Deep Neural Networks", arXiv
1707.06168, section 3), from memory, unverified: there the layer behind removed channels is fitted to its own old outputs, one after the
other. Here every layer is, of factors the last; the pull towards the weights as they were, and the offsets, are ours.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.recipe import RefitConfig
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.cfg import Yolo
from vidkd.models.darknet.graph import ConvolutionBlock
from vidkd.models.darknet.net import convolution_blocks

# For each convolution of the whole network, in its order, the indices of the filters that are left of it.
Filters = Sequence[Sequence[int]]
# Places of the maps that a layer is fitted to, a multiple of the numbers that an output of it is made of.
ROWS = 4


class Pair(NamedTuple):
    """A convolution and the one of the whole network whose outputs `kept` (indices, rising) are wanted of it."""

    name: str
    block: ConvolutionBlock
    whole: ConvolutionBlock
    kept: Tensor


def refit(net: Darknet, whole: Darknet, filters: Filters, images: Sequence[Tensor], config: RefitConfig) -> dict[str, str]:
    """Fit the convolutions of `net`, in place and in their order; both networks are in eval mode.

    whole: the network that `net` was pruned or factorised from. filters: of `whole` those that are left. images: what networks take,
    (1, 3, H, W) each. Returns, by layer, the relative squared error of its outputs (before normalisation, around their mean) before and
    after. Raises ConfigError where `net` is not what pruning and factorising left of `whole`.
    """
    generator = torch.Generator().manual_seed(config.seed)
    errors = {}
    for pair in pairs_of(net, whole, filters):
        before, after = _fit(pair, net, whole, images, config, generator)
        errors[pair.name] = f"error {before:.3g} -> {after:.3g}"
    return errors


def pairs_of(net: Darknet, whole: Darknet, filters: Filters) -> list[Pair]:
    """Which convolution of the whole network each corresponds to. Raises as `refit`."""
    found, originals = outer_convolutions(net), list(convolution_blocks(whole))
    sizes = [block.conv.out_channels for _, block in found]
    if len(found) != len(originals) or sizes != [len(kept) for kept in filters]:
        raise ConfigError(
            f"{len(found)} convolutions are not those that were left of a network with {len(originals)}",
            hint="refit after prune and factorise, before anything is trained",
        )
    return [Pair(*each, original, torch.tensor(kept)) for each, original, kept in zip(found, originals, filters, strict=True)]


def outer_convolutions(net: Darknet) -> list[tuple[str, ConvolutionBlock]]:
    """The convolutions that stand for one of the network before `factorise`: all but the inner factors of a product."""
    blocks = [(number, layer) for number, layer in enumerate(net.layers) if isinstance(layer, ConvolutionBlock)]
    return [(f"layers.{number}", block) for number, block in blocks if not _inner(net, number, block)]


def filters_left(before: Filters, net: Darknet, kept: Mapping[str, Sequence[int]]) -> list[list[int]]:
    """The filters that are left after a pruning. before: those that were left in `net`, which was pruned; kept: as its plan has them."""
    blocks = outer_convolutions(net)
    return [[old[index] for index in kept.get(f"{name}.conv", range(len(old)))] for (name, _), old in zip(blocks, before, strict=True)]


def _inner(net: Darknet, number: int, block: ConvolutionBlock) -> bool:
    """Whether a convolution is a factor that another one follows: without normalisation and activation, and no raw head."""
    raw_head = any(isinstance(following, Yolo) for following in net.config.layers[number + 1 : number + 2])
    return block.norm is None and isinstance(block.activation, nn.Identity) and not raw_head


class _Reached(Exception):  # noqa: N818 - no error: the rest of the pass is not wanted
    """The layer whose inputs or outputs were asked for has run."""


@torch.no_grad()
def _seen(net: Darknet, conv: nn.Conv2d, image: Tensor, *, outputs: bool) -> Tensor:
    """What goes into a convolution, or comes out of it; the pass ends there."""
    found: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        found.append((made if outputs else given[0]).detach().clone())
        raise _Reached

    handle = conv.register_forward_hook(note)
    try:
        net(image)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


def _fit(
    pair: Pair, net: Darknet, whole: Darknet, images: Sequence[Tensor], config: RefitConfig, generator: torch.Generator
) -> tuple[float, float]:
    """Fit one convolution of G groups, K inputs and M outputs each; relative squared error of its outputs before and after."""
    conv, groups = pair.block.conv, pair.block.conv.groups
    inputs, outputs = conv.weight[0].numel(), conv.out_channels // groups
    device = torch.device("cpu") if conv.weight.device.type == "mps" else conv.weight.device  # which has no float64
    products = torch.zeros(groups, inputs + outputs + 1, inputs + outputs + 1, dtype=torch.float64, device=device)
    wanted = max(1, -(-ROWS * inputs // len(images)))
    for image in images:
        target = _seen(whole, pair.whole.conv, image, outputs=True)[:, pair.kept].flatten(2)
        given = _seen(net, conv, image, outputs=False)
        columns = F.unfold(given, conv.kernel_size, conv.dilation, conv.padding, conv.stride)  # type: ignore[arg-type]  # no "same"
        places = torch.randperm(columns.shape[2], generator=generator)[:wanted].to(columns.device)
        x, y = columns[0, :, places].view(groups, inputs, -1), target[0, :, places].reshape(groups, outputs, -1)
        rows = torch.cat([x, y, torch.ones_like(x[:, :1])], 1).to(device)
        products += torch.bmm(rows, rows.mT)
    count, means = products[:, -1:, -1:], products[:, :-1, -1:] / products[:, -1:, -1:]
    around = products[:, :-1, :-1] - count * torch.bmm(means, means.mT)  # sums of products around the means
    xx, xy, yy = around[:, :inputs, :inputs], around[:, :inputs, inputs:], around.diagonal(dim1=1, dim2=2)[:, inputs:]
    start = conv.weight.detach().to(products).view(groups, outputs, inputs).mT
    tiny = torch.finfo(start.dtype).tiny  # inputs may never vary
    # the weights (G, K, M) of least squared error and pull towards those at the start, ridge times the mean square of the inputs
    pull = config.ridge * xx.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + tiny
    eye = torch.eye(inputs, dtype=start.dtype, device=device)
    weight = start + torch.linalg.solve(xx + pull * eye, xy - torch.bmm(xx, start))

    def error(weight: Tensor) -> float:
        fitted = (weight * torch.bmm(xx, weight)).sum(1) - 2 * (weight * xy).sum(1) + yy
        return float(fitted.sum() / yy.sum().clamp_min(tiny))

    offset = (means[:, inputs:, 0] - (weight * means[:, :inputs]).sum(1)).flatten()
    with torch.no_grad():
        conv.weight.copy_(weight.mT.reshape(conv.weight.shape))
        if pair.block.norm is None:
            conv.bias.copy_(offset)  # type: ignore[union-attr]  # without a norm it has one
        else:  # which takes an offset as another mean
            pair.block.norm.running_mean -= offset.to(pair.block.norm.running_mean)
    return error(start), error(weight)
