"""A detector by the files that it consists of, whatever runs it; torch is imported only where a file needs it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.base.files import sha256
from vidkd.runtime.detector import Detector
from vidkd.runtime.opening import NETWORKS, open_detector

DARKNET = ".cfg"


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What a user names as a model: a darknet .cfg with weights and names, or an exported file, with metadata where it carries none.

    score, nms_iou: in [0, 1], in place of the model's own. device: auto, cpu, cuda or what else the kind of file runs on. threads: of the
    model on a processor, 0 for its library's choice.
    """

    model: str
    weights: str | None = None
    names: str | None = None
    metadata: str | None = None
    score: float | None = None
    nms_iou: float | None = None
    device: str = "auto"
    threads: int = 0

    def open(self) -> Detector:
        """Load it. Raises ConfigError for a kind of file that is unknown, or companions that are missing or too many; and as the reader."""
        if self._is_darknet():
            return self._open_darknet()
        self._check(wanted=(), useless=("weights", "names"))
        return open_detector(
            self.model, metadata=self.metadata, score=self.score, nms_iou=self.nms_iou, device=self.device, threads=self.threads
        )

    def record(self) -> dict[str, Any]:
        """What the results depend on: the content of the files, and the thresholds. Raises CheckpointError if a file is missing."""
        files = {name: path for name, path in asdict(self).items() if name in ("model", "weights", "names", "metadata") and path}
        beside = Path(self.model).with_suffix(".yaml")
        if not self._is_darknet() and self.metadata is None and beside.exists():
            files["metadata"] = str(beside)
        hashes = {name: _content(path) for name, path in files.items()}
        return {**hashes, **self._outside(), "score": self.score, "nms_iou": self.nms_iou}

    def _outside(self) -> dict[str, str]:
        """The files of weights that an ONNX file names."""
        if Path(self.model).suffix.lower() != ".onnx":
            return {}
        from vidkd.runtime.onnx_file import external_files

        return {f"weights {name}": _content(Path(self.model).parent / name) for name in sorted(external_files(Path(self.model)))}

    def _is_darknet(self) -> bool:
        suffix = Path(self.model).suffix.lower()
        if suffix != DARKNET and suffix not in NETWORKS:
            raise ConfigError(f"not a kind of detector that is known: {self.model}", known=f"{DARKNET}, {', '.join(NETWORKS)}")
        return suffix == DARKNET

    def _open_darknet(self) -> Detector:
        self._check(wanted=("weights", "names"), useless=("metadata",))
        import torch

        from vidkd.engine.devices import pick_device
        from vidkd.models.darknet.detector import DarknetDetector

        if self.threads:
            torch.set_num_threads(self.threads)
        thresholds = {"score_threshold": self.score, "nms_iou": self.nms_iou}
        given: dict[str, Any] = {name: value for name, value in thresholds.items() if value is not None}
        assert self.weights is not None
        assert self.names is not None
        return DarknetDetector.open(self.model, self.weights, self.names, device=pick_device(self.device), **given)

    def _check(self, *, wanted: tuple[str, ...], useless: tuple[str, ...]) -> None:
        missing = [f"--{name}" for name in wanted if getattr(self, name) is None]
        if missing:
            raise ConfigError(f"a darknet model needs {' and '.join(missing)} too: {self.model}", to_mend=f"--{' F --'.join(wanted)} F")
        for name in useless:
            if getattr(self, name) is not None:
                raise ConfigError(f"--{name} means nothing to {self.model}", to_mend=f"leave out --{name}")


def _content(path: str | Path) -> str:
    try:
        return f"sha256 {sha256(path)[:16]}"
    except OSError as error:
        raise CheckpointError(f"cannot read model file: {path}", reason=error.strerror) from error
