"""The shipped configurations of vidkd benchmark: their commands, their models, and what is compared with what."""

import shlex
from pathlib import Path

import pytest

from vidkd.bench.speed.config import read_benchmark
from vidkd.models import BACKBONES

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "configs" / "benchmark").glob("*.yaml"))
COMPRESSED = {f"{method}-s0-1" for method in ("pruned", "lowrank", "int8", "pruned_int8", "all")}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_begin_with_their_command(path: Path) -> None:
    command = path.read_text(encoding="utf-8").splitlines()[0]
    assert command == f"# vidkd benchmark --config configs/benchmark/{path.name} --data.root DIR"
    named = read_benchmark(path).data
    config = read_benchmark(path, [] if named is not None and named.root else shlex.split(command)[-2:])
    assert config.data is not None
    assert config.data.root
    assert config.base in config.models
    assert {model.backbone for model in config.models.values() if model.backbone} <= set(BACKBONES)


def test_compression_is_held_against_the_original_in_the_same_runtime() -> None:
    """In shipped configurations; the ratio of the exported original itself, where the baseline is in torch, is what the runtime gains."""
    found = {}
    for path in CONFIGS:
        config = read_benchmark(path)
        compressed = {label: spec for label, spec in config.models.items() if spec.is_exported and set(spec.what.split("/")) & COMPRESSED}
        for label, spec in compressed.items():
            original = config.models[str(config.against(label))]
            assert (original.is_exported, original.runtime) == (True, spec.runtime), f"{path.name}: {label}"
            assert not set(original.what.split("/")) & COMPRESSED
        found[path.stem] = len(compressed)
    assert (found["ucf101_4"], found["compressed_motion_shapes"]) == (5, 5)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_measure_cold_starts(path: Path) -> None:
    """But those of DAVIS, whose detectors are those of PETS 2009 and are started there."""
    wanted = 0 if path.stem.startswith("davis_") else 5
    assert read_benchmark(path).cold_starts == wanted
