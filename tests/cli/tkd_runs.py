"""Short runs of vidkd tkd, and what they leave."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vidkd.cli.main import run_verb
from vidkd.models.darknet import Darknet, load_weights


def run(video: Path, networks: list[str], out: Path, *more: object) -> int:
    common = (
        "--device",
        "cpu",
        "--threads",
        "1",
        "--part",
        "4",
        "--budget",
        "0.2",
        "--window",
        "10",
        "--formats",
        "jsonl",
        "--score",
        "0.3",
    )
    learning = ("--update.trains", "all", "--update.lr", "0.01", "--update.steps", "2")
    return run_verb("tkd", [str(video), *networks, *common, "--out", str(out), *learning, *map(str, more)])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_seconds(path: Path) -> list[dict[str, Any]]:
    rows = lines(path)
    for row in rows:
        assert row["learning"].pop("seconds")["student"] > 0
    return rows


def weights_of(path: Path) -> np.ndarray:
    net = Darknet.from_cfg(path.with_suffix(".cfg"))
    load_weights(net, path)
    return np.concatenate([value.numpy().ravel() for value in net.state_dict().values() if value.is_floating_point()])
