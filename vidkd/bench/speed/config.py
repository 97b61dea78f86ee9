"""Settings of a benchmark: which models, on what data, under which conditions; read strictly from YAML. Nothing here imports torch."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.roots import find_below
from vidkd.base.settings import load_settings, place_of, with_places_of
from vidkd.detection.opening import TORCHVISION, names_run

EXPORTED = (".onnx", ".xml", ".tflite")
NAMED = ("checkpoint", "backbone", "detector")
FILES = ("checkpoint", "ensemble_with", "detector", "weights", "names", "metadata", "source")
OF_FRAMES = ("layout", "annotations", "classes", "paths")


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
        source: what an exported file was written from; it gives the multiply-accumulates that the file lacks. Of a classifier a run or
            checkpoint, of a detector also a darknet .cfg.
        compile: run a checkpoint or backbone by torch.compile.
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
    source: str | None = None
    compile: bool = False
    direct: Literal["onnxruntime", "opencv"] | None = None
    input: list[int] | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in NAMED if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(f"a model is one of {', '.join(NAMED)}", found=", ".join(given) or "none of them")
        companions = (self.weights, self.names, self.metadata, self.resize)
        exported = self.is_exported and (self.ensemble_with is None or _is_exported(self.ensemble_with))
        wrong = {
            "weights, names, metadata and resize are for detectors": self.detector is None and companions != (None,) * 4,
            "runtime onnxruntime or openvino is for exported files that are not called directly": self.runtime
            in ("onnxruntime", "openvino")
            and (not exported or self.direct is not None),
            "runtime eager or onnx is for darknet detectors": self.runtime in ("eager", "onnx") and (self.detector is None or exported),
            "compile is for classifiers in torch": self.compile and (self.detector is not None or self.is_exported),
            "direct is for .onnx files": self.direct is not None and not self.what.lower().endswith(".onnx"),
            "input is for networks that are called directly": self.input is not None and self.direct is None,
            "source is for exported files that are not called directly": self.source is not None
            and (not self.is_exported or self.direct is not None),
            "ensemble_with is for the checkpoint or exported file of a classifier, without source or direct": self.ensemble_with is not None
            and (self.checkpoint is None or self.source is not None or self.direct is not None),
        }
        for rule in (rule for rule, broken in wrong.items() if broken):
            raise ConfigError(rule, model=self.what, hint="leave it out")

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
        return _is_exported(self.what)


def _is_exported(name: str) -> bool:
    return Path(name).suffix.lower() in EXPORTED


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What is judged on and shown.

    Args:
        root: folder of the data set.
        manifest: of clips; by default <root>/manifest.jsonl.
        layout: of detectors: how annotated frames lie below root, a name of BOX_LAYOUTS.
        annotations: of detectors: files of boxes, relative to root, in place of those that coco, coco_video, mot or davis look for.
        classes: of detectors: judge on these classes only, in this order; empty for all of the data set's.
        paths: of detectors: judge on frames of these videos or images only, patterns of their paths; empty for all.
        split: name of the split of clips.
        subset: which clips or frames of it.
        validation_fraction: share of the training groups that is `val`, as in the training of the models.
        split_seed: which groups these are.
    """

    root: str = ""
    manifest: str | None = None
    layout: str = ""
    annotations: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    split: str = "1"
    subset: Literal["train", "val", "test"] = "test"
    validation_fraction: float = 0.0
    split_seed: int = 0

    @property
    def of_frames(self) -> list[str]:
        """Settings that were given and apply to detectors only."""
        return [name for name in OF_FRAMES if getattr(self, name)]


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
        rounds: turns of all models that count, after one that does not.
        calls: timed calls in a turn, at most.
        block_s: seconds of a turn, as far as a single call allows.
        end_to_end: clips or frames that are read from their files and answered in a turn; 0 leaves that out.
        cold_starts: fresh processes of each model, which measure start and memory; 0 leaves that out.
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
    calls: int = 10
    block_s: float = 0.5
    end_to_end: int = 4
    cold_starts: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("a benchmark needs a model", hint="models: {LABEL: {checkpoint: RUN}}")
        if self.baseline is not None and self.baseline not in self.models:
            raise unknown_name("baseline", self.baseline, self.models)
        for label, spec in self.models.items():
            if spec.reference is not None and spec.reference not in self.models:
                raise unknown_name("model", spec.reference, self.models, setting=f"models.{label}.reference")
            if spec.reference is not None and label in (spec.reference, self.base):
                raise ConfigError(
                    f"'{label}' is the baseline or its own reference", setting=f"models.{label}.reference", hint="leave it out"
                )
        if not self.batches or not self.threads or min(self.rounds, self.calls, *self.batches, *self.threads) < 1:
            raise ConfigError("rounds, calls, batches and threads must be at least 1")

    @property
    def base(self) -> str:
        """The label of the baseline."""
        return self.baseline or next(iter(self.models))

    def against(self, label: str) -> str | None:
        """The label of the model that this one is compared with; None for the baseline."""
        return None if label == self.base else self.models[label].reference or self.base


def read_benchmark(path: Path | str, overrides: Sequence[str] = ()) -> BenchmarkConfig:
    """Read a benchmark, and put flags (--data.root DIR --rounds 5) over it.

    Raises ConfigError with file and key for anything unknown, of a wrong type or out of range, a label that is there twice among them.
    """
    return load_settings(BenchmarkConfig, path, overrides=overrides)


def located(config: BenchmarkConfig, roots: Sequence[Path]) -> BenchmarkConfig:
    """The configuration with the paths of files that are there, below one of `roots` or the working folder.

    Raises ConfigError, naming the model's label, for a file that no folder has, and for annotations. A data set that is nowhere keeps its
    path: its reader says what was expected there.
    """
    folders = (*roots, Path())

    def file(name: str, key: str, *more: Path) -> str:
        return str(find_below(name, (*more, *folders), named_by=place_of(config, key)))

    models = {}
    for label, spec in config.models.items():
        named: dict[str, Any] = {
            key: name for key in FILES if (name := getattr(spec, key)) is not None and not name.startswith(TORCHVISION)
        }
        found: dict[str, Any] = {key: file(name, f"models.{label}.{key}") for key, name in named.items()}
        models[label] = dataclasses.replace(spec, **found)
    data = config.data
    if data is not None:
        there = {
            name: next((str(folder / name) for folder in folders if name and (folder / name).exists()), name)
            for name in (data.root, data.manifest or "")
        }
        root = there[data.root]
        annotations = data.annotations
        if root and Path(root).is_dir():  # first of all in the data set, as in a training
            annotations = [str(Path(file(name, "data.annotations", Path(root))).absolute()) for name in data.annotations]
        data = dataclasses.replace(data, root=root, manifest=there[data.manifest or ""] or None, annotations=annotations)
    return with_places_of(config, dataclasses.replace(config, models=models, data=data))
