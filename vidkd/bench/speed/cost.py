"""What a model costs whatever runs it: parameters, multiply-accumulates by two counters, bytes on disk. What is not known stays unknown."""

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.config import ModelSpec
from vidkd.bench.speed.opening import OpenModel, open_model
from vidkd.detection.saved import load_detector
from vidkd.models.darknet import Darknet
from vidkd.models.macs import network_cost
from vidkd.runtime.onnx_network import external_files


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one sample. macs: counted by `vidkd.models.macs`; macs_torch: half of what torch's FlopCounterMode counts. None: unknown.

    file_bytes: of an exported file and its weights, or of a darknet's or torchvision's weights; of a network in torch only its weights as
    one file, for a checkpoint holds the state of its training too. notes: what is unknown and why, or what the counters disagree on.
    """

    parameters: int | None
    macs: int | None
    macs_torch: int | None
    file_bytes: int
    notes: Sequence[str] = ()


def cost_of(spec: ModelSpec, opened: OpenModel) -> Cost:
    """Count what can be counted.

    An exported classifier records its parameters if vidkd wrote it; the multiply-accumulates are those of its `source`, of a detector the
    parameters too. Raises ConfigError for a source of another size than the file says, and as whatever opens the source does.
    """
    if opened.streams:
        named = zip((spec.checkpoint, spec.ensemble_with), opened.streams, strict=True)
        return _of_both([cost_of(dataclasses.replace(spec, checkpoint=name, ensemble_with=None), one) for name, one in named])
    size = _file_bytes(spec, opened)
    if opened.kind == "detector":
        return _of_detector(spec, opened, size)
    if opened.network is not None:
        return _counted(opened.network, [_blank(opened, opened.network)], size)
    if spec.source is not None:
        return _of_source(spec, opened, size)
    told = opened.recorded_parameters
    unknown = "multiply-accumulates" if told is not None else "parameters and multiply-accumulates"
    return Cost(
        parameters=told,
        macs=None,
        macs_torch=None,
        file_bytes=size,
        notes=[f"{unknown}: not in the file (name its `source`)"],
    )


def _of_both(costs: Sequence[Cost]) -> Cost:
    """Sums; unknown where one is."""
    sums = {name: [getattr(cost, name) for cost in costs] for name in ("parameters", "macs", "macs_torch", "file_bytes")}
    known: dict[str, Any] = {name: None if None in values else sum(values) for name, values in sums.items()}
    return Cost(**known, notes=[note for cost in costs for note in cost.notes])


def _of_detector(spec: ModelSpec, opened: OpenModel, size: int) -> Cost:
    network = opened.network if spec.source is None else _detector_source(spec, opened)
    sides = getattr(network, "input_size", None)
    if network is None:
        reason = "parameters and multiply-accumulates: the file does not record them (name its `source`)"
        return Cost(parameters=None, macs=None, macs_torch=None, file_bytes=size, notes=[reason])
    if sides is None:
        count = sum(parameter.numel() for parameter in network.parameters())
        return Cost(
            parameters=count,
            macs=None,
            macs_torch=None,
            file_bytes=size,
            notes=["multiply-accumulates: they depend on what the detector finds"],
        )
    width, height = sides
    return _counted(network, [torch.zeros(1, 3, height, width, device=next(network.parameters()).device)], size)


def _detector_source(spec: ModelSpec, opened: OpenModel) -> Darknet:
    """The darknet network that a file was written from, of a .cfg with random weights, as they cost the same."""
    path = Path(str(spec.source))
    network = Darknet.from_cfg(path) if path.suffix.lower() == ".cfg" else load_detector(path).net
    file, source = _told_of(opened.model.input_size, len(opened.classes)), _told_of(network.input_size, network.classes)
    if file != source:
        raise ConfigError(f"{spec.what} was not written from {spec.source}", file=file, source=source)
    return network.eval()


def _told_of(size: tuple[int, int], classes: int) -> str:
    """What the file of a detector records of its network."""
    return f"{size[0]} x {size[1]} pixels, {classes} classes"


def _of_source(spec: ModelSpec, opened: OpenModel, size: int) -> Cost:
    source = open_model(ModelSpec(checkpoint=spec.source), threads=opened.threads, device="cpu")
    if source.network is None or source.kind != "classifier":
        raise ConfigError(f"not a classifier in torch: {spec.source}", where="source", hint="the checkpoint that was exported")
    found = _counted(source.network, [_blank(source, source.network)], size)
    if source.input != opened.input or (opened.recorded_parameters is not None and opened.recorded_parameters != found.parameters):
        told = "" if opened.recorded_parameters is None else f", {opened.recorded_parameters} parameters"
        raise ConfigError(
            f"{spec.what} was not written from {spec.source}",
            file=f"{opened.input}{told}",
            source=f"{source.input}, {found.parameters} parameters",
        )
    return found


def _blank(opened: OpenModel, network: nn.Module) -> Tensor:
    return torch.from_numpy(np.zeros_like(opened.input.noise(1, 0))).to(next(network.parameters()).device)


def _counted(network: nn.Module, inputs: Sequence[Tensor], size: int) -> Cost:
    notes = []
    parameters = sum(parameter.numel() for parameter in network.parameters())
    by_torch = _by_torch(network, inputs)
    try:
        macs: int | None = network_cost(network, *inputs).macs
    except NotImplementedError as error:
        macs = None
        notes.append(f"multiply-accumulates: {error}")
    if macs is not None and macs != by_torch:
        notes.append(f"the two counters of multiply-accumulates disagree: {macs} and {by_torch}")
    return Cost(parameters=parameters, macs=macs, macs_torch=by_torch, file_bytes=size, notes=notes)


def _by_torch(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """A multiply-accumulate is two of its operations. The mode is that of a network that is opened to answer: evaluation."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole attention layer, which neither counter knows
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops()) // 2


def _file_bytes(spec: ModelSpec, opened: OpenModel) -> int:
    if spec.is_exported:
        return sum(part.stat().st_size for part in _parts(Path(spec.what)))
    if spec.weights is not None:
        return Path(spec.weights).stat().st_size
    return _saved_bytes(opened.network)


def _parts(path: Path) -> list[Path]:
    """The file, and the files of weights that belong to it."""
    if path.suffix.lower() == ".xml":
        return [path, path.with_suffix(".bin")]
    if path.suffix.lower() == ".onnx":
        return [path, *(path.parent / name for name in sorted(external_files(path)))]
    return [path]


def _saved_bytes(network: Any) -> int:
    whole = io.BytesIO()
    torch.save(network.state_dict(), whole)
    return whole.getbuffer().nbytes
