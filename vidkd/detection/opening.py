"""A detector by the files that it consists of, whatever runs it; torch is imported only where a file needs it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidkd.base.errors import CheckpointError, ConfigError, DataError, unknown_name
from vidkd.base.files import near_files, read_json, sha256
from vidkd.runtime.detector import Detector
from vidkd.runtime.letterbox import RESIZE_MODES, ResizeMode
from vidkd.runtime.opening import NETWORKS, RUN_BY, RUNTIMES, open_detector

if TYPE_CHECKING:
    import torch


EXPORTED = "student"
"""The files of a run are named after this: student.cfg, student.weights, student.names, and student.json for what a cfg cannot say."""


def darknet_files(folder: Path) -> dict[str, Path]:
    """model, weights and names of a folder that holds them and no checkpoint; empty for any other."""
    files = {name: folder / f"{EXPORTED}.{suffix}" for name, suffix in (("model", "cfg"), ("weights", "weights"), ("names", "names"))}
    return files if files["model"].is_file() and not (folder / "checkpoints").is_dir() else {}


def resize_beside(cfg: Path) -> str | None:
    """How frames meet the input of a student.cfg, as `vidkd.detection.saved.write_darknet` records next to it; None without a record."""
    return _said(cfg, "resize") if cfg.name == f"{EXPORTED}.cfg" else None


def saved_by(folder: Path) -> Path | None:
    """The folder of the run along a stream whose student `write_darknet` has left here; None where it is of none."""
    run = _said(folder / f"{EXPORTED}.cfg", "run")
    return None if run is None else Path(run)


def about_of(cfg: Path) -> Path:
    """The file that says of a student.cfg what it cannot say itself."""
    return cfg.with_suffix(".json")


def _said(cfg: Path, name: str) -> str | None:
    try:
        content = read_json(about_of(cfg))
    except (DataError, OSError):
        return None
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) else None


DARKNET, CHECKPOINT, TORCHVISION = ".cfg", ".pt", "torchvision:"
OF_DARKNET = ("eager", "onnx")
"""What may run a darknet model."""
WORDS = {
    "model": ("model file", "the path of a detector, or the folder of a run", ".onnx"),
    "weights": ("file of weights", "the path of the weights that belong to {model}", ".weights"),
    "names": ("file of class names", "the path of a text file with the class names of {model}, one a line", ".names"),
    "metadata": ("metadata file", "the path of the YAML that says how to run {model}", ".yaml"),
}
"""Of each file what it is called, what to give where it is not there, and the usual suffix."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What a user names as a model: a darknet .cfg with weights and names, an exported file, with metadata where it carries none, a run, or
    torchvision:NAME with the weights of one of its detectors, and names where these are not of its own classes.

    A run is the folder of one that trained a detector, or a checkpoint (.pt) of it; frames meet its network as they did in training.
    score, nms_iou: in [0, 1], in place of the model's own. device: auto, cpu, cuda or what else the kind of file runs on. threads: of the
    model on a processor, 0 for its library's choice. resize: how frames meet the input of a darknet model, by default what is recorded
    next to a student.cfg, or else its own letterbox. A folder with student.cfg, student.weights and student.names stands for these.
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
        if self.resize is None and (said := resize_beside(Path(self.model))) in RESIZE_MODES:
            object.__setattr__(self, "resize", said)

    def open(self) -> Detector:
        """Load it.

        Raises ConfigError for a kind of file that is unknown, or companions that are missing or too many, CheckpointError for a file that
        is not there; and as the reader.
        """
        if (kind := self._kind()) != "exported":
            return {"run": self._open_run, "darknet": self._open_darknet, "torchvision": self._open_torchvision}[kind]()
        self._check(wanted=(), useless=("weights", "names", "resize"), runtimes=tuple(RUNTIMES))
        runtime: Any = self.runtime  # checked above
        return open_detector(
            self.model,
            metadata=self.metadata,
            score=self.score,
            nms_iou=self.nms_iou,
            device=self.device,
            threads=self.threads,
            runtime=runtime,
        )

    def record(self) -> dict[str, Any]:
        """What the results depend on: the content of the files, and the thresholds. Raises CheckpointError if a file is missing."""
        files = {name: path for name, path in asdict(self).items() if name in ("model", "weights", "names", "metadata") and path}
        if (kind := self._kind()) == "run":
            files["model"] = self._checkpoint()
        elif kind == "torchvision":
            del files["model"]
        elif (side := self._side_yaml()) is not None:
            files["metadata"] = str(side)
        hashes = {name: _content(path) for name, path in files.items()}
        hashes |= {name: _content(path) for name, path in self._weights_outside().items()}
        by_default = RUN_BY[Path(self.model).suffix.lower()] if kind == "exported" else "eager"
        runtime = {} if self.runtime in (None, by_default) else {"runtime": self.runtime}
        named = {"model": self.model} if kind == "torchvision" else {}
        return {**named, **hashes, "score": self.score, "nms_iou": self.nms_iou, "resize": self.resize, **runtime}

    @property
    def called(self) -> str:
        """What the model is called: the last part of its path, or its name."""
        return Path(self.model).resolve().name if not self.model.startswith(TORCHVISION) else self.model

    def beside(self) -> list[Path]:
        """Files that the results depend on without being named: the YAML next to an exported file, and its weights outside of it."""
        side = self._side_yaml()
        return [*([] if side is None else [side]), *self._weights_outside().values()]

    def _side_yaml(self) -> Path | None:
        path = Path(self.model).with_suffix(".yaml")
        return path if self._kind() == "exported" and self.metadata is None and path.exists() else None

    def _weights_outside(self) -> dict[str, Path]:
        """The files of weights that an ONNX file names, and that of an OpenVINO file."""
        if Path(self.model).suffix.lower() == ".xml":
            return {"weights": Path(self.model).with_suffix(".bin")}
        if Path(self.model).suffix.lower() != ".onnx":
            return {}
        from vidkd.runtime.onnx_network import external_files

        return {f"weights {name}": Path(self.model).parent / name for name in sorted(external_files(Path(self.model)))}

    def _kind(self) -> Literal["run", "darknet", "exported", "torchvision"]:
        path = Path(self.model)
        if self.model.startswith(TORCHVISION):
            return "torchvision"
        if names_run(self.model):
            return "run"
        if path.suffix.lower() == DARKNET:
            return "darknet"
        if path.suffix.lower() in NETWORKS:
            return "exported"
        lines = self._flag_line("model")
        if not path.exists():
            lines["found"] = "no file and no folder of this name"
        known = f"{DARKNET}, {', '.join(NETWORKS)}, {TORCHVISION}NAME, the folder of a run"
        raise ConfigError(f"not a kind of detector that is known: {self.model}", **lines, known=known)

    def _checkpoint(self) -> str:
        """The file of a run's weights."""
        from vidkd.models.saved import checkpoint_in

        return str(checkpoint_in(Path(self.model)))

    def _settings(self) -> dict[str, Any]:
        """What was given of a darknet detector's settings."""
        settings = {"score_threshold": self.score, "nms_iou": self.nms_iou, "resize": self.resize, "runtime": self.runtime}
        if self.resize is not None and self.resize not in RESIZE_MODES:
            raise unknown_name("way of resizing", self.resize, RESIZE_MODES, **self._flag_line("resize"))
        return {name: value for name, value in settings.items() if value is not None}

    def _open_run(self) -> Detector:
        self._check(wanted=(), useless=("weights", "names", "metadata"), runtimes=OF_DARKNET)
        from vidkd.detection.saved import load_detector
        from vidkd.models.darknet.detector import DarknetDetector

        self._use_threads()
        saved = load_detector(self.model)
        as_trained = {} if saved.resize is None else {"resize": saved.resize}
        return DarknetDetector(saved.net, saved.classes, device=self._device(), **{**as_trained, **self._settings()})

    def _device(self) -> "torch.device":
        """Where a darknet network runs; ONNX Runtime runs it on the processor."""
        from vidkd.engine.devices import pick_device

        return pick_device("cpu" if self.runtime == "onnx" and self.device == "auto" else self.device)

    def _use_threads(self) -> None:
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)

    def _open_darknet(self) -> Detector:
        self._check(wanted=("weights", "names"), useless=("metadata",), runtimes=OF_DARKNET)
        from vidkd.models.darknet.detector import DarknetDetector

        given = self._settings()
        self._use_threads()
        assert self.weights is not None
        assert self.names is not None
        return DarknetDetector.open(self.model, self.weights, self.names, device=self._device(), **given)

    def _open_torchvision(self) -> Detector:
        self._check(wanted=("weights",), useless=("metadata", "resize", "runtime"))
        from vidkd.engine.devices import pick_device
        from vidkd.models.torchvision_detectors import SCORE, TorchvisionDetector

        self._use_threads()
        assert self.weights is not None
        return TorchvisionDetector.open(
            self.model.removeprefix(TORCHVISION),
            self.weights,
            self.names,
            score_threshold=SCORE if self.score is None else self.score,
            nms_iou=self.nms_iou,
            device=pick_device(self.device),
        )

    def _check(self, *, wanted: tuple[str, ...], useless: tuple[str, ...], runtimes: tuple[str, ...] = ()) -> None:
        """Raise ConfigError for companions that are missing or useless, and for a runtime that is not one of these."""
        flags = [f"--{self.flags}{name}" for name in wanted]
        missing = [flag for flag, name in zip(flags, wanted, strict=True) if getattr(self, name) is None]
        if missing:
            kind = "detector of torchvision" if self._kind() == "torchvision" else "darknet model"
            raise ConfigError(f"a {kind} needs {' and '.join(missing)} too: {self.model}", hint=f"{' F '.join(missing)} F")
        for name in useless:
            if getattr(self, name) is not None:
                flag = f"--{self.flags}{name}"
                raise ConfigError(f"{flag} means nothing to {self.model}", hint=f"leave out {flag}")
        if runtimes and self.runtime not in (None, *runtimes):
            flag = f"--{self.flags}runtime"
            raise ConfigError(
                f"{flag} {self.runtime} means nothing to {self.model}", hint=f"{flag} {' or '.join(runtimes)}, or leave it out"
            )
        self._check_there()

    def _check_there(self) -> None:
        """Raise CheckpointError for a file that is not there, with its flag; for weights of torchvision their opener does."""
        names = {"run": ("model",), "torchvision": ("names",)}.get(self._kind(), tuple(WORDS))
        for name in names:
            given = getattr(self, name)
            if given is None or Path(given).is_file() or (name == "model" and Path(given).is_dir()):  # of a run
                continue
            path, (what, wanted, suffix) = Path(given), WORDS[name]
            flag = self._flag_line(name)
            found = {"found": "a folder"} if path.is_dir() else near_files(path, (path.suffix.lower() or suffix,))
            mend = " ".join(["give", *flag.values(), wanted.format(model=Path(self.model).name)])
            raise CheckpointError(f"{what} not found: {given}", **flag, **found, hint=mend)

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
