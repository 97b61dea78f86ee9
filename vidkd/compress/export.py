"""Export of a network to files that run without the code that trained it; each is checked against the network before it is kept.

Formats by suffix: `.onnx` and `.xml` (OpenVINO, weights in the `.bin` next to it), which vidkd runs without torch; of classifiers also
`.pt2` (torch.export; for other programs: vidkd does not read it, since torch's reader may unpickle), of detectors darknet's `.weights` with
cfg and names. A model card next to each says what the network was trained on, how good, large and fast it is, and under what licence.
"""

import contextlib
import io
import math
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vidkd import __version__
from vidkd.base.errors import SHOWN, CheckpointError, ConfigError, WriteError, first_line, require
from vidkd.base.files import atomic_write, sha256, writing
from vidkd.base.timing import measure
from vidkd.compress.parity import Parity, Samples, check_weights
from vidkd.compress.quantise import Integers, Quantised, run_in_integers
from vidkd.compress.recipe import TOLERANCE
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.networks import ABOUT_ITSELF, WEIGHTS_KEY
from vidkd.runtime.opening import library_name

log = getLogger(__name__)
# Modules that a kind of step or a format needs, each with the extra of vidkd that brings it.
PACKAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "prune": (("torch_pruning", "compress"),),
    "quantise": (("onnx", "compress"), ("onnxruntime.quantization", "compress")),
    "onnx": (("onnx", "export"), ("onnxruntime", "export")),
    "xml": (("onnx", "export"), ("openvino", "openvino")),
}
# How a larger difference is allowed, where the caller does not say how to ask for it.
MORE = "a larger tolerance"
# How OpenVINO names the operations of ONNX that it does not convert, with the version of their set behind each.
NOT_CONVERTED = re.compile(r"^-- (?:No conversion rule found for operations|Conversion is failed for): (.+)$", re.MULTILINE)


class Source(ABC):
    """A network in memory that is exported. net: in eval mode on the processor. named: where it was read from, for messages."""

    suffixes: ClassVar[tuple[str, ...]]
    # modules that files which a library runs need too
    traced_by: ClassVar[tuple[tuple[str, str], ...]] = ()
    open_batch = True

    def __init__(self, net: nn.Module, named: Path | str) -> None:
        self.net, self.named = net, named

    @property
    def parameters(self) -> int:
        """How many numbers the network holds."""
        return sum(parameter.numel() for parameter in self.net.parameters())

    @abstractmethod
    def graph(self, *, quantised: bool) -> bytes:
        """The ONNX model in float, with its metadata. quantised: whether it will be given integers."""

    @abstractmethod
    def compare(self, path: Path, samples: Samples | None) -> Parity:
        """Run network and file on the same samples, by default generated ones. Raises ConfigError for a network without finite outputs."""

    @abstractmethod
    def rows(self) -> dict[str, str]:
        """What a card says of the network."""

    @abstractmethod
    def timed(self, path: Path) -> tuple[Callable[[], object], str] | None:
        """A call of a file on one thread, and in words what it does; None for a format that vidkd does not time."""

    def write(self, path: Path, integers: Integers | None) -> Quantised | None:
        """Write a file, in integers where they are given; what of it is."""
        graph = self.graph(quantised=integers is not None)
        quantised = None if integers is None else integers.quantised(graph)
        content = graph if quantised is None else quantised.graph
        if path.suffix.lower() == ".xml":
            write_openvino(content, path)
        else:
            path.write_bytes(content)
        return quantised


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written and checked. files: all that it consists of. quantised: what of it computes in integers; None in float."""

    source: Source
    path: Path
    files: tuple[Path, ...]
    parity: Parity
    quantised: Quantised | None = None

    @property
    def bytes(self) -> int:
        """Size of the file, with that of its weights where they are in a file of their own."""
        return size_of_file(self.path)


def export(
    source: Source,
    path: Path,
    samples: Samples | None = None,
    *,
    tolerance: float = TOLERANCE,
    integers: Integers | None = None,
    more: str = MORE,
) -> Exported:
    """Write a network to `path` in the format of its suffix; what was there is replaced only once the check is passed.

    samples: what network and file are compared on, by default generated ones. tolerance: see `Parity.check`; more: how a larger one is
    asked for. integers: how it computes in eight-bit integers, by default in float; differences of such files are only recorded, and warned
    of where the file mostly differs.
    Raises ConfigError for another suffix, a network that does not compute with finite numbers, that cannot be exported (naming the module)
    or that the library of the format refuses, a difference beyond the tolerance, or a runtime that computes in float what is in integers in
    the file; WriteError for a place that cannot be written; MissingExtraError without the packages of the format.
    """
    check_format(source, path, integers=integers is not None)
    check_weights(source.net, source.named)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # a folder of its own, so that two who write `path` at once cannot take what the other has not checked yet
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        new = folder / path.name
        with _refused_by_library(path):
            quantised = source.write(new, integers)
            parity = source.compare(new, samples)
            if quantised is not None:
                check_integers(new, quantised)
            else:
                parity.check(tolerance, path.name, more)
        files = tuple(path.with_name(part.name) for part in sorted(folder.iterdir()))
        for file in files:
            os.replace(folder / file.name, file)
    except OSError as error:
        raise WriteError.of(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if quantised is not None and parity.apart:
        log.warning(
            "%s mostly differs from its network: %s. More clips to find ranges on, layers excluded from integers, "
            "or training with rounding (train.integers) may mend it; evaluate it before it is used",
            *(path, parity.apart),
        )
    return Exported(source=source, path=path, files=files, parity=parity, quantised=quantised)


def packages(kinds: Iterable[str], source: type[Source]) -> Iterator[tuple[str, str]]:
    """The (module, extra) pairs that steps of a recipe and formats need; kinds: as recipes call them."""
    for kind in kinds:
        yield from (*PACKAGES.get(kind, ()), *(source.traced_by if kind in ("onnx", "xml") else ()))


def check_format(source: Source | type[Source], path: Path, *, integers: bool) -> None:
    """Raise ConfigError for a file of another format than the network is exported to, or than holds integers."""
    known = (".onnx", ".xml") if integers else source.suffixes
    if path.suffix.lower() not in known:
        raise ConfigError(f"not a format {'of integers' if integers else 'of export of this network'}: {path}", known=", ".join(known))


def float_bytes(source: Source, suffix: str) -> int:
    """Size of the file that a network becomes in float: what others of this suffix are compared with. Raises as `export`."""
    with tempfile.TemporaryDirectory() as folder:
        return export(source, Path(folder) / f"model{suffix}", tolerance=math.inf).bytes


def size_of_file(path: Path) -> int:
    """Bytes of an exported file with its weights."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix.lower() == ".xml" else 0)


def check_integers(path: Path, quantised: Quantised) -> None:
    """Raise ConfigError if a runtime computes a convolution or a linear layer in float that the file holds in integers."""
    run = run_in_integers(path)
    linear = len(quantised.layers) - quantised.convolutions
    if run.convolutions < quantised.convolutions or run.linear < linear:
        raise ConfigError(
            f"{path.name}: {run.convolutions} of {run.all_convolutions} convolutions and {run.linear} linear layers compute in integers "
            f"here, {quantised.convolutions} and {linear} are in the file",
            hint="another format (.onnx, .xml), or exclude the layers that this runtime has no integers for",
        )


@contextlib.contextmanager
def _refused_by_library(path: Path) -> Iterator[None]:
    """That a library does not convert, open or run what was just written for it (a CheckpointError) becomes a ConfigError of the export."""
    try:
        yield
    except CheckpointError as error:
        if path.suffix.lower() not in (".onnx", ".xml"):
            raise
        other = "export .onnx, which ONNX Runtime runs; or " if path.suffix.lower() == ".xml" else ""
        lines = {name: text for name, text in error.lines.items() if name in ("operations", "reason")}
        raise ConfigError(
            f"cannot export {path}: {library_name(path)} refuses the network",
            **(lines or {"reason": error.what}),
            hint=f"{other}another backbone (docs/guides/models.md lists what each can be exported to); nothing was written",
        ) from error


def write_openvino(graph: bytes, path: Path) -> None:
    """Write an ONNX graph as `path` (.xml) and the .bin next to it, weights in float32; the .xml holds a hash of the .bin.

    Its entry `vidkd` is that of the graph. Raises CheckpointError for a graph that OpenVINO does not convert, naming the operations;
    OSError where the files cannot be written; MissingExtraError without openvino.
    """
    openvino = require("openvino", "openvino")
    # read as ONNX by the runtime itself; OpenVINO's converter would report its use to its makers
    try:
        model = openvino.Core().read_model(io.BytesIO(graph))
    except Exception as error:  # OpenVINO's errors share no class of their own
        text = str(error)
        operations = dict.fromkeys(name for found in NOT_CONVERTED.findall(text) for name in found.split(", "))
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((*ABOUT_ITSELF, "While "))]
        telling = [line for line in lines if not line.startswith("-- ") and "with a message:" in text]
        raise CheckpointError(
            "not a network that OpenVINO can convert",
            **({"operations": ", ".join(operations)} if operations else {}),
            reason=(telling or lines or ["OpenVINO does not say"])[0].removeprefix("-- ")[:SHOWN],
        ) from error
    if model.has_rt_info(["framework", EMBEDDED_KEY]):
        model.set_rt_info(model.get_rt_info(["framework", EMBEDDED_KEY]).astype(str), EMBEDDED_KEY)
    _save(openvino, model, path)
    model.set_rt_info(sha256(path.with_suffix(".bin")), WEIGHTS_KEY)
    _save(openvino, model, path)


def _save(openvino: Any, model: Any, path: Path) -> None:
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # which does not say why: a full disk is an "iostream error"
        raise OSError(f"OpenVINO could not write its files (is the disk full?): {first_line(error)}") from error


SHOWN_CLASSES = 50


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A metric of the run: its value, its 95 % interval if there is one, and on what it was measured, in words."""

    metric: str
    value: float
    ci95: tuple[float, float] | None
    on: str

    def __str__(self) -> str:
        interval = "no interval" if self.ci95 is None else f"95 % interval {self.ci95[0]:.3f} to {self.ci95[1]:.3f}"
        return f"{self.metric} {self.value:.3f} ({interval}), {self.on}"


def card_path(path: Path) -> Path:
    """Path of the card of an exported file: model.onnx.md for model.onnx."""
    return path.with_name(f"{path.name}.md")


def write_card(
    exported: Exported,
    *,
    data: str | None = None,
    judged: Sequence[Judged] = (),
    of_file: Sequence[Judged] = (),
    why_not: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write the card next to the file; returns its path. Raises WriteError where it cannot be written.

    data: name of the data set. judged: metrics of the network before export, in float even where the file is in integers, of_file: those of
    the file itself, as its library runs it. why_not: the reason for no metrics of the network. licence: of the weights, as the user states
    it.
    """
    path, source, quantised = exported.path, exported.source, exported.quantised
    timed = source.timed(path)
    runs = "vidkd does not run this format" if timed is None else f"vidkd evaluate judges {path.name}"
    before = "; ".join(map(str, judged))
    rows = {
        **source.rows(),
        "Data": data or "unknown",
        "Judged, before export": f"{'' if quantised is None else 'the network in float: '}{before}"
        if before
        else f"not judged: {why_not or 'nothing is known of an evaluation'}",
        "Judged, this file": "; ".join(map(str, of_file)) or f"not judged: {runs}",
        "Size": f"{exported.bytes:,} bytes, {source.parameters:,} parameters",
        "Batch": "any" if source.open_batch else "one clip at a time: the network is bound to its batch size",
        **({} if quantised is None else {"Integers": str(quantised)}),
        "Speed": "not measured" if timed is None else _speed(*timed),
        "Parity": str(exported.parity),
        "Licence of the weights": licence or "unknown: not stated",
        "Written by": f"vidkd {__version__}",
    }
    cells = {name: " ".join(text.replace("|", "\\|").split()) for name, text in rows.items()}
    with atomic_write(card_path(path)) as file:
        file.write(f"# {path.name}\n\n| | |\n|---|---|\n" + "".join(f"| {name} | {text} |\n" for name, text in cells.items()))
    return card_path(path)


def names_text(names: Sequence[str]) -> str:
    """How many classes, and the first SHOWN_CLASSES by name, in a row of a card."""
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return f"{len(names)}: {', '.join(names[:SHOWN_CLASSES])}{more}"


def _speed(call: Callable[[], object], what: str) -> str:
    """Median and 95th percentile of a call on one thread."""
    timing = measure(call)
    return (
        f"{what}: median {1e3 * timing.median_s:.2f} ms, 95th percentile {1e3 * timing.p95_s:.2f} ms of {timing.n} runs, "
        f"1 thread of {os.cpu_count()} cores of the machine that exported"
    )
