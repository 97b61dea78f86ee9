"""What is benchmarked, opened ready to answer.

torch is imported only where a model needs it: a fresh process that opens an exported file has none, as `vidkd predict` has none.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, first_line, unknown_name
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.direct import LIBRARIES, NAMES, NetworkInput
from vidkd.runtime.metadata import CHANNELS, View
from vidkd.runtime.opening import library_name

if TYPE_CHECKING:
    from vidkd.bench.speed.two_streams import TwoStreamInput
    from vidkd.data.config import DataConfig
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.models import VideoClassifier

Kind = Literal["classifier", "detector"]
LOW_SCORE = 0.01
MOST_COMPILED = 256
"""Graphs that torch.compile keeps of one network: one for each batch size and number of threads."""


@dataclass(frozen=True, kw_only=True)
class ClipInput:
    """One sample of a classifier: RGB uint8 or flow float32 in pixels, (C, frames, size, size)."""

    view: View
    frames: int
    size: int

    def noise(self, count: int, seed: int) -> NDArray[Any]:
        """(count, C, T, S, S): RGB over the whole range, flow of some pixels."""
        rng = np.random.default_rng(seed)
        shape = (count, CHANNELS[self.view], self.frames, self.size, self.size)
        return rng.integers(0, 256, shape).astype(np.uint8) if self.view == "rgb" else rng.normal(0, 4, shape).astype(np.float32)

    def __str__(self) -> str:
        return f"{self.view} {self.frames}x{self.size}x{self.size}"


@dataclass(frozen=True, kw_only=True)
class FrameInput:
    """One sample of a detector: an RGB frame, uint8 (height, width, 3)."""

    height: int
    width: int

    def noise(self, count: int, seed: int) -> NDArray[Any]:
        """(count, H, W, 3) over the whole range."""
        return np.random.default_rng(seed).integers(0, 256, (count, self.height, self.width, 3)).astype(np.uint8)

    def __str__(self) -> str:
        return f"frames {self.width}x{self.height}"


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """A model on so many threads.

    runs_on: the library that runs it, and how. answer: a batch as its `input` has it -> probabilities or boxes, in memory of the host; what
    goes before and after the network is part of it. model: what accuracy is judged on: a network in torch, an `ExportedClassifier` or a
    `Detector`. network: the network in torch, to be counted, without torch.compile; None where there is none. data: the settings
    by which clips are shown to a classifier. device: where it really runs. waits: whether a call returns when all is done, whatever the
    device, as those of exported files do. trained: False for what is not judged. recorded_parameters: what an exported file says of itself.
    streams: the two that `open_two_streams` joined, in the order of their names. learned: the clips of its training, if it says.
    """

    kind: Kind
    runs_on: str
    threads: int
    answer: Callable[[NDArray[Any]], object]
    model: Any
    network: Any
    input: "ClipInput | FrameInput | NetworkInput | TwoStreamInput"
    classes: tuple[str, ...]
    data: "DataConfig | None" = None
    device: str = "cpu"
    waits: bool = False
    trained: bool = True
    recorded_parameters: int | None = None
    streams: "tuple[OpenModel, ...]" = ()
    learned: "LearnedFrom | None" = None

    @property
    def clock_device(self) -> str:
        """The device by whose clock calls are timed, see `clock_of`: that of torch, and the host for what waits."""
        return "cpu" if self.waits else self.device

    def begin(self) -> None:
        """Give the libraries that all models share this one's number of threads; those with sessions of their own have it already."""
        import cv2

        cv2.setNumThreads(self.threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.threads)


def open_model(spec: ModelSpec, *, threads: int, device: str = "auto", shape: ShapeSpec | None = None) -> OpenModel:
    """Open a model of any kind. shape: what backbones and detectors are shown if nothing else says so.

    Raises CheckpointError, ConfigError and MissingExtraError as whatever opens the file does; ConfigError for a device that is not there,
    an unknown backbone, or a network that torch.compile cannot compile.
    """
    shape = shape or ShapeSpec()
    if spec.ensemble_with is not None:
        from vidkd.bench.speed.two_streams import open_two_streams

        return open_two_streams(spec, lambda one: open_model(one, threads=threads, device=device, shape=shape))
    if spec.direct is not None:
        return _open_direct(spec, spec.direct, threads, device)
    if spec.backbone is not None:
        return _open_backbone(spec, threads, device, shape)
    if spec.detector is not None:
        return _open_detector(spec, threads, device, shape)
    if spec.is_exported:
        return _open_exported(spec, threads, device)
    from vidkd.detection.saved import is_detector
    from vidkd.models.saved import read_checkpoint

    if is_detector(read_checkpoint(spec.what)):
        return _open_detector(spec, threads, device, shape)
    return _open_checkpoint(spec, threads, device)


def _open_direct(spec: ModelSpec, library: str, threads: int, device: str) -> OpenModel:
    answer, form = LIBRARIES[library](Path(spec.what), threads=threads, device=device, shape=spec.input)
    return OpenModel(
        kind="detector" if spec.detector is not None else "classifier",
        runs_on=NAMES[library],
        threads=threads,
        answer=answer,
        model=None,
        network=None,
        input=form,
        classes=(),
        trained=False,
    )


def _open_exported(spec: ModelSpec, threads: int, device: str) -> OpenModel:
    from vidkd.data.exported import shown_data
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.runtime.opening import open_exported_classifier

    runtime: Any = spec.runtime  # of an exported file, as the specification checks
    classifier = open_exported_classifier(spec.what, device=device, threads=threads, runtime=runtime)
    metadata = classifier.metadata
    return OpenModel(
        kind="classifier",
        runs_on=_on(library_name(spec.what, runtime), classifier.device),
        threads=threads,
        answer=classifier,
        model=classifier,
        network=None,
        input=ClipInput(view=metadata.view, frames=metadata.input.frames, size=metadata.input.size),
        classes=metadata.classes,
        data=shown_data(metadata, spec.what),
        device=classifier.device,
        waits=True,
        recorded_parameters=metadata.trained.get("parameters"),
        learned=LearnedFrom.of(metadata.trained.get("learned")),
    )


def _open_checkpoint(spec: ModelSpec, threads: int, device: str) -> OpenModel:
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.engine.config import load_config
    from vidkd.models.saved import load_classifier

    saved = load_classifier(spec.what)
    data = load_config(settings=saved.run).data
    opened = _in_torch(spec, saved.model, data, saved.classes, threads, device, trained=True)
    return dataclasses.replace(opened, learned=LearnedFrom.of(saved.learned))


def _open_backbone(spec: ModelSpec, threads: int, device: str, shape: ShapeSpec) -> OpenModel:
    import torch

    from vidkd.data.config import DataConfig
    from vidkd.data.transforms import TransformConfig
    from vidkd.data.windows import WindowConfig
    from vidkd.models import BACKBONES, ModelConfig, VideoClassifier

    if spec.what not in BACKBONES:
        raise unknown_name("backbone", spec.what, BACKBONES)
    told = BACKBONES[spec.what].layout.input
    frames, size = shape.frames or told.frames, shape.size or told.size
    data = DataConfig(
        window=WindowConfig(frames=frames, short_clip="hold"), transform=TransformConfig(short_side=size, crop=size), eval_clips=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VideoClassifier(ModelConfig(backbone=spec.what, dropout=0.0), shape.classes, "rgb")
    classes = tuple(f"class {number}" for number in range(shape.classes))
    return _in_torch(spec, model, data, classes, threads, device, trained=False)


def _in_torch(
    spec: ModelSpec, network: "VideoClassifier", data: "DataConfig", classes: tuple[str, ...], threads: int, device: str, *, trained: bool
) -> OpenModel:
    import torch

    from vidkd.engine.devices import pick_device
    from vidkd.inference.torch_classifier import TorchClassifier

    torch.set_num_threads(threads)
    place = pick_device(device)
    network.to(place).eval()
    clip = ClipInput(view=network.view, frames=data.window.frames, size=data.transform.crop)
    model = _compiled(network) if spec.compile else network
    classifier = TorchClassifier(model, place)

    def answer(batch: NDArray[Any]) -> object:
        with autocast(spec.amp, place.type):
            return classifier(batch)

    if spec.compile:
        _try_compiled(answer, clip, spec.what)
    words = ["torch.compile" if spec.compile else "torch", *([spec.amp] if spec.amp else [])]
    return OpenModel(
        kind="classifier",
        runs_on=_on(", ".join(words), place.type),
        threads=threads,
        answer=answer,
        model=model,
        network=network,
        input=clip,
        classes=classes,
        data=data,
        device=place.type,
        trained=trained,
    )


def autocast(amp: str | None, device: str) -> contextlib.AbstractContextManager[object]:
    """The context in which a network runs in lower precision; none for None."""
    import torch

    return torch.autocast(device, dtype=getattr(torch, amp)) if amp else contextlib.nullcontext()


def _compiled(network: "VideoClassifier") -> Any:
    """Whole graphs alone, one for every batch size: what cannot be compiled is an error, nothing of it runs uncompiled."""
    import torch
    import torch._dynamo

    limits: Any = torch._dynamo.config
    limits.cache_size_limit = max(limits.cache_size_limit, MOST_COMPILED)
    return torch.compile(network, fullgraph=True, dynamic=False)


def _try_compiled(answer: Callable[[NDArray[Any]], object], clip: ClipInput, what: str) -> None:
    try:
        answer(clip.noise(1, 0))
    except Exception as error:  # of the compiler's many parts, which share no class
        reason = first_line(error)
        raise ConfigError(
            f"torch.compile cannot compile {what}", reason=reason, hint="compile: false, or what the reason asks for (a C++ compiler)"
        ) from error


def _open_detector(spec: ModelSpec, threads: int, device: str, shape: ShapeSpec) -> OpenModel:
    from vidkd.detection.opening import ModelFiles

    files: dict[str, Any] = {name: getattr(spec, name) for name in ("weights", "names", "metadata", "nms_iou", "resize", "runtime")}
    score = LOW_SCORE if spec.score is None else spec.score
    detector = ModelFiles(model=spec.what, device=device, threads=threads, score=score, **files).open()
    network = getattr(detector, "net", None)
    runtime: Any = spec.runtime
    device = getattr(detector, "device", "cpu")
    place = str(getattr(device, "type", device))  # torch has a class of its own for devices
    library = library_name(spec.what, runtime) if spec.is_exported else "torch"
    # ONNX Runtime gets a darknet network on the processor, wherever torch prepares the frames
    on = "ONNX Runtime" if spec.runtime == "onnx" else _on(library, place)
    return OpenModel(
        kind="detector",
        runs_on=on,
        threads=threads,
        answer=detector,
        model=detector,
        network=network,
        input=FrameInput(height=shape.height, width=shape.width),
        classes=tuple(detector.class_names),
        device=place,
        waits=spec.is_exported,
    )


def _on(library: str, device: str) -> str:
    return library if device == "cpu" else f"{library}, {device}"
