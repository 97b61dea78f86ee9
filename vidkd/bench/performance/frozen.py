"""Epochs of training with frozen stages: activations kept on disk against computed anew."""

import tempfile
from functools import partial
from typing import Any

from vidkd.base.settings import merge
from vidkd.bench.performance.suite import Part, Setting
from vidkd.bench.performance.videos import CLASSES
from vidkd.data.manifest import Manifest
from vidkd.engine.config import load_config
from vidkd.engine.fit import fit

BACKBONE, QUICK_BACKBONE = "timm:tf_efficientnet_lite0", "timm:test_efficientnet"
SIDE, QUICK_SIDE = 160, 32
CASES = {"all": "frozen backbone", "blocks_4": "last two stages trained"}
NEW, KEPT, FIRST = "computed every epoch", "kept", "computed once and kept, first epoch"
TEXT = (
    "Seconds an epoch of `vidkd train` on the generated videos from their files (decoding, augmentation, forward, backward, optimiser): "
    "activations of the frozen stages computed every epoch, against kept on disk (`data.features.views: 1`). The first epoch of a run "
    "that keeps them computes and writes all of them before it trains. The weights are drawn: they change no time. The target is of a "
    "frozen backbone; where later stages train, their own forward and backward remain."
)


def measure_frozen(setting: Setting) -> Part:
    """All of them in turn, for each choice of what is frozen."""
    clips, epochs = setting.sets[0], 1 if setting.quick else 2
    manifest = setting.scratch / "frozen" / "manifest.jsonl"
    Manifest(name="benchmark", root=clips.root, classes=CLASSES, splits=("1",), clips=clips.clips).write(manifest)
    runs, side = manifest.parent / "runs", QUICK_SIDE if setting.quick else SIDE
    runs.mkdir()
    base: dict[str, Any] = {
        "runs": str(runs),
        "data": {
            "root": str(clips.root),
            "manifest": str(manifest),
            "window": {"frames": 8, "rule": "uniform"},
            "transform": {"short_side": side, "crop": side},
            "batch_size": 4,
            "workers": 0,
        },
        "model": {"backbone": QUICK_BACKBONE if setting.quick else BACKBONE, "temporal": {"pooling": "difference"}},
        "train": {"epochs": epochs, "threads": setting.threads, "device": "cpu"},
    }
    part = Part(
        title="Epoch with frozen stages",
        text=TEXT,
        settings={
            "network": base["model"]["backbone"],
            "clips": len(clips.clips),
            "clip": f"8x{side}x{side}",
            "epochs a round": epochs,
            "workers": 0,
            "threads": setting.threads,
        },
    )
    for stage, said in CASES.items():
        if setting.quick and stage != "all":
            continue
        seconds = partial(_epoch_s, base, stage, str(runs / f"kept-{stage}"), epochs)
        alternatives = {NEW: partial(seconds, 0), KEPT: partial(seconds, 1), FIRST: partial(seconds, 1, fresh=True)}
        targets = [(KEPT, NEW, "<= 0.2" if stage == "all" else ""), (FIRST, NEW, "")]
        part.compare(alternatives, "s/epoch", targets, rounds=setting.rounds, where=f" ({said})")
    return part


def _epoch_s(base: dict[str, Any], stage: str, folder: str, epochs: int, views: int, *, fresh: bool = False) -> float:
    """Seconds an epoch of a new run. folder: of activations, filled by the round that does not count; `fresh`: of one epoch, an own one."""
    with tempfile.TemporaryDirectory(dir=base["runs"]) as runs:
        features = {"views": views, "folder": f"{runs}/features" if fresh else folder}
        settings = merge(base, {"runs": runs, "name": "run", "data": {"features": features}, "model": {"freeze": stage}})
        result = fit(load_config(settings=merge(settings, {"train": {"epochs": 1}} if fresh else {})), quiet=True)
    return result.seconds / (1 if fresh else epochs)
