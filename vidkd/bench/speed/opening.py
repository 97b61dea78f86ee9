"""What is benchmarked, opened ready to answer.

torch is imported only where a model needs it: a fresh process that opens an exported file has none, as `vidkd predict` has none.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, first_line
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.direct import NAMES, open_directly
from vidkd.runtime.metadata import View
from vidkd.runtime.opening import library_name

if TYPE_CHECKING:
    from vidkd.data.config import DataConfig
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.models import VideoClassifier

LOW_SCORE = 0.01
"""Boxes below it are dropped: average precision wants the unsure ones too."""
RGB = 3
"""Channels of a frame."""
MOST_COMPILED = 256
"""Graphs that torch.compile keeps of one network: one for each batch size and number of threads."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One sample of a model: its shape and type, and that in words. views: of a classifier what it sees, RGB before flow."""

    shape: tuple[int, ...]
    dtype: str = "uint8"
    views: tuple[View, ...] = ()
    words: str

    def noise(self, count: int, seed: int) -> NDArray[Any]:
        """(count, *shape): RGB over the whole range, flow of some pixels; of other floats in [0, 1)."""
        rng = np.random.default_rng(seed)
        if not self.views and self.dtype != "uint8":
            return rng.random((count, *self.shape)).astype(self.dtype)
        if "flow" not in self.views:
            return rng.integers(0, 256, (count, *self.shape)).astype(np.uint8)
        channels = {"rgb": RGB, "flow": self.shape[0] - RGB * ("rgb" in self.views)}
        shapes = {view: (count, channels[view], *self.shape[1:]) for view in self.views}
        parts = [rng.integers(0, 256, shape) if view == "rgb" else rng.normal(0, 4, shape) for view, shape in shapes.items()]
        return np.concatenate(parts, axis=1).astype(np.float32)


def clip_input(views: Sequence[View], frames: int, size: int, *, flow_stack: int = 1) -> Input:
    """Clips (C, frames, size, size): RGB uint8, or float32 where flow in pixels is a part of it, `flow_stack` fields a frame."""
    words = " and ".join(f"{view} {frames}x{size}x{size}" for view in views)
    channels = sum(RGB if view == "rgb" else 2 * flow_stack for view in views)
    return Input(shape=(channels, frames, size, size), dtype="float32" if "flow" in views else "uint8", views=tuple(views), words=words)


def frame_input(height: int, width: int) -> Input:
    """RGB frames, uint8 (height, width, 3)."""
    return Input(shape=(height, width, 3), words=f"frames {width}x{height}")


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """A model on so many threads.

    runs_on: the library that runs it, and how. answer: a batch as its `input` has it -> probabilities or boxes, in memory of the host; what
    goes before and after the network is part of it. model: what accuracy is judged on: a network in torch, an `ExportedClassifier` or a
    `Detector`. network: the network in torch, to be counted, without torch.compile; None where there is none. data: the settings
    by which clips are shown to a classifier. device: that of torch, which is waited for when a call is timed; cpu where a call returns when
    all is done, as those of exported files do. trained: False for what is not judged. recorded_parameters: what an exported file records.
    streams: the RGB and the flow classifier of an ensemble. learned: the clips of its training, if it says.
    """

    kind: Literal["classifier", "detector"]
    runs_on: str
    threads: int
    answer: Callable[[NDArray[Any]], object]
    input: Input
    model: Any = None
    network: Any = None
    classes: tuple[str, ...] = ()
    data: "DataConfig | None" = None
    device: str = "cpu"
    trained: bool = True
    recorded_parameters: int | None = None
    streams: "tuple[OpenModel, ...]" = ()
    learned: "LearnedFrom | None" = None

    def begin(self) -> None:
        """Give the libraries that all models share this one's number of threads; those with sessions of their own have it already."""
        import cv2

        cv2.setNumThreads(self.threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.threads)


def open_model(spec: ModelSpec, *, threads: int, device: str = "auto", shape: ShapeSpec | None = None) -> OpenModel:
    """Open a model of any kind. shape: what backbones and detectors are shown if nothing else says so.

    Raises CheckpointError, ConfigError and MissingExtraError as whatever opens the file does; ConfigError for a device that is not there,
    an unknown backbone, a network that torch.compile cannot compile, or two streams that do not fit.
    """
    shape = shape or ShapeSpec()
    if spec.ensemble_with is not None:
        names = (spec.checkpoint, spec.ensemble_with)
        specs = [dataclasses.replace(spec, checkpoint=name, ensemble_with=None) for name in names]
        return _two_streams([open_model(one, threads=threads, device=device, shape=shape) for one in specs])
    if spec.direct is not None:
        answer, sample, dtype = open_directly(Path(spec.what), spec.direct, threads=threads, device=device, shape=spec.input)
        form = Input(shape=sample, dtype=dtype, words=f"{dtype} {'x'.join(map(str, sample))}")
        kind: Any = "detector" if spec.detector is not None else "classifier"
        return OpenModel(kind=kind, runs_on=NAMES[spec.direct], threads=threads, answer=answer, input=form, trained=False)
    if spec.backbone is not None:
        return _open_backbone(spec, threads, device, shape)
    if spec.detector is not None or (spec.is_run and _is_detector(spec.what)):
        return _open_detector(spec, threads, device, shape)
    return _open_exported(spec, threads, device) if spec.is_exported else _open_checkpoint(spec, threads, device)


def _is_detector(path: str) -> bool:
    from vidkd.detection.saved import is_detector
    from vidkd.models.saved import read_checkpoint

    return is_detector(read_checkpoint(path))


def _open_exported(spec: ModelSpec, threads: int, device: str) -> OpenModel:
    from vidkd.data.config import shown_data
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
        input=clip_input([metadata.view], metadata.input.frames, metadata.input.size, flow_stack=len(metadata.input.mean) // 2),
        model=classifier,
        classes=metadata.classes,
        data=shown_data(metadata, spec.what),
        recorded_parameters=metadata.trained.get("parameters"),
        learned=LearnedFrom.of(metadata.trained.get("learned")),
    )


def _open_checkpoint(spec: ModelSpec, threads: int, device: str) -> OpenModel:
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.engine.config import load_config
    from vidkd.models.saved import load_classifier

    saved = load_classifier(spec.what)
    opened = _in_torch(spec, saved.model, load_config(settings=saved.run).data, saved.classes, threads, device)
    return dataclasses.replace(opened, learned=LearnedFrom.of(saved.learned))


def _open_backbone(spec: ModelSpec, threads: int, device: str, shape: ShapeSpec) -> OpenModel:
    import torch

    from vidkd.data.config import DataConfig
    from vidkd.data.observation import WindowConfig
    from vidkd.data.transforms import TransformConfig
    from vidkd.models import ModelConfig, VideoClassifier
    from vidkd.models.backbones import layout_of

    published = layout_of(spec.what).input
    frames, size = shape.frames or published.frames, shape.size or published.size
    data = DataConfig(
        window=WindowConfig(frames=frames, short_clip="hold"), transform=TransformConfig(short_side=size, crop=size), eval_clips=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VideoClassifier(ModelConfig(backbone=spec.what, dropout=0.0), shape.classes, "rgb")
    classes = tuple(f"class {number}" for number in range(shape.classes))
    return dataclasses.replace(_in_torch(spec, model, data, classes, threads, device), trained=False)


def _in_torch(
    spec: ModelSpec, network: "VideoClassifier", data: "DataConfig", classes: tuple[str, ...], threads: int, device: str
) -> OpenModel:
    import torch

    from vidkd.engine.devices import pick_device
    from vidkd.inference.torch_classifier import TorchClassifier

    torch.set_num_threads(threads)
    place = pick_device(device)
    network.to(place).eval()
    form = clip_input([network.view], data.window.frames, data.transform.crop, flow_stack=network.flow_stack)
    model = _compiled(network, form, spec.what) if spec.compile else network
    return OpenModel(
        kind="classifier",
        runs_on=_on("torch.compile" if spec.compile else "torch", place.type),
        threads=threads,
        answer=TorchClassifier(model, place),
        input=form,
        model=model,
        network=network,
        classes=classes,
        data=data,
        device=place.type,
    )


def _compiled(network: "VideoClassifier", form: Input, what: str) -> Any:
    """Only whole graphs, one for every batch size: what cannot be compiled is an error, nothing of it runs uncompiled."""
    import torch
    import torch._dynamo

    from vidkd.inference.torch_classifier import TorchClassifier

    limits: Any = torch._dynamo.config
    limits.cache_size_limit = max(limits.cache_size_limit, MOST_COMPILED)
    model: Any = torch.compile(network, fullgraph=True, dynamic=False)
    try:
        TorchClassifier(model, next(network.parameters()).device)(form.noise(1, 0))
    except Exception as error:  # of the compiler's many parts, which share no class
        hint = "compile: false, or what the reason asks for (a C++ compiler)"
        raise ConfigError(f"torch.compile cannot compile {what}", reason=first_line(error), hint=hint) from error
    return model


def _open_detector(spec: ModelSpec, threads: int, device: str, shape: ShapeSpec) -> OpenModel:
    from vidkd.detection.opening import ModelFiles

    files: dict[str, Any] = {name: getattr(spec, name) for name in ("weights", "names", "metadata", "resize", "runtime")}
    detector = ModelFiles(model=spec.what, device=device, threads=threads, score=LOW_SCORE, **files).open()
    runtime: Any = spec.runtime
    found = getattr(detector, "device", "cpu")
    place = str(getattr(found, "type", found))  # torch has a class of its own for devices
    library = library_name(spec.what, runtime) if spec.is_exported else "torch"
    return OpenModel(
        kind="detector",
        # ONNX Runtime gets a darknet network on the processor, wherever torch prepares the frames
        runs_on="ONNX Runtime" if spec.runtime == "onnx" else _on(library, place),
        threads=threads,
        answer=detector,
        input=frame_input(shape.height, shape.width),
        model=detector,
        network=getattr(detector, "net", None),
        classes=tuple(detector.class_names),
        device="cpu" if spec.is_exported else place,
    )


def _on(library: str, device: str) -> str:
    return library if device == "cpu" else f"{library}, {device}"


def _two_streams(pair: Sequence[OpenModel]) -> OpenModel:
    """Two classifiers that see one window as RGB and as flow, and answer by the mean of their probabilities.

    Late fusion of Simonyan and Zisserman 2014 (two-stream networks, arXiv 1406.2199), by averaging.
    """
    by_view = {one.input.views: one for one in pair}
    if set(by_view) != {("rgb",), ("flow",)}:
        raise ConfigError(
            "two streams are a classifier that sees RGB and one that sees flow", found=", ".join(one.input.words for one in pair)
        )
    rgb, flow = by_view["rgb",], by_view["flow",]
    for name in ("classes", "window", "transform", "observe"):
        first, second = (getattr(one if name == "classes" else one.data, name) for one in (rgb, flow))
        if first != second:
            raise ConfigError(f"two streams must see the same windows and name the same classes: other {name}", rgb=first, flow=second)

    def answer(both: NDArray[Any]) -> object:
        images, motion = both[:, :RGB].astype(np.uint8), np.ascontiguousarray(both[:, RGB:], np.float32)
        one, other = rgb.answer(images), flow.answer(motion)
        return (one.probabilities + other.probabilities) / 2  # type: ignore[attr-defined]

    return OpenModel(
        kind="classifier",
        runs_on=rgb.runs_on if rgb.runs_on == flow.runs_on else f"{rgb.runs_on}; {flow.runs_on}",
        threads=rgb.threads,
        answer=answer,
        input=clip_input(["rgb", "flow"], *rgb.input.shape[1:3], flow_stack=flow.input.shape[0] // 2),
        classes=rgb.classes,
        data=flow.data,
        device=next((one.device for one in pair if one.device != "cpu"), "cpu"),
        streams=tuple(pair),
    )
