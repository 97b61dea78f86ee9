"""What a model costs whatever runs it: parameters, multiply-accumulates by two counters, bytes on disk. What is not known stays unknown."""

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.config import ModelSpec
from vidkd.bench.speed.opening import OpenModel, open_model
from vidkd.detection.saved import load_detector
from vidkd.models.darknet import Darknet
from vidkd.models.macs import network_cost
from vidkd.runtime.networks import external_files


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one sample. macs: counted by `vidkd.models.macs`; macs_torch: half of what torch's FlopCounterMode counts. None: unknown.

    file_bytes: of an exported file and its weights, or of a darknet's or torchvision's weights; of a network in torch only its weights as
    one file, for a checkpoint holds the state of its training too. notes: what is unknown and why, or what the counters disagree on.
    """

    parameters: int | None = None
    macs: int | None = None
    macs_torch: int | None = None
    file_bytes: int
    notes: Sequence[str] = ()


def cost_of(spec: ModelSpec, opened: OpenModel) -> Cost:
    """Count what can be counted; of two streams the sums.

    An exported classifier records its parameters if vidkd wrote it; the multiply-accumulates are those of its `source`, of a detector the
    parameters too. Raises ConfigError for a source of another size than the file says, and as whatever opens the source does.
    """
    if opened.streams:
        named = zip((spec.checkpoint, spec.ensemble_with), opened.streams, strict=True)
        costs = [cost_of(dataclasses.replace(spec, checkpoint=name, ensemble_with=None), one) for name, one in named]
        parts = {name: [getattr(cost, name) for cost in costs] for name in ("parameters", "macs", "macs_torch", "file_bytes")}
        sums: dict[str, Any] = {name: None if None in values else sum(values) for name, values in parts.items()}
        return Cost(**sums, notes=[note for cost in costs for note in cost.notes])
    size = _file_bytes(spec, opened)
    network = opened.network if spec.source is None else _source(spec, spec.source, opened)
    if network is None:
        unknown = "multiply-accumulates" if opened.recorded_parameters is not None else "parameters and multiply-accumulates"
        notes = [f"{unknown}: not in the file (name its `source`)"]
        return Cost(parameters=opened.recorded_parameters, file_bytes=size, notes=notes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    sample = torch.from_numpy(opened.input.noise(1, 0))
    if opened.kind == "detector":
        if (sides := getattr(network, "input_size", None)) is None:
            notes = ["multiply-accumulates: they depend on what the detector finds"]
            return Cost(parameters=parameters, file_bytes=size, notes=notes)
        sample = torch.zeros(1, 3, sides[1], sides[0])
    macs, by_torch, notes = _counted(network, sample.to(next(network.parameters()).device))
    return Cost(parameters=parameters, macs=macs, macs_torch=by_torch, file_bytes=size, notes=notes)


def _source(spec: ModelSpec, name: str, opened: OpenModel) -> nn.Module:
    """The network that a file was written from; of a .cfg with random weights, as they cost the same."""
    network: nn.Module
    if opened.kind == "detector":
        darknet = Darknet.from_cfg(Path(name)) if Path(name).suffix.lower() == ".cfg" else load_detector(name).net
        pair = [(opened.model.input_size, len(opened.classes)), (darknet.input_size, darknet.classes)]
        file, source = (f"{size[0]} x {size[1]} pixels, {classes} classes" for size, classes in pair)
        network = darknet.eval()
    else:
        found = open_model(ModelSpec(checkpoint=name), threads=opened.threads, device="cpu")
        if found.network is None or found.kind != "classifier":
            raise ConfigError(f"not a classifier in torch: {name}", where="source", hint="the checkpoint that was exported")
        network, known = found.network, opened.recorded_parameters
        counts = (known, None if known is None else sum(parameter.numel() for parameter in network.parameters()))
        file, source = (
            f"{one.input.words}, {'unknown' if count is None else count} parameters"
            for one, count in zip((opened, found), counts, strict=True)
        )
    if file != source:
        raise ConfigError(f"{spec.what} was not written from {name}", file=file, source=source)
    return network


def _counted(network: nn.Module, sample: Tensor) -> tuple[int | None, int, list[str]]:
    """Multiply-accumulates by both counters, and what is to be known of them. The mode is that of an opened network: evaluation."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole attention layer, which neither counter knows
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(sample)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    by_torch = int(counter.get_total_flops()) // 2
    try:
        macs = network_cost(network, sample).macs
    except NotImplementedError as error:
        return None, by_torch, [f"multiply-accumulates: {error}"]
    disagree = f"the two counters of multiply-accumulates disagree: {macs} and {by_torch}"
    return macs, by_torch, [] if macs == by_torch else [disagree]


def _file_bytes(spec: ModelSpec, opened: OpenModel) -> int:
    path = Path(spec.what)
    if spec.is_exported:
        weights = [path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path.parent / name for name in external_files(path)]
        return sum(part.stat().st_size for part in (path, *weights))
    if spec.weights is not None:
        return Path(spec.weights).stat().st_size
    whole = io.BytesIO()
    torch.save(opened.network.state_dict(), whole)
    return whole.getbuffer().nbytes
