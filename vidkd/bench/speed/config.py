"""What a benchmark says: which models, on what, under which conditions; read strictly from YAML. Nothing here imports torch."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.roots import find_below
from vidkd.detection.opening import TORCHVISION, names_run

EXPORTED = (".onnx", ".xml", ".tflite")
NAMED = ("checkpoint", "backbone", "detector")
OF_DETECTORS = ("weights", "names", "metadata", "resize", "score", "nms_iou")
OF_EXPORTED = ("onnxruntime", "openvino")
FILES = ("checkpoint", "ensemble_with", "detector", "weights", "names", "metadata", "source")
OF_FRAMES = ("layout", "annotations", "classes", "paths", "every")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model: a checkpoint, a backbone or a detector.

    Args:
        checkpoint: a classifier, or a detector that vidkd trained: a checkpoint, the folder of a run, or an exported .onnx or .xml file.
        ensemble_with: a second classifier, of flow with one of RGB or the other way round: their probabilities are averaged (two streams).
        backbone: name of a backbone, built with random weights: only its speed is measured.
        detector: a darknet .cfg, an .onnx or .tflite file, or torchvision:NAME.
        weights: of a .cfg or of torchvision:NAME.
        names: class names of a .cfg, one a line.
        metadata: YAML of an exported detector that carries none.
        resize: how frames meet the network of a .cfg.
        runtime: what runs a .cfg: eager (torch) or onnx; what runs an exported .onnx file: onnxruntime (the default) or openvino.
        score: boxes below it are dropped; 0.01 by default, as average precision wants it.
        nms_iou: of boxes that overlap by more than this the best stays; the model's own by default.
        source: what an exported file was written from; it gives the multiply-accumulates that the file lacks. Of a classifier a run or
            checkpoint, of a detector also a darknet .cfg.
        compile: run a checkpoint or backbone by torch.compile.
        amp: run it under autocast in this precision.
        direct: call the network of an .onnx file in this library, with nothing before or after it; only its speed is measured.
        input: shape of one sample of such a network, where the file leaves sides open; opencv asks for it always.
        reference: label of the model that it is compared to, in ratios and in accuracy; by default the baseline. What compression gains is
            measured by the original in the same runtime.
    """

    checkpoint: str | None = None
    ensemble_with: str | None = None
    backbone: str | None = None
    detector: str | None = None
    weights: str | None = None
    names: str | None = None
    metadata: str | None = None
    resize: str | None = None
    runtime: Literal["eager", "onnx", "onnxruntime", "openvino"] | None = None
    score: float | None = None
    nms_iou: float | None = None
    source: str | None = None
    compile: bool = False
    amp: Literal["bfloat16", "float16"] | None = None
    direct: Literal["onnxruntime", "opencv"] | None = None
    input: list[int] | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in NAMED if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(f"a model is one of {', '.join(NAMED)}", found=", ".join(given) or "none of them")
        if self.detector is None and (useless := [name for name in OF_DETECTORS if getattr(self, name) is not None]):
            raise ConfigError(f"{useless[0]} belongs to a detector; {self.what} holds all that it needs", hint=f"leave out {useless[0]}")
        self._check_runtime()
        if (self.detector is not None or self.is_exported) and (self.compile or self.amp):
            raise ConfigError(f"compile and amp are for classifiers in torch, not for {self.what}", hint="leave them out")
        if self.direct is not None and not self.what.lower().endswith(".onnx"):
            raise ConfigError(f"an .onnx file is called directly, not {self.what}", hint="leave direct out")
        if self.direct is None and self.input is not None:
            raise ConfigError("input is for a network that is called directly", hint="direct: onnxruntime, or leave it out")
        if self.ensemble_with is not None and (self.checkpoint is None or self.source is not None or self.direct is not None):
            raise ConfigError(
                "ensemble_with is for the checkpoint or exported file of a classifier, without source or direct", hint="leave it out"
            )
        if self.source is not None and (not self.is_exported or self.direct is not None):
            found = f"{self.what} that is called directly" if self.direct is not None else self.what
            raise ConfigError(f"source is for an exported file, not for {found}", hint="leave it out")

    def _check_runtime(self) -> None:
        """Raise ConfigError for a runtime of something that it does not run."""
        if self.runtime is None:
            return
        files = [Path(name) for name in (self.what, self.ensemble_with) if name is not None]
        exported = all(path.suffix.lower() in EXPORTED for path in files)
        if self.runtime in OF_EXPORTED and (not exported or self.direct is not None):
            found = f"direct: {self.direct}" if self.direct is not None else " and ".join(map(str, files))
            raise ConfigError(f"runtime {self.runtime} is for exported files", found=found, hint="leave runtime out")
        if self.runtime not in OF_EXPORTED and (self.detector is None or exported):
            kinds = f"runtime: {' or '.join(OF_EXPORTED)}, or leave it out" if exported else "leave runtime out"
            raise ConfigError(f"runtime {self.runtime} is for a darknet detector, not for {self.what}", hint=kinds)

    @property
    def what(self) -> str:
        """The file, folder or name."""
        return next(str(getattr(self, name)) for name in NAMED if getattr(self, name) is not None)

    @property
    def is_run(self) -> bool:
        """Whether it is a run or a checkpoint of one, under either key; it may have been trained on what it is judged on."""
        return names_run(self.what) if self.detector is not None else self.checkpoint is not None and not self.is_exported

    @property
    def is_exported(self) -> bool:
        """Whether it is a file that runs without torch, by its suffix."""
        return Path(self.what).suffix.lower() in EXPORTED


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What is judged on and shown.

    Args:
        root: folder of the data set.
        manifest: by default <root>/manifest.jsonl; of detectors a manifest of boxes.
        layout: of detectors: how annotated frames lie below root, a name of BOX_LAYOUTS.
        annotations: of detectors: files of boxes, relative to root, in place of those that coco, coco_video, mot or davis look for.
        classes: of detectors: judge on these classes only, in this order; empty for all of the data set's.
        paths: of detectors: judge on frames of these videos or images only, patterns of their paths; empty for all.
        every: of detectors: judge on every n-th frame of a video.
        split: name of the split of clips.
        subset: which clips or frames of it.
        validation_fraction: share of the training groups that is `val`, as in the training of the models.
        split_seed: which groups these are.
        flow_folder: of models that see stored flow: where it is, if not where it was in their training.
    """

    root: str = ""
    manifest: str | None = None
    layout: str = ""
    annotations: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    every: int = 1
    split: str = "1"
    subset: Literal["train", "val", "test"] = "test"
    validation_fraction: float = 0.0
    split_seed: int = 0
    flow_folder: str | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"data.every must be at least 1, not {self.every}")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(f"data.validation_fraction must lie in [0, 1), not {self.validation_fraction:g}")

    @property
    def of_frames(self) -> list[str]:
        """Settings that were given and apply to detectors only."""
        return [name for name in OF_FRAMES if getattr(self, name) != getattr(DataSpec(), name)]


@dataclass(frozen=True, kw_only=True)
class ShapeSpec:
    """Input of models for which no training says it, and detectors without a data set.

    Args:
        frames: of a clip for backbones; by default what the backbone's published weights were trained on.
        size: side of that clip in pixels, by the same default.
        classes: of a backbone's head.
        height: of frames for detectors.
        width: of frames for detectors.
    """

    frames: int | None = None
    size: int | None = None
    classes: int = 10
    height: int = 480
    width: int = 640

    def __post_init__(self) -> None:
        for name in ("frames", "size", "classes", "height", "width"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"shape.{name} must be at least 1, not {value}")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """A benchmark.

    Args:
        name: of the benchmark; it is written to runs/<name>.
        title: heading of the report.
        models: by label.
        baseline: label of the model that all are compared with that name no other; by default the first.
        data: what is judged on and shown; without it noise is shown, and nothing is judged.
        shape: input of models for which no training says it.
        batches: clips or frames answered at once.
        threads: of a model on a processor.
        rounds: turns of all models that count.
        warmup_rounds: turns before them.
        calls: timed calls in a turn, at most.
        block_s: seconds of a turn, as far as a single call allows.
        end_to_end: clips or frames that are read from their files and answered in a turn; 0 leaves that out.
        cold_starts: fresh processes of each model, which tell start and memory; 0 leaves that out.
        cold_start_limit_s: seconds after which such a process is given up.
        tf32: let a GPU multiply float32 in TF32; else it is off in torch, in ONNX Runtime and in fresh processes.
        seed: of noise and of the resampling of rounds.
    """

    name: str = "benchmark"
    title: str | None = None
    models: dict[str, ModelSpec] = field(default_factory=dict)
    baseline: str | None = None
    data: DataSpec | None = None
    shape: ShapeSpec = field(default_factory=ShapeSpec)
    batches: list[int] = field(default_factory=lambda: [1, 8])
    threads: list[int] = field(default_factory=lambda: [1])
    rounds: int = 15
    warmup_rounds: int = 1
    calls: int = 10
    block_s: float = 0.5
    end_to_end: int = 4
    cold_starts: int = 5
    cold_start_limit_s: float = 300.0
    tf32: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("a benchmark needs a model", hint="models: {LABEL: {checkpoint: RUN}}")
        if self.baseline is not None and self.baseline not in self.models:
            raise unknown_name("baseline", self.baseline, self.models)
        self._check_against()
        for name, least in (("rounds", 1), ("warmup_rounds", 0), ("calls", 1), ("end_to_end", 0), ("cold_starts", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("block_s", "cold_start_limit_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name):g}")
        for name in ("batches", "threads"):
            values = getattr(self, name)
            if not values or min(values) < 1 or len(set(values)) < len(values):
                raise ConfigError(f"{name} are counts from 1 on, each named once", found=", ".join(map(str, values)) or "none")

    def _check_against(self) -> None:
        """Raise ConfigError for a model that is compared with one that is not there, or against itself, and for a baseline that is so."""
        for label, spec in self.models.items():
            if spec.reference is None:
                continue
            if spec.reference not in self.models:
                raise unknown_name("model", spec.reference, self.models, where=f"models.{label}.reference")
            if label in (spec.reference, self.base):
                what = "itself" if label == spec.reference else f"'{spec.reference}', and is the baseline"
                raise ConfigError(f"'{label}' is compared with {what}", where=f"models.{label}.reference", hint="leave it out")

    @property
    def base(self) -> str:
        """The label of the baseline."""
        return self.baseline or next(iter(self.models))

    def against(self, label: str) -> str | None:
        """The label of the model that this one is compared with; None for the baseline."""
        return None if label == self.base else self.models[label].reference or self.base


@dataclass(frozen=True)
class Benchmark:
    """A configuration, the file that it came from, the flags over it, and folders below which the files that it names are looked for."""

    config: BenchmarkConfig
    path: Path
    overrides: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()


def read_benchmark(path: Path | str, overrides: Sequence[str] = (), *, roots: Sequence[Path] = ()) -> Benchmark:
    """Read a benchmark, and put flags (--data.root DIR --rounds 5) over it. roots: see `Benchmark`; nothing is looked for yet.

    Raises ConfigError with file and key for anything unknown, of a wrong type or out of range, a label that is there twice among them.
    """
    from vidkd.base.settings import load_settings

    path = Path(path)
    try:
        config = load_settings(BenchmarkConfig, path, overrides=overrides)
    except ConfigError as error:
        raise error.with_lines(benchmark=path) from error
    return Benchmark(config, path, tuple(overrides), tuple(roots))


def located(benchmark: Benchmark) -> BenchmarkConfig:
    """The configuration with every path as it leads to its file here, by which models and data are opened.

    Raises ConfigError, naming the model's label, for a file that no folder has, and for annotations. A data set that is nowhere keeps its
    path: who reads it says what was expected there.
    """
    models = {label: _located_model(benchmark, label, spec) for label, spec in benchmark.config.models.items()}
    data = None if benchmark.config.data is None else _located_data(benchmark, benchmark.config.data)
    return dataclasses.replace(benchmark.config, models=models, data=data)


def _folders(benchmark: Benchmark) -> tuple[Path, ...]:
    return (*benchmark.roots, Path())


def _located_model(benchmark: Benchmark, label: str, spec: ModelSpec) -> ModelSpec:
    named = {key: name for key in FILES if (name := getattr(spec, key)) is not None and not name.startswith(TORCHVISION)}
    found: dict[str, Any] = {
        key: str(find_below(name, _folders(benchmark), named_by=f"models.{label}.{key} in {benchmark.path}")) for key, name in named.items()
    }
    return dataclasses.replace(spec, **found)


def _located_data(benchmark: Benchmark, spec: DataSpec) -> DataSpec:
    root, manifest = (_if_there(benchmark, name) if name else name for name in (spec.root, spec.manifest))
    spec = dataclasses.replace(spec, root=root or "", manifest=manifest)
    if not spec.annotations or not spec.root or not Path(spec.root).is_dir():
        return spec
    folders = (Path(spec.root), *_folders(benchmark))  # as in a training they are first of all those of the data set
    files = [find_below(name, folders, named_by=f"data.annotations of {benchmark.path}") for name in spec.annotations]
    return dataclasses.replace(spec, annotations=[str(file.absolute()) for file in files])


def _if_there(benchmark: Benchmark, name: str) -> str:
    return next((str(folder / name) for folder in _folders(benchmark) if (folder / name).exists()), name)
