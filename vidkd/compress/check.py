"""What a recipe's steps need, asked for before the first of them is done: packages, layers that patterns mean, layers that fit a step."""

from collections.abc import Sequence

from torch import nn

from vidkd.base.errors import VidkdError
from vidkd.base.extras import require
from vidkd.compress.config import FactoriseConfig, PruneConfig, QuantiseConfig
from vidkd.compress.factorise import methods_of
from vidkd.compress.graph import matched
from vidkd.compress.recipe import ExportConfig, Step
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.net import ConvolutionBlock

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
    """Raise ConfigError, naming the step, for a pattern in `spare` that fits no layer; after `factorise`, which renames layers, none is."""
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
            return


def check_methods(steps: Sequence[Step], net: nn.Module) -> None:
    """Raise ConfigError, naming the step, for a method of `factorise` that this kind of network cannot have."""
    for step in steps:
        if isinstance(step.settings, FactoriseConfig):
            try:
                methods_of(net, step.settings)
            except VidkdError as error:
                raise error.with_lines(where=f"step {step.name}: method") from None


def _weighted(net: nn.Module) -> list[str]:
    """Layers with weights as graphs name them: a convolution of a darknet by its section."""
    if isinstance(net, Darknet):
        return [f"layers.{number}" for number, layer in enumerate(net.layers) if isinstance(layer, ConvolutionBlock)]
    matrices = [name.rpartition(".") for name, weight in net.named_parameters() if weight.ndim > 1]
    return [module for module, _, last in matrices if last.startswith("weight")]
