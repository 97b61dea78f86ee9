"""Where the files of a benchmark lie on this machine: looked for below the folders that its user names, then from the working folder."""

import dataclasses
from pathlib import Path
from typing import Any

from vidkd.base.roots import find_below
from vidkd.bench.speed.config import Benchmark, BenchmarkConfig, DataSpec, ModelSpec
from vidkd.detection.opening import TORCHVISION

FILES = ("checkpoint", "beside", "detector", "weights", "names", "metadata", "source")


def located(benchmark: Benchmark) -> BenchmarkConfig:
    """The configuration with every path as it leads to its file here, by which models and data are opened.

    What is kept of a benchmark holds paths as it wrote them itself: those lead to the files on any machine.
    Raises ConfigError, naming the model's label, for a file that no folder has, and for annotations. A data set that is nowhere keeps its
    path: who reads it says what was expected there.
    """
    models = {label: _located_model(benchmark, label, spec) for label, spec in benchmark.config.models.items()}
    data = None if benchmark.config.data is None else _located_data(benchmark, benchmark.config.data)
    return dataclasses.replace(benchmark.config, models=models, data=data)


def _folders(benchmark: Benchmark) -> tuple[Path, ...]:
    return (*benchmark.roots, Path())


def _located_model(benchmark: Benchmark, label: str, spec: ModelSpec) -> ModelSpec:
    named = {key: name for key in FILES if (name := getattr(spec, key)) is not None and not name.startswith(TORCHVISION)}
    found: dict[str, Any] = {
        key: str(find_below(name, _folders(benchmark), named_by=f"models.{label}.{key} in {benchmark.path}")) for key, name in named.items()
    }
    return dataclasses.replace(spec, **found)


def _located_data(benchmark: Benchmark, spec: DataSpec) -> DataSpec:
    root, manifest = (_if_there(benchmark, name) if name else name for name in (spec.root, spec.manifest))
    spec = dataclasses.replace(spec, root=root or "", manifest=manifest)
    if not spec.annotations or not spec.root or not Path(spec.root).is_dir():
        return spec
    folders = (Path(spec.root), *_folders(benchmark))  # as in a training they are first of all those of the data set
    files = [find_below(name, folders, named_by=f"data.annotations of {benchmark.path}") for name in spec.annotations]
    return dataclasses.replace(spec, annotations=[str(file.absolute()) for file in files])


def _if_there(benchmark: Benchmark, name: str) -> str:
    return next((str(folder / name) for folder in _folders(benchmark) if (folder / name).exists()), name)
