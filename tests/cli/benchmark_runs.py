"""Benchmarks that are done in a moment."""

from pathlib import Path

import yaml

from vidkd.cli.main import run_verb

QUICK = {"rounds": 2, "calls": 2, "end_to_end": 1, "cold_starts": 0, "batches": [1, 2], "threads": [1]}


def benchmark(*words: object) -> int:
    return run_verb("benchmark", [*map(str, words)])


def write(path: Path, models: dict, **settings: object) -> Path:
    path.write_text(yaml.safe_dump({"models": models, **QUICK, **settings}, sort_keys=False))
    return path
