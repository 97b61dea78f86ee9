"""Benchmarks that are done in a moment."""

from pathlib import Path

import yaml

from vidkd.cli.main import run_verb

QUICK = {"rounds": 2, "calls": 2, "end_to_end": 1, "cold_starts": 0, "batches": [1, 2], "threads": [1]}


def benchmark(*words: object) -> int:
    """The words of the verb; a first one that is a path is the configuration."""
    return run_verb("benchmark", [*(["--config"] if words and isinstance(words[0], Path) else []), *map(str, words)])


def write(path: Path, models: dict, **settings: object) -> Path:
    path.write_text(yaml.safe_dump({"models": models, **QUICK, **settings}, sort_keys=False))
    return path
