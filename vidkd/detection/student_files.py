"""The darknet files of a detector that vidkd wrote, by their names, and what it wrote beside them; without torch."""

from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.base.files import read_json

EXPORTED = "student"
"""The files of a run are named after this: student.cfg, student.weights, student.names, and student.json for what a cfg cannot say."""


def darknet_files(folder: Path) -> dict[str, Path]:
    """model, weights and names of a folder that holds them and no checkpoint; empty for any other."""
    files = {name: folder / f"{EXPORTED}.{suffix}" for name, suffix in (("model", "cfg"), ("weights", "weights"), ("names", "names"))}
    return files if files["model"].is_file() and not (folder / "checkpoints").is_dir() else {}


def resize_beside(cfg: Path) -> str | None:
    """How frames meet the input of a student.cfg, as `vidkd.detection.saved.write_darknet` says beside it; None where it does not."""
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
