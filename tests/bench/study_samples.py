"""Small studies and their cells, made without training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vidkd.base.files import write_json
from vidkd.bench.cells import Places
from vidkd.bench.identity import identity, source_identity
from vidkd.bench.study import CellKey, Phase, Study, cell_config, read_study

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


def make_study(folder: Path, overrides: Sequence[str] = (), base: Mapping[str, Any] = BASE, **over: Any) -> Study:
    return read_study(write_study(folder, study_content(**over), base), overrides)


def cell_content(study: Study, key: CellKey, *, accuracy: float, phase: Phase = "test", chosen: Any = None, **over: Any) -> dict[str, Any]:
    """A cell of 12 clips in 4 groups (of the fold) over 3 classes; which clips are right is drawn from method, seed and fold."""
    rng = np.random.default_rng(list(str(key).encode()))
    labels = np.arange(CLIPS) % 3
    right = rng.random(CLIPS) < accuracy
    predicted = np.where(right, labels, (labels + 1) % 3)
    return {
        "study": study.spec.study,
        "method": key.method,
        "seed": key.seed,
        "fold": key.fold,
        "teacher": study.spec.methods[key.method].teacher,
        "teacher_identity": source_identity(study, key, phase, chosen or {}, Path("runs")),
        "init": None,
        "manifest": {"name": "sample", "sha256": "ab12"},
        "subset": "val" if phase == "tune" else study.spec.subset,
        "settings": over.pop("settings", None) or identity(cell_config(study, key, phase, chosen or {}, Path("runs"))),
        "steps": 4,
        "parameters": 1000,
        "train_seconds": 7.5,
        "environment": {"torch": "2.0", "processor": "a processor"},
        "metrics": {"top1": round(float(right.mean()), 6), "nll": round(float(rng.random()), 6)},
        "predictions": {
            "clip": [f"{key.fold}{number}.mp4" for number in range(CLIPS)],
            "group": [f"{key.fold}-{GROUPS[number // 3]}" for number in range(CLIPS)],
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


def keys_of(study: Study, method: str) -> list[CellKey]:
    return [CellKey(method, -1, seed, fold) for seed in study.spec.seeds for fold in study.spec.folds]


def cells_of(study: Study, method: str, accuracy: float, chosen: Any = None) -> list[dict[str, Any]]:
    """The test cells of a method; those of one fold differ in their seed alone."""
    cells: list[dict[str, Any]] = []
    for key in keys_of(study, method):
        alike = [cell for cell in cells if cell["fold"] == key.fold]
        settings = {**alike[0]["settings"], "train.seed": key.seed} if alike else None
        cells.append(cell_content(study, key, accuracy=accuracy, chosen=chosen, settings=settings))
    return cells


def write_cells(study: Study, places: Places, accuracies: Mapping[str, float], *, chosen: Any = None, pointing: Sequence[str] = ()) -> None:
    """All test cells of the methods named."""
    for method, accuracy in accuracies.items():
        for key, content in zip(keys_of(study, method), cells_of(study, method, accuracy, chosen), strict=True):
            write_json(places.cell("test", key), pointed(content) if method in pointing else content)
