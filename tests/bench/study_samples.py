"""Small studies and their cells, made without training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vidkd.bench.clip_study import ClipStudy, read_clip_study
from vidkd.bench.study import CellKey, Phase, Places

CLIPS = 12
GROUPS = ("ana", "bo", "cy", "di")
BASE = {
    "task": "supervised",
    "teacher": "runs/of-the-base",
    "teacher_settings": {"view": "flow"},
    "optim": {"lr": 0.1},
    "model": {"dropout": 0.1},
    "data": {"transform": {"short_side": 36, "crop": 32}},
}

CHAIN: dict[str, Any] = {
    "first": {"settings": {"view": "flow"}},
    "rgb": {"teacher": "first", "settings": {"task": "logits_kd"}},
    "last": {"teacher": "rgb", "settings": {"task": "logits_kd"}},
}


def study_content(**over: Any) -> dict[str, Any]:
    """A study of a flow teacher, plain RGB and attention distillation, two seeds on two folds, without trials."""
    attention = {"task": "attention_distillation", "model.attention.pooling": "soft"}
    return {
        "study": "small",
        "base": "base.yaml",
        "seeds": [0, 1],
        "folds": ["a", "b"],
        "reference": "rgb",
        "methods": {
            "flow": {"label": "flow teacher", "settings": {"view": "flow", "model.attention.pooling": "soft"}},
            "rgb": {"label": "plain RGB"},
            "attention": {"label": "distilled", "teacher": "flow", "settings": attention},
        },
        **over,
    }


def write_study(folder: Path, content: Mapping[str, Any], base: Mapping[str, Any] = BASE, name: str = "small.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(dict(base)))
    (folder / name).write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return folder / name


def make_study(folder: Path, overrides: Sequence[str] = (), base: Mapping[str, Any] = BASE, **over: Any) -> ClipStudy:
    return read_clip_study(write_study(folder, study_content(**over), base), overrides)


def cell_content(
    study: ClipStudy, key: CellKey, *, accuracy: float, phase: Phase = "test", chosen: Any = None, **over: Any
) -> dict[str, Any]:
    """A cell of 12 clips in 4 groups (of the fold) over 3 classes; which clips are right is drawn from method, seed and fold."""
    rng = np.random.default_rng(list(str(key).encode()))
    labels = np.arange(CLIPS) % 3
    right = rng.random(CLIPS) < accuracy
    predicted = np.where(right, labels, (labels + 1) % 3)
    return {
        "phase": phase,
        "cell": str(key),
        **vars(key),
        "inputs": {"manifest": "sample ab12"},
        "subset": "val" if phase == "tune" else study.spec.subset,
        "settings": over.pop("settings", None) or study.settings(key, phase, Places(results=Path("results")), chosen or {}),
        "steps": 4,
        "parameters": 1000,
        "train_seconds": 7.5,
        "environment": {"torch": "2.0", "processor": "a processor"},
        "metrics": {"top1": round(float(right.mean()), 6), "nll": round(float(rng.random()), 6)},
        "predictions": {
            "clip": [f"{key.place}{number}.mp4" for number in range(CLIPS)],
            "group": [f"{key.place}-{GROUPS[number // 3]}" for number in range(CLIPS)],
            "label": labels.tolist(),
            "predicted": predicted.tolist(),
        },
        **over,
    }


def pointed(content: dict[str, Any]) -> dict[str, Any]:
    """The cell with per-clip measures of its attention map."""
    rng = np.random.default_rng([content["seed"], *content["method"].encode()])
    rows = {name: rng.random(CLIPS).round(5).tolist() for name in ("pointing", "mass", "chance")}
    content["metrics"] |= {name: round(float(np.mean(values)), 6) for name, values in rows.items()}
    content["predictions"] |= rows
    return content


def keys_of(study: ClipStudy, method: str) -> list[CellKey]:
    return [CellKey(method, -1, seed, fold) for seed in study.spec.seeds for fold in study.spec.folds]


def cells_of(study: ClipStudy, method: str, accuracy: float, chosen: Any = None) -> list[dict[str, Any]]:
    """The test cells of a method; those of one fold differ in their seed alone."""
    cells: list[dict[str, Any]] = []
    for key in keys_of(study, method):
        alike = [cell for cell in cells if cell["place"] == key.place]
        settings = {**alike[0]["settings"], "train.seed": key.seed} if alike else None
        cells.append(cell_content(study, key, accuracy=accuracy, chosen=chosen, settings=settings))
    return cells


def put(study: ClipStudy, places: Places, *cells: Mapping[str, Any]) -> None:
    """Keep cells as a command that has ended leaves them."""
    for cell in cells:
        places.store(study.name).append(cell)
    places.store(study.name).fold()


def write_cells(
    study: ClipStudy, places: Places, accuracies: Mapping[str, float], *, chosen: Any = None, pointing: Sequence[str] = ()
) -> None:
    """All test cells of the methods named."""
    cells = [
        pointed(content) if method in pointing else content
        for method, accuracy in accuracies.items()
        for content in cells_of(study, method, accuracy, chosen)
    ]
    put(study, places, *cells)


def summarise(study: ClipStudy, found: Mapping[str, Sequence[Mapping[str, Any]]], claim: str | None = None) -> dict[str, Any]:
    """The summary of cells by method, with one claim on all folds."""
    cells = {cell["cell"]: cell for of_method in found.values() for cell in of_method}
    return study.summarise(cells, {fold: claim for fold in study.spec.folds if claim is not None})
