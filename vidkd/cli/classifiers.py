"""A video classifier from any kind of file: a checkpoint or run, for which torch is imported, or an exported file."""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidkd.data.config import DataConfig
    from vidkd.runtime.clip_classifier import ClipClassifier
    from vidkd.runtime.opening import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OpenedClassifier:
    """A classifier ready to run, its class names (of its further labels too), and the settings by which it is shown clips.

    has_maps: whether it has an attention map.
    """

    classifier: "ClipClassifier"
    classes: tuple[str, ...]
    targets: Mapping[str, tuple[str, ...]]
    data: "DataConfig"
    has_maps: bool


@contextlib.contextmanager
def other_runtime_named(path: Path | str, runtime: str | None) -> Iterator[None]:
    """A MissingExtraError of the block names --runtime openvino too, where that is installed and would run the file."""
    from vidkd.base.errors import MissingExtraError

    try:
        yield
    except MissingExtraError as error:
        if runtime is None and Path(path).suffix.lower() == ".onnx" and importlib.util.find_spec("openvino"):
            raise error.with_lines(or_else="--runtime openvino, which is installed") from error
        raise


def is_exported(path: Path | str) -> bool:
    """Whether a path names an exported file, by its suffix."""
    from vidkd.runtime.opening import CLIP_NETWORKS

    return Path(path).suffix.lower() in CLIP_NETWORKS


def open_classifier(path: Path | str, *, device: str = "auto", threads: int = 0, runtime: "Runtime | None" = None) -> OpenedClassifier:
    """The classifier of an exported file, of a checkpoint or of the folder of a run; that it is opened is logged, as it may take a while.

    Of a run that is not finished, that is logged too.

    device: auto, cpu, cuda, or mps (torch alone). threads: of the model on a processor, 0 for the choice of what runs it; those of torch
    are set for the whole process. runtime: what runs an exported file, by default as its suffix says. Raises CheckpointError and
    ConfigError as `open_exported_classifier`, `load_classifier` and `check_threads` do, and ConfigError for a runtime of a checkpoint.
    """
    from vidkd.base.cores import check_threads

    check_threads(threads, where="--threads")
    check_there(path)
    refuse_detector(path, "vidkd detect --model takes detectors")
    log.info("opening %s", path)
    if is_exported(path):
        return _exported(Path(path), device, threads, runtime)
    refuse_runtime(path, runtime)
    return _checkpoint(path, device, threads)


def check_there(checkpoint: Path | str, *, exported: bool = True) -> None:
    """Raise CheckpointError for a --model where nothing is, or a program. exported: whether the verb takes exported files."""
    from vidkd.base.errors import CheckpointError
    from vidkd.base.files import near_files
    from vidkd.runtime.opening import refuse_program

    path = Path(checkpoint)
    if not path.exists():
        what = "model file" if is_exported(path) else "checkpoint"
        more = "an exported .onnx or .xml file" if exported else "a darknet .cfg"
        mend = f"give --model the folder of a run, its .pt file, or {more}"
        raise CheckpointError(f"{what} not found: {path}", flag="--model", **near_files(path, (path.suffix.lower(),)), hint=mend)
    if path.is_file():
        refuse_program(path)


def refuse_detector(checkpoint: Path | str, mend: str) -> None:
    """Raise ConfigError for a --model that is the file of a detector by its suffix."""
    from vidkd.base.errors import ConfigError

    if Path(checkpoint).suffix.lower() in (".cfg", ".weights", ".tflite"):
        raise ConfigError(f"a detector, not a classifier: {checkpoint}", hint=mend)


def refuse_runtime(checkpoint: Path | str, runtime: "Runtime | None") -> None:
    """Raise ConfigError where a runtime was named for what torch runs."""
    from vidkd.base.errors import ConfigError

    if runtime is not None:
        raise ConfigError(
            f"--runtime {runtime} is for an exported file; torch runs {checkpoint}", hint="leave out --runtime, or vidkd export first"
        )


def _exported(path: Path, device: str, threads: int, runtime: "Runtime | None") -> OpenedClassifier:
    from vidkd.data.config import shown_data
    from vidkd.runtime.opening import open_exported_classifier

    with other_runtime_named(path, runtime):
        classifier = open_exported_classifier(path, device=device, threads=threads, runtime=runtime)
    metadata = classifier.metadata
    data = shown_data(metadata, str(path))
    has_maps = metadata.map_shift_cells is not None
    return OpenedClassifier(classifier=classifier, classes=metadata.classes, targets=metadata.targets, data=data, has_maps=has_maps)


def _checkpoint(path: Path | str, device: str, threads: int) -> OpenedClassifier:
    import torch

    from vidkd.engine.checkpoint import warn_if_unfinished
    from vidkd.engine.config import load_config
    from vidkd.engine.devices import pick_device
    from vidkd.inference.torch_classifier import TorchClassifier
    from vidkd.models.saved import load_classifier

    if threads:
        torch.set_num_threads(threads)
    saved = load_classifier(path)
    warn_if_unfinished(path)
    return OpenedClassifier(
        classifier=TorchClassifier(saved.model, pick_device(device)),
        classes=saved.classes,
        targets=saved.targets,
        data=load_config(settings=saved.run).data,
        has_maps=bool(saved.model.config.attention.map_names),
    )
