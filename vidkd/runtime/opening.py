"""One call that opens a detector, or a video classifier, in an exported file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import CheckpointError, ConfigError, unknown_name
from vidkd.runtime.classifier_metadata import embedded_classifier
from vidkd.runtime.exported_classifier import ClipNetwork, ExportedClassifier
from vidkd.runtime.exported_detector import ExportedDetector
from vidkd.runtime.metadata import ModelMetadata
from vidkd.runtime.metadata_file import find_metadata
from vidkd.runtime.network import Network
from vidkd.runtime.onnx_network import open_onnx
from vidkd.runtime.openvino_network import open_openvino
from vidkd.runtime.tflite_network import open_tflite

NETWORKS: dict[str, Callable[..., Network]] = {".onnx": open_onnx, ".xml": open_openvino, ".tflite": open_tflite}
CLIP_NETWORKS: dict[str, Callable[..., ClipNetwork]] = {".onnx": open_onnx, ".xml": open_openvino}

Runtime = Literal["onnxruntime", "openvino"]
RUNTIMES: dict[str, dict[str, Callable[..., ClipNetwork]]] = {
    "onnxruntime": {".onnx": open_onnx},
    "openvino": {".onnx": open_openvino, ".xml": open_openvino},
}
"""Libraries among which a user may choose, with the kinds of files that each runs."""
RUN_BY = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "litert"}
"""What runs a file where nobody chooses."""
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}


def refuse_program(path: Path) -> None:
    """Raise CheckpointError for a .pt2 file, with torch or without."""
    if path.suffix.lower() == ".pt2":
        raise CheckpointError(
            f"a program of torch.export, which vidkd writes but does not run: {path}",
            reason="torch's reader of such files may unpickle",
            to_mend="name the run that it was exported from, or export that to .onnx or .xml",
        )


def library_name(path: Path | str, runtime: Runtime | None = None) -> str:
    """The name of the library that runs an exported file: the one that is chosen, or that of its suffix."""
    return NAMES[runtime or RUN_BY[Path(path).suffix.lower()]]


def open_network(path: Path | str, *, device: str = "auto", threads: int = 0, runtime: Runtime | None = None) -> Network:
    """Load a model's file by its suffix, one of `NETWORKS`.

    device: auto, cpu, or cuda (ONNX Runtime alone). threads: 0 for all that the machine, or the library's own rule, gives.
    runtime: the library that runs it, of `RUNTIMES`; by default that of its suffix, which for .onnx is ONNX Runtime.
    Raises CheckpointError if the file is missing, no model, truncated, or refers to files outside its folder; ConfigError for another
    suffix, one that the chosen library does not run, a device that is not there or a negative number of threads; MissingExtraError without
    the library that runs it.
    """
    path = Path(path)
    if path.suffix.lower() not in NETWORKS:
        raise ConfigError(
            f"not a kind of model file that runs without torch: {path}",
            known=f"{', '.join(NETWORKS)} here; darknet .cfg and .weights and torch checkpoints by the commands that take them, with torch",
        )
    open_file = _opener(path, runtime, NETWORKS)
    _check_file(path, threads)
    network: Network = open_file(path, device=device, threads=threads)
    return network


def _opener(path: Path, runtime: Runtime | None, by_suffix: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """What opens the file: of `by_suffix`, or of what the runtime runs."""
    if runtime is not None and runtime not in RUNTIMES:
        raise unknown_name("runtime", runtime, RUNTIMES)
    suffix = path.suffix.lower()
    if runtime is not None and suffix not in RUNTIMES[runtime]:
        raise ConfigError(
            f"{NAMES[runtime]} does not run {suffix} files here: {path}",
            it_runs=", ".join(RUNTIMES[runtime]),
            to_mend=f"name no runtime, and {library_name(path)} runs it",
        )
    return by_suffix[suffix] if runtime is None else RUNTIMES[runtime][suffix]


def _check_file(path: Path, threads: int) -> None:
    if not path.is_file():
        raise CheckpointError(f"model file not found: {path}")
    if threads < 0:
        raise ConfigError(f"threads must be 0 (the library's choice) or more: {threads}")


def open_detector(
    path: Path | str,
    *,
    metadata: ModelMetadata | Path | str | None = None,
    score: float | None = None,
    nms_iou: float | None = None,
    device: str = "auto",
    threads: int = 0,
    runtime: Runtime | None = None,
) -> ExportedDetector:
    """Open a detector in an exported file, one of `NETWORKS` by its suffix.

    metadata: in place of what the file carries or the YAML beside it says; a path is of such a YAML. score, nms_iou: in place of the
    metadata's, in [0, 1]. device, threads, runtime and errors: those of `open_network`; also ConfigError if there is no metadata, or it is
    wrong, or does not fit the file.
    """
    network = open_network(path, device=device, threads=threads, runtime=runtime)
    return ExportedDetector(network, find_metadata(network, metadata), score=score, nms_iou=nms_iou)


def open_exported_classifier(
    path: Path | str, *, device: str = "auto", threads: int = 0, runtime: Runtime | None = None
) -> ExportedClassifier:
    """Open a video classifier in an exported file, one of `CLIP_NETWORKS` by its suffix; the file itself says how it is run.

    device, threads, runtime and errors: those of `open_network`; also ConfigError if there is no metadata, or it is of another schema, or
    wrong, or does not fit the file.
    """
    path = Path(path)
    if path.suffix.lower() not in CLIP_NETWORKS:
        raise ConfigError(f"not a kind of classifier's file that runs without torch: {path}", known=", ".join(CLIP_NETWORKS))
    open_file = _opener(path, runtime, CLIP_NETWORKS)
    _check_file(path, threads)
    network: ClipNetwork = open_file(path, device=device, threads=threads)
    return ExportedClassifier(network, embedded_classifier(network))
