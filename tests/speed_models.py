"""Models that a benchmark can be made of in a second: classifiers of the tiny data set with random weights, and their exported form."""

from pathlib import Path

import torch

from vidkd.compress.export import export
from vidkd.compress.export_classifier import ClassifierSource
from vidkd.engine.config import load_config
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier, save_classifier

TINY_CLASSES = ("Right", "Down", "Grow")
FRAMES, SIZE = 4, 32


def tiny_run(view: str = "rgb") -> dict:
    """Settings by which a classifier is shown clips of the tiny data set."""
    return {
        "view": view,
        "data": {
            "window": {"frames": FRAMES, "stride": 2},
            "transform": {"short_side": 36, "crop": SIZE},
            "flow": {"preset": "ultrafast"},
            "batch_size": 4,
            "eval_clips": 1,
        },
    }


def tiny_classifier(seed: int = 0, view: str = "rgb", classes: tuple[str, ...] = TINY_CLASSES) -> SavedClassifier:
    """A classifier of the size of those of the tests, with random weights and a head that tells clips apart."""
    torch.manual_seed(seed)
    config = ModelConfig(dropout=0.0, attention=AttentionConfig(pooling="soft"))
    model = VideoClassifier(config, len(classes), view).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(model.fc.weight, std=1.0)
    return SavedClassifier(model=model, classes=classes, view=view, run=tiny_run(view))  # type: ignore[arg-type]


def tiny_checkpoint(path: Path, seed: int = 0, view: str = "rgb", classes: tuple[str, ...] = TINY_CLASSES) -> Path:
    """The same as a checkpoint."""
    save_classifier(path, tiny_classifier(seed, view, classes))
    return path


def tiny_export(path: Path, seed: int = 0) -> Path:
    """The same as an exported file."""
    saved = tiny_classifier(seed)
    export(ClassifierSource(saved, load_config(settings=saved.run).data, path), path)
    return path
