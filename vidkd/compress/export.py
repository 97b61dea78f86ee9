"""Export of a video classifier to files that run without the code that trained it; each is checked against the network before it is kept.

Formats by suffix: `.onnx` and `.xml` (OpenVINO, weights in the `.bin` beside it), which vidkd runs without torch, and `.pt2` (torch.export;
for programs of one's own: vidkd does not read it, since torch's reader may unpickle).
"""

import contextlib
import io
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.base.extras import require
from vidkd.compress.calibration import Calibration
from vidkd.compress.config import TOLERANCE, QuantiseConfig
from vidkd.compress.export_metadata import classifier_metadata
from vidkd.compress.export_parity import MORE, Clips, Parity, Raw, compare, generated_clips, said_of
from vidkd.compress.export_trace import ExportedOutputs, has_open_batch, onnx_program, traced
from vidkd.compress.finite import check_outputs, check_weights
from vidkd.compress.integer_layers import run_in_integers
from vidkd.compress.integer_warnings import warn_if_apart
from vidkd.compress.openvino_file import write_openvino
from vidkd.compress.quantise import Quantised, quantise_once
from vidkd.data.config import DataConfig
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.metadata import EMBEDDED_KEY, ClassifierMetadata
from vidkd.runtime.opening import library_name, open_exported_classifier


@dataclass(frozen=True, kw_only=True)
class Integers:
    """That and how a file computes in eight-bit integers. calibration: training clips on which ranges are found.

    kept: graphs that were given integers so, which a file of another format need not find again.
    """

    config: QuantiseConfig
    calibration: Calibration
    kept: dict[str, Quantised] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written and checked. quantised: what of it computes in integers; None for a file in float.

    open_batch: whether it takes any number of clips at once; one that does not is given them one by one.
    """

    path: Path
    metadata: ClassifierMetadata
    parity: Parity
    open_batch: bool = True
    quantised: Quantised | None = None

    @property
    def bytes(self) -> int:
        """Size of the file, with that of its weights where they lie beside it."""
        return sum(part.stat().st_size for part in parts_of(self.path))


def export_classifier(
    saved: SavedClassifier,
    data: DataConfig,
    path: Path,
    *,
    clips: Clips | None = None,
    tolerance: float = TOLERANCE,
    integers: Integers | None = None,
    more: str = MORE,
    named: Path | str | None = None,
) -> Exported:
    """Write a classifier to `path` in the format of its suffix, one of `FORMATS`; what was there is replaced only once the check is passed.

    data: the settings of its training. clips: what network and file are compared on, by default noise. tolerance, more: see `compare`.
    integers: how it computes in eight-bit integers, by default in float; its differences are told, whatever they are, and warned of where
    it mostly differs. named: where the network was read from, for messages.
    Raises ConfigError for another suffix, a network that does not compute with finite numbers, that cannot be exported (naming the module)
    or that the library of the format refuses, a place that cannot be written, a difference beyond the tolerance, or a runtime that computes
    in float what is in integers in the file; MissingExtraError without the packages of the format.
    """
    write = FORMATS.get(path.suffix.lower())
    if write is None:
        raise ConfigError(f"not a format of export: {path}", known=", ".join(FORMATS))
    if integers is not None and path.suffix.lower() == ".pt2":
        raise ConfigError(f"not a format of integers: {path}", known=".onnx, .xml", hint="export .pt2 in float")
    saved.model.cpu()
    check_weights(saved.model, named)
    graph = Graph(saved, data, integers)
    given = clips or generated_clips(graph.metadata)
    wanted = said_of(graph.outputs, given)
    check_outputs(wanted.values(), given.source, named)
    with replaced_whole(path) as new:
        allowed = tolerance if integers is None else math.inf
        with told_if_unwritable(path), told_if_refused(path):
            raw = write(graph, new)
            parity = compare(wanted, raw, given, tolerance=allowed, what=path.name, more=more)
            if graph.quantised is not None:
                check_integers(new, graph.quantised, path)
        if integers is not None:
            warn_if_apart(path, parity)
    open_batch = has_open_batch(graph.program)
    return Exported(path=path, metadata=graph.metadata, parity=parity, open_batch=open_batch, quantised=graph.quantised)


class Graph:
    """A classifier as the graph that its files hold, with what they say of themselves. quantised: set once it was given integers."""

    def __init__(self, saved: SavedClassifier, data: DataConfig, integers: Integers | None = None) -> None:
        self.metadata = classifier_metadata(saved, data, quantised=integers is not None)
        self.outputs = ExportedOutputs(saved.model)
        self.program = traced(self.outputs, self.metadata)
        self.quantised: Quantised | None = None
        self._integers = integers

    def onnx(self) -> bytes:
        """The ONNX model with its metadata, in integers where it is to be."""
        model = onnx_program(self.program, self.outputs, self.metadata)
        _forget_where_it_was_made(model)
        model.metadata_props[EMBEDDED_KEY] = self.metadata.to_json()
        content = bytes(require("onnx_ir", "export").to_proto(model).SerializeToString())
        if self._integers is None:
            return content
        given = self._integers
        self.quantised = quantise_once(content, given.calibration.feeds, given.config, given.kept)
        return self.quantised.graph


def check_integers(written: Path, quantised: Quantised, path: Path) -> None:
    """Raise ConfigError if a runtime computes a convolution or a linear layer in float that the file holds in integers."""
    run = run_in_integers(written)
    linear = len(quantised.layers) - quantised.convolutions
    if run.convolutions < quantised.convolutions or run.linear < linear:
        raise ConfigError(
            f"{path.name}: {run.convolutions} of {run.all_convolutions} convolutions and {run.linear} linear layers compute in integers "
            f"here, {quantised.convolutions} and {linear} are in the file",
            hint="another format (.onnx, .xml), or spare the layers that this runtime has no integers for",
        )


@contextlib.contextmanager
def told_if_unwritable(path: Path) -> Iterator[None]:
    """An OSError of the block becomes the ConfigError that `path` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise ConfigError(f"cannot write {path}", reason=reason, hint="another place, or make room and leave to write there") from error


@contextlib.contextmanager
def told_if_refused(path: Path) -> Iterator[None]:
    """That a library does not convert, open or run what was just written for it (a CheckpointError) becomes a ConfigError of the export."""
    try:
        yield
    except CheckpointError as error:
        other = "export .onnx, which ONNX Runtime runs; or " if path.suffix.lower() == ".xml" else ""
        lines = {name: text for name, text in error.lines.items() if name in ("operations", "reason")}
        raise ConfigError(
            f"cannot export {path}: {library_name(path)} refuses the network",
            **(lines or {"reason": error.what}),
            hint=f"{other}another backbone (docs/models.md tells what each can be exported to); nothing was written",
        ) from error


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """The same name in a folder of its own beside `path`, that becomes `path` at the end; the folder is gone then, and after an error.

    Nobody else has that folder, so two who write `path` at once cannot take what the other has not checked yet for their own.
    """
    with told_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        new = folder / path.name
        yield new
        with told_if_unwritable(path):
            for part in parts_of(new):
                os.replace(part, path.with_name(part.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parts_of(path: Path) -> list[Path]:
    """The files that a path stands for, those that are there, weights first."""
    parts = [path.with_suffix(".bin"), path] if path.suffix.lower() == ".xml" else [path]
    return [part for part in parts if part.exists()]


def size_of(net: nn.Module, file: Path | None) -> int:
    """Bytes of an exported file with its weights; without one those of all tensors of the network, as they lie in memory."""
    if file is not None:
        return sum(part.stat().st_size for part in parts_of(file))
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())


def float_bytes(saved: SavedClassifier, data: DataConfig, suffix: str, named: Path | str | None = None) -> int:
    """Size of the file that a classifier becomes in float: what others of this suffix are compared with. Raises as `export_classifier`."""
    with tempfile.TemporaryDirectory() as folder:
        return export_classifier(saved, data, Path(folder) / f"model{suffix}", tolerance=math.inf, named=named).bytes


def _write_onnx(graph: Graph, path: Path) -> Raw:
    path.write_bytes(graph.onnx())
    return open_exported_classifier(path, device="cpu").raw


def _write_openvino(graph: Graph, path: Path) -> Raw:
    write_openvino(graph.onnx(), graph.metadata.to_json(), path)
    return open_exported_classifier(path, device="cpu").raw


def _forget_where_it_was_made(model: Any) -> None:
    """The exporter notes at every node the lines of code and the paths of this machine that it comes from."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()


def _write_pt2(graph: Graph, path: Path) -> Raw:
    program, outputs, metadata = graph.program, graph.outputs, graph.metadata
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = io.BytesIO()  # not to the file at once: torch hides its errors
        torch.export.save(program, whole, extra_files={f"{EMBEDDED_KEY}.json": metadata.to_json()})
        path.write_bytes(whole.getvalue())
        # what was written a moment ago is trusted; a file from elsewhere is never read in this way
        network = torch.export.load(path).module()

    at_once = None if has_open_batch(program) else 1

    def raw(clips: Any, shares: Any) -> dict[str, Any]:
        piece = at_once or len(clips)
        found = []
        for start in range(0, len(clips), piece):
            part = slice(start, start + piece)
            inputs = [torch.from_numpy(clips[part]), torch.from_numpy(shares[part])][: 2 if metadata.observed else 1]
            with torch.inference_mode():
                found.append([each.numpy() for each in network(*inputs)])
        return dict(zip(outputs.names, map(np.concatenate, zip(*found, strict=True)), strict=True))

    return raw


FORMATS: dict[str, Callable[[Graph, Path], Raw]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".pt2": _write_pt2,
}
"""What writes each format and gives back the file as it is run."""
