"""Export of a video classifier to files that run without the code that trained it; each is checked against the network before it is kept.

Formats by suffix: `.onnx` and `.xml` (OpenVINO, weights in the `.bin` beside it), which vidkd runs without torch, and `.pt2` (torch.export;
for programs of one's own: vidkd does not read it, since torch's reader may unpickle).
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from vidkd.base.errors import ConfigError
from vidkd.base.extras import require
from vidkd.compress.export_metadata import classifier_metadata
from vidkd.compress.export_parity import Clips, Parity, Raw, compare, generated_clips
from vidkd.compress.export_trace import ExportedOutputs, onnx_program, traced
from vidkd.data.config import DataConfig
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.classifier_metadata import ClassifierMetadata
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.opening import open_exported_classifier

TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written and checked."""

    path: Path
    metadata: ClassifierMetadata
    parity: Parity

    @property
    def bytes(self) -> int:
        """Size of the file, with that of its weights where they lie beside it."""
        return sum(part.stat().st_size for part in _parts(self.path))


def export_classifier(
    saved: SavedClassifier, data: DataConfig, path: Path, *, clips: Clips | None = None, tolerance: float = TOLERANCE
) -> Exported:
    """Write a classifier to `path` in the format of its suffix, one of `FORMATS`; what was there is replaced only once the check is passed.

    data: the settings of its training. clips: what network and file are compared on, by default noise. tolerance: see `compare`.
    Raises ConfigError for another suffix, a network that cannot be exported (naming the module), or a difference beyond the tolerance;
    MissingExtraError without the packages of the format.
    """
    write = FORMATS.get(path.suffix.lower())
    if write is None:
        raise ConfigError(f"not a format of export: {path}", known=", ".join(FORMATS))
    saved.model.cpu()
    metadata = classifier_metadata(saved, data)
    outputs = ExportedOutputs(saved.model)
    program = traced(outputs, metadata)
    with _beside(path) as new:
        raw = write(program, outputs, metadata, new)
        parity = compare(outputs, raw, clips or generated_clips(metadata), tolerance=tolerance, what=path.name)
    return Exported(path=path, metadata=metadata, parity=parity)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name beside `path`, of the same suffix, that becomes `path` at the end and is gone after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new.{os.getpid()}.{path.name}")
    try:
        yield new
        for part in _parts(new):
            os.replace(part, path.with_suffix(part.suffix))
    except OSError as error:
        raise ConfigError(f"cannot write {path}", reason=error.strerror or error) from error
    finally:
        for part in _parts(new):
            part.unlink()


def _parts(path: Path) -> list[Path]:
    """The files that a path stands for, those that are there, weights first."""
    parts = [path.with_suffix(".bin"), path] if path.suffix.lower() == ".xml" else [path]
    return [part for part in parts if part.exists()]


def _write_onnx(program: ExportedProgram, outputs: ExportedOutputs, metadata: ClassifierMetadata, path: Path) -> Raw:
    path.write_bytes(_onnx_bytes(program, outputs, metadata))
    return open_exported_classifier(path, device="cpu").raw


def _onnx_bytes(program: ExportedProgram, outputs: ExportedOutputs, metadata: ClassifierMetadata) -> bytes:
    model = onnx_program(program, outputs, metadata)
    _forget_where_it_was_made(model)
    model.metadata_props[EMBEDDED_KEY] = metadata.to_json()
    return bytes(require("onnx_ir", "export").to_proto(model).SerializeToString())


def _write_openvino(program: ExportedProgram, outputs: ExportedOutputs, metadata: ClassifierMetadata, path: Path) -> Raw:
    openvino = require("openvino", "openvino")
    # read as ONNX by the runtime itself; OpenVINO's converter would report its use to its makers
    model = openvino.Core().read_model(io.BytesIO(_onnx_bytes(program, outputs, metadata)))
    model.set_rt_info(metadata.to_json(), EMBEDDED_KEY)
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return open_exported_classifier(path, device="cpu").raw


def _forget_where_it_was_made(model: Any) -> None:
    """The exporter notes at every node the lines of code and the paths of this machine that it comes from."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()


def _write_pt2(program: ExportedProgram, outputs: ExportedOutputs, metadata: ClassifierMetadata, path: Path) -> Raw:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={f"{EMBEDDED_KEY}.json": metadata.to_json()})
        # what was written a moment ago is trusted; a file from elsewhere is never read in this way
        network = torch.export.load(path).module()

    def raw(clips: Any, shares: Any) -> dict[str, Any]:
        inputs = [torch.from_numpy(clips), torch.from_numpy(shares)][: 2 if metadata.observed else 1]
        with torch.inference_mode():
            return dict(zip(outputs.names, (each.numpy() for each in network(*inputs)), strict=True))

    return raw


FORMATS: dict[str, Callable[[ExportedProgram, ExportedOutputs, ClassifierMetadata, Path], Raw]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".pt2": _write_pt2,
}
"""What writes each format and gives back the file as it is run."""
