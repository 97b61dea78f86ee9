"""A detector by the files that it consists of, whatever runs it; torch is imported only where a file needs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import CheckpointError, ConfigError, DataError, unknown_name
from vidkd.base.files import near_files, read_json, sha256
from vidkd.runtime.detector import Detector
from vidkd.runtime.letterbox import RESIZE_MODES, ResizeMode
from vidkd.runtime.opening import NETWORKS, RUN_BY, RUNTIMES, open_detector

EXPORTED = "student"
"""The files of a run are named after this: student.cfg, student.weights, student.names, and student.json for what a cfg cannot say."""


def darknet_files(folder: Path) -> dict[str, Path]:
    """model, weights and names of a folder that holds them and no checkpoint; empty for any other."""
    files = {name: folder / f"{EXPORTED}.{suffix}" for name, suffix in (("model", "cfg"), ("weights", "weights"), ("names", "names"))}
    return files if files["model"].is_file() and not (folder / "checkpoints").is_dir() else {}


def recorded_resize(cfg: Path) -> str | None:
    """How frames meet the input of a student.cfg, as `vidkd.detection.saved.write_darknet` records next to it; None without a record."""
    return recorded(cfg, "resize") if cfg.name == f"{EXPORTED}.cfg" else None


def about_of(cfg: Path) -> Path:
    """The file that says of a student.cfg what it cannot say itself."""
    return cfg.with_suffix(".json")


def recorded(cfg: Path, name: str) -> str | None:
    """What `write_darknet` has recorded next to a student.cfg: "resize", or "run", the folder of the run whose student it is."""
    try:
        value: str | None = read_json(about_of(cfg)).get(name)
    except (DataError, OSError, AttributeError):
        return None
    return value


DARKNET, CHECKPOINT, TORCHVISION = ".cfg", ".pt", "torchvision:"
OF_DARKNET = ("eager", "onnx")
"""What may run a darknet model."""
WORDS = {"model": "model file", "weights": "file of weights", "names": "file of class names", "metadata": "metadata file"}
NEEDS = {"darknet": ("weights", "names"), "torchvision": ("weights",), "run": (), "exported": ()}
"""Kind of model -> companions that it needs."""
TAKES = {"darknet": ("resize", "runtime"), "torchvision": ("names",), "run": ("resize", "runtime"), "exported": ("metadata", "runtime")}
"""What else it may have."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What a user names as a model: a darknet .cfg with weights and names, an exported file, with metadata where it carries none, a run, or
    torchvision:NAME with the weights of one of its detectors, and names where these are not of its own classes.

    A run is the folder of one that trained a detector, or a checkpoint (.pt) of it; frames meet its network as they did in training.
    score, nms_iou: in [0, 1], in place of the model's own. device: auto, cpu, cuda or what else the kind of file runs on. threads: of the
    model on a processor, 0 for its library's choice. resize: how frames meet the input of a darknet model, by default what is recorded
    next to a student.cfg, or else its own letterbox. A folder names its student.cfg, student.weights and student.names.
    runtime: what runs it. A darknet model or a run: eager (torch, the default) or onnx (ONNX Runtime, on the processor). An exported file:
    onnxruntime or openvino, by default as its suffix says.
    flags: what the flags of the companions begin with, and model_flag: that of the model, None where it comes from no flag; for messages.
    """

    model: str
    weights: str | None = None
    names: str | None = None
    metadata: str | None = None
    score: float | None = None
    nms_iou: float | None = None
    device: str = "auto"
    threads: int = 0
    resize: ResizeMode | None = None
    runtime: Literal["eager", "onnx", "onnxruntime", "openvino"] | None = None
    flags: str = ""
    model_flag: str | None = None

    def __post_init__(self) -> None:
        # frozen, so that nothing else changes it
        for name, path in darknet_files(Path(self.model)).items():
            if getattr(self, name) is None or name == "model":
                object.__setattr__(self, name, str(path))
        if self.resize is None and (said := recorded_resize(Path(self.model))) in RESIZE_MODES:
            object.__setattr__(self, "resize", said)

    def open(self) -> Detector:
        """Load it.

        Raises ConfigError for a kind of file that is unknown, or companions that are missing or too many, CheckpointError for a file that
        is not there; and as the reader.
        """
        kind = self._kind()
        self._check(kind)
        if kind == "exported":
            runtime: Any = self.runtime  # checked above
            given: dict[str, Any] = {"score": self.score, "nms_iou": self.nms_iou, "device": self.device, "threads": self.threads}
            return open_detector(self.model, metadata=self.metadata, runtime=runtime, **given)
        import torch

        from vidkd.engine.devices import pick_device

        if self.threads:
            torch.set_num_threads(self.threads)
        # ONNX Runtime runs a darknet network on the processor
        device = pick_device("cpu" if self.runtime == "onnx" and self.device == "auto" else self.device)
        settings: dict[str, Any] = {"score_threshold": self.score, "nms_iou": self.nms_iou, "resize": self.resize, "runtime": self.runtime}
        settings = {name: value for name, value in settings.items() if value is not None}
        if kind == "torchvision":
            from vidkd.models.torchvision_detectors import SCORE, TorchvisionDetector

            settings = {"nms_iou": None, "score_threshold": SCORE, **settings}
            return TorchvisionDetector.open(self.model.removeprefix(TORCHVISION), str(self.weights), self.names, device=device, **settings)
        from vidkd.models.darknet.detector import DarknetDetector

        if kind == "darknet":
            return DarknetDetector.open(self.model, str(self.weights), str(self.names), device=device, **settings)
        from vidkd.detection.saved import load_detector

        saved = load_detector(self.model)
        as_trained = {} if saved.resize is None else {"resize": saved.resize}
        return DarknetDetector(saved.net, saved.classes, device=device, **{**as_trained, **settings})

    def record(self) -> dict[str, Any]:
        """What the results depend on: the content of the files, and the thresholds. Raises CheckpointError if a file is missing."""
        kind, named, files = self._kind(), {}, {name: path for name in WORDS if (path := getattr(self, name))}
        if kind == "run":
            from vidkd.models.saved import checkpoint_in

            files["model"] = str(checkpoint_in(Path(self.model)))
        elif kind == "torchvision":
            named["model"] = files.pop("model")
        hashes = {name: _content(path) for name, path in {**files, **self._companions()}.items()}
        by_default = RUN_BY[Path(self.model).suffix.lower()] if kind == "exported" else "eager"
        runtime = {} if self.runtime in (None, by_default) else {"runtime": self.runtime}
        return {**named, **hashes, "score": self.score, "nms_iou": self.nms_iou, "resize": self.resize, **runtime}

    @property
    def called(self) -> str:
        """What the model is called: the last part of its path, or its name."""
        return Path(self.model).resolve().name if not self.model.startswith(TORCHVISION) else self.model

    def companions(self) -> list[Path]:
        """Files that the results depend on without being named: the YAML next to an exported file, and its weights outside of it."""
        return list(self._companions().values())

    def _companions(self) -> dict[str, Path]:
        path, found = Path(self.model), {}
        suffix = path.suffix.lower()
        if suffix in NETWORKS and self.metadata is None and path.with_suffix(".yaml").exists():
            found["metadata"] = path.with_suffix(".yaml")
        if suffix == ".xml":
            found["weights"] = path.with_suffix(".bin")
        if suffix == ".onnx":
            from vidkd.runtime.networks import external_files

            found |= {f"weights {name}": path.parent / name for name in sorted(external_files(path))}
        return found

    def _kind(self) -> str:
        path = Path(self.model)
        if self.model.startswith(TORCHVISION):
            return "torchvision"
        if names_run(self.model):
            return "run"
        if path.suffix.lower() in (DARKNET, *NETWORKS):
            return "darknet" if path.suffix.lower() == DARKNET else "exported"
        found = {} if path.exists() else {"found": "no file and no folder of this name"}
        known = f"{DARKNET}, {', '.join(NETWORKS)}, {TORCHVISION}NAME, the folder of a run"
        raise ConfigError(f"not a kind of detector that is known: {self.model}", **self._flag_line("model"), **found, known=known)

    def _check(self, kind: str) -> None:
        """Raise ConfigError for companions that are missing or useless, and CheckpointError for a file that is not there."""
        if missing := [f"--{self.flags}{name}" for name in NEEDS[kind] if getattr(self, name) is None]:
            what = "detector of torchvision" if kind == "torchvision" else "darknet model"
            raise ConfigError(f"a {what} needs {' and '.join(missing)} too: {self.model}", hint=f"{' F '.join(missing)} F")
        for name in ("weights", "names", "metadata", "resize", "runtime"):
            given, flag = getattr(self, name), f"--{self.flags}{name}"
            if given is not None and name not in (*NEEDS[kind], *TAKES[kind]):
                raise ConfigError(f"{flag} means nothing to {self.model}", hint=f"leave out {flag}")
        if self.resize not in (None, *RESIZE_MODES):
            raise unknown_name("way of resizing", str(self.resize), RESIZE_MODES, **self._flag_line("resize"))
        runtimes = tuple(RUNTIMES) if kind == "exported" else OF_DARKNET
        if self.runtime not in (None, *runtimes):
            flag = f"--{self.flags}runtime"
            raise ConfigError(
                f"{flag} {self.runtime} means nothing to {self.model}", hint=f"{flag} {' or '.join(runtimes)}, or leave it out"
            )
        for name, what in WORDS.items():
            path = Path(getattr(self, name) or "")
            named_otherwise = name == "model" and kind in ("run", "torchvision")  # their own readers say what is missing
            if getattr(self, name) is None or named_otherwise or path.is_file() or (kind == "torchvision" and name == "weights"):
                continue
            found = {"found": "a folder"} if path.is_dir() else near_files(path, (path.suffix.lower(),))
            raise CheckpointError(f"{what} not found: {path}", **self._flag_line(name), **found, hint="name a file that is there")

    def _flag_line(self, name: str) -> dict[str, str]:
        """The flag that named a file, where it was one."""
        if self.model_flag is None:
            return {}
        return {"flag": self.model_flag if name == "model" else f"--{self.flags}{name}"}


def names_run(model: str) -> bool:
    """Whether a model is what vidkd trained, in its run: its folder, or a checkpoint."""
    return Path(model).is_dir() or Path(model).suffix == CHECKPOINT


def _content(path: str | Path) -> str:
    try:
        return f"sha256 {sha256(path)[:16]}"
    except OSError as error:
        raise CheckpointError(f"cannot read model file: {path}", reason=error.strerror) from error
