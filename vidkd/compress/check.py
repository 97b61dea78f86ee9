"""What a recipe's steps need, asked for before the first of them is done: packages, layers that patterns mean, layers that fit a step."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from vidkd.base.errors import ConfigError, VidkdError
from vidkd.base.extras import require
from vidkd.compress.config import FactoriseConfig, PruneConfig, QuantiseConfig
from vidkd.compress.factorise import methods_of
from vidkd.compress.graph import couplings
from vidkd.compress.importance import scores
from vidkd.compress.patterns import matched
from vidkd.compress.prune import layers_with_weights
from vidkd.compress.recipe import ExportConfig, Step
from vidkd.compress.traced import pieces_of
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.net import ConvolutionBlock, convolution_blocks

Packages = Sequence[tuple[str, str]]
"""Modules, each with the extra of vidkd that brings it."""
OF_KIND: dict[str, Packages] = {
    "prune": (("torch_pruning", "compress"),),
    "quantise": (("onnx", "compress"), ("onnxruntime.quantization", "compress")),
}
OF_FORMAT: dict[str, Packages] = {
    "onnx": (("onnx", "export"), ("onnxruntime", "export")),
    "xml": (("onnx", "export"), ("openvino", "openvino")),
}
TRACED: Packages = (("onnxscript", "export"),)
"""What files of OF_FORMAT take besides where torch records the network."""
MOST_FACTORS = 3
NODE = "node"
"""How names of nodes begin that stand for layers where a graph does not tell whose weights it holds."""


def check_packages(steps: Sequence[Step], *, traced: bool) -> None:
    """Raise MissingExtraError, naming the step, for a package that it needs and that is not there. traced: see TRACED."""
    for step in steps:
        formats = step.settings.formats if isinstance(step.settings, ExportConfig) else ("onnx",) if step.kind == "quantise" else ()
        needed = [*OF_KIND.get(step.kind, ())]
        for form in formats:
            needed += [*OF_FORMAT.get(form, ()), *(TRACED if traced and form in OF_FORMAT else ())]
        for module, extra in needed:
            try:
                require(module, extra)
            except VidkdError as error:
                raise error.with_lines(needed_by=f"step {step.name}") from None


def check_spared(steps: Sequence[Step], net: nn.Module) -> None:
    """Raise ConfigError, naming the step, for a pattern in `spare` that can fit no layer of the network, nor of what becomes of it.

    Behind `factorise` there are layers more, and those of a darknet have other numbers: what these may be called is allowed then.
    """
    modules, weighted = [name for name, _ in net.named_modules() if name], _weighted(net)
    for step in steps:
        settings = step.settings
        if isinstance(settings, PruneConfig | FactoriseConfig | QuantiseConfig):
            graph = isinstance(settings, QuantiseConfig)
            patterns = [pattern for pattern in settings.spare if not (graph and pattern.startswith(NODE))]
            try:
                matched(patterns, weighted if graph else modules)
            except VidkdError as error:
                raise error.with_lines(where=f"step {step.name}: spare") from None
        if isinstance(settings, FactoriseConfig):
            factors = _factors(net)
            modules, weighted = [*modules, *factors], [*weighted, *factors]


def check_methods(steps: Sequence[Step], net: nn.Module) -> None:
    """Raise ConfigError, naming the step, for a method of `factorise` that this kind of network cannot have."""
    for step in steps:
        if isinstance(step.settings, FactoriseConfig):
            try:
                methods_of(net, step.settings)
            except VidkdError as error:
                raise error.with_lines(where=f"step {step.name}: method") from None


def check_normalised(steps: Sequence[Step], net: nn.Module, example: Tensor) -> None:
    """Raise ConfigError, naming the step, for `norm_scale` where no filter that may go is normalised; other steps change nothing in that.

    example: as of `prune`. Raises MissingExtraError without torch-pruning.
    """
    by_norm = [step for step in steps if isinstance(step.settings, PruneConfig) and step.settings.criterion == "norm_scale"]
    if not by_norm:
        return
    working = copy.deepcopy(net)
    free = [each for each in couplings(pieces_of(working, example)) if each.spared is None]
    if not scores(working, free, "norm_scale"):
        raise ConfigError(
            f"{by_norm[0].name}: no filter that may go has batch normalisation, by whose scale it would be judged",
            where=f"step {by_norm[0].name}: criterion",
            hint="criterion: l1, l2 or taylor",
        )


def _weighted(net: nn.Module) -> list[str]:
    """Layers with weights as graphs name them: a convolution of a darknet by its section."""
    if isinstance(net, Darknet):
        return [f"layers.{number}" for number, layer in enumerate(net.layers) if isinstance(layer, ConvolutionBlock)]
    matrices = [name.rpartition(".") for name, weight in net.named_parameters() if weight.ndim > 1]
    return [module for module, _, last in matrices if last.startswith("weight")]


def _factors(net: nn.Module) -> list[str]:
    """Names that factors may have, as modules and in graphs."""
    if not isinstance(net, Darknet):
        return [f"{name}.{part}" for name in layers_with_weights(net) for part in range(MOST_FACTORS)]
    numbers = range(len(net.layers) + (MOST_FACTORS - 1) * sum(1 for _ in convolution_blocks(net)))
    return [f"layers.{number}{part}" for number in numbers for part in ("", ".conv", ".norm", ".activation")]
