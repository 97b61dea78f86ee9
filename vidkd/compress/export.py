"""What exports of classifiers and of detectors share: files that are replaced once they are checked, OpenVINO's files, errors of both."""

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from vidkd.base.errors import SHOWN, CheckpointError, ConfigError, first_line
from vidkd.base.extras import require
from vidkd.base.files import sha256
from vidkd.compress.integer_layers import run_in_integers
from vidkd.compress.parity import DetectorParity, Parity, warn_if_apart
from vidkd.compress.quantise import Quantised
from vidkd.runtime.metadata import EMBEDDED_KEY, ClassifierMetadata, ModelMetadata
from vidkd.runtime.opening import library_name
from vidkd.runtime.openvino_network import ABOUT_ITSELF, WEIGHTS_KEY

Metadata = TypeVar("Metadata", ClassifierMetadata, ModelMetadata)
Near = TypeVar("Near", Parity, DetectorParity)


@dataclass(frozen=True, kw_only=True)
class Exported(Generic[Metadata, Near]):
    """A file that was written and checked. quantised: what of it computes in integers; None for a file in float.

    open_batch: whether it takes any number of clips at once; one that does not is given them one by one.
    """

    path: Path
    metadata: Metadata
    parity: Near
    parameters: int
    open_batch: bool = True
    quantised: Quantised | None = None

    @property
    def bytes(self) -> int:
        """Size of the file, with that of its weights where they are in a file of their own."""
        return size_of_file(self.path)


def write_checked(path: Path, write: Callable[[Path], Near], quantised: Callable[[], Quantised | None]) -> Near:
    """Write a file that takes its name only once it is checked.

    write: writes it to a place and compares it with its network there. quantised: what of it is in integers, once it is written. A file in
    integers that mostly differs is warned of. Raises ConfigError where it cannot be written, its library refuses it, or a runtime computes
    in float what it holds in integers, and as `write` does.
    """
    with replaced_whole(path) as new:
        with told_if_unwritable(path), told_if_refused(path):
            parity = write(new)
            if (integers := quantised()) is not None:
                check_integers(new, integers, path)
        if integers is not None:
            warn_if_apart(path, parity)
    return parity


def check_integers(written: Path, quantised: Quantised, path: Path) -> None:
    """Raise ConfigError if a runtime computes a convolution or a linear layer in float that the file holds in integers."""
    run = run_in_integers(written)
    linear = len(quantised.layers) - quantised.convolutions
    if run.convolutions < quantised.convolutions or run.linear < linear:
        raise ConfigError(
            f"{path.name}: {run.convolutions} of {run.all_convolutions} convolutions and {run.linear} linear layers compute in integers "
            f"here, {quantised.convolutions} and {linear} are in the file",
            hint="another format (.onnx, .xml), or exclude the layers that this runtime has no integers for",
        )


@contextlib.contextmanager
def told_if_unwritable(path: Path) -> Iterator[None]:
    """An OSError of the block becomes the ConfigError that `path` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise ConfigError(f"cannot write {path}", reason=reason, hint="another place, or make room and leave to write there") from error


@contextlib.contextmanager
def told_if_refused(path: Path) -> Iterator[None]:
    """That a library does not convert, open or run what was just written for it (a CheckpointError) becomes a ConfigError of the export."""
    try:
        yield
    except CheckpointError as error:
        other = "export .onnx, which ONNX Runtime runs; or " if path.suffix.lower() == ".xml" else ""
        lines = {name: text for name, text in error.lines.items() if name in ("operations", "reason")}
        raise ConfigError(
            f"cannot export {path}: {library_name(path)} refuses the network",
            **(lines or {"reason": error.what}),
            hint=f"{other}another backbone (docs/guides/models.md tells what each can be exported to); nothing was written",
        ) from error


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """The same name in a folder of its own beside `path`, that becomes `path` at the end; the folder is gone then, and after an error.

    Nobody else has that folder, so two who write `path` at once cannot take what the other has not checked yet for their own.
    """
    with told_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        new = folder / path.name
        yield new
        with told_if_unwritable(path):
            for part in parts_of(new):
                os.replace(part, path.with_name(part.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parts_of(path: Path) -> list[Path]:
    """The files that a path stands for, those that are there, weights first."""
    parts = [path.with_suffix(".bin"), path] if path.suffix.lower() == ".xml" else [path]
    return [part for part in parts if part.exists()]


def size_of(net: nn.Module, file: Path | None) -> int:
    """Bytes of an exported file with its weights; without one those of all tensors of the network, as they lie in memory."""
    if file is not None:
        return size_of_file(file)
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())


def size_of_file(path: Path) -> int:
    """Bytes of an exported file with its weights."""
    return sum(part.stat().st_size for part in parts_of(path))


NOT_CONVERTED = re.compile(r"^-- (?:No conversion rule found for operations|Conversion is failed for): (.+)$", re.MULTILINE)
"""How OpenVINO tells the operations of ONNX that it does not convert, with the version of their set behind each."""


def write_openvino(graph: bytes, metadata: str, path: Path) -> None:
    """Write an ONNX graph as `path` (.xml) and the .bin beside it, weights in float32; the .xml holds a hash of the .bin.

    metadata: JSON of the entry `vidkd`. Raises CheckpointError for a graph that OpenVINO does not convert, naming the operations; OSError
    where the files cannot be written; MissingExtraError without openvino.
    """
    openvino = require("openvino", "openvino")
    # read as ONNX by the runtime itself; OpenVINO's converter would report its use to its makers
    try:
        model = openvino.Core().read_model(io.BytesIO(graph))
    except Exception as error:  # OpenVINO's errors share no class of their own
        operations = dict.fromkeys(name for found in NOT_CONVERTED.findall(str(error)) for name in found.split(", "))
        raise CheckpointError(
            "not a network that OpenVINO can convert",
            **({"operations": ", ".join(operations)} if operations else {}),
            reason=_reason(str(error)),
        ) from error
    model.set_rt_info(metadata, EMBEDDED_KEY)
    _save(openvino, model, path)
    model.set_rt_info(sha256(path.with_suffix(".bin")), WEIGHTS_KEY)
    _save(openvino, model, path)


def _reason(text: str) -> str:
    """The line of a failed conversion that says what is wrong, and neither where in OpenVINO nor at which of its nodes."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((*ABOUT_ITSELF, "While "))]
    telling = [line for line in lines if not line.startswith("-- ") and "with a message:" in text]
    return (telling or lines or ["OpenVINO does not tell"])[0].removeprefix("-- ")[:SHOWN]


def _save(openvino: Any, model: Any, path: Path) -> None:
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # which does not tell why: a full disk is an "iostream error"
        raise OSError(f"OpenVINO could not write its files (is the disk full?): {first_line(error)}") from error
